package httpapi_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/domain/access"
	"parley/ports"
)

// A follower whose run is silent is parked, and misses nothing: signs of life,
// what comes between and after them, and the end, after which the body is whole.
func TestParked_MissesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, scripted, func(s *settings) { s.opt.Idle = 20 * time.Millisecond })
	run := b.hanging("")
	call := b.model.Next()
	s := b.open(b.request("ann", "GET", "/api/chat/messages/"+run+"/stream", ""))
	if start, _ := s.next(); start.id != "0" {
		t.Fatalf("%+v", start)
	}
	if s.res.Header.Get("X-Content-Type-Options") == "" || !s.res.Close {
		t.Errorf("head %v, closes %v", s.res.Header, s.res.Close)
	}
	beats := func(n int) {
		for range n {
			if block, err := s.block(); err != nil || !strings.HasPrefix(block, ":") {
				t.Fatalf("%q, %v", block, err)
			}
		}
	}
	for i := range 3 {
		beats(3) // parked before, between and after
		word := fmt.Sprintf("word%d ", i)
		call.Say(word)
		b.hears(s, word)
	}
	beats(3)
	call.Done()
	end, _ := s.next()
	if m, _ := end.data["assistantMessage"].(map[string]any); m["content"] != "word0 word1 word2 " {
		t.Errorf("%+v", end)
	}
	if rest, err := io.ReadAll(s.lines); len(rest) > 0 || err != nil {
		t.Errorf("behind the end: %q, %v", rest, err)
	}
	if left := seen[ports.FollowerLeft](b); len(left) != 1 || left[0].Reason != "done" {
		t.Errorf("left %v", left)
	}
}

// follower opens a connection that follows a run, and reads the first event.
func (b *bench) follower(run string) net.Conn {
	b.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.server.URL, "http://"))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET /api/chat/messages/%s/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", run, token(b.t, "ann"))
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data: ") {
			return conn
		}
	}
	b.t.Fatal("nothing to follow")
	return nil
}

func eventually(t *testing.T, holds func() bool, what string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

// Many parked followers need no goroutine each; when their clients have gone,
// they count no longer.
func TestParked_HoldsNoGoroutine(t *testing.T) {
	const followers = 100
	b := setup(t, func(s *settings) { s.model = mute{} })
	b.gate.SetBudgets(access.Budgets{access.Authenticated: {Streams: followers}})
	run := b.hanging("")
	b.follower(run).Close()
	eventually(t, func() bool { return len(seen[ports.FollowerLeft](b)) == 1 }, "the first has left")
	before := runtime.NumGoroutine()
	var conns []net.Conn
	for range followers {
		conns = append(conns, b.follower(run))
	}
	eventually(t, func() bool { return runtime.NumGoroutine() < before+followers/10 }, "they are parked")
	b.do("ann", "GET", "/api/chat/messages/"+run+"/stream", "").refused(429, "TOO_MANY_STREAMS", "")
	for _, c := range conns {
		c.Close()
	}
	eventually(t, func() bool { return len(seen[ports.FollowerLeft](b)) == 1+followers }, "they have left")
	for _, l := range seen[ports.FollowerLeft](b) {
		if l.Reason != "client_gone" {
			t.Fatalf("left: %v", l)
		}
	}
	b.follower(run).Close()
}

// A client that closes its side only, or resets the connection, has gone too;
// one that sends something has not.
func TestParked_ClientGone(t *testing.T) {
	t.Parallel()
	b := setup(t, func(s *settings) { s.model = mute{} })
	run := b.hanging("")
	for i, leave := range []func(c *net.TCPConn) error{
		(*net.TCPConn).CloseWrite,
		func(c *net.TCPConn) error { _ = c.SetLinger(0); return c.Close() },
		func(c *net.TCPConn) error {
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			time.Sleep(20 * time.Millisecond)
			if n := len(seen[ports.FollowerLeft](b)); n != 2 {
				t.Errorf("%d have left", n)
			}
			return c.Close()
		},
	} {
		conn := b.follower(run).(*net.TCPConn)
		time.Sleep(20 * time.Millisecond) // whether it is parked by now or not
		if err := leave(conn); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return len(seen[ports.FollowerLeft](b)) == i+1 }, fmt.Sprint("client ", i, " has left"))
	}
}

// A shutdown tells parked followers to connect again, and waits until it has.
func TestParked_Drain(t *testing.T) {
	t.Parallel()
	b := setup(t, func(s *settings) { s.model, s.opt.ShutdownTimeout = mute{}, 50*time.Millisecond })
	s := b.open(b.request("ann", "GET", "/api/chat/messages/"+b.hanging("")+"/stream", ""))
	s.next()
	eventually(t, func() bool { return b.api.Detached() == 1 }, "it is parked")
	b.drain()
	if events := s.rest(); len(events) != 1 || events[0].kind() != "reconnect" {
		t.Errorf("told %v", events)
	}
	if err := b.api.Wait(t.Context()); err != nil || b.api.Detached() != 0 {
		t.Errorf("%v, %d left", err, b.api.Detached())
	}
}

// Waiting for streams ends with its time.
func TestParked_WaitIsBounded(t *testing.T) {
	t.Parallel()
	b := setup(t, func(s *settings) { s.model = mute{} })
	b.follower(b.hanging(""))
	eventually(t, func() bool { return b.api.Detached() == 1 }, "it is parked")
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := b.api.Wait(ctx); err == nil {
		t.Error("it has ended")
	}
}

// A connection of HTTP/2 is shared, and HTTP/1.0 has no chunks: their followers
// wait in their handlers.
func TestParked_OtherProtocols(t *testing.T) {
	t.Parallel()
	b := setup(t, scripted, func(s *settings) { s.opt.Idle = 20 * time.Millisecond })
	server := &http.Server{Handler: b.api, Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute}
	server.Protocols.SetUnencryptedHTTP2(true)
	server.Protocols.SetHTTP1(true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l)
	defer server.Close()
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	run := b.hanging("")
	call := b.model.Next()
	req := b.request("ann", "GET", "/api/chat/messages/"+run+"/stream", "")
	req.URL.Host = l.Addr().String()
	res, err := h2.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{t, res, bufio.NewReader(res.Body), func() {}}
	defer s.close()
	if res.ProtoMajor != 2 {
		t.Fatal(res.Proto)
	}
	old, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	fmt.Fprintf(old, "GET /api/chat/messages/%s/stream HTTP/1.0\r\nAuthorization: Bearer %s\r\n\r\n", run, token(t, "ann"))
	s.next()
	for range 3 {
		if block, err := s.block(); err != nil || !strings.HasPrefix(block, ":") {
			t.Fatalf("%q, %v", block, err)
		}
	}
	if n := b.api.Detached(); n != 0 {
		t.Errorf("%d are detached", n)
	}
	call.Say("word")
	b.hears(s, "word")
	call.Done()
	if events := s.rest(); len(events) != 1 || events[0].kind() != "end" {
		t.Errorf("%v", events)
	}
	whole, err := io.ReadAll(old)
	if text := string(whole); err != nil || strings.Contains(strings.ToLower(text), "chunked") ||
		!slices.Contains(strings.Split(text, "\n"), `data: {"type":"chunk","content":"word"}`) {
		t.Errorf("%q, %v", text, err)
	}
}
