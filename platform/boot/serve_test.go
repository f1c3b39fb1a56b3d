package boot_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The whole of a newcomer's first minute: nothing configured, one command, the
// command that it shows, an answer.
func TestServe_FirstReply(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, "DATA_DIR="+dir)
	for _, want := range []string{"development mode", p.url + "/api/chat/stream", "Authorization: Bearer ", "/readyz."} {
		eventually(t, "the greeting with "+want, func() bool { return strings.Contains(p.out.String(), want) })
	}
	out := p.out.String()
	_, token, _ := strings.Cut(out, "Authorization: Bearer ")
	token, _, _ = strings.Cut(token, "'")

	resp := open(t, "POST", p.url+"/api/chat/stream", `{"content":"Hello!"}`, "Authorization: Bearer "+token)
	defer resp.Body.Close()
	var kinds []string
	text := ""
	events(t, resp.Body, func(e map[string]any) bool {
		kind := fmt.Sprint(e["type"])
		if len(kinds) == 0 || kinds[len(kinds)-1] != kind {
			kinds = append(kinds, kind)
		}
		if kind == "chunk" {
			text += fmt.Sprint(e["content"])
		}
		if kind == "end" && at(e, "assistantMessage", "content") != text {
			t.Errorf("streamed %q, stored %q", text, at(e, "assistantMessage", "content"))
		}
		return false
	})
	if got := strings.Join(kinds, " "); got != "start chunk end" {
		t.Errorf("events: %s", got)
	}
	if !strings.Contains(text, "not AI") {
		t.Errorf("the demo provider does not say what it is: %q", text)
	}
	info, err := os.Stat(filepath.Join(dir, "auth_secret"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the secret's file: %v, %v", info, err)
	}
}

// What was acknowledged is there, whatever happens to the process.
func TestServe_SurvivesKill(t *testing.T) {
	t.Parallel()
	databases(t, func(t *testing.T, env []string) {
		p := start(t, env...)
		auth := bearer(t, env, "alice")
		sent := call(t, "POST", p.url+"/api/chat/messages", message("!echo the reply"), auth)
		if sent.status != http.StatusCreated {
			t.Fatalf("answered %d: %s", sent.status, sent.body)
		}
		p.kill()

		p = start(t, env...)
		got := call(t, "GET", p.url+"/api/chat/messages?limit=10", "", auth).json(t)
		if at(got, "messages", 0, "content") != "!echo the reply" || at(got, "messages", 1, "content") != "the reply" {
			t.Errorf("after kill -9: %v", got)
		}
	})
}

// The calls of the deployment checklist, with a session cookie of the app.
func TestServe_Checklist(t *testing.T) {
	t.Parallel()
	databases(t, func(t *testing.T, env []string) {
		env = append(env, "AUTH_SECRET="+testSecret)
		p := start(t, env...)
		cookie := "Cookie: " + run(t, env, "token", "--user", "test_id", "--cookie")

		if a := call(t, "GET", p.url+"/api/health", ""); a.status != http.StatusOK || at(a.json(t), "status") != "ok" ||
			at(a.json(t), "components", "ai:demo/demo", "note") != "demo, not AI" {
			t.Errorf("health: %d %s", a.status, a.body)
		}
		for _, content := range []string{"Hello, AI!", "Test message"} {
			a := call(t, "POST", p.url+"/api/chat/messages", message(content), cookie)
			if a.status != http.StatusCreated || at(a.json(t), "userMessage", "content") != content ||
				at(a.json(t), "assistantMessage", "metadata", "demo") != true {
				t.Errorf("send: %d %s", a.status, a.body)
			}
		}
		if a := call(t, "GET", p.url+"/api/chat/messages?limit=10", "", cookie); a.status != http.StatusOK ||
			at(a.json(t), "messages", 0, "content") != "Hello, AI!" || at(a.json(t), "pagination", "hasMore") != false {
			t.Errorf("history: %d %s", a.status, a.body)
		}
		if a := call(t, "GET", p.url+"/api/chat/conversations", "", cookie); a.status != http.StatusOK {
			t.Errorf("conversations: %d %s", a.status, a.body)
		}
		for _, path := range []string{"/api/chat/messages?limit=10", "/api/chat/conversations"} {
			if a := call(t, "GET", p.url+path, ""); a.status != http.StatusUnauthorized || at(a.json(t), "error", "code") != "UNAUTHORIZED" {
				t.Errorf("a stranger at %s: %d %s", path, a.status, a.body)
			}
		}
		if strings.Contains(p.out.String(), "Bearer") {
			t.Error("a token was shown although a secret is configured")
		}
	})
}

func TestServe_SecretRotation(t *testing.T) {
	t.Parallel()
	dir := "DATA_DIR=" + dataDir(t)
	const older = "xqBnaDsnb9v0tNlJ1G6vYqVJ3wOZgRbmEJi7X8kq9Y4H"
	before := bearer(t, []string{dir, "AUTH_SECRET=" + older}, "alice")
	p := start(t, dir, "AUTH_SECRET="+testSecret+","+older)
	after := bearer(t, []string{dir, "AUTH_SECRET=" + testSecret + "," + older}, "alice")
	foreign := bearer(t, []string{dir, "AUTH_SECRET=other"}, "alice")
	for token, want := range map[string]int{before: 200, after: 200, foreign: 401} {
		if a := call(t, "GET", p.url+"/api/chat/conversations", "", token); a.status != want {
			t.Errorf("answered %d, want %d", a.status, want)
		}
	}
}

func TestServe_RateLimit(t *testing.T) {
	t.Parallel()
	env := []string{"DATA_DIR=" + dataDir(t), "RATE_LIMIT_AUTHENTICATED=3"}
	p := start(t, env...)
	auth := bearer(t, env, "alice")
	for i := range 3 {
		a := call(t, "POST", p.url+"/api/chat/messages", message("!echo x"), auth)
		if want := fmt.Sprint(2 - i); a.status != http.StatusCreated || a.header.Get("X-RateLimit-Remaining") != want {
			t.Errorf("%d: %d, remaining %q, want %s", i, a.status, a.header.Get("X-RateLimit-Remaining"), want)
		}
	}
	a := call(t, "POST", p.url+"/api/chat/messages", message("!echo x"), auth)
	if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" || at(a.json(t), "error", "code") != "RATE_LIMITED" {
		t.Errorf("over the limit: %d %v %s", a.status, a.header, a.body)
	}
	if a := call(t, "GET", p.url+"/api/chat/messages", "", auth); a.status != http.StatusOK {
		t.Errorf("reading is not limited with sending: %d", a.status)
	}
	if a := call(t, "POST", p.url+"/api/chat/messages", message("!echo x"), bearer(t, env, "root", "--tier", "admin")); a.status != http.StatusCreated {
		t.Errorf("another tier: %d", a.status)
	}
}

// With the defaults one user cannot take all places of a provider.
func TestServe_RepliesAtOnce(t *testing.T) {
	t.Parallel()
	databases(t, func(t *testing.T, env []string) {
		p := start(t, append(env, "RATE_LIMIT_AUTHENTICATED=100000")...) // what is sent again counts, too
		greedy := bearer(t, env, "greedy")
		var wg sync.WaitGroup
		var mu sync.Mutex
		got := map[string]int{}
		for range 70 {
			wg.Go(func() {
				a := answer{status: http.StatusServiceUnavailable}
				for ; a.status == http.StatusServiceUnavailable; time.Sleep(50 * time.Millisecond) { // so many at once may be too many for the machine
					a = call(t, "POST", p.url+"/api/chat/messages", `{"content":"!hang","background":true}`, greedy)
				}
				mu.Lock()
				defer mu.Unlock()
				key := fmt.Sprint(a.status)
				if a.status != http.StatusAccepted {
					body := a.json(t)
					key = fmt.Sprint(a.status, " ", at(body, "error", "code"), " ", at(body, "error", "budget"), ": ", at(body, "message"))
				}
				got[key]++
			})
		}
		wg.Wait()
		want := map[string]int{"202": 8, "429 BUDGET_EXCEEDED replies: Too many replies at once; wait for one of them to end": 62}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		if a := call(t, "POST", p.url+"/api/chat/messages", message("!echo x"), bearer(t, env, "bob")); a.status != http.StatusCreated {
			t.Errorf("another user: %d %s", a.status, a.body)
		}
	})
}

func TestServe_KillSwitch(t *testing.T) {
	t.Parallel()
	env := []string{"DATA_DIR=" + dataDir(t), "CHAT_DISABLED=true"}
	p := start(t, env...)
	auth := bearer(t, env, "alice")
	for _, r := range [][2]string{
		{"POST", "/api/chat/messages"}, {"GET", "/api/chat/messages"}, {"POST", "/api/chat/stream"}, {"GET", "/api/chat/conversations"},
	} {
		body := ""
		if r[0] == "POST" {
			body = message("hello")
		}
		a := call(t, r[0], p.url+r[1], body, auth)
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || at(a.json(t), "message") != "Chat temporarily unavailable" {
			t.Errorf("%s %s: %d %s", r[0], r[1], a.status, a.body)
		}
	}
	for _, url := range []string{p.url + "/api/health", p.admin + "/metrics", p.admin + "/readyz", p.admin + "/livez"} {
		if a := call(t, "GET", url, ""); a.status != http.StatusOK {
			t.Errorf("%s: %d", url, a.status)
		}
	}
}

// SIGTERM lets the reply that is being made end, and says that it is not ready
// while it does.
func TestServe_Terminate(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for replies to be cut")
	}
	t.Parallel()
	databases(t, func(t *testing.T, env []string) {
		p := start(t, append(env, "DRAIN_DELAY=5s")...)
		auth := bearer(t, env, "alice")
		resp := open(t, "POST", p.url+"/api/chat/stream", message("!slow 7s"), auth)
		defer resp.Body.Close()
		end := ""
		events(t, resp.Body, func(e map[string]any) bool {
			switch e["type"] {
			case "start":
				if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Error(err)
				}
				eventually(t, "not ready", func() bool {
					return call(t, "GET", p.admin+"/readyz", "").status == http.StatusServiceUnavailable
				})
				if a := call(t, "GET", p.url+"/api/chat/conversations", "", auth); a.status != http.StatusOK {
					t.Errorf("a request during the delay: %d", a.status)
				}
			case "end":
				end = fmt.Sprint(at(e, "assistantMessage", "content"))
			}
			return false
		})
		if end == "" {
			t.Error("the reply did not end")
		}
		<-p.done
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
}

// A reply that takes longer than SHUTDOWN_TIMEOUT keeps its text.
func TestServe_TerminateCutsLongReplies(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for replies to be cut")
	}
	t.Parallel()
	databases(t, func(t *testing.T, env []string) {
		env = append(env, "SHUTDOWN_TIMEOUT=1s")
		p := start(t, env...)
		auth := bearer(t, env, "alice")
		resp := open(t, "POST", p.url+"/api/chat/stream", message("!slow 60s"), auth)
		defer resp.Body.Close()
		seen, code := "", make(chan int, 1)
		events(t, resp.Body, func(e map[string]any) bool {
			if e["type"] != "chunk" {
				return e["type"] == "end"
			}
			if seen == "" {
				go func() { code <- p.terminate() }()
			}
			seen += fmt.Sprint(e["content"])
			return false
		})
		if got := <-code; got != 0 {
			t.Errorf("exit code %d", got)
		}
		p = start(t, env...)
		// Ended by the drain or, if the machine is too busy for that, after the lease.
		stored := ""
		eventually(t, "the reply to end", func() bool {
			reply := at(call(t, "GET", p.url+"/api/chat/messages", "", auth).json(t), "messages", 1, "content")
			stored, _ = reply.(string)
			return reply != nil
		})
		if seen == "" || !strings.HasPrefix(stored, seen) {
			t.Errorf("seen %q, stored %q", seen, stored)
		}
	})
}

func TestServe_SecondSignalExitsAtOnce(t *testing.T) {
	t.Parallel()
	env := []string{"DATA_DIR=" + dataDir(t)}
	p := start(t, env...)
	resp := open(t, "POST", p.url+"/api/chat/stream", message("!slow 60s"), bearer(t, env, "alice"))
	defer resp.Body.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	eventually(t, "shutting down", func() bool { return strings.Contains(p.out.String(), "shutting down") })
	for running := true; running; { // the first may come before the program listens for a second one
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
			running = false
		case <-time.After(200 * time.Millisecond):
		}
	}
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		t.Errorf("it shut down in order: %v", p.cmd.ProcessState)
	}
}

func TestServe_Metrics(t *testing.T) {
	t.Parallel()
	databases(t, func(t *testing.T, env []string) {
		p := start(t, env...)
		auth := bearer(t, env, "alice")
		call(t, "POST", p.url+"/api/chat/messages", message("!echo canary"), auth)
		call(t, "GET", p.url+"/api/chat/conversations/canary", "", auth)
		got := call(t, "GET", p.admin+"/metrics", "").body
		for _, want := range []string{
			`chat_turns_total{model="demo",outcome="ok",provider="demo"} 1`,
			`chat_turn_time_to_first_event_seconds_count{model="demo",provider="demo"} 1`,
			`http_server_request_duration_seconds_count{http_request_method="POST",http_response_status_code="201",http_route="/api/chat/messages"} 1`,
			`http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="404",http_route="/api/chat/conversations/{id}"} 1`,
			`gen_ai_client_operation_duration_seconds_count{gen_ai_operation_name="chat",gen_ai_provider_name="demo",gen_ai_request_model="demo"} 1`,
			`db_operation_name="admit"`,
			`chat_ratelimit_decisions_total{decision="allow",scope="send"} 1`,
			`chat_dependency_up{dependency="database"} 1`,
			`chat_schema_pending 0`,
			`go_sql_max_open_connections{db_name="parley"}`,
			`chat_build_info{`,
		} {
			if !strings.Contains(got, want) {
				t.Errorf("the scrape lacks %s", want)
			}
		}
		if strings.Contains(got, "canary") || strings.Contains(p.out.String(), "canary") {
			t.Error("a message or an id reached the metrics or the log")
		}
	})
}

func TestServe_Admin(t *testing.T) {
	t.Parallel()
	p := start(t, "DATA_DIR="+dataDir(t))
	if a := call(t, "PUT", p.admin+"/debug/loglevel", "debug"); a.status != http.StatusOK {
		t.Errorf("set level: %d %s", a.status, a.body)
	}
	if a := call(t, "GET", p.admin+"/debug/loglevel", ""); strings.TrimSpace(a.body) != "debug" {
		t.Errorf("level is %q", a.body)
	}
	if a := call(t, "PUT", p.admin+"/debug/loglevel", "loud"); a.status != http.StatusBadRequest {
		t.Errorf("a wrong level: %d", a.status)
	}
	var models []map[string]any
	if err := json.Unmarshal([]byte(call(t, "GET", p.admin+"/debug/models", "").body), &models); err != nil || len(models) != 1 {
		t.Errorf("models: %v, %v", models, err)
	}
	if a := call(t, "GET", p.admin+"/debug/pprof/goroutine?debug=1", ""); !strings.Contains(a.body, "goroutine profile") {
		t.Errorf("profile: %d", a.status)
	}
	for _, path := range []string{"/metrics", "/debug/pprof/", "/readyz"} {
		if a := call(t, "GET", p.url+path, ""); a.status != http.StatusNotFound {
			t.Errorf("%s on the public listener: %d", path, a.status)
		}
	}
	if got := run(t, []string{"ADMIN_ADDR=" + strings.TrimPrefix(p.admin, "http://")}, "healthcheck"); got != "ready" {
		t.Errorf("healthcheck says %q", got)
	}
}

func TestServe_PortInUse(t *testing.T) {
	t.Parallel()
	p := start(t, "DATA_DIR="+dataDir(t))
	addr := strings.TrimPrefix(p.url, "http://")
	out, code := fails(t, []string{"DATA_DIR=" + t.TempDir(), "ADDR=" + addr, "ADMIN_ADDR=127.0.0.1:0"}, "serve")
	if code != 2 || !strings.Contains(out, "another program listens on "+addr+"; stop it, or set ADDR") {
		t.Errorf("exit code %d: %s", code, out)
	}
}

// eventually waits for a condition that is about to come true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for: %s", what)
		}
	}
}
