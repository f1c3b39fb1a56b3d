package rest

import (
	"context"

	"parley/adapters/httpapi"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

type historyWire struct {
	Conversation string `query:"conversationId" ref:"conversation"`
	Leaf         string `query:"leaf" ref:"message"`
	pageQuery
	renderWire
	httpapi.Revalidation
}

type historyCall struct {
	httpapi.Call
	html               bool
	conversation, leaf string
	page               ports.Page
}

type messagePage struct {
	asked  historyCall
	list   []chat.Message
	more   bool
	render messageRenderer
}

func decodeHistory(c httpapi.Call, in historyWire) (historyCall, error) {
	page, err := in.page(50)
	if err == nil && in.Leaf != "" && (page.Offset > 0 || page.Before != nil || page.After != nil) {
		err = fault.New(fault.Invalid, "A branch is read from its leaf: leave out offset, before and after")
	}
	if err != nil {
		return historyCall{}, err
	}
	html, err := in.html()
	return historyCall{c, html, in.Conversation, in.Leaf, page}, err
}

// history reads a page of a thread, or the end of one of its branches.
func (s Services) history(ctx context.Context, in historyCall) (out messagePage, err error) {
	out.asked, out.render = in, renderMessages(ctx, in.html)
	if in.leaf != "" {
		out.list, out.more, err = s.Conversations.Branch(ctx, in.Principal, in.conversation, in.leaf, in.page.Limit)
	} else {
		out.list, out.more, err = s.Conversations.Messages(ctx, in.Principal, in.conversation, in.page)
	}
	return out, err
}

type messagesJSON struct {
	Messages   []messageJSON  `json:"messages"`
	Pagination paginationJSON `json:"pagination"`
}

// AppendJSON implements httpapi.JSONAppender.
func (m messagesJSON) AppendJSON(b []byte) (_ []byte, err error) {
	b = append(b, `{"messages":[`...)
	for i := range m.Messages {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = m.Messages[i].AppendJSON(b); err != nil {
			return b, err
		}
	}
	if b, err = httpapi.AppendJSON(append(b, `],"pagination":`...), m.Pagination); err != nil {
		return b, err
	}
	return append(b, '}'), nil
}

func messagesOf(out messagePage) messagesJSON {
	list := make([]messageJSON, len(out.list))
	for i, m := range out.list {
		list[i] = out.render.message(m)
	}
	p := paginationJSON{Limit: out.asked.page.Limit, Offset: out.asked.page.Offset, HasMore: out.more}
	if n := len(out.list); n > 0 && out.asked.leaf == "" {
		oldest, newest := out.list[0], out.list[n-1]
		p.Before = formatPosition(ports.Position{At: oldest.CreatedAt, ID: oldest.ID})
		p.After = formatPosition(ports.Position{At: newest.CreatedAt, ID: newest.ID})
	}
	return messagesJSON{list, p}
}

type modelJSON struct {
	ID       string `json:"id"` // provider/model
	Provider string `json:"provider"`
	Model    string `json:"model"`
	Default  bool   `json:"default"`
	State    string `json:"state,omitempty"`    // of its breaker
	Demo     bool   `json:"demo"`               // the demo provider, which is not AI
	Disabled bool   `json:"disabled,omitempty"` // an operator has disabled the provider: another one replies
}

func (s Services) models(context.Context, httpapi.Call) ([]ports.ModelInfo, error) {
	return s.Catalogue.Models(), nil
}

type modelsJSON struct {
	Models []modelJSON `json:"models"`
}

func modelsOf(models []ports.ModelInfo) modelsJSON {
	list := make([]modelJSON, len(models))
	for i, m := range models {
		list[i] = modelJSON{m.Provider + "/" + m.Model, m.Provider, m.Model, m.Default, m.State, m.Demo, m.Disabled}
	}
	return modelsJSON{list}
}
