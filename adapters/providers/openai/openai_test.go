package openai_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"parley/adapters/providers/openai"
	"parley/adapters/providers/stub"
	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type result struct {
	reasoning, text string
	log             chat.OutputLog
	answer          ports.Answer
	err             error
}

// limits are those of tests, which no reply but an endless one reaches.
func limits() upstream.Limits {
	return upstream.Limits{FirstToken: time.Minute, Idle: time.Minute, MaxReply: 5000}
}

func open(t *testing.T, script stub.Script) (*stub.Server, *openai.Provider) {
	t.Helper()
	return openWith(t, script, limits())
}

func openWith(t *testing.T, script stub.Script, limits upstream.Limits) (*stub.Server, *openai.Provider) {
	t.Helper()
	s, err := stub.Start(script)
	if err != nil {
		t.Fatal(err)
	}
	p, err := openai.New(openai.Config{Key: "sk-secret", BaseURL: s.OpenAIURL(), Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(); s.Close() })
	return s, p
}

func ask(ctx context.Context, p *openai.Provider, params chat.Params) result {
	var r result
	if params.Model == "" {
		params.Model = "gpt-4o"
	}
	prompt := ports.Prompt{UserID: "u", Params: params, Messages: []ports.PromptMessage{ports.PromptText(chat.User, "tell me two things")}}
	r.answer, r.err = p.Generate(ctx, prompt, func(d chat.Delta) {
		r.log.Append(d)
		switch d.Kind {
		case chat.ReasoningPart:
			r.reasoning += d.Text
		case chat.TextPart:
			r.text += d.Text
		}
	})
	return r
}

func TestOpenAI_CompleteReplies(t *testing.T) {
	frame := func(delta string) string { return `data: {"choices":[{"index":0,"delta":` + delta + `}]}` + "\n\n" }
	const finish = `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	for name, c := range map[string]struct {
		reply stub.Reply
		want  string
	}{
		"SlowButAlive": {stub.Reply{Text: "a b c d", Pace: 400 * time.Millisecond}, "a b c d"},
		"CharacterInTwoPieces": {stub.Reply{Raw: frame("{\"content\":\"a\xf0\x9f\"}") + frame("{\"content\":\"\x98\x80b\"}") +
			finish + "data: [DONE]\n\n"}, "a😀b"},
		"NoDoneMarker":     {stub.Reply{Raw: frame(`{"content":"fine"}`) + finish}, "fine"},
		"CRLF":             {stub.Reply{Raw: strings.ReplaceAll(frame(`{"content":"fine"}`)+finish+"data: [DONE]\n\n", "\n", "\r\n")}, "fine"},
		"RefusalIsText":    {stub.Reply{Raw: frame(`{"refusal":"I cannot."}`) + finish}, "I cannot."},
		"UnfinishedAtEnd":  {stub.Reply{Raw: frame("{\"content\":\"a\xf0\x9f\"}") + finish}, "a"},
		"NullsEverywhere":  {stub.Reply{Raw: `data: {"choices":[{"delta":{"content":null,"role":null},"finish_reason":null}],"usage":null}` + "\n\n" + frame(`{"content":"ok"}`) + finish}, "ok"},
		"ErrorIsNull":      {stub.Reply{Raw: `data: {"error":null,"choices":[{"delta":{"content":"ok"}}]}` + "\n\n" + finish}, "ok"},
		"LostAfterTheMark": {stub.Reply{Raw: frame(`{"content":"ok"}`) + finish + "data: {\"choi"}, "ok"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, p := open(t, stub.Always(c.reply))
			r := ask(t.Context(), p, chat.Params{})
			if r.err != nil || r.text != c.want || r.answer.FinishReason != "stop" {
				t.Errorf("text %q, answer %+v, error %v", r.text, r.answer, r.err)
			}
		})
	}
}

func TestOpenAI_Failures(t *testing.T) {
	for name, c := range map[string]struct {
		reply  stub.Reply
		reason upstream.Reason
		after  time.Duration
		text   bool
	}{
		"500":               {reply: stub.Refuse(500, "server_error"), reason: upstream.ServerError},
		"503Loading":        {reply: stub.Reply{Status: 503, Raw: `{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}`}, reason: upstream.Overloaded},
		"InsufficientQuota": {reply: stub.Refuse(429, "insufficient_quota", "Retry-After", "7"), reason: upstream.QuotaExhausted, after: 7 * time.Second},
		"401":               {reply: stub.Refuse(401, "invalid_api_key"), reason: upstream.KeyRefused},
		"404Model":          {reply: stub.Refuse(404, "model_not_found"), reason: upstream.UnknownModel},
		"400TooLong":        {reply: stub.Refuse(400, "context_length_exceeded"), reason: upstream.TooLong},
		"JSON200":           {reply: stub.Reply{Header: map[string]string{"Content-Type": "application/json"}, Raw: `{"choices":[]}`}, reason: upstream.NotAStream},
		"OnlyDone":          {reply: stub.Reply{Raw: "data: [DONE]\n\n"}, reason: upstream.Incomplete},
		"CutInTheFinish":    {reply: stub.Reply{Raw: `data: {"choices":[{"delta":{"content":"a"}}]}` + "\n\n" + `data: {"choices":[{"delta":{},"finish_reason":"stop"`}, reason: upstream.Incomplete, text: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p := open(t, stub.Always(c.reply))
			r := ask(t.Context(), p, chat.Params{})
			if got := upstream.ReasonOf(r.err); got != c.reason || upstream.RetryAfter(r.err) != c.after {
				t.Errorf("reason %q after %v: %v", got, upstream.RetryAfter(r.err), r.err)
			}
			if (r.text != "") != c.text || r.answer.FinishReason != "" || !r.answer.Usage.Estimated {
				t.Errorf("text %.20q, answer %+v", r.text, r.answer)
			}
			if n := len(s.Calls()); n != 1 {
				t.Errorf("%d calls", n)
			}
			if f := fault.As(r.err); f == nil || strings.Contains(f.Error(), "sk-secret") || strings.Contains(f.Error(), "two things") || strings.Contains(f.Error(), "told to") {
				t.Errorf("error %v", r.err)
			}
		})
	}
}

func TestOpenAI_Usage(t *testing.T) {
	t.Run("IsTheProvidersOwn", func(t *testing.T) {
		_, p := open(t, stub.Always(stub.Reply{Reasoning: "let me think", Text: "one two", CacheRead: 3}))
		r := ask(t.Context(), p, chat.Params{System: "be brief"})
		want := chat.Usage{Input: 6, Output: 5, CacheRead: 3, Reasoning: 3}
		if d := cmp.Diff(want, r.answer.Usage); d != "" || r.reasoning != "let me think" || r.text != "one two" {
			t.Error(r.reasoning, r.text, d)
		}
	})
	t.Run("IsEstimatedWhenNotReported", func(t *testing.T) {
		_, p := open(t, stub.Always(stub.Reply{Text: "one two", NoUsage: true}))
		if r := ask(t.Context(), p, chat.Params{}); r.err != nil || !r.answer.Usage.Estimated {
			t.Errorf("%+v, %v", r.answer, r.err)
		}
	})
	t.Run("IsNotWaitedForLong", func(t *testing.T) {
		finish := `data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}` + "\n\n"
		_, p := openWith(t, stub.Always(stub.Reply{Raw: finish, Header: map[string]string{"Content-Length": "5000"}}),
			upstream.Limits{FirstToken: time.Hour, Idle: time.Hour})
		if r := ask(t.Context(), p, chat.Params{}); r.err != nil || r.text != "a" {
			t.Errorf("text %q, error %v", r.text, r.err)
		}
	})
}

func TestOpenAI_Request(t *testing.T) {
	warm := 0.4
	s, p := open(t, stub.Say("ok"))
	prompt := ports.Prompt{
		UserID:   "user-1",
		Params:   chat.Params{Model: "llama3", System: "be brief", Temperature: &warm, MaxTokens: 100, Reasoning: "low"},
		Messages: []ports.PromptMessage{ports.PromptText(chat.Assistant, "old"), ports.PromptText(chat.User, "a"), ports.PromptText(chat.Assistant, "b")},
	}
	if _, err := p.Generate(t.Context(), prompt, func(chat.Delta) {}); err != nil {
		t.Fatal(err)
	}
	call := s.Calls()[0]
	var roles []string
	for _, m := range call.Messages {
		roles = append(roles, m.Role)
	}
	if d := cmp.Diff([]string{"system", "user", "assistant", "user"}, roles); d != "" {
		t.Error(d)
	}
	delete(call.Body, "messages")
	got, _ := json.Marshal(call.Body)
	const want = `{"max_tokens":100,"model":"llama3","reasoning_effort":"low","stream":true,"stream_options":{"include_usage":true},"temperature":0.4}`
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Error(d)
	}
	if call.Header.Get("Authorization") != "Bearer sk-secret" || call.Header.Get("User-Agent") != "parley" {
		t.Errorf("headers %v", call.Header)
	}
}

func TestOpenAI_ListModels(t *testing.T) {
	s, p := open(t, nil)
	s.Offer("llama3.2", "qwen3")
	names, err := p.ListModels(t.Context())
	if d := cmp.Diff([]string{"llama3.2", "qwen3"}, names); err != nil || d != "" {
		t.Error(err, d)
	}
	s.Kill()
	if _, err := p.ListModels(t.Context()); !fault.Is(err, fault.AIUnavailable) {
		t.Errorf("without a server: %v", err)
	}
}

func TestOpenAI_Headroom(t *testing.T) {
	reply := stub.Reply{Text: "ok", Header: map[string]string{
		"X-RateLimit-Limit-Requests": "200", "X-RateLimit-Remaining-Requests": "50",
		"X-RateLimit-Limit-Tokens": "0", "X-RateLimit-Remaining-Tokens": "x",
	}}
	s, err := stub.Start(stub.Always(reply))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var seen observer
	p, err := openai.New(openai.Config{BaseURL: s.OpenAIURL(), Observer: &seen})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ask(t.Context(), p, chat.Params{})
	want := observer{ports.ProviderHeadroom{Provider: "openai", Kind: "requests", Ratio: 0.25}}
	if d := cmp.Diff(want, seen); d != "" {
		t.Error(d)
	}
}

func TestOpenAI_BaseURL(t *testing.T) {
	for _, bad := range []string{"localhost:11434", "ftp://host/v1", "http://", "://"} {
		if _, err := openai.New(openai.Config{BaseURL: bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

type observer []any

func (o *observer) Observe(_ context.Context, fact any) { *o = append(*o, fact) }
