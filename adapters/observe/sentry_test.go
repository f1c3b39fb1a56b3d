package observe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"parley/domain/fault"
	"parley/ports"
)

func TestReports(t *testing.T) {
	var mu sync.Mutex
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, string(body))
	}))
	defer server.Close()
	sentry, err := NewSentryReporter(strings.Replace(server.URL, "http://", "http://key@", 1)+"/1", "v1", "here")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithValue(t.Context(), requestIDKey{}, "REQUEST1")
	sentry.send(ctx, "POST /api/chat/messages", "INTERNAL_ERROR",
		fault.Wrap(fmt.Errorf("canary: %w", errors.New("canary")), fault.Internal, "canary"))
	sentry.send(ctx, "generate", "panic", ports.Panic{Value: "canary", Stack: []byte("goroutine 1")})
	sentry.Close()
	mu.Lock()
	defer mu.Unlock()
	all := strings.Join(got, "\n")
	for _, want := range []string{`"where":"POST /api/chat/messages"`, `"request_id":"REQUEST1"`, `"kind":"INTERNAL_ERROR"`,
		`*fmt.wrapError`, `goroutine 1`, `"level":"fatal"`, `"release":"v1"`} {
		if !strings.Contains(all, want) {
			t.Errorf("no %s in %s", want, all)
		}
	}
	if strings.Contains(all, "canary") {
		t.Errorf("what an error says was sent: %s", all)
	}
	t.Run("Off", func(t *testing.T) {
		off, err := NewSentryReporter("", "", "")
		if err != nil {
			t.Fatal(err)
		}
		off.send(t.Context(), "x", "y", errors.New("z")) // and nothing happens
		off.Close()
	})
	t.Run("ABadDSNIsNotRepeated", func(t *testing.T) {
		if _, err := NewSentryReporter("http://canary@:x/", "", ""); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("got %v", err)
		}
	})
}
