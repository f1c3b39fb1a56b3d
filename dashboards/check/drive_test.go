//go:build e2e

package check_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// user calls the API as one person.
type user struct {
	w     *world
	name  string
	token string
}

func (w *world) user(name string, more ...string) *user {
	return &user{w: w, name: name, token: w.run(append([]string{"token", "--user", name}, more...)...)}
}

type answer struct {
	status int
	body   map[string]any
}

// at finds a member by path, as "assistantMessage.id".
func (a answer) at(path string) string {
	var v any = a.body
	for name := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	s, _ := v.(string)
	return s
}

func (u *user) request(ctx context.Context, p *process, method, path string, body any) (*http.Response, error) {
	raw, _ := json.Marshal(body)
	if body == nil {
		raw = nil
	}
	req, err := http.NewRequestWithContext(ctx, method, p.url()+path, bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+u.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return http.DefaultClient.Do(req)
}

func (u *user) do(p *process, method, path string, body any) answer {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	resp, err := u.request(ctx, p, method, path, body)
	if err != nil {
		return answer{}
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode}
	_ = json.NewDecoder(resp.Body).Decode(&a.body)
	return a
}

// upload sends a file of each kind.
func (u *user) upload(p *process) {
	for _, content := range []string{"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "%PDF-1.4\n%%EOF", "plain text", `{"a":1}`} {
		req, err := http.NewRequest(http.MethodPost, p.url()+"/api/chat/files", strings.NewReader(content))
		if err != nil {
			continue
		}
		req.Header.Set("Authorization", "Bearer "+u.token)
		req.Header.Set("Content-Type", "application/octet-stream")
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	}
}

// say sends a message and waits for the reply.
func (u *user) send(p *process, text string, more ...any) answer {
	body := map[string]any{"content": text}
	for i := 0; i+1 < len(more); i += 2 {
		body[more[i].(string)] = more[i+1]
	}
	return u.do(p, "POST", "/api/chat/messages", body)
}

// listen streams the reply to a message and returns the run's id as soon as it
// has begun; wait reads the rest, leave goes away.
func (u *user) stream(p *process, text string) (run string, wait, leave func()) {
	ctx, cancel := context.WithCancel(context.Background())
	resp, err := u.request(ctx, p, "POST", "/api/chat/stream", map[string]any{"content": text})
	if err != nil || resp.StatusCode != http.StatusOK {
		cancel()
		return "", func() {}, func() {}
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data:"); ok {
			var e map[string]any
			if json.Unmarshal([]byte(data), &e) == nil {
				if run = runOf(e); run != "" {
					break
				}
			}
		}
	}
	return run,
		func() { io.Copy(io.Discard, resp.Body); resp.Body.Close(); cancel() },
		func() { cancel(); resp.Body.Close() }
}

// runOf finds a run's id in a start event.
func runOf(e map[string]any) string {
	for _, key := range []string{"runId", "messageId"} {
		if id, ok := e[key].(string); ok {
			return id
		}
	}
	for _, v := range e {
		if m, ok := v.(map[string]any); ok {
			if id := runOf(m); id != "" {
				return id
			}
		}
	}
	return ""
}

// readSlowly requests more than the buffers hold and reads nothing of it, until the
// instance gives up.
func (w *world) readSlowly(u *user) (stop func()) {
	body := `{"content":"flood"}`
	// Small segments: the sender's buffer grows with them.
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 536)
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
		})
	}}
	conn, err := dialer.Dial("tcp", w.one.addr)
	if err != nil {
		said, _ := os.ReadFile(w.one.log.Name())
		w.t.Fatalf("%v\n%s", err, said)
	}
	fmt.Fprintf(conn, "POST /api/chat/stream HTTP/1.1\r\nHost: parley\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		u.token, len(body), body)
	return func() { conn.Close() }
}

// crowd does something many times at once, and counts what is answered.
func concurrently(n int, do func() answer) map[string]int {
	var all sync.WaitGroup
	var mu sync.Mutex
	answers := map[string]int{}
	for range n {
		all.Go(func() {
			a := do()
			mu.Lock()
			defer mu.Unlock()
			answers[fmt.Sprint(a.status, " ", a.at("error.code"))]++
		})
	}
	all.Wait()
	return answers
}

// until tries again for as long as it may take, and fails the gate otherwise.
func until(t *testing.T, what string, limit time.Duration, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
}

// untilRecorded does something again until Prometheus has recorded its effect.
func (w *world) untilRecorded(expr string, do func()) {
	w.t.Helper()
	until(w.t, expr, 3*time.Minute, func() bool {
		do()
		for range 4 { // scrapes are a second apart
			got, err := w.prometheus.Instant(context.Background(), expr, time.Now())
			if err == nil && len(got) > 0 {
				return true
			}
			time.Sleep(500 * time.Millisecond)
		}
		return false
	})
}

// murmur keeps an ordinary day going on both instances until it is stopped.
func (w *world) backgroundLoad() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for i := range 4 {
		u := w.user(fmt.Sprintf("day-%d", i))
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				p := []*process{w.one, w.two}[(n+i)%2]
				c := u.do(p, "POST", "/api/chat/conversations", map[string]any{"title": "a day"}).at("id")
				switch n % 5 {
				case 0:
					u.send(p, "!echo all is well, think of it", "conversationId", c)
				case 1:
					_, wait, _ := u.stream(p, "!long 40")
					wait()
				case 2:
					u.send(p, "cached once more", "model", claude, "provider", "anthropic")
				case 3:
					u.send(p, "!echo from the house", "model", unpriced, "provider", "openai")
				case 4:
					u.do(p, "GET", "/api/chat/messages?limit=20", nil)
					u.do(p, "GET", "/api/chat/conversations?limit=20", nil)
				}
				time.Sleep(150 * time.Millisecond)
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

// drive lets everything happen that the dashboards tell of.
func (w *world) drive() {
	t := w.t
	phase := func(name string, do func()) {
		begun := time.Now()
		do()
		t.Logf("%-22s %4.1f s", name, time.Since(begun).Seconds())
	}
	ann := w.user("ann")
	defer w.readSlowly(w.user("slow"))()
	_, untilRevoked, _ := w.user("revoked").stream(w.one, "!slow 40s") // checked every 15 s
	w.run("user", "revoke", "--user", "revoked")
	defer untilRevoked()
	phase("peace", func() { time.Sleep(8 * time.Second) })
	phase("stop, from elsewhere", func() {
		run, wait, _ := ann.stream(w.one, "!slow 8s")
		if run == "" {
			t.Fatal("a stream has no run")
		}
		if a := ann.do(w.two, "POST", "/api/chat/messages/"+run+"/stop", nil); a.status/100 != 2 {
			t.Errorf("stop: %d %v", a.status, a.body)
		}
		wait()
	})
	phase("leave, and resume", func() {
		run, _, leave := ann.stream(w.one, "!slow 3s")
		time.Sleep(500 * time.Millisecond)
		leave()
		resp, err := ann.request(context.Background(), w.two, "GET", "/api/chat/messages/"+run+"/stream?after=5", nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	})
	phase("one provider limited", func() {
		w.openai.Store("late")     // more fail at once than may be tried elsewhere
		users := make([]*user, 15) // each gets a fair share of a provider's places
		for i := range users {
			users[i] = w.user(fmt.Sprintf("late-%d", i))
		}
		var next atomic.Int64
		w.untilRecorded(`sum(chat_provider_skips_total{reason="retry_budget"}) > 0`, func() {
			concurrently(90, func() answer { return users[next.Add(1)%int64(len(users))].send(w.one, "!echo now") })
		})
		w.openai.Store("limited")
		time.Sleep(4 * time.Second)
	})
	phase("limits and budgets", func() {
		key := w.user("key", "--tier", "api_key")
		w.untilRecorded(`sum(chat_ratelimit_decisions_total{decision="deny"}) > 0`, func() {
			concurrently(12, func() answer { return key.send(w.one, "!echo hi") }) // at once: within a minute however slow the machine
		})
		rich := w.user("rich", "--tier", "webhook")
		w.untilRecorded(`sum(chat_turns_total{outcome="quota"}) > 0`, func() { rich.send(w.two, "!long 8000") })
	})
	phase("nonsense", func() {
		ann.send(w.one, "")
		ann.do(w.one, "GET", "/api/chat/messages?limit=abc", nil)
		ann.upload(w.one)
		ann.do(w.one, "GET", "/api/chat/conversations/nobody-has-this", nil)
		(&user{w: w, token: "nobody"}).do(w.one, "GET", "/api/chat/messages", nil)
		get(w.one.url() + "/nothing/here")
	})
	phase("breaks off", func() {
		for range 3 {
			ann.send(w.one, "!fail")
			ann.send(w.two, "!fail", "provider", "anthropic", "model", claude)
		}
	})
	phase("one provider broken", func() {
		w.openai.Store("broken")
		time.Sleep(5 * time.Second)
		w.openai.Store("well")
	})
	phase("both hang", func() {
		time.Sleep(8 * time.Second) // for breakers to close
		w.openai.Store("hanging")
		w.anthropic.Store("hanging")
		time.Sleep(6 * time.Second)
	})
	phase("both broken", func() {
		w.openai.Store("broken")
		w.anthropic.Store("broken")
		until(t, "nobody is asked any more", 3*time.Minute, func() bool {
			ann.send(w.one, "!echo hello?")
			return ann.send(w.two, "!echo hello?").status == http.StatusServiceUnavailable
		})
		time.Sleep(4 * time.Second)
		w.openai.Store("well")
		w.anthropic.Store("well")
		until(t, "breakers close again", 3*time.Minute, func() bool {
			return ann.send(w.one, "!echo better").status == 201 && ann.send(w.two, "!echo better").status == 201
		})
	})
	phase("keys refused", func() {
		w.openai.Store("unauthorized")
		w.anthropic.Store("unauthorized")
		ann.send(w.one, "!echo hello?")
		time.Sleep(2 * time.Second)
		w.openai.Store("well")
		w.anthropic.Store("well")
		until(t, "breakers close again", 3*time.Minute, func() bool {
			return ann.send(w.one, "!echo better").status == 201 && ann.send(w.two, "!echo better").status == 201
		})
	})
	phase("saturation", func() {
		w.untilRecorded(`sum(chat_provider_skips_total{reason="saturated"}) > 0`, func() {
			t.Log(concurrently(130, func() answer { return ann.send(w.one, "!slow 3s") }))
		})
	})
	phase("crash", func() {
		// One reply that was seen and one that was not.
		_, _, leave := ann.stream(w.two, "!slow 20s")
		defer leave()
		time.Sleep(time.Second)
		w.openai.Store("hanging")
		w.anthropic.Store("hanging")
		ann.do(w.two, "POST", "/api/chat/messages", map[string]any{"content": "!echo later", "background": true})
		time.Sleep(700 * time.Millisecond)
		w.kill(w.two)
		w.openai.Store("well")
		w.anthropic.Store("well")
		time.Sleep(14 * time.Second) // leases run out, others take over
		w.start(w.two)
	})
	phase("without Redis", func() {
		w.redis.Pause()
		time.Sleep(3 * time.Second)
		w.redis.Resume()
		w.redis.Kill9()
		key := w.user("key-2", "--tier", "api_key")
		until(t, "the limit of an instance alone", 3*time.Minute, func() bool {
			return concurrently(6, func() answer { return key.send(w.one, "!echo hi") })["429 RATE_LIMITED"] > 0
		})
		time.Sleep(2 * time.Second)
		w.redis.Restart()
	})
	phase("deploy", func() {
		_, wait, _ := ann.stream(w.one, "!slow 30s") // longer than a shutdown may take
		w.one.cmd.Process.Signal(syscall.SIGTERM)
		wait()
		if err := w.one.cmd.Wait(); err != nil {
			t.Errorf("the end of an instance: %v", err)
		}
		w.start(w.one)
	})
	phase("without the database", func() {
		w.postgres.Pause()
		var all sync.WaitGroup
		for range 12 {
			all.Go(func() { ann.do(w.one, "GET", "/api/chat/messages?limit=5", nil) })
			all.Go(func() { ann.send(w.two, "!echo is it stored?") })
		}
		time.Sleep(5 * time.Second)
		w.postgres.Resume()
		all.Wait()
		w.postgres.Kill9()
		for range 5 {
			ann.do(w.one, "GET", "/api/chat/messages?limit=5", nil)
			ann.send(w.one, "!echo is it stored?")
		}
		time.Sleep(2 * time.Second)
		w.postgres.Restart()
		w.await("http://"+w.one.admin+"/readyz", w.one.log.Name())
		w.await("http://"+w.two.admin+"/readyz", w.two.log.Name())
	})
	phase("peace again", func() { time.Sleep(8 * time.Second) })
}
