package httpapi_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

var isoTime = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)

// finish makes the model's next reply text.
func (b *bench) finish(text string) {
	b.t.Helper()
	call := b.model.Next()
	call.Say(text)
	call.Done()
}

// sendLater posts a message and returns its answer through a channel.
func (b *bench) sendLater(user, target, body string, headers ...string) <-chan answer {
	out := make(chan answer, 1)
	go func() { out <- b.do(user, "POST", target, body, headers...) }()
	return out
}

func TestSend(t *testing.T) {
	b := setup(t, scripted)
	conversation := b.do("ann", "POST", "/api/chat/conversations", "").must(201).text("id")
	later := b.sendLater("ann", "/api/chat/messages",
		`{"content":"What is up?","conversationId":"`+conversation+`","metadata":{"client":"web","n":1.5},"temperature":0.5,"maxTokens":99,"model":"script","system":"Be brief.","reasoning":"low"}`)
	call := b.model.Next()
	temperature := 0.5
	want := chat.Params{Model: "script", System: "Be brief.", Temperature: &temperature, MaxTokens: 99, Reasoning: "low"}
	if d := cmp.Diff(want, call.Prompt.Params); d != "" {
		t.Error(d)
	}
	call.Say("The sky.")
	call.Done()
	a := (<-later).must(201)

	asked, said := a.get("userMessage").(map[string]any), a.get("assistantMessage").(map[string]any)
	for _, m := range []map[string]any{asked, said} {
		for _, when := range []string{"createdAt", "updatedAt"} {
			if s, _ := m[when].(string); !isoTime.MatchString(s) {
				t.Errorf("%s is %v", when, m[when])
			}
		}
		if m["createdAt"] != m["updatedAt"] {
			t.Errorf("updated at %v, created at %v", m["updatedAt"], m["createdAt"])
		}
		delete(m, "createdAt")
		delete(m, "updatedAt")
	}
	if d := cmp.Diff(map[string]any{
		"id": asked["id"], "conversationId": conversation, "userId": "ann", "content": "What is up?", "role": "user",
		"metadata": map[string]any{"client": "web", "n": 1.5}, "parentId": nil, "siblings": []any{asked["id"]}, "feedback": nil,
	}, asked); d != "" {
		t.Error(d)
	}
	metadata, _ := said["metadata"].(map[string]any)
	if s, _ := metadata["generatedAt"].(string); !isoTime.MatchString(s) || metadata["contextLength"] != 1.0 {
		t.Errorf("metadata %v", metadata)
	}
	if d := cmp.Diff(map[string]any{
		"id": said["id"], "conversationId": conversation, "userId": "ann", "content": "The sky.", "role": "assistant",
		"metadata": said["metadata"], "parentId": asked["id"], "siblings": []any{said["id"]}, "feedback": nil,
	}, said); d != "" {
		t.Error(d)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Referrer-Policy": "no-referrer",
		"X-RateLimit-Limit": "10000", "X-RateLimit-Remaining": "9999", "RateLimit-Policy": `"send";q=10000;w=60`,
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if !isoTime.MatchString(a.header.Get("X-RateLimit-Reset")) || a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("headers %v", a.header)
	}
	if n := b.audited("ann", audit.ActionMessageSent, "success"); n != 1 {
		t.Errorf("%d entries", n)
	}
}

func TestSend_Idempotency(t *testing.T) {
	t.Parallel()
	b := setup(t, scripted)
	const body = `{"content":"once"}`
	first := b.sendLater("ann", "/api/chat/messages", body, "Idempotency-Key", `"k-1"`)
	call := b.model.Next()
	var wg sync.WaitGroup
	again := make([]answer, 5)
	for i := range again {
		wg.Go(func() { again[i] = b.do("ann", "POST", "/api/chat/messages", body, "Idempotency-Key", "k-1") })
	}
	time.Sleep(50 * time.Millisecond)
	call.Say("yes")
	call.Done()
	wg.Wait()
	a := (<-first).must(201)
	if a.header.Get("Idempotency-Replayed") != "" {
		t.Error("the first one is a replay")
	}
	for _, r := range slices.Concat(again, []answer{b.do("ann", "POST", "/api/chat/messages", body, "Idempotency-Key", "k-1")}) {
		r.must(201)
		if d := cmp.Diff(a.body, r.body); d != "" || r.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("replayed %q: %s", r.header.Get("Idempotency-Replayed"), d)
		}
	}
	if b.model.Calls() != 1 {
		t.Errorf("asked %d times", b.model.Calls())
	}
	b.do("ann", "POST", "/api/chat/messages", `{"content":"twice"}`, "Idempotency-Key", "k-1").
		refused(422, "IDEMPOTENCY_MISMATCH", "")

	t.Run("ByTheClientsOwnID", func(t *testing.T) {
		const body = `{"content":"mine","id":"msg_1"}`
		first := b.sendLater("ann", "/api/chat/messages", body)
		b.finish("ok")
		a := (<-first).must(201)
		if a.text("userMessage", "id") != "msg_1" {
			t.Errorf("id %v", a.get("userMessage", "id"))
		}
		r := b.do("ann", "POST", "/api/chat/messages", body).must(201)
		if r.text("assistantMessage", "id") != a.text("assistantMessage", "id") || r.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("%s", r.raw)
		}
	})
	t.Run("AsAStream", func(t *testing.T) {
		s := b.open(b.request("ann", "POST", "/api/chat/stream", body, "Idempotency-Key", "k-1"))
		events := s.rest()
		if s.res.Header.Get("Idempotency-Replayed") != "true" || len(events) != 3 || events[1].data["content"] != "yes" {
			t.Errorf("%v %v", s.res.Header, events)
		}
	})
}

func TestSend_Limited(t *testing.T) {
	b := setup(t, scripted, func(s *settings) { s.limits = access.Limits{access.Authenticated: 3, access.Anonymous: 3} })
	later := b.sendLater("ann", "/api/chat/messages", `{"content":"1"}`, "Idempotency-Key", "k")
	b.finish("one")
	first := (<-later).must(201)
	if first.header.Get("X-RateLimit-Remaining") != "2" {
		t.Errorf("remaining %q", first.header.Get("X-RateLimit-Remaining"))
	}
	// A request counts before its body is looked at; messages and stream share the limit.
	b.do("ann", "POST", "/api/chat/messages", `{`).refused(400, "INVALID_INPUT", "")
	if a := b.do("ann", "POST", "/api/chat/stream", `{}`).refused(400, "INVALID_INPUT", ""); a.header.Get("X-RateLimit-Remaining") != "0" {
		t.Errorf("remaining %q", a.header.Get("X-RateLimit-Remaining"))
	}
	for _, tt := range []struct{ target, body, key string }{
		{"/api/chat/messages", `{"content":"2"}`, ""},
		{"/api/chat/messages", `{"content":"2"}`, "another"},
		{"/api/chat/messages", `{"content":"2","id":"mine"}`, ""},
		{"/api/chat/messages", `{`, "k"},
		{"/api/chat/messages", `{"content":"2"}`, strings.Repeat("k", 300)},
		{"/api/chat/stream", `{"content":"2"}`, ""},
		{"/api/chat/messages/x/regenerate", ``, ""},
	} {
		a := b.do("ann", "POST", tt.target, tt.body, "Idempotency-Key", tt.key).
			refused(429, "RATE_LIMITED", "Rate limit exceeded. Please try again later.")
		if a.get("error", "limit") != 3.0 || !isoTime.MatchString(a.text("error", "reset")) {
			t.Errorf("%s", a.raw)
		}
		retry, _ := strconv.Atoi(a.header.Get("Retry-After"))
		if retry < 1 || retry > 61 || a.header.Get("X-RateLimit-Limit") != "3" || a.header.Get("X-RateLimit-Remaining") != "0" ||
			a.header.Get("X-RateLimit-Reset") != a.text("error", "reset") ||
			a.header.Get("RateLimit-Policy") != `"send";q=3;w=60` || a.header.Get("RateLimit") != `"send";r=0;t=`+strconv.Itoa(min(retry, 60)) {
			t.Errorf("%v", a.header)
		}
	}
	replay := b.do("ann", "POST", "/api/chat/messages", `{"content":"1"}`, "Idempotency-Key", "k").must(201)
	if d := cmp.Diff(first.body, replay.body); d != "" || replay.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("a known key is served: %s", d)
	}
	b.do("ann", "GET", "/api/chat/messages", "").must(200) // reads count against the coarse limit alone
	if n := b.audited("ann", audit.ActionRateLimitExceeded, "failure"); n != 1 {
		t.Errorf("%d entries for one window", n)
	}
	t.Run("CoarseLimit", func(t *testing.T) {
		b.t = t
		var last answer
		for range 31 {
			if last = b.do("bob", "GET", "/api/chat/models", ""); last.status != 200 {
				break
			}
		}
		last.refused(429, "RATE_LIMITED", "")
		if last.header.Get("X-RateLimit-Limit") != "30" || last.header.Get("RateLimit-Policy") != `"all";q=30;w=60` || last.header.Get("Retry-After") == "" {
			t.Errorf("%v", last.header)
		}
		b.do("eve", "GET", "/api/chat/models", "").must(200)
	})
	t.Run("Strangers", func(t *testing.T) {
		b.t = t
		for range 30 {
			b.do("", "GET", "/api/chat/models", "", "Authorization", "Bearer guess").must(401)
		}
		b.do("", "GET", "/api/chat/models", "", "Authorization", "Bearer guess").refused(429, "RATE_LIMITED", "")
		b.do("eve", "GET", "/api/chat/models", "").must(200)
		b.alive()
	})
}

func TestSend_ProviderFails(t *testing.T) {
	b := setup(t, scripted)
	for name, tt := range map[string]struct {
		err    error
		status int
		code   string
	}{
		"Broken":      {fault.Wrap(errSecret, fault.AIFailed, "x").With("reason", "reset"), 502, "AI_FAILED"},
		"Unavailable": {fault.Wrap(errSecret, fault.AIUnavailable, "x"), 503, "AI_UNAVAILABLE"},
		"Odd":         {errSecret, 502, "AI_FAILED"},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			later := b.sendLater("ann", "/api/chat/messages", `{"content":"`+name+`"}`)
			b.model.Next().Fail(tt.err)
			a := (<-later).refused(tt.status, tt.code, "")
			if a.text("userMessage", "content") != name || a.text("runId") == "" || a.text("error", "runId") != a.text("runId") ||
				strings.Contains(a.raw, "sk-secret") {
				t.Errorf("%s", a.raw)
			}
			if tt.status == 503 && a.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			page := b.do("ann", "GET", "/api/chat/messages?limit=1", "").must(200)
			if m := page.get("messages").([]any)[0].(map[string]any); m["content"] != name || m["role"] != "user" {
				t.Errorf("kept: %v", m)
			}
			later = b.sendLater("ann", "/api/chat/messages/"+a.text("runId")+"/regenerate", "")
			b.finish("now")
			if again := (<-later).must(201); again.text("userMessage", "id") != a.text("userMessage", "id") ||
				again.text("assistantMessage", "content") != "now" {
				t.Errorf("%s", again.raw)
			}
		})
	}
	if refusals := seen[ports.RequestFailed](b); len(refusals) > 0 {
		t.Errorf("a provider's failure is told as ours: %v", refusals)
	}
}

type secretError struct{}

func (secretError) Error() string { return "dial postgres://parley:sk-secret@db" }

var errSecret = secretError{}

func TestSend_Background(t *testing.T) {
	b := setup(t, scripted)
	a := b.do("ann", "POST", "/api/chat/messages", `{"content":"later","background":true}`).must(202)
	if a.text("userMessage", "content") != "later" || a.text("state") != "queued" || a.text("runId") == "" {
		t.Errorf("%s", a.raw)
	}
	b.finish("done")
	s := b.open(b.request("ann", "GET", "/api/chat/messages/"+a.text("runId")+"/stream", ""))
	events := s.rest()
	if last := events[len(events)-1]; last.kind() != "end" || last.data["assistantMessage"].(map[string]any)["content"] != "done" {
		t.Errorf("%v", events)
	}
}

func TestSend_WhenBusy(t *testing.T) {
	b := setup(t, scripted)
	conversation := b.do("ann", "POST", "/api/chat/conversations", "").must(201).text("id")
	body := func(more string) string {
		return `{"content":"x","conversationId":"` + conversation + `"` + more + `}`
	}
	first := b.do("ann", "POST", "/api/chat/messages", body(`,"background":true`)).must(202)
	call := b.model.Next()
	busy := b.do("ann", "POST", "/api/chat/messages", body("")).refused(409, "REPLY_IN_PROGRESS", "")
	if busy.text("error", "runId") != first.text("runId") {
		t.Errorf("%s", busy.raw)
	}
	queued := b.do("ann", "POST", "/api/chat/messages", body(`,"background":true,"whenBusy":"queue"`)).must(202)
	later := b.sendLater("ann", "/api/chat/messages/"+queued.text("runId")+"/stop", "")
	if stopped := (<-later).must(200); stopped.text("state") != "stopped" {
		t.Errorf("a queued run is stopped at once: %s", stopped.raw)
	}
	superseding := b.sendLater("ann", "/api/chat/messages", body(`,"whenBusy":"interrupt"`))
	<-call.Ended()
	b.finish("instead")
	if a := (<-superseding).must(201); a.text("assistantMessage", "content") != "instead" {
		t.Errorf("%s", a.raw)
	}
}

// TestTree: edit, regenerate and continue add siblings, and a branch can be read.
func TestTree(t *testing.T) {
	b := setup(t, scripted)
	conversation := b.do("ann", "POST", "/api/chat/conversations", "").must(201).text("id")
	ask := func(method, target, body, reply string) answer {
		t.Helper()
		out := make(chan answer, 1)
		go func() { out <- b.do("ann", method, target, body) }()
		b.finish(reply)
		return (<-out).must(201)
	}
	contents := func(a answer) (out []string) {
		for _, m := range a.get("messages").([]any) {
			out = append(out, m.(map[string]any)["content"].(string))
		}
		return out
	}
	first := ask("POST", "/api/chat/messages", `{"content":"q1","conversationId":"`+conversation+`"}`, "a1")
	again := ask("POST", "/api/chat/messages/"+first.text("assistantMessage", "id")+"/regenerate", "", "a2")
	if again.text("assistantMessage", "parentId") != first.text("userMessage", "id") {
		t.Errorf("%s", again.raw)
	}
	edited := ask("PATCH", "/api/chat/messages/"+first.text("userMessage", "id"), `{"content":"q1 edited","metadata":{"edited":true}}`, "a3")
	if edited.get("userMessage", "parentId") != nil || edited.text("userMessage", "conversationId") != conversation {
		t.Errorf("%s", edited.raw)
	}
	url := "/api/chat/messages?conversationId=" + conversation
	if got := contents(b.do("ann", "GET", url+"&leaf=current", "").must(200)); !cmp.Equal(got, []string{"q1 edited", "a3"}) {
		t.Errorf("current branch %q", got)
	}
	branch := b.do("ann", "GET", url+"&leaf="+first.text("assistantMessage", "id"), "").must(200)
	if got := contents(branch); !cmp.Equal(got, []string{"q1", "a1"}) {
		t.Errorf("first branch %q", got)
	}
	siblings := branch.get("messages").([]any)[1].(map[string]any)["siblings"]
	want := []any{first.text("assistantMessage", "id"), again.text("assistantMessage", "id")}
	if d := cmp.Diff(want, siblings); d != "" {
		t.Error(d)
	}
	below := ask("POST", "/api/chat/messages", `{"content":"q2","conversationId":"`+conversation+`","parentId":"`+first.text("assistantMessage", "id")+`"}`, "a4")
	if below.text("userMessage", "parentId") != first.text("assistantMessage", "id") {
		t.Errorf("%s", below.raw)
	}
	b.do("ann", "POST", "/api/chat/messages/"+first.text("assistantMessage", "id")+"/continue", "").refused(409, "CONFLICT", "")

	s := b.open(b.request("ann", "POST", "/api/chat/messages", `{"content":"q3","stream":true,"conversationId":"`+conversation+`"}`))
	call := b.model.Next()
	call.Say("half of ")
	start, _ := s.next()
	run := start.data["runId"].(string)
	s.next()
	b.do("ann", "POST", "/api/chat/messages/"+run+"/stop", "").must(200)
	if end := s.rest(); len(end) != 1 || end[0].data["state"] != "stopped" {
		t.Errorf("%v", end)
	}
	s = b.open(b.request("ann", "POST", "/api/chat/messages/"+run+"/continue?stream=true", ""))
	call = b.model.Next()
	call.Say("it")
	call.Done()
	events := s.rest()
	last := events[len(events)-1].data["assistantMessage"].(map[string]any)
	if last["content"] != "half of it" || last["parentId"] != start.data["userMessage"].(map[string]any)["id"] {
		t.Errorf("%v", last)
	}
	if b.do("ann", "POST", "/api/chat/messages/"+run+"/stop", "").must(200).text("state") != "stopped" {
		t.Error("stop is not idempotent")
	}
}

// TestProblem_HidesCauses: what goes wrong inside is told to operators only.
func TestProblem_HidesCauses(t *testing.T) {
	b := setup(t)
	b.store.Close()
	a := b.do("ann", "GET", "/api/chat/conversations", "")
	if a.status != http.StatusInternalServerError && a.status != http.StatusServiceUnavailable {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	raw, _ := json.Marshal(a.body)
	for _, word := range []string{"sql", "SQL", "closed", "database", ".go"} {
		if strings.Contains(string(raw), word) {
			t.Errorf("says %q: %s", word, raw)
		}
	}
	failed := seen[ports.RequestFailed](b)
	if len(failed) != 1 || failed[0].Route != "GET /api/chat/conversations" || failed[0].Err == nil {
		t.Errorf("operators are told %v", failed)
	}
}
