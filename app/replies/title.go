package replies

import (
	"context"
	"runtime/debug"
	"time"

	"parley/domain/audit"
	"parley/domain/chat"
	"parley/ports"
)

// titleTimeout bounds the generation of a title, and each of its two writes.
const titleTimeout = 30 * time.Second

// title has the model name a conversation, once its first reply is completed.
// It runs in the background: on any failure the title that was made of the first
// message stays, and one that the user has set is never replaced. It takes the
// place of a reply in the registry, so that a drain waits for it, and the caller
// still holds the place of t, so that a drain that has begun does not prevent it.
func (s *Service) title(t *task, branch []chat.Message, reply string) {
	run := t.run
	if s.Titles == nil || run.ConversationID == "" || len(branch) != 1 || run.Kind != chat.Reply || !s.registry.reserveBesideTask() {
		return
	}
	go func() {
		defer s.registry.unreserve()
		if err := s.retitle(run, branch[0].Content, reply); err != nil {
			s.Observer.Observe(context.WithoutCancel(t.ctx), ports.BackgroundFailed{Task: "title", Err: err})
		}
	}()
}

// retitle generates a title and stores it. What that used counts towards the
// user's usage, whatever comes of it.
func (s *Service) retitle(run chat.Run, message, reply string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = ports.Panic{Value: r, Stack: debug.Stack()}
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), titleTimeout)
	defer cancel()
	title, answer, failed := s.Titles(ctx, run.UserID, run.Params, []ports.PromptMessage{ports.PromptText(chat.User, message), ports.PromptText(chat.Assistant, reply)})
	if err := s.chargeTitle(run.UserID, answer); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	ctx, cancel = context.WithTimeout(context.Background(), titleTimeout)
	defer cancel()
	now := s.Now()
	err = s.Store.Retitle(ctx, run.UserID, run.ConversationID, chat.TitleFrom(message), title, audit.Entry{
		ID: s.NewID(), UserID: run.UserID, Action: audit.ActionConversationUpdated, Resource: audit.ResourceConversation,
		ResourceID: run.ConversationID, Metadata: map[string]any{"by": "titles"}, Status: audit.Success, CreatedAt: now, UpdatedAt: now,
	})
	if err == nil {
		s.Feed.Notify(ctx, ports.TopicUser(run.UserID))
	}
	return err
}

// chargeTitle counts what a title has used for its user.
func (s *Service) chargeTitle(user string, a ports.Answer) error {
	ctx, cancel := context.WithTimeout(context.Background(), titleTimeout)
	defer cancel()
	s.Observer.Observe(ctx, ports.TitleGenerated{Provider: a.Provider, Model: a.Model, Usage: a.Usage, CostMicros: a.CostMicros})
	tokens, micros := a.Usage.Input+a.Usage.Output, int64(0)
	if a.CostMicros != nil {
		micros = *a.CostMicros
	}
	if tokens == 0 && micros == 0 {
		return nil
	}
	return s.Store.AddUsage(ctx, user, tokens, micros, s.Now())
}
