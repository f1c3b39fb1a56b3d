package sqlstore_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"parley/adapters/sqlstore"
	"parley/domain/chat"
	"parley/ports"
)

// BenchmarkTurn makes whole turns durable: an admission and the end of its
// run, in the conversations of many users, 64 at a time.
func BenchmarkTurn(b *testing.B) {
	benchmark(b, func(b *testing.B, store *sqlstore.Store) {
		var n atomic.Int64
		b.SetParallelism(32) // times GOMAXPROCS
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				turn(b, store, n.Add(1))
			}
		})
	})
}

// BenchmarkTurnAlone is one caller's turn: what a user waits for the store.
func BenchmarkTurnAlone(b *testing.B) {
	benchmark(b, func(b *testing.B, store *sqlstore.Store) {
		for i := range b.N {
			turn(b, store, int64(i+1))
		}
	})
}

// BenchmarkHistory reads the last fifty messages of a conversation.
func BenchmarkHistory(b *testing.B) {
	benchmark(b, func(b *testing.B, store *sqlstore.Store) {
		for i := range 100 {
			turn(b, store, int64(i)*1000) // one user, one conversation
		}
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				list, _, err := store.Messages(context.Background(), "user-0", "conv-0", ports.Page{Limit: 50})
				if err != nil || len(list) != 50 {
					b.Errorf("%d messages, %v", len(list), err)
					return
				}
			}
		})
	})
}

// BenchmarkCheckpoint records the output of a hundred live runs.
func BenchmarkCheckpoint(b *testing.B) {
	benchmark(b, func(b *testing.B, store *sqlstore.Store) {
		var points []chat.Checkpoint
		for i := range 100 {
			a := sending(fmt.Sprint("user-", i), "hi")
			if _, err := store.Admit(b.Context(), a, chat.Admit); err != nil {
				b.Fatal(err)
			}
			points = append(points, chat.Checkpoint{UserID: a.Run.UserID, RunID: a.Run.ID, Attempt: 1})
		}
		b.ResetTimer()
		for i := range b.N {
			for j := range points {
				points[j].At, points[j].New = points[j].At+points[j].New.Len(), chat.Output(fmt.Sprintf("%*d", 20, i))
			}
			if fenced, err := store.Checkpoint(b.Context(), "here", points); err != nil || len(fenced) > 0 {
				b.Fatalf("fenced %v, %v", fenced, err)
			}
		}
	})
}

func benchmark(b *testing.B, run func(*testing.B, *sqlstore.Store)) {
	for name, open := range map[string]func(testing.TB) *sqlstore.Store{"SQLite": openSQLite, "Postgres": openPostgres} {
		b.Run(name, func(b *testing.B) {
			store := open(b)
			b.ResetTimer() // a server may have been started
			run(b, store)
		})
	}
}

// turn sends a 600-byte message and ends its run with as much. One in ten
// users meets himself again.
func turn(b *testing.B, store *sqlstore.Store, n int64) {
	id := fmt.Sprint(n)
	a := sending(fmt.Sprint("user-", n%1000), fmt.Sprintf("%600s", id))
	a.Run.ID, a.Message.ID, a.Run.AuditID, a.Run.IdempotencyKey = "run-"+id, "msg-"+id, "audit-"+id, "key-"+id
	a.Run.ConversationID, a.CreateConversation, a.WhenBusy = fmt.Sprint("conv-", n%1000), true, chat.Reject
	out, err := store.Admit(context.Background(), a, chat.Admit)
	if err != nil {
		b.Error(err)
		return
	}
	_, err = store.Finish(context.Background(), chat.Outcome{
		UserID: out.Run.UserID, RunID: out.Run.ID, Attempt: 1, ConversationID: out.Run.ConversationID,
		State: chat.Completed, Output: chat.TextOutput(a.Message.Content), At: time.Now(),
	}, chat.Finish)
	if err != nil {
		b.Error(err)
	}
}
