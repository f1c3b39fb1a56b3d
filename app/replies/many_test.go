package replies_test

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/adapters/memory"
	"parley/adapters/sqlstore"
	"parley/app/replies"
	"parley/domain/access"
	"parley/domain/chat"
	"parley/platform/testing/testdb"
	"parley/ports/portstest"
)

// No connection is held while a provider streams: a pool of five carries a
// thousand replies, each followed by a reader, with connections left for other requests.
// Each costs the goroutine that makes it, and nothing for its reader but the
// reader's own.
func TestManyStreams_OnFiveConnections(t *testing.T) {
	const streams = 1000
	store, err := sqlstore.Open(t.Context(), sqlstore.Options{URL: testdb.Postgres(t), MaxConns: 5, AcquireTimeout: time.Minute, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if _, err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, store: nil, model: portstest.NewScripted(t), facts: make(chan any, 1)}
	s := b.start(replies.Options{}, func(d *replies.Deps) {
		d.Store, d.Feed = store, memory.NewFeed()
	})

	type stream struct {
		user access.Principal
		turn replies.Accepted
		call *portstest.Call
	}
	all := make([]*stream, streams)
	byRun := map[string]*stream{}
	for i := range all {
		user := access.Principal{UserID: uuid.NewString(), Tier: access.Authenticated}
		turn, err := s.Send(t.Context(), replies.Send{Principal: user, Content: "go on"})
		if err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
		all[i] = &stream{user: user, turn: turn}
		byRun[turn.Run.ID] = all[i]
	}
	for range all {
		call := b.model.Next()
		byRun[call.Prompt.RunID].call = call
	}

	var readers, begun sync.WaitGroup
	begun.Add(streams)
	for _, st := range all {
		readers.Go(func() {
			var text string
			for e, err := range s.Follow(t.Context(), st.user, st.turn.Run.ID, chat.Before) {
				if err != nil {
					t.Errorf("follow: %v", err)
					begun.Done()
					return
				}
				if e.Kind == replies.EventDelta {
					if text == "" {
						begun.Done()
					}
					text += e.Delta.Text
				}
			}
			if text != "one two three" {
				t.Errorf("read %q", text)
			}
		})
	}
	for _, st := range all {
		st.call.Say("one ")
	}
	begun.Wait()
	if got, most := runtime.NumGoroutine(), 2*streams+100; got > most {
		t.Errorf("%d goroutines for %d streams and their readers, want at most %d", got, streams, most)
	}
	if stats := store.DB().Stats(); stats.MaxOpenConnections != 5 || stats.OpenConnections > 5 {
		t.Errorf("%d connections of %d", stats.OpenConnections, stats.MaxOpenConnections)
	}
	t.Run("OthersAreServed", func(t *testing.T) {
		if err := store.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
	for _, st := range all {
		st.call.Say("two ")
		st.call.Say("three")
		st.call.Done()
	}
	readers.Wait()
	b.eventually(func() error {
		if n := s.LiveRuns(); n > 0 {
			return errLive(n)
		}
		return nil
	})
}

type errLive int

func (n errLive) Error() string { return "replies are still being made" }
