package conversations

import (
	"context"
	"iter"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// Exported is one element of an export: a conversation, followed by its messages,
// oldest first. The default thread comes first, as a conversation without an id.
type Exported struct {
	Conversation *chat.Conversation // begins one
	Message      *chat.Message
}

// exportPage is the number of rows that are read at a time.
const exportPage = 100

// Export yields all conversations and messages of a user, page by page; no
// database connection is held between pages. An error ends it.
func (s *Service) Export(ctx context.Context, p access.Principal, caller access.Caller) iter.Seq2[Exported, error] {
	return func(yield func(Exported, error) bool) {
		if !p.Known() {
			yield(Exported{}, fault.New(fault.Unauthenticated, "Authentication required"))
			return
		}
		if err := s.Audit.Record(ctx, s.entry(p, caller, audit.ActionExported, "")); err != nil {
			yield(Exported{}, err)
			return
		}
		if !s.exportOne(ctx, p, chat.Conversation{UserID: p.UserID}, yield) {
			return
		}
		page := ports.Page{Limit: exportPage}
		for {
			list, more, err := s.History.Conversations(ctx, p.UserID, page)
			if err != nil {
				yield(Exported{}, err)
				return
			}
			for _, c := range list {
				if !s.exportOne(ctx, p, c, yield) {
					return
				}
			}
			if !more {
				return
			}
			last := list[len(list)-1]
			page.Before = &ports.Position{At: last.LastMessageAt, ID: last.ID}
		}
	}
}

// exportOne yields one conversation. Messages are read from the oldest on.
func (s *Service) exportOne(ctx context.Context, p access.Principal, c chat.Conversation, yield func(Exported, error) bool) bool {
	if !yield(Exported{Conversation: &c}, nil) {
		return false
	}
	page := ports.Page{Limit: exportPage, After: &ports.Position{}}
	for {
		list, more, err := s.History.Messages(ctx, p.UserID, c.ID, page)
		if fault.Is(err, fault.NotFound) { // it was deleted meanwhile
			return true
		}
		if err != nil {
			yield(Exported{}, err)
			return false
		}
		for _, m := range list {
			if !yield(Exported{Message: &m}, nil) {
				return false
			}
		}
		if !more || len(list) == 0 {
			return true
		}
		last := list[len(list)-1]
		page.After = &ports.Position{At: last.CreatedAt, ID: last.ID}
	}
}
