package anthropic_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"parley/adapters/providers/anthropic"
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

func open(t *testing.T, script stub.Script) (*stub.Server, *anthropic.Provider) {
	t.Helper()
	s, err := stub.Start(script)
	if err != nil {
		t.Fatal(err)
	}
	p, err := anthropic.New(anthropic.Config{Key: "sk-secret", BaseURL: s.AnthropicURL(), Limits: limits()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(); s.Close() })
	return s, p
}

func ask(ctx context.Context, p *anthropic.Provider, params chat.Params) result {
	var r result
	if params.Model == "" {
		params.Model = "claude-sonnet-4-5"
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

// script is a stream of named events, data only when the name is "".
func script(events ...[2]string) string {
	var b strings.Builder
	for _, e := range events {
		if e[0] != "" {
			b.WriteString("event: " + e[0] + "\n")
		}
		b.WriteString("data: " + e[1] + "\n\n")
	}
	return b.String()
}

var (
	start = [2]string{"message_start", `{"type":"message_start","message":{"model":"m","usage":{"input_tokens":4,"output_tokens":1}}}`}
	hello = [2]string{"content_block_delta", `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hello"}}`}
	delta = [2]string{"message_delta", `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}`}
	stop  = [2]string{"message_stop", `{"type":"message_stop"}`}
)

func TestAnthropic_CompleteReplies(t *testing.T) {
	for name, c := range map[string]struct {
		reply        stub.Reply
		want, finish string
	}{
		"PingsKeepItAlive": {stub.Reply{Text: "a b c d", Pace: 400 * time.Millisecond, Ping: true}, "a b c d", "stop"},
		"UnknownEvents":    {stub.Reply{Raw: script(start, [2]string{"brand_new", `{"type":"brand_new"}`}, hello, delta, stop)}, "hello", "stop"},
		"CutAtItsLimit":    {stub.Reply{Text: "a b", Finish: "max_tokens"}, "a b", "length"},
		"WindowFull":       {stub.Reply{Text: "a b", Finish: "model_context_window_exceeded"}, "a b", "length"},
		"Refusal":          {stub.Reply{Text: "a b", Finish: "refusal"}, "a b", "refusal"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, p := open(t, stub.Always(c.reply))
			r := ask(t.Context(), p, chat.Params{})
			if r.err != nil || r.text != c.want || r.answer.FinishReason != c.finish {
				t.Errorf("text %q, answer %+v, error %v", r.text, r.answer, r.err)
			}
		})
	}
}

func TestAnthropic_Failures(t *testing.T) {
	for name, c := range map[string]struct {
		reply  stub.Reply
		reason upstream.Reason
		after  time.Duration
		text   bool
	}{
		"500":              {reply: stub.Refuse(500, "api_error"), reason: upstream.ServerError},
		"429SpendCap":      {reply: stub.Refuse(429, "rate_limit_error"), reason: upstream.RateLimited},
		"400CreditBalance": {reply: stub.Reply{Status: 400, Raw: `{"error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}`}, reason: upstream.QuotaExhausted},
		"400PromptTooLong": {reply: stub.Reply{Status: 400, Raw: `{"error":{"type":"invalid_request_error","message":"prompt is too long: 2 > 1"}}`}, reason: upstream.TooLong},
		"Garbage":          {reply: stub.Reply{Raw: script([2]string{"message_start", "{not json"})}, reason: upstream.NotAStream},
		"NoMessageStop":    {reply: stub.Reply{Raw: script(start, hello, delta)}, reason: upstream.Incomplete, text: true},
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

func TestAnthropic_Usage(t *testing.T) {
	t.Run("InputIncludesTheCache", func(t *testing.T) {
		_, p := open(t, stub.Always(stub.Reply{Reasoning: "let me think", Text: "one two", CacheRead: 3}))
		r := ask(t.Context(), p, chat.Params{System: "be brief"})
		want := chat.Usage{Input: 6, Output: 5, CacheRead: 3, Reasoning: 3}
		if d := cmp.Diff(want, r.answer.Usage); d != "" || r.reasoning != "let me think" || r.text != "one two" {
			t.Error(r.reasoning, r.text, d)
		}
	})
	t.Run("LaterFiguresReplaceEarlierOnes", func(t *testing.T) {
		_, p := open(t, stub.Always(stub.Reply{Raw: script(
			[2]string{"message_start", `{"type":"message_start","message":{"usage":{"input_tokens":10,"cache_creation_input_tokens":5,"cache_read_input_tokens":100,"output_tokens":1}}}`},
			hello, delta,
			[2]string{"message_delta", `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":12,"output_tokens":9}}`},
			stop)}))
		want := chat.Usage{Input: 117, Output: 9, CacheRead: 100, CacheWrite: 5}
		if d := cmp.Diff(want, ask(t.Context(), p, chat.Params{}).answer.Usage); d != "" {
			t.Error(d)
		}
	})
	t.Run("InputIsKnownOfACutReply", func(t *testing.T) {
		_, p := open(t, stub.Always(stub.Reply{Raw: script(start, hello)}))
		if u := ask(t.Context(), p, chat.Params{}).answer.Usage; u.Input != 4 || !u.Estimated {
			t.Errorf("%+v", u)
		}
	})
}

func TestAnthropic_Request(t *testing.T) {
	warm := 0.4
	params := chat.Params{System: "be brief", Temperature: &warm, MaxTokens: 100, Reasoning: "low"}
	for model, want := range map[string]struct {
		rest    string
		ignored any
	}{
		"claude-3-5-haiku-20241022": {`"max_tokens":100,"temperature":0.4`, []string{"reasoning"}},
		"claude-sonnet-4-20250514":  {`"max_tokens":1124,"thinking":{"budget_tokens":1024,"type":"enabled"}`, []string{"temperature"}},
		"claude-opus-4-5":           {`"max_tokens":1124,"thinking":{"budget_tokens":1024,"type":"enabled"}`, []string{"temperature"}},
		"claude-sonnet-4-6":         {`"max_tokens":100,"output_config":{"effort":"low"},"thinking":{"display":"summarized","type":"adaptive"}`, []string{"temperature"}},
		"claude-opus-5-5":           {`"max_tokens":100,"output_config":{"effort":"low"},"thinking":{"display":"summarized","type":"adaptive"}`, []string{"temperature"}},
		"some-new-model":            {`"max_tokens":100,"output_config":{"effort":"low"},"thinking":{"display":"summarized","type":"adaptive"}`, []string{"temperature"}},
	} {
		t.Run(model, func(t *testing.T) {
			s, p := open(t, stub.Say("ok"))
			params.Model = model
			r := ask(t.Context(), p, params)
			if r.err != nil {
				t.Fatal(r.err)
			}
			if d := cmp.Diff(want.ignored, r.answer.Metadata["ignored"]); d != "" {
				t.Error(d)
			}
			call := s.Calls()[0]
			for _, name := range []string{"messages", "metadata", "model", "stream", "system"} {
				delete(call.Body, name)
			}
			got, _ := json.Marshal(call.Body)
			if d := cmp.Diff("{"+want.rest+"}", string(got)); d != "" {
				t.Error(d)
			}
			if call.Header.Get("X-Api-Key") != "sk-secret" || call.Header.Get("Traceparent") != "" {
				t.Errorf("headers %v", call.Header)
			}
		})
	}
	t.Run("TemperatureWithoutReasoning", func(t *testing.T) {
		for model, sent := range map[string]bool{"claude-haiku-4-5": true, "claude-sonnet-4-6": true, "claude-opus-4-7": false, "claude-sonnet-5": false} {
			s, p := open(t, stub.Say("ok"))
			ask(t.Context(), p, chat.Params{Model: model, Temperature: &warm})
			if _, got := s.Calls()[0].Body["temperature"]; got != sent {
				t.Errorf("%s: sent %v", model, got)
			}
		}
	})
}
