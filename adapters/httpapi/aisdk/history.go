package aisdk

import (
	"context"

	"parley/adapters/httpapi"
	"parley/domain/chat"
	"parley/domain/fault"
)

// Sizes of a page of history.
const (
	defaultPage = 100
	maxPage     = 500
)

type historyWire struct {
	chatWire
	Limit  *int    `query:"limit" schema:"minimum=1,maximum=500" errmsg:"Limit must be between 1 and 500"`
	Before *string `query:"before" ref:"message"`
}

type historyCall struct {
	chatCall
	limit  int
	before string // "": the end of the chat
}

func decodeHistory(c httpapi.Call, in historyWire) (historyCall, error) {
	out := historyCall{chatCall{c, in.ID}, defaultPage, ""}
	if in.Limit != nil {
		out.limit = *in.Limit
	}
	if out.limit < 1 || out.limit > maxPage {
		return out, fault.New(fault.Invalid, "Limit must be between 1 and %d", maxPage)
	}
	if in.Before != nil {
		if out.before = *in.Before; !chat.ValidID(out.before) {
			return out, chat.MessageNotFound()
		}
	}
	return out, nil
}

// historyPage is the end of the current branch, or an older part of it, and the
// live replies.
type historyPage struct {
	limit int
	list  []chat.Message
	more  bool
	runs  []chat.Run
}

// maxReads bounds how often a page of history is read again because a reply
// began or ended meanwhile.
const maxReads = 3

// history reads a page of a chat, which is empty if there is no such chat. While
// a reply is made the chat ends with the message that it answers: what a page
// follows must not be in its list already.
func (w wire) history(ctx context.Context, in historyCall) (out historyPage, err error) {
	out.limit = in.limit
	if out.runs, err = w.replies.ActiveRuns(ctx, in.Principal, in.id); err != nil {
		return out, err
	}
	for range maxReads {
		leaf := "current"
		if in.before != "" {
			leaf = in.before
		} else if len(out.runs) > 0 {
			leaf = chat.ClientID(out.runs[0].ParentID)
		}
		out.list, out.more, err = w.conversations.Branch(ctx, in.Principal, in.id, leaf, in.limit)
		if fault.Is(err, fault.NotFound) && in.before == "" {
			out.list, out.more, err = nil, false, nil
		}
		if err != nil {
			return out, err
		}
		n := len(out.list)
		if in.before != "" || len(out.runs) == 0 && (n == 0 || out.list[n-1].Role == chat.Assistant) {
			return out, nil
		}
		before := out.runs
		if out.runs, err = w.replies.ActiveRuns(ctx, in.Principal, in.id); err != nil || sameRuns(before, out.runs) {
			return out, err
		}
	}
	return out, nil
}

// sameRuns reports whether two lists name the same newest run.
func sameRuns(a, b []chat.Run) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
	}
	return a[0].ID == b[0].ID
}

// historyJSON is ready for useChat({messages}).
type historyJSON struct {
	Messages   []uiMessage     `json:"messages"`
	Runs       []httpapi.Run   `json:"runs"` // the live replies, newest first: the stream follows the first one
	Pagination historyPageJSON `json:"pagination"`
}

type historyPageJSON struct {
	Limit   int    `json:"limit"`
	HasMore bool   `json:"hasMore"`
	Before  string `json:"before,omitempty"` // cursor of the page of older messages
}

func historyOf(out historyPage) historyJSON {
	list := make([]uiMessage, len(out.list))
	for i, m := range out.list {
		list[i] = uiMessageOf(m)
	}
	p := historyPageJSON{Limit: out.limit, HasMore: out.more}
	if out.more {
		p.Before = chat.ClientID(out.list[0].ParentID)
	}
	return historyJSON{list, httpapi.RunsOf(out.runs), p}
}

// uiMessageOf converts a message to what a page has that has sent it, or has read
// its stream.
func uiMessageOf(m chat.Message) uiMessage {
	out := uiMessage{ID: chat.ClientID(m.ID), Role: string(m.Role), Metadata: httpapi.Object(m.Metadata), Parts: []uiPart{}}
	if m.Role == chat.Assistant {
		out.Parts = append(out.Parts, uiPart{Type: "step-start"})
	}
	n := 0 // of the parts that the SDK knows
	for _, p := range m.AllParts() {
		switch p.Kind {
		case chat.TextPart, chat.ReasoningPart:
			if p.Text == "" {
				continue
			}
			part := uiPart{Type: string(p.Kind), Text: p.Text}
			if m.Role == chat.Assistant {
				part.State = "done"
			}
			out.Parts = append(out.Parts, part)
		case chat.SourcePart, chat.FilePart, chat.DataPart:
			out.Parts = append(out.Parts, uiPartOf(p, m.Role, n+1))
		default:
			continue
		}
		n++
	}
	return out
}

// uiPartOf converts a part that has a chunk of its own, as the SDK does. n is its
// place in the message.
func uiPartOf(p chat.Part, role chat.Role, n int) uiPart {
	switch c := partChunkOf(p, n).(type) {
	case sourceURLChunk:
		return uiPart{Type: c.Type, SourceID: c.SourceID, URL: c.URL, Title: c.Title}
	case sourceDocumentChunk:
		return uiPart{Type: c.Type, SourceID: c.SourceID, MediaType: c.MediaType, Title: c.Title}
	case fileChunk:
		out := uiPart{Type: c.Type, MediaType: c.MediaType, URL: c.URL}
		if role == chat.User {
			out.Filename = p.Name
		}
		return out
	case dataChunk:
		return uiPart{Type: c.Type, ID: c.ID, Data: c.Data}
	}
	return uiPart{}
}
