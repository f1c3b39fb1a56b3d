package sqlstore_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore"
	"parley/domain/chat"
	"parley/platform/testing/testdb"
	"parley/ports"
)

// trips is a hook that counts what is sent.
type trips struct{ n atomic.Int64 }

func (c *trips) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context {
	c.n.Add(1)
	return ctx
}

func (c *trips) AfterQuery(context.Context, *bun.QueryEvent) {}

// TestPostgres_RoundTrips counts what a turn in a conversation that exists
// sends to the database: what a user waits for is mostly that.
func TestPostgres_RoundTrips(t *testing.T) {
	count := &trips{}
	store := migrated(t, sqlstore.Options{URL: testdb.Postgres(t), Hooks: []bun.QueryHook{count}})
	for i, suffix := range []string{"1", "2"} {
		a := sending("ann", "hi")
		a.Run.ID, a.Message.ID, a.Run.AuditID = "run"+suffix, "msg"+suffix, "audit"+suffix
		a.Run.ConversationID, a.CreateConversation = "conv", true
		steps := []struct {
			name string
			want int64
			do   func() error
		}{
			{"admit", 2, func() error { _, err := store.Admit(t.Context(), a, chat.Admit); return err }},
			{"checkpoint", 1, func() error {
				_, err := store.Checkpoint(t.Context(), "here", []chat.Checkpoint{{UserID: "ann", RunID: a.Run.ID, Attempt: 1, New: chat.TextOutput("y")}})
				return err
			}},
			{"finish", 2, func() error {
				return end(t.Context(), store, chat.Outcome{UserID: "ann", RunID: a.Run.ID, Attempt: 1, ConversationID: "conv",
					State: chat.Completed, Output: chat.TextOutput("yes"), At: time.Now()})
			}},
			{"newest page", 1, func() error {
				_, _, err := store.Messages(t.Context(), "ann", "conv", ports.Page{Limit: 2})
				return err
			}},
		}
		for _, step := range steps {
			before := count.n.Load()
			if err := step.do(); err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			if n := count.n.Load() - before; i > 0 && n > step.want {
				t.Errorf("%s took %d round trips, at most %d are needed", step.name, n, step.want)
			}
		}
	}
}
