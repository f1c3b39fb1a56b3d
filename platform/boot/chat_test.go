package boot_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"parley/adapters/providers/stub"
	"parley/platform/testing/testdb"
	"parley/platform/testing/testenv"
)

// switchDelay bounds how long an instance may take to see a switch. It reads the
// switches every half second; the rest is for a busy machine.
const switchDelay = 30 * time.Second

// seesChat waits until an instance accepts or refuses chat requests.
func seesChat(t *testing.T, i *instance, auth string, disabled bool) {
	t.Helper()
	begun := time.Now()
	for {
		a := call(t, "GET", i.url+"/api/chat/conversations", "", auth)
		health := at(call(t, "GET", i.url+"/api/health", "").json(t), "components", "chat", "status")
		if a.status == http.StatusServiceUnavailable {
			if code := at(a.json(t), "error", "code"); code != "CHAT_DISABLED" || a.header.Get("Retry-After") != "60" || strings.Contains(a.body, "canary") {
				t.Fatalf("%d %s", a.status, a.body)
			}
		}
		if (a.status == http.StatusServiceUnavailable) == disabled && (health == "degraded") == disabled {
			return
		}
		if time.Since(begun) > switchDelay {
			t.Fatalf("disabled %v is not seen after %v: %d %s, health %v", disabled, switchDelay, a.status, a.body, health)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestChat_DisabledOnEveryInstance: both instances refuse chat requests, one that
// starts later does, and the reply that is being made ends.
func TestChat_DisabledOnEveryInstance(t *testing.T) {
	t.Parallel()
	for name, redis := range map[string]bool{"WithRedis": true, "WithoutRedis": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := []string{"AUTH_SECRET=" + testSecret, "DATABASE_URL=" + testdb.Postgres(t)}
			if redis {
				env = append(env, "REDIS_URL="+testenv.Redis(t))
			}
			a, b := start(t, env...), start(t, env...)
			auth := bearer(t, env, "alice")
			seesChat(t, a, auth, false)

			resp := open(t, "POST", a.url+"/api/chat/stream", message("!slow 3s"), auth)
			defer resp.Body.Close()
			ended := ""
			events(t, resp.Body, func(e map[string]any) bool {
				switch e["type"] {
				case "start":
					if out := run(t, env, "chat", "disable", "--reason", "canary: it costs too much"); !strings.Contains(out, "parley chat enable") {
						t.Errorf("disable: %s", out)
					}
					seesChat(t, a, auth, true)
					seesChat(t, b, auth, true)
				case "end":
					ended = fmt.Sprint(at(e, "assistantMessage", "metadata", "state"))
				}
				return false
			})
			if ended == "stopped" || ended == "interrupted" || ended == "" {
				t.Errorf("the reply in progress ended as %q", ended)
			}
			if m := call(t, "GET", b.admin+"/metrics", "").body; !strings.Contains(m, `chat_disabled{switch="chat"} 1`) || !strings.Contains(m, `chat_disabled{switch="demo"} 0`) {
				t.Error("the scrape does not say that chat is disabled")
			}
			if r := call(t, "GET", b.admin+"/readyz", ""); r.status != http.StatusOK {
				t.Errorf("readiness: %d %s", r.status, r.body)
			}
			late := start(t, env...)
			if c := call(t, "GET", late.url+"/api/chat/conversations", "", auth); c.status != http.StatusServiceUnavailable {
				t.Errorf("an instance that starts later: %d", c.status)
			}
			if out := run(t, env, "chat", "status"); !strings.Contains(out, "canary: it costs too much") {
				t.Errorf("status: %s", out)
			}
			if out := run(t, env, "chat", "enable"); !strings.Contains(out, "chat is enabled") {
				t.Errorf("enable: %s", out)
			}
			for _, i := range []*instance{a, b, late} {
				seesChat(t, i, auth, false)
				if strings.Contains(i.out.String(), "canary") || !strings.Contains(i.out.String(), "chat was disabled") && i != late {
					t.Errorf("log: %s", i.out)
				}
			}
			if out := run(t, env, "chat", "enable"); !strings.Contains(out, "was not disabled") {
				t.Errorf("enable again: %s", out)
			}
		})
	}
}

// A disabled provider is not asked; the others reply.
func TestChat_DisabledProvider(t *testing.T) {
	t.Parallel()
	openai, anthropic := provider(t, stub.Echo), provider(t, stub.Say("from the second one"))
	env := []string{
		"DATA_DIR=" + dataDir(t), "OPENAI_MODEL=gpt-test",
		"OPENAI_API_KEY=k", "OPENAI_BASE_URL=" + openai.OpenAIURL(), "ANTHROPIC_API_KEY=k", "ANTHROPIC_BASE_URL=" + anthropic.AnthropicURL(),
	}
	p := start(t, env...)
	auth := bearer(t, env, "alice")
	replies := func(want string, disabled bool) {
		t.Helper()
		eventually(t, "the switch of the provider", func() bool {
			return strings.Contains(call(t, "GET", p.admin+"/metrics", "").body, fmt.Sprintf(`chat_disabled{switch="openai"} %d`, map[bool]int{true: 1}[disabled]))
		})
		a := call(t, "POST", p.url+"/api/chat/messages", message("hello"), auth)
		if a.status != http.StatusCreated || at(a.json(t), "assistantMessage", "content") != want {
			t.Errorf("%d %s", a.status, a.body)
		}
		models := call(t, "GET", p.url+"/api/chat/models", "", auth)
		if (at(models.json(t), "models", 0, "disabled") == true) != disabled {
			t.Errorf("models: %s", models.body)
		}
		note := at(call(t, "GET", p.url+"/api/health", "").json(t), "components", "ai:openai/gpt-test", "note")
		if (note == "disabled by an operator") != disabled {
			t.Errorf("health says %v", note)
		}
	}
	replies("hello", false)
	run(t, env, "chat", "disable", "--provider", "openai", "--reason", "it writes nonsense")
	replies("from the second one", true)
	run(t, env, "chat", "enable", "--provider", "openai")
	replies("hello", false)
	for _, args := range [][]string{{"chat", "disable"}, {"chat", "disable", "--reason", " "}, {"chat", "disable", "--reason", "r", "--provider", "other"}} {
		if out, code := fails(t, env, args...); code != 2 {
			t.Errorf("%v: exit code %d: %s", args, code, out)
		}
	}
	if out := run(t, env, "audit", "verify"); strings.Contains(out, "FAIL") {
		t.Error(out)
	}
}
