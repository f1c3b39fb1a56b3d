//go:build e2e

package check_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"parley/platform/testing/testworld"
)

// user calls the API as one person.
type user struct {
	*testworld.User
	w *world
}

func (w *world) user(name string, more ...string) *user {
	return &user{w.User(name, more...), w}
}

type answer = testworld.Answer

func (u *user) request(ctx context.Context, p *process, method, path string, body any) (*http.Response, error) {
	return u.Request(ctx, p.URL(), method, path, body)
}

func (u *user) do(p *process, method, path string, body any) answer {
	return u.Do(p.URL(), method, path, body)
}

// upload sends a file of each kind.
func (u *user) upload(p *process) {
	for _, content := range []string{"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "%PDF-1.4\n%%EOF", "plain text", `{"a":1}`} {
		req, err := http.NewRequest(http.MethodPost, p.URL()+"/api/chat/files", strings.NewReader(content))
		if err != nil {
			continue
		}
		req.Header.Set("Authorization", "Bearer "+u.Token)
		req.Header.Set("Content-Type", "application/octet-stream")
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	}
}

// rate likes one reply and dislikes it again, which counts as one rating each.
func (u *user) rate(p *process, reply string) {
	for _, rating := range []string{"up", "down"} {
		u.do(p, "PUT", "/api/chat/messages/"+reply+"/feedback", map[string]any{"rating": rating})
	}
}

// send sends a message and waits for the reply.
func (u *user) send(p *process, text string, more ...any) answer {
	return u.Send(p.URL(), text, more...)
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
	conn, err := u.StreamSlowly(w.One.Addr, "flood")
	if err != nil {
		said, _ := os.ReadFile(w.One.Log.Name())
		w.T.Fatalf("%v\n%s", err, said)
	}
	return func() { conn.Close() }
}

// untilTrue does something again until the condition of an alert is true, whatever
// the rest of its rule waits for, or gives up after a minute: run.Conditions reports
// what has not come about.
func (w *world) untilTrue(alert string, do func()) {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		do()
		for range 3 { // scrapes and evaluations are a second apart
			got, err := w.prometheus.Instant(context.Background(), `ALERTS{alertname="`+alert+`"}`, time.Now())
			if err == nil && len(got) > 0 {
				return
			}
			time.Sleep(500 * time.Millisecond)
		}
	}
}

// locked locks a table for a while, and has many requests meanwhile.
func (w *world) locked(table string, hold time.Duration, request func()) {
	w.T.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for ctx.Err() == nil {
				request()
			}
		})
	}
	w.sql(fmt.Sprintf("BEGIN; LOCK TABLE %s; SELECT pg_sleep(%f); COMMIT", table, hold.Seconds()))
	cancel()
	all.Wait()
}

// refused has many requests with bad tokens, and no others, until practically all
// callers are refused.
func (w *world) refused() {
	w.T.Helper()
	nobody := &user{&testworld.User{Token: "nobody"}, w}
	w.untilTrue("ChatAllCallersRefused", func() {
		testworld.Concurrently(60, func() answer { return nobody.do(w.One, "GET", "/api/chat/messages", nil) })
	})
	w.untilTrue("ChatCallersRefused", func() {
		testworld.Concurrently(60, func() answer { return nobody.do(w.One, "GET", "/api/chat/messages", nil) })
	})
}

// untilRecorded does something again until Prometheus has recorded its effect.
func (w *world) untilRecorded(expr string, do func()) {
	w.T.Helper()
	testworld.Until(w.T, expr, 3*time.Minute, func() bool {
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
				p := []*process{w.One, w.Two}[(n+i)%2]
				c := u.do(p, "POST", "/api/chat/conversations", map[string]any{"title": "a day"}).At("id")
				switch n % 5 {
				case 0:
					u.rate(p, u.send(p, "!echo all is well, think of it", "conversationId", c).At("assistantMessage.id"))
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
	t := w.T
	phase := func(name string, do func()) {
		begun := time.Now()
		do()
		t.Logf("%-22s %4.1f s", name, time.Since(begun).Seconds())
	}
	ann := w.user("ann")
	defer w.readSlowly(w.user("slow"))()
	_, untilRevoked, _ := w.user("revoked").stream(w.One, "!slow 40s") // checked every 15 s
	w.Run("user", "revoke", "--user", "revoked")
	defer untilRevoked()
	phase("peace", func() { time.Sleep(8 * time.Second) })
	phase("stop, from elsewhere", func() {
		run, wait, _ := ann.stream(w.One, "!slow 8s")
		if run == "" {
			t.Fatal("a stream has no run")
		}
		if a := ann.do(w.Two, "POST", "/api/chat/messages/"+run+"/stop", nil); a.Status/100 != 2 {
			t.Errorf("stop: %d %v", a.Status, a.Body)
		}
		wait()
	})
	phase("leave, and resume", func() {
		run, _, leave := ann.stream(w.One, "!slow 3s")
		time.Sleep(500 * time.Millisecond)
		leave()
		resp, err := ann.request(context.Background(), w.Two, "GET", "/api/chat/messages/"+run+"/stream?after=5", nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	})
	phase("one provider limited", func() {
		users := make([]*user, 15) // each gets a fair share of a provider's places
		for i := range users {
			users[i] = w.user(fmt.Sprintf("late-%d", i))
		}
		var next atomic.Int64
		w.untilRecorded(`sum(chat_provider_skips_total{reason="retry_budget"}) > 0`, func() {
			w.openai.Store("well")
			testworld.Until(t, "the breaker closes", 3*time.Minute, func() bool {
				return users[0].send(w.One, "!echo well?", "provider", "openai", "model", priced).Status == http.StatusCreated
			})
			w.openai.Store("late") // more fail at once than may be tried elsewhere
			testworld.Concurrently(90, func() answer { return users[next.Add(1)%int64(len(users))].send(w.One, "!echo now") })
		})
		w.openai.Store("limited")
		time.Sleep(4 * time.Second)
	})
	var slowReplies sync.WaitGroup
	for i := range 8 { // at 2.5 tokens a second
		u := w.user(fmt.Sprintf("patient-%d", i))
		slowReplies.Go(func() { u.send(w.One, "!slow 20s", "model", slow, "provider", "openai") })
	}
	phase("limits and budgets", func() {
		key := w.user("key", "--tier", "api_key")
		w.untilRecorded(`sum(chat_ratelimit_decisions_total{decision="deny"}) > 0`, func() {
			testworld.Concurrently(12, func() answer { return key.send(w.One, "!echo hi") }) // at once: within a minute however slow the machine
		})
		rich := w.user("rich", "--tier", "webhook")
		w.untilRecorded(`sum(chat_turns_total{outcome="quota"}) > 0`, func() { rich.send(w.Two, "!long 8000") })
	})
	phase("nonsense", func() {
		ann.send(w.One, "")
		ann.do(w.One, "GET", "/api/chat/messages?limit=abc", nil)
		ann.upload(w.One)
		ann.do(w.One, "GET", "/api/chat/conversations/nobody-has-this", nil)
		(&user{&testworld.User{Token: "nobody"}, w}).do(w.One, "GET", "/api/chat/messages", nil)
		testworld.Get(w.One.URL() + "/nothing/here")
	})
	phase("slow pieces", slowReplies.Wait)
	phase("first output late", func() {
		w.openai.Store("slow")
		w.untilTrue("ChatFirstWordsSlow", func() { testworld.Concurrently(40, func() answer { return ann.send(w.One, "!echo late") }) })
		w.untilTrue("ChatFirstWordsBudgetBurn", func() { testworld.Concurrently(40, func() answer { return ann.send(w.One, "!echo late") }) })
		w.openai.Store("well")
	})
	phase("limit of a provider", func() {
		w.openai.Store("low")
		w.untilTrue("ChatRateLimitHeadroomLow", func() { ann.send(w.One, "!echo much"); time.Sleep(time.Second) })
		w.openai.Store("well")
	})
	phase("locks", func() {
		w.untilTrue("ChatDatabaseLocked", func() {
			w.locked("chat_messages", 3*time.Second, func() { ann.do(w.One, "GET", "/api/chat/messages?limit=5", nil) })
		})
		w.untilTrue("ChatReadsSlow", func() {
			w.locked("chat_messages", 700*time.Millisecond, func() { ann.do(w.One, "GET", "/api/chat/messages?limit=5", nil) })
		})
		w.untilTrue("ChatReadsBudgetBurn", func() {
			w.locked("chat_messages", 700*time.Millisecond, func() { ann.do(w.One, "GET", "/api/chat/messages?limit=5", nil) })
		})
	})
	phase("a route broken", func() {
		w.sql("ALTER TABLE chat_files RENAME TO chat_files_away")
		w.untilTrue("ChatRouteFailing", func() {
			testworld.Concurrently(10, func() answer { return ann.do(w.One, "GET", "/api/chat/files", nil) })
		})
		w.sql("ALTER TABLE chat_files_away RENAME TO chat_files")
	})
	phase("a provider disabled", func() {
		w.Run("chat", "disable", "--provider", "openai", "--reason", "a test")
		w.untilTrue("ChatDisabled", func() { ann.send(w.One, "!echo without openai") })
		w.untilRecorded(`sum(chat_provider_skips_total{reason="disabled"}) > 0`, func() { ann.send(w.One, "!echo without openai") })
		w.Run("chat", "enable", "--provider", "openai")
	})
	phase("a migration taken back", func() {
		w.sql("CREATE TABLE kept AS SELECT * FROM atlas_schema_revisions.atlas_schema_revisions ORDER BY version DESC LIMIT 1",
			"DELETE FROM atlas_schema_revisions.atlas_schema_revisions WHERE version IN (SELECT version FROM kept)")
		w.untilTrue("ChatSchemaPending", func() {})
		w.sql("INSERT INTO atlas_schema_revisions.atlas_schema_revisions SELECT * FROM kept", "DROP TABLE kept")
	})
	phase("no store of files", func() {
		files := filepath.Join(w.data, "files")
		if err := os.Rename(files, files+".away"); err != nil {
			t.Fatal(err)
		}
		w.untilTrue("ChatBlobStoreDown", func() {})
		if err := errors.Join(os.RemoveAll(files), os.Rename(files+".away", files)); err != nil {
			t.Fatal(err)
		}
	})
	phase("breaks off", func() {
		for range 3 {
			ann.send(w.One, "!fail")
			ann.send(w.Two, "!fail", "provider", "anthropic", "model", claude)
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
		time.Sleep(10 * time.Second)
	})
	phase("both broken", func() {
		w.openai.Store("broken")
		w.anthropic.Store("broken")
		testworld.Until(t, "nobody is asked any more", 3*time.Minute, func() bool {
			ann.send(w.One, "!echo hello?")
			return ann.send(w.Two, "!echo hello?").Status == http.StatusServiceUnavailable
		})
		w.untilTrue("ChatAllProvidersUnavailable", func() { ann.send(w.One, "!echo hello?") })
		w.openai.Store("well")
		w.anthropic.Store("well")
		testworld.Until(t, "breakers close again", 3*time.Minute, func() bool {
			return ann.send(w.One, "!echo better").Status == 201 && ann.send(w.Two, "!echo better").Status == 201
		})
	})
	phase("keys refused", func() {
		w.openai.Store("unauthorized")
		w.anthropic.Store("unauthorized")
		ann.send(w.One, "!echo hello?")
		time.Sleep(2 * time.Second)
		w.openai.Store("well")
		w.anthropic.Store("well")
		testworld.Until(t, "breakers close again", 3*time.Minute, func() bool {
			return ann.send(w.One, "!echo better").Status == 201 && ann.send(w.Two, "!echo better").Status == 201
		})
	})
	phase("saturation", func() {
		w.untilRecorded(`sum(chat_provider_skips_total{reason="saturated"}) > 0`, func() {
			t.Log(testworld.Concurrently(130, func() answer { return ann.send(w.One, "!slow 3s") }))
		})
	})
	phase("crash", func() {
		// One reply that was seen and one that was not.
		_, _, leave := ann.stream(w.Two, "!slow 20s")
		defer leave()
		time.Sleep(time.Second)
		w.openai.Store("hanging")
		w.anthropic.Store("hanging")
		ann.do(w.Two, "POST", "/api/chat/messages", map[string]any{"content": "!echo later", "background": true})
		time.Sleep(700 * time.Millisecond)
		w.Kill(w.Two)
		w.openai.Store("well")
		w.anthropic.Store("well")
		time.Sleep(14 * time.Second) // leases run out, others take over
		w.StartInstance(w.Two)
	})
	phase("without Redis", func() {
		w.Redis.Pause()
		time.Sleep(3 * time.Second)
		w.Redis.Resume()
		w.Redis.Kill9()
		key := w.user("key-2", "--tier", "api_key")
		testworld.Until(t, "the limit of an instance alone", 3*time.Minute, func() bool {
			return testworld.Concurrently(6, func() answer { return key.send(w.One, "!echo hi") })["429 RATE_LIMITED"] > 0
		})
		time.Sleep(2 * time.Second)
		w.Redis.Restart()
	})
	phase("deploy", func() {
		_, wait, _ := ann.stream(w.One, "!slow 30s") // longer than a shutdown may take
		w.One.Cmd.Process.Signal(syscall.SIGTERM)
		wait()
		if err := w.One.Cmd.Wait(); err != nil {
			t.Errorf("the end of an instance: %v", err)
		}
		w.StartInstance(w.One)
	})
	phase("without the database", func() {
		w.Postgres.Pause()
		var all sync.WaitGroup
		for range 12 {
			all.Go(func() { ann.do(w.One, "GET", "/api/chat/messages?limit=5", nil) })
			all.Go(func() { ann.send(w.Two, "!echo is it stored?") })
		}
		time.Sleep(5 * time.Second)
		w.Postgres.Resume()
		all.Wait()
		w.Postgres.Kill9()
		for range 5 {
			ann.do(w.One, "GET", "/api/chat/messages?limit=5", nil)
			ann.send(w.One, "!echo is it stored?")
		}
		time.Sleep(2 * time.Second)
		w.Postgres.Restart()
		w.Await("http://"+w.One.Admin+"/readyz", w.One.Log.Name())
		w.Await("http://"+w.Two.Admin+"/readyz", w.Two.Log.Name())
	})
	phase("no proxy", func() {
		w.proxy.Kill()
		w.untilTrue("ChatProxyDown", func() {})
		w.proxy.Restart()
	})
	phase("no instance at all", func() {
		w.Kill(w.One)
		w.Kill(w.Two)
		w.untilTrue("ChatAbsent", func() {
			testworld.Concurrently(10, func() answer { return ann.Do(w.proxy.URL, "GET", "/api/chat/messages", nil) })
		})
		w.untilRecorded(`job:chat_proxy_errors:rate5m > 0`, func() { ann.Do(w.proxy.URL, "GET", "/api/chat/messages", nil) })
		w.StartInstance(w.One)
		w.StartInstance(w.Two)
	})
	phase("peace again", func() { time.Sleep(8 * time.Second) })
}
