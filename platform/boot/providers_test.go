package boot_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"parley/adapters/providers/stub"
)

func provider(t *testing.T, script stub.Script) *stub.Server {
	t.Helper()
	s, err := stub.Start(script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// A key and nothing else makes Parley ask a real provider, and the second one
// answers when the first cannot.
func TestServe_RealProviders(t *testing.T) {
	t.Parallel()
	openai := provider(t, stub.Echo)
	anthropic := provider(t, stub.Say("from the second one"))
	env := []string{
		"DATA_DIR=" + dataDir(t), "OPENAI_MODEL=gpt-test",
		"OPENAI_API_KEY=canary-key-1", "OPENAI_BASE_URL=" + openai.OpenAIURL(),
		"ANTHROPIC_API_KEY=canary-key-2", "ANTHROPIC_BASE_URL=" + anthropic.AnthropicURL(),
	}
	p := start(t, env...)
	auth := bearer(t, env, "alice")

	first := call(t, "POST", p.url+"/api/chat/messages", message("hello there"), auth)
	if first.status != http.StatusCreated || at(first.json(t), "assistantMessage", "content") != "hello there" {
		t.Fatalf("%d %s", first.status, first.body)
	}
	openai.Kill()
	second := call(t, "POST", p.url+"/api/chat/messages", message("hello again"), auth)
	if second.status != http.StatusCreated || at(second.json(t), "assistantMessage", "content") != "from the second one" {
		t.Fatalf("%d %s", second.status, second.body)
	}
	metrics := call(t, "GET", p.admin+"/metrics", "").body
	for _, want := range []string{
		`chat_turns_total{model="gpt-test",outcome="ok",provider="openai"} 1`,
		`chat_breaker_state{breaker="openai/gpt-test",state="closed"} 1`,
		`kind="fallback"`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the scrape lacks %s", want)
		}
	}
	if a := call(t, "GET", p.url+"/api/health", ""); at(a.json(t), "components", "ai:openai/gpt-test", "status") != "ok" {
		t.Errorf("health: %s", a.body)
	}
	if strings.Contains(p.out.String()+metrics, "canary") {
		t.Error("a key was shown")
	}
}

// With no provider left the message stays, and the answer comes at once.
func TestServe_ProviderDown(t *testing.T) {
	t.Parallel()
	openai := provider(t, stub.Echo)
	openai.Kill()
	env := []string{"DATA_DIR=" + dataDir(t), "OPENAI_API_KEY=k", "OPENAI_BASE_URL=" + openai.OpenAIURL()}
	p := start(t, env...)
	auth := bearer(t, env, "alice")
	for i := range 8 {
		a := call(t, "POST", p.url+"/api/chat/messages", message(fmt.Sprint("message ", i)), auth)
		v := a.json(t)
		if a.status != http.StatusServiceUnavailable || at(v, "error", "code") != "AI_UNAVAILABLE" || a.header.Get("Retry-After") == "" ||
			at(v, "userMessage", "content") != fmt.Sprint("message ", i) || at(v, "runId") == nil {
			t.Fatalf("%d: %d %s", i, a.status, a.body)
		}
	}
	history := call(t, "GET", p.url+"/api/chat/messages", "", auth).json(t)
	if n := len(at(history, "messages").([]any)); n != 8 {
		t.Errorf("%d of 8 messages are kept", n)
	}
	if a := call(t, "GET", p.url+"/api/health", ""); a.status != http.StatusOK || at(a.json(t), "status") != "degraded" {
		t.Errorf("health with an open breaker: %d %s", a.status, a.body)
	}
	if a := call(t, "GET", p.admin+"/readyz", ""); a.status != http.StatusOK {
		t.Errorf("an instance without a provider still serves history: %d", a.status)
	}
}

// A provider that names a time longer than AI_RETRY_WAIT is not waited for: the
// answer comes at once, and names that time.
func TestServe_RetryAfter(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	t.Parallel()
	// So far off that the speed of the machine does not matter.
	date := time.Now().Add(10 * time.Hour).UTC().Format(http.TimeFormat)
	for name, c := range map[string]struct {
		refusal     stub.Reply
		least, most int // of Retry-After
	}{
		"Seconds":      {stub.Refuse(429, "rate_limit_exceeded", "Retry-After", "120"), 120, 120},
		"Date":         {stub.Refuse(429, "rate_limit_exceeded", "Retry-After", date), 9 * 3600, 10 * 3600},
		"Milliseconds": {stub.Refuse(429, "rate_limit_exceeded", "Retry-After-Ms", "120000"), 120, 120},
		"Overloaded":   {stub.Refuse(503, "overloaded_error", "Retry-After", "120"), 120, 120},
		"NoTime":       {stub.Refuse(429, "rate_limit_exceeded"), 5, 5},
		"Quota":        {stub.Refuse(429, "insufficient_quota"), 5, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			openai := provider(t, stub.Always(c.refusal))
			env := []string{"DATA_DIR=" + dataDir(t), "OPENAI_API_KEY=k", "OPENAI_MODEL=m", "OPENAI_BASE_URL=" + openai.OpenAIURL()}
			p := start(t, env...)
			a := call(t, "POST", p.url+"/api/chat/messages", message("hello"), bearer(t, env, "alice"))
			after, err := strconv.Atoi(a.header.Get("Retry-After"))
			if a.status != http.StatusServiceUnavailable || at(a.json(t), "error", "code") != "AI_UNAVAILABLE" || err != nil || after < c.least || after > c.most {
				t.Errorf("%d, Retry-After %q: %s", a.status, a.header.Get("Retry-After"), a.body)
			}
			if n := len(openai.Calls()); n != 1 {
				t.Errorf("%d calls", n)
			}
		})
	}
}

// runDoctor runs the command with these settings and returns its report.
func runDoctor(t *testing.T, env []string, args ...string) (report string, err error) {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"doctor"}, args...)...)
	cmd.Env = environment(env)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// A key that the provider refuses shows in the run, in health, in metrics and
// in doctor.
func TestServe_RefusedKey(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]stub.Reply{
		"401": stub.Refuse(401, "invalid_api_key"), "403": stub.Refuse(403, "permission_error"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			openai := provider(t, stub.Always(refusal))
			env := []string{"DATA_DIR=" + dataDir(t), "OPENAI_API_KEY=canary", "OPENAI_MODEL=m", "OPENAI_BASE_URL=" + openai.OpenAIURL()}
			p := start(t, env...)
			a := call(t, "POST", p.url+"/api/chat/messages", message("hello"), bearer(t, env, "alice"))
			if a.status != http.StatusBadGateway || at(a.json(t), "error", "code") != "AI_FAILED" || len(openai.Calls()) != 1 {
				t.Fatalf("%d after %d calls: %s", a.status, len(openai.Calls()), a.body)
			}
			health := call(t, "GET", p.url+"/api/health", "").json(t)
			if at(health, "status") != "degraded" || at(health, "components", "ai:openai/m", "note") != "the provider refuses the key" {
				t.Errorf("health %v", health)
			}
			eventually(t, "the run's failure in the log", func() bool { return strings.Contains(p.out.String(), `"failure":"provider_auth"`) })
			eventually(t, "metrics", func() bool {
				metrics := call(t, "GET", p.admin+"/metrics", "").body
				return strings.Contains(metrics, `chat_turns_total{model="m",outcome="provider_auth",provider="openai"} 1`) &&
					strings.Contains(metrics, `chat_provider_key_refused{provider="openai"} 1`)
			})
			report, err := runDoctor(t, env, "--ask")
			if err == nil || !strings.Contains(report, "FAIL") || !strings.Contains(report, "provider refuses the key") {
				t.Errorf("doctor: %v\n%s", err, report)
			}
			if strings.Contains(p.out.String()+report, "canary") {
				t.Error("the key was shown")
			}
		})
	}
}

// OPENAI_BASE_URL alone is enough for a server with one model, and the others
// are told what to set.
func TestServe_ModelOfTheServer(t *testing.T) {
	t.Parallel()
	openai := provider(t, stub.Say("hi there"))
	openai.Offer("llama3.2:latest")
	env := []string{"DATA_DIR=" + dataDir(t), "OPENAI_BASE_URL=" + openai.OpenAIURL()}
	p := start(t, env...)
	auth := bearer(t, env, "alice")
	a := call(t, "POST", p.url+"/api/chat/messages", message("hello"), auth)
	if a.status != http.StatusCreated || openai.Calls()[0].Model != "llama3.2:latest" {
		t.Fatalf("%d %s, asked for %+v", a.status, a.body, openai.Calls())
	}
	if metrics := call(t, "GET", p.admin+"/metrics", "").body; !strings.Contains(metrics, `chat_breaker_state{breaker="openai/llama3.2:latest",state="closed"} 1`) {
		t.Error("the model that was found has no metrics")
	}
	if report, err := runDoctor(t, env); err != nil || !strings.Contains(report, "openai/llama3.2:latest") {
		t.Errorf("doctor: %v\n%s", err, report)
	}

	several := provider(t, stub.Say("no"))
	several.Offer("llama3.2", "qwen3")
	env = []string{"DATA_DIR=" + dataDir(t), "OPENAI_BASE_URL=" + several.OpenAIURL()}
	p = start(t, env...)
	if a := call(t, "POST", p.url+"/api/chat/messages", message("hello"), bearer(t, env, "alice")); a.status != http.StatusBadGateway || len(several.Calls()) > 0 {
		t.Errorf("%d %s", a.status, a.body)
	}
	health := call(t, "GET", p.url+"/api/health", "").json(t)
	const want = "set OPENAI_MODEL: the server has llama3.2, qwen3"
	if at(health, "status") != "degraded" || at(health, "components", "ai:openai", "note") != want {
		t.Errorf("health %v", health)
	}
	if report, err := runDoctor(t, env); err == nil || !strings.Contains(report, want) {
		t.Errorf("doctor: %v\n%s", err, report)
	}

	p.terminate()
	env = append(env, "OPENAI_MODEL=gone")
	p = start(t, env...)
	eventually(t, "health names the missing model", func() bool {
		note, _ := at(call(t, "GET", p.url+"/api/health", "").json(t), "components", "ai:openai/gone", "note").(string)
		return note == "not among the server's models: llama3.2, qwen3"
	})
	if report, err := runDoctor(t, env); err == nil || !strings.Contains(report, "openai/gone: not among") {
		t.Errorf("doctor: %v\n%s", err, report)
	}
}

// A budget of money refuses models without a price, and says so.
func TestServe_BudgetOfMoneyNeedsAPrice(t *testing.T) {
	t.Parallel()
	openai := provider(t, stub.Say("hi"))
	base := []string{"OPENAI_BASE_URL=" + openai.OpenAIURL(), "OPENAI_MODEL=gpt-4o,house-model"}
	for name, more := range map[string][]string{"Day": {"BUDGET_USD_DAY=5"}, "Month": {"BUDGET_USD_MONTH=0.5"}} {
		t.Run(name, func(t *testing.T) {
			env := append(append([]string{"DATA_DIR=" + dataDir(t)}, base...), more...)
			p := start(t, env...)
			auth := bearer(t, env, "alice")
			a := call(t, "POST", p.url+"/api/chat/messages", `{"content":"hello","model":"house-model"}`, auth)
			if a.status != http.StatusBadRequest || !strings.Contains(a.body, "price of this model is not known") {
				t.Errorf("%d %s", a.status, a.body)
			}
			if a := call(t, "POST", p.url+"/api/chat/messages", message("hello"), auth); a.status != http.StatusCreated {
				t.Errorf("%d %s", a.status, a.body)
			}
			if report, err := runDoctor(t, env); err == nil || !strings.Contains(report, "cannot use them: openai/house-model") || strings.Contains(report, "gpt-4o has no") {
				t.Errorf("doctor: %v\n%s", err, report)
			}
		})
	}
	env := append([]string{"DATA_DIR=" + dataDir(t), "BUDGET_TOKENS_DAY=100000"}, base...)
	p := start(t, env...)
	if a := call(t, "POST", p.url+"/api/chat/messages", `{"content":"hello","model":"house-model"}`, bearer(t, env, "alice")); a.status != http.StatusCreated {
		t.Errorf("a budget of tokens needs no price: %d %s", a.status, a.body)
	}
}
