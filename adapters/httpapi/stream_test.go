package httpapi_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/domain/fault"
	"parley/ports"
)

var update = flag.Bool("update", false, "write the transcripts in testdata anew")

var (
	anID   = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)
	aTime  = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`)
	aTrace = regexp.MustCompile(`"requestId":"[^"]+"`)
)

// transcript compares a stream with the one that is kept, byte for byte but
// for ids, which are numbered as they come, and times.
func transcript(t *testing.T, name, got string) {
	t.Helper()
	ids := map[string]string{}
	got = anID.ReplaceAllStringFunc(got, func(id string) string {
		if ids[id] == "" {
			ids[id] = fmt.Sprintf("<id %d>", len(ids)+1)
		}
		return ids[id]
	})
	got = aTrace.ReplaceAllString(aTime.ReplaceAllString(got, "<time>"), `"requestId":"<id>"`)
	path := filepath.Join("testdata", name+".sse")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Error(d)
	}
}

// wire reads a whole stream as it is on the wire.
func (s *stream) wire() string {
	s.t.Helper()
	raw, err := io.ReadAll(s.lines)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(raw)
}

// say makes the model say something and waits until a follower has it.
func (b *bench) hears(s *stream, what string) event {
	b.t.Helper()
	var heard string
	for {
		e, ok := s.next()
		if !ok {
			b.t.Fatalf("heard %q of %q", heard, what)
		}
		for _, member := range []string{"content", "delta"} { // the latter is the AI SDK's
			if text, ok := e.data[member].(string); ok {
				heard += text
			}
		}
		if heard == what {
			return e
		}
	}
}

func TestStream_Transcript(t *testing.T) {
	b := setup(t, scripted)
	t.Run("Whole", func(t *testing.T) {
		b.t = t
		s := b.open(b.request("ann", "POST", "/api/chat/stream", `{"content":"Count <b>&</b> é"}`, "Accept", "text/event-stream"))
		for name, want := range map[string]string{
			"Content-Type": "text/event-stream", "Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no",
			"X-RateLimit-Limit": "10000", "X-Content-Type-Options": "nosniff", "Content-Length": "", "Content-Encoding": "",
		} {
			if got := s.res.Header.Get(name); got != want {
				t.Errorf("%s: %q", name, got)
			}
		}
		call := b.model.Next()
		var out strings.Builder
		block := func() {
			part, err := s.block()
			if err != nil {
				t.Fatal(err)
			}
			out.WriteString(part + "\n")
		}
		block()
		call.Think("Hm. ")
		block()
		for _, word := range []string{"one ", "“zwei” ", "😀"} {
			call.Say(word)
			block()
		}
		call.Done()
		out.WriteString(s.wire())
		transcript(t, "whole", out.String())
	})
	t.Run("Broken", func(t *testing.T) {
		b.t = t
		s := b.open(b.request("ann", "POST", "/api/chat/stream", `{"content":"x"}`))
		call := b.model.Next()
		start, err := s.block()
		if err != nil {
			t.Fatal(err)
		}
		call.Say("half of it")
		half, err := s.block()
		if err != nil {
			t.Fatal(err)
		}
		call.Fail(fault.Wrap(errSecret, fault.AIFailed, "x"))
		transcript(t, "broken", start+"\n"+half+"\n"+s.wire())
	})
	t.Run("NeverBegun", func(t *testing.T) {
		b.t = t
		s := b.open(b.request("ann", "POST", "/api/chat/stream", `{"content":"x"}`))
		b.model.Next().Fail(fault.Wrap(errSecret, fault.AIUnavailable, "x"))
		transcript(t, "never_begun", s.wire())
	})
	t.Run("Stopped", func(t *testing.T) {
		b.t = t
		s := b.open(b.request("ann", "POST", "/api/chat/stream", `{"content":"x"}`))
		call := b.model.Next()
		start, _ := s.block()
		call.Say("some")
		some, _ := s.block()
		run := anID.FindAllString(start, -1)
		b.do("ann", "POST", "/api/chat/messages/"+run[len(run)-1]+"/stop", "").must(200)
		transcript(t, "stopped", start+"\n"+some+"\n"+s.wire())
	})
	b.t = t
	if left := seen[ports.FollowerLeft](b); len(left) != 4 || left[0].Reason != "done" {
		t.Errorf("%v", left)
	}
}

func TestStream_Refused(t *testing.T) {
	b := setup(t)
	b.do("ann", "POST", "/api/chat/stream", `{"content":"x","conversationId":"nope"}`).refused(404, "NOT_FOUND", "")
	b.do("ann", "POST", "/api/chat/stream", `{"content":"x"}`, "Accept", "application/json").
		refused(406, "NOT_ACCEPTABLE", "This address answers with text/event-stream")
	b.do("ann", "GET", "/api/chat/messages/nope/stream", "").refused(404, "NOT_FOUND", "Message not found or access denied")
	if left := seen[ports.FollowerLeft](b); len(left) != 0 {
		t.Errorf("nobody followed anything: %v", left)
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	b := setup(t, scripted, func(s *settings) { s.opt.Idle = 40 * time.Millisecond })
	s := b.open(b.request("ann", "POST", "/api/chat/stream", `{"content":"x"}`))
	call := b.model.Next()
	start, _ := s.next()
	url := "/api/chat/messages/" + start.data["runId"].(string) + "/stream"
	call.Think("hm")
	b.hears(s, "hm")
	call.Say("one é ")
	if e := b.hears(s, "one é "); e.id != "11" || start.id != "0" {
		t.Errorf("cursors %q, %q", start.id, e.id)
	}
	s.close() // a reader who leaves ends nothing

	t.Run("FromACursor", func(t *testing.T) {
		b.t = t
		resumed := b.open(b.request("ann", "GET", url+"?after=8", ""))
		if e := b.hears(resumed, "é "); e.id != "11" {
			t.Errorf("%+v", e)
		}
	})
	t.Run("LastEventIDIsNewerThanTheAddress", func(t *testing.T) {
		b.t = t
		resumed := b.open(b.request("ann", "GET", url+"?after=0", "", "Last-Event-ID", "10"))
		b.hears(resumed, " ")
	})
	t.Run("NothingNew/OpensAtOnceAndBeats", func(t *testing.T) {
		b.t = t
		resumed := b.open(b.request("ann", "GET", url+"?after=11", ""))
		for range 3 {
			if block, err := resumed.block(); err != nil || block != ": waiting\n" {
				t.Fatalf("%q, %v", block, err)
			}
		}
	})
	t.Run("InsideACharacter", func(t *testing.T) {
		b.t = t
		b.do("ann", "GET", url+"?after=9", "").refused(400, "INVALID_INPUT", "The cursor is not a position of this reply")
	})
	t.Run("BeyondTheEnd", func(t *testing.T) {
		b.t = t
		b.do("ann", "GET", url+"?after=12", "").refused(400, "INVALID_INPUT", "The cursor is not a position of this reply")
	})
	t.Run("OfSomebodyElse", func(t *testing.T) {
		b.t = t
		b.do("bob", "GET", url, "").refused(404, "NOT_FOUND", "")
	})
	b.t = t
	tail := b.open(b.request("ann", "GET", url+"?after=11", ""))
	call.Say("two")
	b.hears(tail, "two")
	call.Done()
	if end := tail.rest(); len(end) != 1 || end[0].id != "15" || end[0].kind() != "end" {
		t.Errorf("%v", end)
	}
	t.Run("Ended/Anew", func(t *testing.T) {
		b.t = t
		events := b.open(b.request("ann", "GET", url, "")).rest()
		var kinds, ids []string
		for _, e := range events {
			kinds, ids = append(kinds, e.kind()), append(ids, e.id)
		}
		if !cmp.Equal(kinds, []string{"start", "reasoning", "chunk", "end"}) && !cmp.Equal(kinds, []string{"start", "chunk", "end"}) {
			t.Errorf("%v at %v", kinds, ids)
		}
		if text := events[len(events)-2].data["content"]; text != "one é two" {
			t.Errorf("text %q", text)
		}
	})
	t.Run("Ended/TheEndUnseen", func(t *testing.T) {
		b.t = t
		events := b.open(b.request("ann", "GET", url+"?after=14", "")).rest()
		if len(events) != 1 || events[0].kind() != "end" {
			t.Errorf("%v", events)
		}
	})
	t.Run("Ended/BeyondTheEnd", func(t *testing.T) {
		b.t = t
		for _, cursor := range []string{"16", "99999", "9223372036854775807"} {
			b.do("ann", "GET", url+"?after="+cursor, "").refused(400, "INVALID_INPUT", "The cursor is not a position of this reply")
			b.do("ann", "GET", url, "", "Last-Event-ID", cursor).refused(400, "INVALID_INPUT", "The cursor is not a position of this reply")
		}
	})
	t.Run("Ended/AllSeen", func(t *testing.T) {
		b.t = t
		if a := b.do("ann", "GET", url, "", "Last-Event-ID", "15").must(204); a.raw != "" {
			t.Errorf("%q", a.raw)
		}
	})
}

// TestStream_SlowReader: who does not read is dropped, and the reply is made
// nevertheless.
func TestStream_SlowReader(t *testing.T) {
	t.Parallel()
	b := setup(t, scripted, func(s *settings) {
		s.WriteTimeout = 150 * time.Millisecond
		s.connection = func(ctx context.Context, c net.Conn) context.Context {
			_ = c.(*net.TCPConn).SetWriteBuffer(4096) // so that little has to be said to fill it
			return ctx
		}
	})
	conn, err := net.Dial("tcp", b.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetReadBuffer(4096)
	body := `{"content":"x"}`
	fmt.Fprintf(conn, "POST /api/chat/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		token(t, "ann"), len(body), body)
	call := b.model.Next()
	call.Say(strings.Repeat("x", 500_000))
	deadline := time.Now().Add(time.Minute)
	for len(seen[ports.FollowerLeft](b)) == 0 && time.Now().Before(deadline) {
		call.Say("x")
		time.Sleep(10 * time.Millisecond)
	}
	if left := seen[ports.FollowerLeft](b); len(left) != 1 || left[0].Reason != "write_timeout" {
		t.Fatalf("%v", left)
	}
	call.Done()
	for len(seen[ports.RunFinished](b)) == 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if done := seen[ports.RunFinished](b); len(done) != 1 || done[0].State != "completed" {
		t.Errorf("%+v", done)
	}
}

func TestStream_GoneReader(t *testing.T) {
	t.Parallel()
	b := setup(t, scripted)
	s := b.open(b.request("ann", "POST", "/api/chat/stream", `{"content":"x"}`))
	call := b.model.Next()
	start, _ := s.next()
	s.close()
	deadline := time.Now().Add(time.Minute)
	for len(seen[ports.FollowerLeft](b)) == 0 && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	if left := seen[ports.FollowerLeft](b); len(left) != 1 || left[0].Reason != "client_gone" {
		t.Fatalf("%v", left)
	}
	if call.Ctx.Err() != nil {
		t.Error("the reply was given up with its reader")
	}
	call.Say("all of it")
	call.Done()
	events := b.open(b.request("ann", "GET", "/api/chat/messages/"+start.data["runId"].(string)+"/stream", "")).rest()
	if m, _ := events[len(events)-1].data["assistantMessage"].(map[string]any); m["content"] != "all of it" {
		t.Errorf("%v", events)
	}
}

// TestSend_GoneCaller: a caller that does not wait for its reply loses nothing
// but the answer.
func TestSend_GoneCaller(t *testing.T) {
	t.Parallel()
	b := setup(t, scripted)
	req := b.request("ann", "POST", "/api/chat/messages", `{"content":"x"}`, "Idempotency-Key", "k")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		res, err := b.server.Client().Do(req.WithContext(ctx))
		if err == nil {
			res.Body.Close()
		}
		done <- err
	}()
	call := b.model.Next()
	cancel()
	if err := <-done; err == nil {
		t.Fatal("there was an answer")
	}
	call.Say("kept")
	call.Done()
	a := b.do("ann", "POST", "/api/chat/messages", `{"content":"x"}`, "Idempotency-Key", "k").must(201)
	if a.text("assistantMessage", "content") != "kept" || b.model.Calls() != 1 {
		t.Errorf("%s", a.raw)
	}
}

func TestStream_Drain(t *testing.T) {
	t.Parallel()
	b := setup(t, scripted, func(s *settings) { s.opt.ShutdownTimeout = 50 * time.Millisecond })
	s := b.open(b.request("ann", "POST", "/api/chat/stream", `{"content":"x"}`))
	live := b.open(b.request("ann", "GET", "/api/chat/live", ""))
	b.model.Next()
	s.next()
	live.next()
	b.drain()
	if events := s.rest(); len(events) != 1 || events[0].kind() != "reconnect" {
		t.Errorf("the follower is told %v", events)
	}
	events := live.rest()
	if len(events) == 0 || events[len(events)-1].kind() != "reconnect" {
		t.Errorf("the tab is told %v", events)
	}
	b.do("ann", "POST", "/api/chat/messages", `{"content":"x"}`).refused(503, "UNAVAILABLE", "").header.Get("Retry-After")
	for _, l := range seen[ports.FollowerLeft](b) {
		if l.Reason != "shutdown" {
			t.Errorf("%v", l)
		}
	}
}

func TestLive(t *testing.T) {
	b := setup(t, scripted, func(s *settings) { s.opt.Idle = 30 * time.Millisecond })
	live := b.open(b.request("ann", "GET", "/api/chat/live", ""))
	if e, _ := live.next(); e.kind() != "snapshot" || len(e.data["runs"].([]any)) != 0 || e.id != "" {
		t.Errorf("%+v", e)
	}
	run := b.do("ann", "POST", "/api/chat/messages", `{"content":"x","background":true}`).must(202).text("runId")
	call := b.model.Next()
	states := map[string]bool{}
	watch := func(until string) {
		t.Helper()
		for !states[until] {
			e, ok := live.next()
			if !ok {
				t.Fatalf("ended before %s", until)
			}
			for _, r := range e.data["runs"].([]any) {
				r := r.(map[string]any)
				if r["runId"] != run || e.kind() != "changed" {
					t.Errorf("%+v", e)
				}
				states[r["state"].(string)] = true
			}
		}
	}
	watch("running")
	call.Say("x")
	call.Done()
	watch("completed")
	b.do("bob", "POST", "/api/chat/messages", `{"content":"x","background":true}`).must(202)
	b.finish("for Bob")
	if block, err := live.block(); err != nil || !strings.HasPrefix(block, ":") {
		t.Errorf("Ann is told %q", block)
	}
}

// TestStream_ThroughMiddleware: flushing and deadlines work through writers of
// others that unwrap.
func TestStream_ThroughMiddleware(t *testing.T) {
	b := setup(t, scripted, func(s *settings) {
		s.handler = func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Request-Id", "from-outside")
				next.ServeHTTP(wrapped{w}, r)
				w.Header().Set(http.TrailerPrefix+"X-Pattern", r.Pattern)
			})
		}
	})
	s := b.open(b.request("ann", "POST", "/api/chat/stream", `{"content":"x"}`))
	call := b.model.Next()
	if e, ok := s.next(); !ok || e.kind() != "start" { // arrives although nothing else has been said
		t.Fatalf("%+v", e)
	}
	call.Say("x")
	call.Done()
	s.rest()
	if id := s.res.Header.Get("X-Request-Id"); id != "from-outside" {
		t.Errorf("request id %q", id)
	}
	if pattern := s.res.Trailer.Get("X-Pattern"); pattern != "/api/chat/stream" {
		t.Errorf("middleware outside sees the pattern %q", pattern)
	}
}

type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }
