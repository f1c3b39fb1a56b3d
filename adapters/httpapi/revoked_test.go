package httpapi_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/adapters/identity"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/ports"
)

// streamRoutes opens every kind of stream as a credential; the reply that they
// follow hangs.
var streamRoutes = map[string]func(b *bench) (method, target, body string){
	"Send": func(*bench) (string, string, string) { return "POST", "/api/chat/stream", `{"content":"x"}` },
	"SendIn": func(*bench) (string, string, string) {
		return "POST", "/api/chat/messages", `{"content":"x","stream":true}`
	},
	"Follow": func(b *bench) (string, string, string) {
		return "GET", "/api/chat/messages/" + b.hanging("") + "/stream", ""
	},
	"Resume": func(b *bench) (string, string, string) {
		return "GET", "/api/chat/messages/" + b.hanging("") + "/stream?after=0", ""
	},
	"Live": func(*bench) (string, string, string) { return "GET", "/api/chat/live", "" },
	"UI": func(*bench) (string, string, string) {
		return "POST", "/api/chat/ui", uiBody(uuid.NewString(), uuid.NewString(), "x")
	},
	"UIResume": func(b *bench) (string, string, string) {
		id := uuid.NewString()
		b.hanging(id)
		return "GET", "/api/chat/ui/" + id + "/stream", ""
	},
}

// hanging begins a reply of ann's that does not end, in a chat of the AI SDK
// or, without one, in the default thread.
func (b *bench) hanging(chat string) (run string) {
	b.t.Helper()
	if chat == "" {
		return b.do("ann", "POST", "/api/chat/messages", `{"content":"x","background":true}`).must(202).text("runId")
	}
	s := b.open(b.request("ann", "POST", "/api/chat/ui", uiBody(chat, uuid.NewString(), "x")))
	start, _ := s.next()
	s.close()
	return start.data["messageId"].(string)
}

// mute never says a word.
type mute struct{}

func (mute) Generate(ctx context.Context, _ ports.Prompt, _ func(chat.Delta)) (ports.Answer, error) {
	<-ctx.Done()
	return ports.Answer{}, ctx.Err()
}

// A stream ends, with an error that says so, when its credential has expired,
// or its sessions or key were revoked.
func TestStream_Revoked(t *testing.T) {
	t.Parallel()
	revoke := func(b *bench, _ string) {
		now := time.Now()
		_, err := b.store.RevokeSessions(context.Background(), "ann", now, nil, audit.Entry{ID: uuid.NewString(), UserID: "ann",
			Action: audit.ActionSessionsRevoked, Resource: audit.ResourceUser, ResourceID: "ann", CreatedAt: now, UpdatedAt: now})
		if err == nil {
			err = b.gate.Refresh(context.Background())
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
	for how, end := range map[string]func(b *bench) (headers []string, end func()){
		"Expired": func(b *bench) ([]string, func()) {
			short, err := identity.Mint(secret, identity.Grant{UserID: "ann", TTL: time.Hour, Now: b.clock()})
			if err != nil {
				b.t.Fatal(err)
			}
			return []string{"Authorization", "Bearer " + short}, func() { b.advance(2 * time.Hour) }
		},
		"SessionRevoked": func(b *bench) ([]string, func()) {
			return []string{"Authorization", "", "Cookie", cookie(b.t, "ann")}, func() { revoke(b, "ann") }
		},
		"KeyRevoked": func(b *bench) ([]string, func()) {
			return []string{"Authorization", "Bearer " + b.key("ann")}, func() { revoke(b, "ann") }
		},
	} {
		t.Run(how, func(t *testing.T) {
			for name, route := range streamRoutes {
				t.Run(name, func(t *testing.T) {
					b := setup(t, func(s *settings) {
						s.model, s.opt.Idle, s.opt.ShutdownTimeout = mute{}, 20*time.Millisecond, 50*time.Millisecond
					})
					headers, revoke := end(b)
					method, target, body := route(b)
					s := b.open(b.request("ann", method, target, body, headers...))
					if block, err := s.block(); err != nil || strings.Contains(block, `"error"`) { // it is open
						t.Fatalf("%q, %v", block, err)
					}
					revoke()
					events := s.rest()
					last := events[len(events)-1]
					said, _ := last.data["error"].(string)
					if strings.HasPrefix(name, "UI") {
						said, _ = last.data["errorText"].(string)
					} else if last.data["code"] != "UNAUTHORIZED" {
						t.Errorf("last event %v", last.data)
					}
					if last.kind() != "error" || said != "Your session has ended; please sign in again" {
						t.Errorf("last event %v", last.data)
					}
					if left := seen[ports.FollowerLeft](b); left[len(left)-1].Reason != "revoked" {
						t.Errorf("left for %v", left)
					}
				})
			}
		})
	}
}

// Text that never pauses does not keep a stream open: it is checked between
// two pieces too.
func TestStream_RevokedWhileTextFlows(t *testing.T) {
	b := setup(t, scripted, func(s *settings) { s.opt.Idle, s.CheckInterval = time.Hour, time.Millisecond })
	s := b.open(b.request("ann", "POST", "/api/chat/stream", `{"content":"x"}`))
	call := b.model.Next()
	call.Say("one ")
	b.hears(s, "one ")
	now := time.Now()
	if _, err := b.store.RevokeSessions(t.Context(), "ann", now, nil, audit.Entry{ID: "e", UserID: "ann",
		Action: audit.ActionSessionsRevoked, Resource: audit.ResourceUser, ResourceID: "ann", CreatedAt: now, UpdatedAt: now}); err != nil {
		t.Fatal(err)
	}
	if err := b.gate.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	call.Say("secret")
	e, _ := s.next()
	if _, more := s.next(); e.kind() != "error" || e.data["code"] != "UNAUTHORIZED" || more {
		t.Errorf("%v, and more: %v", e.data, more)
	}
	call.Done()
}

// Nor does one who waits get what a stream would not show any more.
func TestSend_RevokedWhileWaiting(t *testing.T) {
	b := setup(t, scripted, func(s *settings) { s.CheckInterval = time.Millisecond })
	later := b.sendLater("ann", "/api/chat/messages", `{"content":"x"}`)
	call := b.model.Next()
	call.Say("secret")
	b.advance(2 * time.Hour)
	call.Done()
	if a := (<-later).refused(http.StatusUnauthorized, "UNAUTHORIZED", "Your session has ended; please sign in again"); strings.Contains(a.raw, "secret") {
		t.Error(a.raw)
	}
}
