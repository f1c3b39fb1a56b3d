package providers_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"parley/adapters/providers"
	"parley/adapters/providers/stub"
	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

func routerAt(t *testing.T, s *stub.Server, models ...string) *providers.Router {
	t.Helper()
	r, err := providers.New(providers.Config{OpenAI: providers.Provider{BaseURL: s.OpenAIURL(), Models: models}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func send(ctx context.Context, r *providers.Router) (ports.Answer, error) {
	return r.Generate(ctx, ports.Prompt{UserID: "u", Messages: []ports.PromptMessage{ports.PromptText(chat.User, "hello")}}, func(chat.Delta) {})
}

// A server that was configured without a model is asked which it has.
func TestRouter_FindsTheModelOfAServer(t *testing.T) {
	for name, c := range map[string]struct {
		offered []string // nil: the server has no list
		want    string   // "": no reply
		problem string
		says    []string // that the detail holds
	}{
		"OneModel":            {[]string{"llama3.2:latest"}, "llama3.2:latest", "", nil},
		"OneThatCanChat":      {[]string{"text-embedding-nomic-embed-text-v1.5", "qwen3", "bge-reranker"}, "qwen3", "", nil},
		"TheDefaultAmongMany": {[]string{"gpt-4o", providers.DefaultOpenAI, "o3"}, providers.DefaultOpenAI, "", nil},
		"NoList":              {nil, providers.DefaultOpenAI, "", nil},
		"Several":             {[]string{"llama3.2:latest", "qwen3"}, "", ports.ProblemModelUnknown, []string{"OPENAI_MODEL", "llama3.2:latest, qwen3"}},
		"NothingPulled":       {[]string{}, "", ports.ProblemModelMissing, []string{"no model"}},
		"OnlyEmbeddings":      {[]string{"nomic-embed-text"}, "", ports.ProblemModelMissing, []string{"no model"}},
		"OddNames":            {[]string{"a\n\x1b[31mb", strings.Repeat("x", 500)}, "", ports.ProblemModelUnknown, []string{"a[31mb, " + strings.Repeat("x", 64)}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startStub(t, stub.Say("hi"))
			if c.offered != nil {
				s.Offer(c.offered...)
			}
			r := routerAt(t, s)
			answer, err := send(t.Context(), r)
			if answer.Model != c.want || (c.want == "") != (upstream.ReasonOf(err) == upstream.UnknownModel) {
				t.Errorf("answer of %q, %v", answer.Model, err)
			}
			info := r.Models()[0]
			if info.Model != c.want || info.Problem != c.problem || len(info.Detail) > 200 {
				t.Errorf("%+v", info)
			}
			for _, part := range c.says {
				if !strings.Contains(info.Detail, part) {
					t.Errorf("%q does not say %q", info.Detail, part)
				}
			}
		})
	}
}

// A server that starts later, or gets its model later, is used from then on,
// and the model that was found is reported.
func TestRouter_FindsTheModelLater(t *testing.T) {
	s := startStub(t, stub.Say("hi"))
	s.Kill()
	var mu sync.Mutex
	var told []string
	r, err := providers.New(providers.Config{
		OpenAI: providers.Provider{BaseURL: s.OpenAIURL()},
		Discovered: func(models []ports.ModelInfo) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, models[0].Model)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	_, err = send(t.Context(), r)
	if !fault.Is(err, fault.AIUnavailable) || upstream.RetryAfter(err) <= 0 {
		t.Errorf("while it is away: %v", err)
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	s.Offer("llama3.2")
	providers.ForgetLookups(r)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if answer, err := send(t.Context(), r); err != nil || answer.Model != "llama3.2" {
				t.Errorf("%q, %v", answer.Model, err)
			}
		})
	}
	wg.Wait()
	if len(told) != 1 || told[0] != "llama3.2" || r.Models()[0].Problem != "" {
		t.Errorf("told %q, %+v", told, r.Models())
	}
}

func TestRouter_CheckComparesTheList(t *testing.T) {
	for name, c := range map[string]struct {
		offered []string
		model   string
		missing bool
	}{
		"Listed":            {[]string{"a", "b"}, "b", false},
		"Missing":           {[]string{"a", "b"}, "c", true},
		"TagOfOllama":       {[]string{"llama3.2:latest"}, "llama3.2", false},
		"OtherTag":          {[]string{"llama3.2:70b"}, "llama3.2", true},
		"PrefixOfGemini":    {[]string{"models/gemini-9"}, "gemini-9", false},
		"Dated":             {[]string{"claude-sonnet-4-5-20250929"}, "claude-sonnet-4-5", false},
		"GatewayWithAStar":  {[]string{"openai/*"}, "openai/gpt-4o", false},
		"NothingListed":     {[]string{}, "a", false},
		"ServerWithoutList": {nil, "a", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := startStub(t, stub.Say("hi"))
			if c.offered != nil {
				s.Offer(c.offered...)
			}
			r := routerAt(t, s, c.model)
			if failed := r.Check(t.Context()); len(failed) > 0 {
				t.Error(failed)
			}
			if got := r.Models()[0].Problem == ports.ProblemModelMissing; got != c.missing {
				t.Errorf("%+v", r.Models()[0])
			}
			if _, err := send(t.Context(), r); err != nil || r.Models()[0].Problem != "" {
				t.Errorf("after a reply: %v, %+v", err, r.Models()[0])
			}
		})
	}
}

// What a provider answers about its key and its models is known until it
// answers otherwise, whatever else fails meanwhile.
func TestRouter_KnowsTheProblem(t *testing.T) {
	s := startStub(t, nil)
	r := routerAt(t, s, "m", "other")
	for _, step := range []struct {
		name    string
		reply   stub.Reply
		problem string
	}{
		{"nothing yet", stub.Reply{Text: "hi"}, ""},
		{"401", stub.Refuse(401, "invalid_api_key"), ports.ProblemKeyRefused},
		{"an outage", stub.Refuse(500, "server_error"), ports.ProblemKeyRefused},
		{"403", stub.Refuse(403, "permission_error"), ports.ProblemKeyRefused},
		{"well again", stub.Reply{Text: "hi"}, ""},
		{"404", stub.Refuse(404, "model_not_found"), ports.ProblemModelMissing},
		{"a reply that breaks off", stub.Reply{Text: "one two three", Cut: stub.EOF, After: 2}, ""},
	} {
		s.Play(stub.Always(step.reply))
		_, err := send(t.Context(), r)
		if got := r.Models(); got[0].Problem != step.problem || got[1].Problem != "" || (step.problem != "") != (got[0].Detail != "") {
			t.Errorf("%s: %+v after %v", step.name, got, err)
		}
	}
}

// A refused key is not tried again, and the next provider answers.
func TestRouter_RefusedKeyFailsOver(t *testing.T) {
	openai, anthropic := startStub(t, stub.Always(stub.Refuse(401, "invalid_api_key"))), startStub(t, stub.Say("hi"))
	r, err := providers.New(providers.Config{
		OpenAI:    providers.Provider{Key: "k", BaseURL: openai.OpenAIURL(), Models: []string{"m"}},
		Anthropic: providers.Provider{Key: "k", BaseURL: anthropic.AnthropicURL(), Models: []string{"n"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	for range 8 {
		if answer, err := send(t.Context(), r); err != nil || answer.Provider != "anthropic" {
			t.Errorf("%+v, %v", answer, err)
		}
	}
	if n := len(openai.Calls()); n != 5 || r.Models()[0].State != "open" {
		t.Errorf("%d calls with a refused key, %+v", n, r.Models()[0])
	}
}
