package conversations_test

import (
	"testing"
	"time"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/ports"
)

// A chat that is deleted two seconds into a reply costs what the reply has used
// by then, as its maker says, and not all that was held.
func TestDelete_ChargesWhatTheReplyHasUsed(t *testing.T) {
	each(t, func(b *bench) {
		conv := b.create("ann", false)
		now := b.now
		out, err := b.store.Admit(b.Context(), chat.AdmitRequest{
			Run:     chat.Run{ID: "run", UserID: "ann", ConversationID: conv, Kind: chat.Reply, Hold: access.Hold{Tokens: 12_192}, AuditID: "audit"},
			Message: &chat.Message{ID: "msg", Content: "tell me a long story"},
			Audit:   audit.Entry{Action: audit.ActionMessageSent, Resource: audit.ResourceMessage},
			Owner:   "here", Lease: time.Minute, Context: 50, Now: now,
		}, chat.Admit)
		if err != nil {
			b.Fatal(err)
		}
		wake, stop := b.Feed.Listen(ports.TopicStop)
		defer stop()
		made := make(chan error, 1)
		go func() { // the maker of the reply
			<-wake
			_, err := b.store.Finish(b.Context(), chat.Outcome{
				UserID: "ann", RunID: "run", Attempt: out.Run.Attempt, ConversationID: conv, State: chat.Stopped,
				Output: chat.Output{Text: "Once upon a"}, Usage: chat.Usage{Input: 30, Output: 3}, At: now,
			}, chat.Finish)
			made <- err
		}()
		if err := b.Delete(b.Context(), access.Principal{UserID: "ann"}, access.Caller{}, conv); err != nil {
			b.Fatal(err)
		}
		if err := <-made; err != nil {
			b.Fatal(err)
		}
		usage, err := b.store.Usage(b.Context(), "ann", now)
		if err != nil {
			b.Fatal(err)
		}
		if want := (access.Spent{Tokens: 33, Replies: 1}); usage.Day != want || usage.Month != want || usage.Live != 0 {
			b.Errorf("usage %+v, want %+v", usage, want)
		}
		if _, err := b.store.Run(b.Context(), "ann", "run"); err == nil {
			b.Error("the run is still there")
		}
	})
}
