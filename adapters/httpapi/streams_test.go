package httpapi_test

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/domain/access"
)

// A user has a bounded number of streams open, whatever their kind: exactly,
// however many are opened at once, and also when their readers vanish.
func TestStream_Bound(t *testing.T) {
	t.Parallel()
	const limit = 32
	b := setup(t, func(s *settings) {
		s.model, s.opt.Idle, s.opt.ShutdownTimeout = mute{}, 20*time.Millisecond, 50*time.Millisecond
	})
	b.gate.SetBudgets(access.Budgets{access.Authenticated: {Streams: limit}})
	b.server.Client().Transport.(*http.Transport).MaxConnsPerHost = 0
	var open []*http.Response
	var mu sync.Mutex
	refused := atomic.Int64{}
	var wg sync.WaitGroup
	for range 3 * limit {
		wg.Go(func() {
			res, err := b.server.Client().Do(b.request("ann", "GET", "/api/chat/live", ""))
			switch {
			case err != nil:
				t.Error(err)
			case res.StatusCode == http.StatusTooManyRequests:
				refused.Add(1)
				res.Body.Close()
			default:
				mu.Lock()
				defer mu.Unlock()
				open = append(open, res)
			}
		})
	}
	wg.Wait()
	if len(open) != limit || refused.Load() != 2*limit {
		t.Fatalf("%d opened, %d refused", len(open), refused.Load())
	}
	// Whatever the kind, a further one is refused before it does anything.
	conversation := uuid.NewString()
	before := b.rows()
	for name, route := range map[string][3]string{
		"Live":     {"GET", "/api/chat/live", ""},
		"Send":     {"POST", "/api/chat/stream", `{"content":"x"}`},
		"SendIn":   {"POST", "/api/chat/messages", `{"content":"x","stream":true}`},
		"Query":    {"POST", "/api/chat/messages?stream=true", `{"content":"x"}`},
		"Edit":     {"PATCH", "/api/chat/messages/m1", `{"content":"x","stream":true}`},
		"Again":    {"POST", "/api/chat/messages/m1/regenerate", `{"stream":true}`},
		"Continue": {"POST", "/api/chat/messages/m1/continue", `{"stream":true}`},
		"Follow":   {"GET", "/api/chat/messages/m1/stream", ""},
		"UI":       {"POST", "/api/chat/ui", uiBody(conversation, uuid.NewString(), "x")},
		"UIResume": {"GET", "/api/chat/ui/" + conversation + "/stream", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			a := b.do("ann", route[0], route[1], route[2]).refused(429, "TOO_MANY_STREAMS", "Too many open streams; close one of them first")
			if a.header.Get("X-Error-Limit") != fmt.Sprint(limit) && a.get("error", "limit") != float64(limit) || a.header.Get("Retry-After") != "1" {
				t.Errorf("%v %s", a.header, a.raw)
			}
		})
	}
	b.t = t
	if after := b.rows(); after != before {
		t.Errorf("stored: %s, then %s", before, after)
	}
	b.do("ann", "GET", "/api/chat/models", "").must(200)
	b.do("ann", "POST", "/api/chat/messages", `{"content":"x","background":true}`).must(202)
	b.open(b.request("bob", "GET", "/api/chat/live", "")) // each user has its own

	// Readers who vanish make room, for exactly as many.
	for range 3 {
		for _, res := range open {
			res.Body.Close()
		}
		open = nil
		deadline := time.Now().Add(time.Minute)
		for len(open) < limit && time.Now().Before(deadline) {
			res, err := b.server.Client().Do(b.request("ann", "GET", "/api/chat/live", ""))
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode == http.StatusOK {
				open = append(open, res)
				continue
			}
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			time.Sleep(5 * time.Millisecond)
		}
		if len(open) < limit {
			t.Fatalf("only %d of %d again", len(open), limit)
		}
		b.do("ann", "GET", "/api/chat/messages/m1/stream", "").refused(429, "TOO_MANY_STREAMS", "")
	}
	for _, res := range open {
		res.Body.Close()
	}
}

// A stream counts no longer once it has ended, been refused, or never begun.
func TestStream_BoundIsGivenBack(t *testing.T) {
	b := setup(t)
	b.gate.SetBudgets(access.Budgets{access.Authenticated: {Streams: 1}})
	for i := range 3 {
		b.do("ann", "POST", "/api/chat/stream", fmt.Sprintf(`{"content":"%d"}`, i)).must(200)
		b.do("ann", "GET", "/api/chat/messages/nope/stream", "").refused(404, "NOT_FOUND", "")
		b.do("ann", "GET", "/api/chat/ui/nope/stream", "").must(204)
		b.do("ann", "POST", "/api/chat/stream", `{}`).refused(400, "INVALID_INPUT", "")
	}
}
