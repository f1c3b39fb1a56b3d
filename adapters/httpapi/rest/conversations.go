package rest

import (
	"context"

	"parley/adapters/httpapi"
	"parley/app/conversations"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

type listCall struct {
	httpapi.Call
	page ports.Page
}

type conversationPage struct {
	asked ports.Page
	list  []chat.Conversation
	more  bool
}

type listWire struct {
	pageQuery
	httpapi.Revalidation
}

func decodeList(c httpapi.Call, in listWire) (listCall, error) {
	page, err := in.page(20)
	return listCall{c, page}, err
}

func (s Services) list(ctx context.Context, in listCall) (conversationPage, error) {
	list, more, err := s.Conversations.List(ctx, in.Principal, in.page)
	return conversationPage{in.page, list, more}, err
}

type conversationsJSON struct {
	Conversations []conversationJSON `json:"conversations"`
	Pagination    paginationJSON     `json:"pagination"`
}

func conversationsOf(out conversationPage) conversationsJSON {
	list := make([]conversationJSON, len(out.list))
	for i, c := range out.list {
		list[i] = conversationOf(c)
	}
	p := paginationJSON{Limit: out.asked.Limit, Offset: out.asked.Offset, HasMore: out.more}
	if n := len(out.list); n > 0 {
		newest, oldest := out.list[0], out.list[n-1]
		p.After = formatPosition(ports.Position{At: newest.LastMessageAt, ID: newest.ID})
		p.Before = formatPosition(ports.Position{At: oldest.LastMessageAt, ID: oldest.ID})
	}
	return conversationsJSON{list, p}
}

const invalidTitle = "Title must be a string with max 200 characters"

type createWire struct {
	ID        string `json:"id" ref:"new conversation" errmsg:"Invalid conversation ID"`
	Title     string `json:"title" schema:"maxLength=200" errmsg:"Title must be a string with max 200 characters"`
	System    string `json:"systemPrompt" schema:"maxLength=32768"`
	Model     string `json:"model" schema:"maxLength=200"`
	Temporary bool   `json:"temporary" errmsg:"temporary must be true or false"`
}

func decodeCreate(c httpapi.Call, in createWire) (conversations.Create, error) {
	return conversations.Create{
		Principal: c.Principal, Caller: c.Caller, ID: in.ID, Title: in.Title, System: in.System, Model: in.Model,
		Temporary: in.Temporary,
	}, nil
}

type settingsWire struct {
	Title  *string `json:"title" schema:"maxLength=200" errmsg:"Title must be a string with max 200 characters"`
	System *string `json:"systemPrompt" schema:"maxLength=32768"`
	Model  *string `json:"model" schema:"maxLength=200"`
}

type updateWire struct {
	ID string `path:"id" ref:"conversation"`
	settingsWire
}

type updateNamedWire struct {
	ID string `json:"conversationId" schema:"required" ref:"conversation" errmsg:"Invalid conversation ID"`
	settingsWire
}

func decodeUpdate(c httpapi.Call, in updateWire) (conversations.Update, error) {
	return in.update(c, in.ID)
}

func decodeUpdateNamed(c httpapi.Call, in updateNamedWire) (conversations.Update, error) {
	if in.ID == "" {
		return conversations.Update{}, conversationRequired()
	}
	return in.update(c, in.ID)
}

func (in settingsWire) update(c httpapi.Call, id string) (conversations.Update, error) {
	if in.Title == nil && in.System == nil && in.Model == nil {
		return conversations.Update{}, fault.New(fault.Invalid, invalidTitle)
	}
	return conversations.Update{
		Principal: c.Principal, Caller: c.Caller, ID: id, Title: in.Title, System: in.System, Model: in.Model,
	}, nil
}

type deleteNamedWire struct {
	ID string `query:"id" schema:"required" ref:"conversation"`
}

func decodeDeleteNamed(c httpapi.Call, in deleteNamedWire) (resourceCall, error) {
	if in.ID == "" {
		return resourceCall{}, conversationRequired()
	}
	return resourceCall{c, in.ID}, nil
}

func conversationRequired() error { return fault.New(fault.Invalid, "Conversation ID is required") }

func (s Services) remove(ctx context.Context, in resourceCall) (httpapi.NoInput, error) {
	return httpapi.NoInput{}, s.Conversations.Delete(ctx, in.Principal, in.Caller, in.id)
}

func (s Services) get(ctx context.Context, in resourceCall) (chat.Conversation, error) {
	return s.Conversations.Get(ctx, in.Principal, in.id)
}
