package boot_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"parley/platform/testing/testdb"
	"parley/platform/testing/testenv"
)

// Two instances on one Postgres and one Redis: what one makes the other shows,
// stops and limits.
func TestServe_TwoInstances(t *testing.T) {
	t.Parallel()
	env := []string{
		"AUTH_SECRET=" + testSecret, "DATABASE_URL=" + testdb.Postgres(t), "REDIS_URL=" + testenv.Redis(t),
		"RATE_LIMIT_AUTHENTICATED=5", "DEMO_DELAY=20ms",
	}
	a, b := start(t, env...), start(t, env...)
	auth := bearer(t, env, "alice")

	// A reply begun on a, followed on b from where the reader left.
	resp := open(t, "POST", a.url+"/api/chat/stream", message("!slow 3s"), auth)
	id, cursor, seen := "", "", ""
	lines(t, resp.Body, func(eventID string, e map[string]any) bool {
		if e["type"] == "start" {
			id = fmt.Sprint(e["runId"])
			return false
		}
		cursor, seen = eventID, seen+fmt.Sprint(e["content"])
		return true // enough of a
	})
	resp.Body.Close()
	resp = open(t, "GET", b.url+"/api/chat/messages/"+id+"/stream", "", auth, "Last-Event-ID: "+cursor)
	defer resp.Body.Close()
	stored := ""
	lines(t, resp.Body, func(_ string, e map[string]any) bool {
		switch e["type"] {
		case "chunk":
			seen += fmt.Sprint(e["content"])
		case "end":
			stored = fmt.Sprint(at(e, "assistantMessage", "content"))
		}
		return false
	})
	if stored == "" || seen != stored {
		t.Errorf("read from two instances: %q\nstored: %q", seen, stored)
	}

	// Stopped on b, while a makes it.
	resp = open(t, "POST", a.url+"/api/chat/stream", message("!slow 60s"), auth)
	defer resp.Body.Close()
	state := ""
	lines(t, resp.Body, func(_ string, e map[string]any) bool {
		switch e["type"] {
		case "start":
			id = fmt.Sprint(e["runId"])
		case "chunk":
			if state == "" {
				state = "stopping"
				if stop := call(t, "POST", b.url+"/api/chat/messages/"+id+"/stop", "", auth); stop.status != http.StatusOK {
					t.Errorf("stop: %d %s", stop.status, stop.body)
				}
			}
		case "end":
			state = fmt.Sprint(at(e, "assistantMessage", "metadata", "state"))
			return true
		}
		return false
	})
	if state != "stopped" {
		t.Errorf("the stopped reply ended as %q", state)
	}

	// One limit for both: two of five are spent.
	allowed := 0
	for i := range 8 {
		on := []*instance{a, b}[i%2]
		if call(t, "POST", on.url+"/api/chat/messages", message("!echo x"), auth).status == http.StatusCreated {
			allowed++
		}
	}
	if allowed != 3 {
		t.Errorf("%d more messages were allowed, want 3", allowed)
	}
	if h := call(t, "GET", a.url+"/api/health", ""); at(h.json(t), "components", "redis", "status") != "ok" {
		t.Errorf("health: %s", h.body)
	}
}

// What an instance leaves behind another one takes up.
func TestServe_TakesOver(t *testing.T) {
	t.Parallel()
	env := []string{"AUTH_SECRET=" + testSecret, "DATABASE_URL=" + testdb.Postgres(t), "REDIS_URL=" + testenv.Redis(t)}
	a, b := start(t, env...), start(t, env...)
	auth := bearer(t, env, "alice")

	resp := open(t, "POST", a.url+"/api/chat/stream", message("!slow 60s"), auth)
	defer resp.Body.Close()
	id, seen := "", ""
	lines(t, resp.Body, func(_ string, e map[string]any) bool {
		if e["type"] == "start" {
			id = fmt.Sprint(e["runId"])
			return false
		}
		seen += fmt.Sprint(e["content"])
		return true
	})
	a.kill()
	resp = open(t, "GET", b.url+"/api/chat/messages/"+id+"/stream", "", auth)
	defer resp.Body.Close()
	state, stored := "", ""
	lines(t, resp.Body, func(_ string, e map[string]any) bool {
		if e["type"] == "error" {
			state, stored = fmt.Sprint(e["state"]), fmt.Sprint(at(e, "assistantMessage", "content"))
		}
		return false
	})
	if state != "interrupted" || !strings.HasPrefix(stored, seen) {
		t.Errorf("the orphan ended as %q with %q; seen was %q", state, stored, seen)
	}
}

// A Redis that goes away takes nothing with it that matters.
func TestServe_WithoutItsRedis(t *testing.T) {
	t.Parallel()
	redis := testenv.StartRedis(t)
	env := []string{"DATA_DIR=" + dataDir(t), "REDIS_URL=" + redis.URL()}
	p := start(t, env...)
	auth := bearer(t, env, "alice")
	redis.Kill9()
	if a := call(t, "POST", p.url+"/api/chat/messages", message("!echo still here"), auth); a.status != http.StatusCreated {
		t.Errorf("%d %s", a.status, a.body)
	}
	eventually(t, "degraded health", func() bool {
		return at(call(t, "GET", p.url+"/api/health", "").json(t), "status") == "degraded"
	})
	if a := call(t, "GET", p.admin+"/readyz", ""); a.status != http.StatusOK {
		t.Errorf("readiness does not depend on Redis: %d", a.status)
	}
	if m := call(t, "GET", p.admin+"/metrics", "").body; !strings.Contains(m, `chat_dependency_up{dependency="redis"} 0`) {
		t.Error("the scrape does not show that Redis is down")
	}
}

// Nothing that an erased user has said is left in Redis: not in what
// followers read, not in the cache.
func TestServe_EraseReachesRedis(t *testing.T) {
	t.Parallel()
	env := []string{
		"AUTH_SECRET=" + testSecret, "DATABASE_URL=" + testdb.Postgres(t), "REDIS_URL=" + testenv.Redis(t), "RESPONSE_CACHE_TTL=1h",
	}
	i := start(t, env...)
	opt, err := redis.ParseURL(strings.TrimPrefix(env[2], "REDIS_URL="))
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(opt)
	defer client.Close()
	with := func(text string) (n int) {
		for _, name := range client.Keys(t.Context(), "*").Val() {
			value := client.Get(t.Context(), name).Val() + fmt.Sprint(client.HGetAll(t.Context(), name).Val())
			if strings.Contains(value, text) {
				n++
			}
		}
		return n
	}
	for _, user := range []string{"alice", "bob"} {
		resp := open(t, "POST", i.url+"/api/chat/messages", message("!echo canary-"+user), bearer(t, env, user))
		resp.Body.Close()
	}
	eventually(t, "the replies are in Redis", func() bool { return with("canary-alice") == 2 && with("canary-bob") == 2 })
	resp := open(t, "DELETE", i.url+"/api/chat/account", `{"confirm":true}`, bearer(t, env, "alice"))
	resp.Body.Close()
	if n := with("canary-alice"); n > 0 {
		t.Errorf("%d keys still hold what was erased", n)
	}
	if n := with("canary-bob"); n != 2 {
		t.Errorf("%d keys hold what was not to be erased", n)
	}

	// And by command, while nobody serves.
	run(t, env, "user", "erase", "--user", "bob")
	if n := with("canary-bob"); n > 0 {
		t.Errorf("%d keys still hold what was erased by command", n)
	}
}
