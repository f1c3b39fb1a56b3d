package observe_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"parley/adapters/observe"
)

func serve(t *testing.T, w world, route string, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc(route, h)
	s := httptest.NewServer(w.HTTP(mux, none))
	t.Cleanup(s.Close)
	return s
}

func TestHTTP_CountsByRoute(t *testing.T) {
	w := setup(t)
	s := serve(t, w, "GET /api/chat/conversations/{id}", func(rw http.ResponseWriter, r *http.Request) {
		if attrs := observe.RequestAttrs(r.Context()); len(attrs) != 1 || attrs[0].Value.String() != "request-1" {
			t.Errorf("the context knows %v", attrs)
		}
		_, _ = io.WriteString(rw, "ok")
	})
	req, _ := http.NewRequest("GET", s.URL+"/api/chat/conversations/c-1?q=canary", nil)
	req.Header.Set("X-Request-Id", "request-1")
	req.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("X-Request-Id"); got != "request-1" {
		t.Errorf("answered with id %q", got)
	}
	want := "http_server_request_duration_seconds{http_request_method=GET,http_response_status_code=200,http_route=/api/chat/conversations/{id}}"
	if got := w.values(t, "http_server_request_duration_seconds"); got[want] != 1 || len(got) != 1 {
		t.Errorf("counted %v", got)
	}
	spans := w.spans.GetSpans()
	if len(spans) != 1 || spans[0].Name != "GET /api/chat/conversations/{id}" ||
		spans[0].SpanContext.TraceID().String() != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("spans %+v", spans)
	}
	if log := w.log.String(); strings.Count(log, "msg=request") != 1 || !strings.Contains(log, "status=200") || strings.Contains(log, "canary") {
		t.Errorf("log %s", log)
	}
}

// A response that goes on without its handler is finished at its end, once.
func TestHTTP_Detached(t *testing.T) {
	w := setup(t)
	var finish func(int64)
	s := serve(t, w, "GET /api/chat/messages/{id}/stream", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(rw, "head")
		finish = rw.(interface{ Detach() func(int64) }).Detach()
	})
	resp, err := http.Get(s.URL + "/api/chat/messages/m/stream")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if got := w.values(t, "http_server_request_duration_seconds"); len(got) != 0 || strings.Contains(w.log.String(), "msg=request") {
		t.Fatalf("finished with its handler: %v", got)
	}
	finish(100)
	want := "http_server_request_duration_seconds{http_request_method=GET,http_response_status_code=200,http_route=/api/chat/messages/{id}/stream}"
	if got := w.values(t, "http_server_request_duration_seconds"); got[want] != 1 {
		t.Errorf("counted %v", got)
	}
	if log := w.log.String(); strings.Count(log, "msg=request") != 1 || !strings.Contains(log, "bytes=104") {
		t.Errorf("log %s", log)
	}
}

func TestHTTP_MakesAnID(t *testing.T) {
	w := setup(t)
	for _, brought := range []string{"", "short", "has space here", strings.Repeat("x", 65), "evil\"quote-and-more"} {
		rec := httptest.NewRecorder()
		req := httptest.NewRequest("GET", "/x", nil)
		req.Header.Set("X-Request-Id", brought)
		w.HTTP(http.NotFoundHandler(), none).ServeHTTP(rec, req)
		if got := rec.Header().Get("X-Request-Id"); len(got) < 16 || got == brought {
			t.Errorf("brought %q, answered %q", brought, got)
		}
	}
}

func TestHTTP_StreamsAreCountedAndFlushed(t *testing.T) {
	w := setup(t)
	release := make(chan struct{})
	s := serve(t, w, "GET /stream", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(rw, ": hello\n\n")
		if err := http.NewResponseController(rw).Flush(); err != nil {
			t.Errorf("flush: %v", err)
		}
		<-release
	})
	resp, err := http.Get(s.URL + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 9)); err != nil {
		t.Fatal(err)
	}
	if got := w.values(t, "chat_streams_active")["chat_streams_active{}"]; got != 1 {
		t.Errorf("%v streams are open, want 1", got)
	}
	close(release)
	_, _ = io.Copy(io.Discard, resp.Body)
	s.Close()
	if got := w.values(t, "chat_streams_active")["chat_streams_active{}"]; got != 0 {
		t.Errorf("%v streams are open after the end", got)
	}
}

func TestHTTP_PanicIsCountedAndPassedOn(t *testing.T) {
	w := setup(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /boom", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	func() {
		defer func() {
			if recover() != http.ErrAbortHandler { //nolint:errorlint // the very value has to come through
				t.Error("the panic was swallowed")
			}
		}()
		w.HTTP(mux, none).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/boom", nil))
	}()
	for name := range w.values(t, "http_server_request_duration_seconds") {
		if !strings.Contains(name, "status_code=500") {
			t.Errorf("counted as %s", name)
		}
	}
}

func TestHTTP_ClientGone(t *testing.T) {
	w := setup(t)
	ctx, cancel := context.WithCancel(context.Background())
	h := w.HTTP(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { cancel() }), none)
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/x", nil).WithContext(ctx))
	if !strings.Contains(w.log.String(), "status=499") {
		t.Errorf("log %s", w.log.String())
	}
}

// Requests cannot create time series.
func TestHTTP_AttackMakesNoSeries(t *testing.T) {
	w := setup(t)
	h := w.HTTP(http.NewServeMux(), none)
	for i := range 3000 {
		req := httptest.NewRequest("GET", fmt.Sprintf("/p/%d", i), nil)
		req.Host, req.Method = fmt.Sprintf("h%d.example", i), fmt.Sprintf("M%d", i)
		h.ServeHTTP(httptest.NewRecorder(), req)
	}
	w.Flush()
	n, err := testutil.GatherAndCount(w.reg, "http_server_request_duration_seconds")
	if err != nil || n != 1 {
		t.Errorf("%d series, %v", n, err)
	}
}

// The promise of the API is about what users ask, except what is judged as turns.
func TestHTTP_WhatThePromiseIsAbout(t *testing.T) {
	for name, c := range map[string]struct {
		pattern, target string
		status          int
		sends, stream   bool
		want            string // the result that is counted, if any
	}{
		"History":     {"GET /api/chat/messages", "/api/chat/messages", 200, false, false, "ok"},
		"Refused":     {"GET /api/chat/messages", "/api/chat/messages", 404, false, false, "ok"},
		"Broken":      {"DELETE /api/chat/conversations/{id}", "/api/chat/conversations/1", 503, false, false, "error"},
		"NotFollowed": {"GET /api/chat/messages/{id}/stream", "/api/chat/messages/1/stream", 503, false, false, "error"},
		"Followed":    {"GET /api/chat/messages/{id}/stream", "/api/chat/messages/1/stream", 200, false, true, ""},
		"Send":        {"POST /api/chat/messages", "/api/chat/messages", 502, true, false, ""},
		"Edit":        {"PATCH /api/chat/messages/{id}", "/api/chat/messages/1", 502, true, false, ""},
		"Health":      {"GET /api/health", "/api/health", 503, false, false, ""},
		"NoRoute":     {"GET /api/chat/other", "/elsewhere", 500, false, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t)
			mux := http.NewServeMux()
			mux.HandleFunc(c.pattern, func(w http.ResponseWriter, _ *http.Request) {
				if c.stream {
					w.Header().Set("Content-Type", "text/event-stream")
				}
				w.WriteHeader(c.status)
			})
			asked := ""
			h := w.HTTP(mux, func(method, path string) bool {
				asked = method + " " + path
				return c.sends
			})
			method, _, _ := strings.Cut(c.pattern, " ")
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, c.target, nil))
			if asked != "" && asked != c.pattern {
				t.Errorf("asked about %q", asked)
			}
			got := ""
			for series, n := range w.values(t, "chat_api_requests_total") {
				if n > 0 {
					got += series
				}
			}
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("counted %q, want %q", got, c.want)
			}
		})
	}
}

// While an operator has disabled chat, the answers that say so are no errors, but
// others are.
func TestHTTP_DisabledIsNoError(t *testing.T) {
	w := setup(t)
	disabled := true
	w.Switches(func() bool { return disabled }, nil)
	mux := http.NewServeMux()
	status := http.StatusServiceUnavailable
	mux.HandleFunc("GET /api/chat/messages", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	count := func() string {
		w.HTTP(mux, none).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/api/chat/messages", nil))
		return fmt.Sprint(w.values(t, "chat_api_requests_total"))
	}
	for _, c := range []struct {
		status   int
		disabled bool
		want     string
	}{
		{503, true, "map[chat_api_requests_total{result=ok}:1]"},
		{500, true, "map[chat_api_requests_total{result=error}:1 chat_api_requests_total{result=ok}:1]"},
		{503, false, "map[chat_api_requests_total{result=error}:2 chat_api_requests_total{result=ok}:1]"},
	} {
		status, disabled = c.status, c.disabled
		if got := count(); got != c.want {
			t.Errorf("status %d, disabled %v: %s, want %s", c.status, c.disabled, got, c.want)
		}
	}
}

// none are the routes of an API that makes no replies.
func none(string, string) bool { return false }
