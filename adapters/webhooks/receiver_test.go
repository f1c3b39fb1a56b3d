package webhooks

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"parley/domain/webhook"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAbCdEfGhIjK="

var event = webhook.New(webhook.RunEnded, "ann", "run", time.Now(), map[string]any{"runId": "run"})

func newReceiver(t *testing.T, opt Options) *Receiver {
	t.Helper()
	key, err := webhook.ParseKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	opt.Keys = []webhook.Key{key}
	opt.UserAgent = "parley/test"
	if opt.Timeout == 0 {
		opt.Timeout = time.Minute
	}
	r, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestDeliver_IsVerified receives an event as the documents say.
func TestDeliver_IsVerified(t *testing.T) {
	verifier, err := standard.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := verifier.Verify(body, r.Header); err != nil || string(body) != event.Body || r.Method != http.MethodPost ||
			r.Header.Get("Webhook-Id") != event.ID || r.Header.Get("Content-Type") != "application/json" || r.UserAgent() != "parley/test" {
			t.Errorf("%s %s with %v: %v", r.Method, body, r.Header, err)
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer receiver.Close()
	if got, want := newReceiver(t, Options{URL: receiver.URL}).Deliver(t.Context(), event), (webhook.Answer{Status: 202}); got != want {
		t.Errorf("got %+v", got)
	}
}

// TestDeliver_Answers: whatever a receiver does, an attempt has an answer, and
// only 2xx accepts.
func TestDeliver_Answers(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	hang := make(chan struct{})
	defer close(hang)
	for name, c := range map[string]struct {
		serve   http.HandlerFunc
		timeout time.Duration
		want    webhook.Answer
	}{
		"Error": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, 0, webhook.Answer{Status: 500, Failure: webhook.FailureStatus}},
		"Gone":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(410) }, 0, webhook.Answer{Status: 410, Failure: webhook.FailureGone}},
		"Redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		}, 0,
			webhook.Answer{Status: 307, Failure: webhook.FailureRedirect}},
		"RetryAfter": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(429)
		}, 0, webhook.Answer{Status: 429, Failure: webhook.FailureRateLimit, RetryAfter: 2 * time.Minute}},
		"RetryAfterNonsense": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "-5")
			w.WriteHeader(503)
		}, 0, webhook.Answer{Status: 503, Failure: webhook.FailureStatus}},
		"Hangs": {func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		}, 50 * time.Millisecond, webhook.Answer{Failure: webhook.FailureTimeout}},
		"Cut": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, webhook.Answer{Failure: webhook.FailureConnect}},
		"EndlessBody": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat("x", 4096)); err != nil {
					return
				}
			}
		}, 0, webhook.Answer{Status: 200}},
		"HugeHeader": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Big", strings.Repeat("x", 1<<20)) }, 0,
			webhook.Answer{Failure: webhook.FailureConnect}},
	} {
		t.Run(name, func(t *testing.T) {
			receiver := httptest.NewServer(c.serve)
			defer receiver.Close()
			got := newReceiver(t, Options{URL: receiver.URL, Timeout: c.timeout}).Deliver(t.Context(), event)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	if elsewhere.Load() != 0 {
		t.Error("a redirect was followed")
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	if got := newReceiver(t, Options{URL: closed.URL}).Deliver(t.Context(), event); got.Failure != webhook.FailureConnect {
		t.Errorf("nobody listens: %+v", got)
	}
}

// TestDeliver_PrivateAddress: a name that resolves to an address that is not
// public is not connected to, unless the operator permits it.
func TestDeliver_PrivateAddress(t *testing.T) {
	var reached atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer receiver.Close()
	u, err := url.Parse(receiver.URL)
	if err != nil {
		t.Fatal(err)
	}
	named := func(private bool) webhook.Answer {
		r := newReceiver(t, Options{URL: "http://hooks.example.com:" + u.Port(), Private: private})
		r.dialer.Resolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go resolveToLoopback(theirs)
			return ours, nil
		}}
		return r.Deliver(t.Context(), event)
	}
	if got := named(false); got.Failure != webhook.FailureAddress || reached.Load() != 0 {
		t.Errorf("%+v, %d requests", got, reached.Load())
	}
	if got := named(true); got.Failure != "" || reached.Load() != 1 {
		t.Errorf("permitted: %+v, %d requests", got, reached.Load())
	}
	if got := newReceiver(t, Options{URL: "http://localhost:" + u.Port()}).Deliver(t.Context(), event); got.Failure != "" || reached.Load() != 2 {
		t.Errorf("localhost: %+v, %d requests", got, reached.Load())
	}
}

// resolveToLoopback answers one question of DNS over a stream: every name is
// 127.0.0.1, and has no other address.
func resolveToLoopback(conn net.Conn) {
	defer conn.Close()
	question := make([]byte, 512)
	n, err := conn.Read(question[:2])
	if err != nil || n != 2 {
		return
	}
	size := int(question[0])<<8 | int(question[1])
	if _, err := io.ReadFull(conn, question[:size]); err != nil {
		return
	}
	end := 12
	for question[end] != 0 {
		end += 1 + int(question[end])
	}
	end += 5 // the root, the type and the class
	answer := append([]byte{}, question[:end]...)
	answer[2], answer[3] = 0x81, 0x80
	copy(answer[6:], []byte{0, 0, 0, 0, 0, 0})  // no records
	if question[end-4]|question[end-3]-1 == 0 { // of type A: one
		answer[7] = 1
		answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1)
	}
	_, _ = conn.Write(append([]byte{byte(len(answer) >> 8), byte(len(answer))}, answer...))
}

func TestPermit(t *testing.T) {
	for address, ok := range map[string]bool{
		"203.0.113.7:443": true, "[2001:db8::7]:443": true, // of documentation, and treated as any other
		"127.0.0.1:80": false, "10.1.2.3:80": false, "172.16.0.1:80": false, "192.168.1.1:80": false, "169.254.169.254:80": false,
		"100.64.0.1:80": false, "0.0.0.0:80": false, "255.255.255.255:80": false, "224.0.0.1:80": false,
		"[::1]:80": false, "[::]:80": false, "[fe80::1]:80": false, "[fd00::1]:80": false, "[ff02::1]:80": false,
		"[::ffff:127.0.0.1]:80": false, "[::ffff:a9fe:a9fe]:80": false, "[64:ff9b::7f00:1]:80": false,
	} {
		err := permit(address)
		if (err == nil) != ok || err != nil && !errors.Is(err, errAddress) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "-7": 0, "soon": 0, "1e3": 0, "99999999999999": 0,
		"Fri, 27 Nov 2026 12:01:30 GMT": 90 * time.Second, "Fri, 27 Nov 2026 11:00:00 GMT": 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}
