package conversations_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/platform/testing/testdb"
	"parley/ports"
)

// A chat that is deleted two seconds into a reply costs what the reply has used
// by then, as its maker says, and not all that was held.
func TestDelete_ChargesWhatTheReplyHasUsed(t *testing.T) {
	each(t, func(b *bench) {
		conv := b.create("ann", false)
		b.stopsAfter(b.begin("ann", conv), 0)
		if err := b.Delete(b.Context(), access.Principal{UserID: "ann"}, access.Caller{}, conv); err != nil {
			b.Fatal(err)
		}
		usage, err := b.store.Usage(b.Context(), "ann", b.now)
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

// A deletion waits for the ends of the replies that it stops, and for 3 s at most
// if their owner does not answer. The clock is synctest's.
func TestDelete_WaitsForTheEndsOfReplies(t *testing.T) {
	for name, c := range map[string]struct{ ends, least, most time.Duration }{ // ends 0: never
		"Ends":   {200 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond},
		"Silent": {0, 3 * time.Second, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			path := testdb.SQLite(t) // outside the bubble
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, path)
				conv := b.create("ann", false)
				run := b.begin("ann", conv)
				if c.ends > 0 {
					b.stopsAfter(run, c.ends)
				}
				begun := time.Now()
				if err := b.Delete(t.Context(), access.Principal{UserID: "ann"}, access.Caller{}, conv); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begun); took < c.least || took > c.most {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// begin admits a message to a conversation, and returns its reply's run.
func (b *bench) begin(user, conversation string) chat.Run {
	b.Helper()
	out, err := b.store.Admit(b.Context(), chat.AdmitRequest{
		Run:     chat.Run{ID: "run", UserID: user, ConversationID: conversation, Kind: chat.Reply, Hold: access.Hold{Tokens: 12_192}, AuditID: "audit"},
		Message: &chat.Message{ID: "msg", Content: "tell me a long story"},
		Audit:   audit.Entry{Action: audit.ActionMessageSent, Resource: audit.ResourceMessage},
		Owner:   "here", Lease: time.Minute, Context: 50, Now: b.now,
	}, chat.Admit)
	if err != nil {
		b.Fatal(err)
	}
	return out.Run
}

// stopsAfter has the owner of a run end it some time after it is told to.
func (b *bench) stopsAfter(run chat.Run, d time.Duration) {
	wake, stop := b.Feed.Listen(ports.TopicStop)
	ended := make(chan struct{})
	b.Cleanup(func() { <-ended; stop() })
	go func() {
		defer close(ended)
		<-wake
		time.Sleep(d)
		if _, err := b.store.Finish(context.Background(), chat.Outcome{
			UserID: run.UserID, RunID: run.ID, Attempt: run.Attempt, ConversationID: run.ConversationID, State: chat.Stopped,
			Output: chat.TextOutput("Once upon a"), Usage: chat.Usage{Input: 30, Output: 3}, At: b.now,
		}, chat.Finish); err != nil {
			b.Error(err)
		}
	}()
}
