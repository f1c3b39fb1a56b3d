package replies

import (
	"context"
	"time"

	"parley/domain/audit"
	"parley/domain/chat"
	"parley/ports"
)

// titleTimeout bounds the asking for a title.
const titleTimeout = 30 * time.Second

// title asks the model for a better name of a conversation than its first
// message gives, once its first reply is whole. Nobody waits for it; whatever
// goes wrong, the first name stays, and one that the user gave is not touched.
// A title has the place of a reply, so that a drain waits for it.
func (s *Service) title(t *task, branch []chat.Message, reply string) {
	run := t.run
	if s.Titles == nil || run.ConversationID == "" || len(branch) != 1 || run.Kind != chat.Reply || !s.registry.reserve() {
		return
	}
	go func() {
		defer s.registry.unreserve()
		ctx, cancel := context.WithTimeout(context.Background(), titleTimeout)
		defer cancel()
		asked := branch[0].Content
		title, _, err := s.Titles(ctx, run.UserID, run.Params, []ports.PromptMessage{{Role: chat.User, Text: asked}, {Role: chat.Assistant, Text: reply}})
		if err == nil {
			now := s.Now()
			err = s.Store.Retitle(ctx, run.UserID, run.ConversationID, chat.TitleFrom(asked), title, audit.Entry{
				ID: s.NewID(), UserID: run.UserID, Action: audit.ActionConversationUpdated, Resource: audit.ResourceConversation,
				ResourceID: run.ConversationID, Metadata: map[string]any{"by": "titles"}, Status: audit.Success, CreatedAt: now, UpdatedAt: now,
			})
		}
		if err != nil {
			s.Observer.Observe(ctx, ports.BackgroundFailed{Task: "title", Err: err})
			return
		}
		s.Feed.Notify(ctx, ports.TopicUser(run.UserID))
	}()
}
