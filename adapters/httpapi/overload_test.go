package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore"
	"parley/app/replies"
	"parley/domain/fault"
	"parley/ports"
)

// slowHook makes every round trip to the database take a while.
type slowHook time.Duration

func (h slowHook) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context {
	time.Sleep(time.Duration(h))
	return ctx
}

func (slowHook) AfterQuery(context.Context, *bun.QueryEvent) {}

// More messages at once than the database takes: each is either stored or
// refused as overload, which is told apart from an outage in the answer and
// in the facts for operators.
func TestSend_Overloaded(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		const sends = 150
		answers := make([]answer, sends)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() {
				answers[i] = b.do(fmt.Sprintf("user-%d", i), "POST", "/api/chat/messages", `{"content":"x","background":true}`)
			})
		}
		wg.Wait()
		taken, refused := 0, 0
		for _, a := range answers {
			if a.status == http.StatusAccepted {
				taken++
				continue
			}
			refused++
			if a.refused(503, "OVERLOADED", "The server is busy; please try again").header.Get("Retry-After") != "1" {
				t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
			}
		}
		if taken == 0 || refused == 0 {
			t.Fatalf("%d taken, %d refused", taken, refused)
		}
		if failed := seen[ports.RequestFailed](b); len(failed) > 0 {
			t.Errorf("%d requests count as failures of ours: %v", len(failed), failed[0].Err)
		}
		counted := 0
		for _, f := range seen[ports.Refused](b) {
			if f.Kind == fault.Overloaded {
				counted++
			}
		}
		if counted != refused {
			t.Errorf("%d refused, %d counted", refused, counted)
		}
	}, func(s *settings) {
		s.opt.Heartbeat, s.opt.Sweep = time.Hour, time.Hour // the pool is for the requests
		s.opt.AdmitTimeout = time.Minute                    // and refuses them: this limit is an outage
		s.pool = func(o *sqlstore.Options) {
			// All of them take several times as long, and one of them a fraction of it.
			o.MaxConns, o.AcquireTimeout, o.Hooks = 1, 3*time.Second, []bun.QueryHook{slowHook(10 * time.Millisecond)}
		}
	})
}

// An instance that makes as many replies as it may says so in the same way.
func TestSend_InstanceFull(t *testing.T) {
	b := setup(t, scripted, func(s *settings) { s.opt = replies.Options{MaxRuns: 1} })
	first := b.sendLater("ann", "/api/chat/messages", `{"content":"x"}`)
	call := b.model.Next()
	b.do("bob", "POST", "/api/chat/messages", `{"content":"x"}`).refused(503, "OVERLOADED", "The server is busy; please try again")
	call.Done()
	<-first
}
