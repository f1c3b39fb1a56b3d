// Package conversations creates, lists, changes, exports and deletes
// conversations, and reads their messages. Replies are the task of app/replies.
package conversations

import (
	"context"
	"time"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// Service is safe for concurrent use.
type Service struct {
	History    ports.History
	Feedback   ports.Feedback
	ShareStore ports.Shares
	Index      ports.Search
	Audit      ports.Audit
	Accepts    func(chat.Params) error // refuses a model that is not available; nil: accepts all
	Feed       ports.Feed              // announces stop requests and changes
	Observer   ports.Observer
	Now        ports.Clock
	NewID      ports.IDs
}

// Create describes a new conversation. ID may be set by the client.
type Create struct {
	Principal            access.Principal
	Caller               access.Caller
	ID                   string
	Title, System, Model string
	Temporary            bool // not listed, and deleted after chat.TemporaryTTL
}

// Update changes the fields that are not nil.
type Update struct {
	Principal            access.Principal
	Caller               access.Caller
	ID                   string
	Title, System, Model *string
}

// MaxSystem is the longest system prompt, in bytes.
const MaxSystem = 32 << 10

// Create creates a conversation.
func (s *Service) Create(ctx context.Context, in Create) (chat.Conversation, error) {
	if in.Title != "" {
		if err := chat.ValidateTitle(in.Title); err != nil {
			return chat.Conversation{}, err
		}
	}
	if err := s.validateSettings(&in.System, &in.Model); err != nil {
		return chat.Conversation{}, err
	}
	if in.ID != "" && !chat.ValidID(in.ID) {
		return chat.Conversation{}, fault.New(fault.Invalid, "Invalid conversation ID")
	}
	now := s.Now()
	c := chat.Conversation{
		ID: in.ID, UserID: in.Principal.UserID, Title: in.Title, TitleByUser: in.Title != "", System: in.System, Model: in.Model,
		LastMessageAt: now, CreatedAt: now, UpdatedAt: now,
	}
	if c.ID == "" {
		c.ID = s.NewID()
	}
	if in.Temporary {
		c.ExpiresAt = now.Add(chat.TemporaryTTL)
	}
	return s.History.CreateConversation(ctx, c, s.entry(in.Principal, in.Caller, audit.ActionConversationCreated, c.ID))
}

// List returns conversations, the one with the newest message first.
func (s *Service) List(ctx context.Context, p access.Principal, page ports.Page) ([]chat.Conversation, bool, error) {
	return s.History.Conversations(ctx, p.UserID, page)
}

// Get returns one conversation.
func (s *Service) Get(ctx context.Context, p access.Principal, id string) (chat.Conversation, error) {
	if !chat.ValidID(id) {
		return chat.Conversation{}, chat.ConversationNotFound()
	}
	return s.History.Conversation(ctx, p.UserID, id)
}

// Update changes a conversation's title or settings.
func (s *Service) Update(ctx context.Context, in Update) (chat.Conversation, error) {
	if !chat.ValidID(in.ID) {
		return chat.Conversation{}, chat.ConversationNotFound()
	}
	if in.Title != nil {
		if err := chat.ValidateTitle(*in.Title); err != nil {
			return chat.Conversation{}, err
		}
	}
	if err := s.validateSettings(in.System, in.Model); err != nil {
		return chat.Conversation{}, err
	}
	return s.History.UpdateConversation(ctx, in.Principal.UserID, in.ID,
		ports.ConversationChange{Title: in.Title, System: in.System, Model: in.Model, Now: s.Now()},
		s.entry(in.Principal, in.Caller, audit.ActionConversationUpdated, in.ID))
}

// Delete deletes a conversation with all its messages. Its live replies are stopped
// first.
func (s *Service) Delete(ctx context.Context, p access.Principal, caller access.Caller, id string) error {
	if !chat.ValidID(id) {
		return chat.ConversationNotFound()
	}
	if err := stopReplies(ctx, s.History, s.Feed, s.Now, p.UserID, id); err != nil {
		return err
	}
	err := s.History.DeleteConversation(ctx, p.UserID, id, s.entry(p, caller, audit.ActionConversationDeleted, id))
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	s.Feed.Notify(ctx, ports.TopicStop)
	s.Feed.Notify(ctx, ports.TopicUser(p.UserID))
	return nil
}

// stopTimeout bounds the wait for replies to end before their conversation is
// deleted. A stop closes the provider's connection within a second.
const stopTimeout = 3 * time.Second

// stopReplies asks the running replies of a conversation to stop, and waits for
// their ends: only their owners know what they have used. One whose owner does not
// answer is deleted all the same, and its usage estimated.
func stopReplies(ctx context.Context, history ports.History, feed ports.Feed, now ports.Clock, user, id string) error {
	deadline := time.NewTimer(stopTimeout)
	defer deadline.Stop()
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		running, err := history.StopConversation(ctx, user, id, now())
		if err != nil || running == 0 {
			return err
		}
		feed.Notify(ctx, ports.TopicStop)
		select {
		case <-time.After(wait):
		case <-deadline.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Messages returns a page of a conversation, or of the default thread when id is
// "", oldest first.
func (s *Service) Messages(ctx context.Context, p access.Principal, id string, page ports.Page) ([]chat.Message, bool, error) {
	if id != "" && !chat.ValidID(id) {
		return nil, false, chat.ConversationNotFound()
	}
	return s.History.Messages(ctx, p.UserID, id, page)
}

// Branch returns the last messages of one branch, oldest first. leaf "current" is
// the current leaf.
func (s *Service) Branch(ctx context.Context, p access.Principal, id, leaf string, limit int) ([]chat.Message, bool, error) {
	if id != "" && !chat.ValidID(id) {
		return nil, false, chat.ConversationNotFound()
	}
	if !chat.ValidID(leaf) {
		return nil, false, chat.MessageNotFound()
	}
	return s.History.Branch(ctx, p.UserID, id, leaf, limit)
}

func (s *Service) entry(p access.Principal, caller access.Caller, action, id string) audit.Entry {
	now := s.Now()
	return audit.Entry{
		ID: s.NewID(), UserID: p.UserID, Action: action, Resource: audit.ResourceConversation, ResourceID: id,
		Caller: caller, Status: audit.Success, CreatedAt: now, UpdatedAt: now,
	}
}

func (s *Service) validateSettings(system, model *string) error {
	if system != nil {
		if len(*system) > MaxSystem {
			return fault.New(fault.Invalid, "System prompt cannot exceed %d bytes", MaxSystem)
		}
		if err := chat.ValidateText(*system); err != nil {
			return err
		}
	}
	if model != nil && *model != "" && !chat.ValidModel(*model) {
		return fault.New(fault.Invalid, "Invalid model")
	}
	if model != nil && *model != "" && s.Accepts != nil {
		return s.Accepts(chat.Params{Model: *model})
	}
	return nil
}
