package providers_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"parley/adapters/providers/anthropic"
	"parley/adapters/providers/openai"
	"parley/adapters/providers/stub"
	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// wires opens each provider that is asked over the network, with a stub that
// answers it by a script.
var wires = map[string]func(t *testing.T, script stub.Script, l upstream.Limits) (*stub.Server, ports.Model){
	"OpenAI": func(t *testing.T, script stub.Script, l upstream.Limits) (*stub.Server, ports.Model) {
		s := startStub(t, script)
		p, err := openai.New(openai.Config{Key: "sk-secret", BaseURL: s.OpenAIURL(), Limits: l})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		return s, p
	},
	"Anthropic": func(t *testing.T, script stub.Script, l upstream.Limits) (*stub.Server, ports.Model) {
		s := startStub(t, script)
		p, err := anthropic.New(anthropic.Config{Key: "sk-secret", BaseURL: s.AnthropicURL(), Limits: l})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		return s, p
	},
}

// wireLimits are those of tests, which no reply but an endless one reaches.
func wireLimits() upstream.Limits {
	return upstream.Limits{FirstToken: time.Minute, Idle: time.Minute, MaxReply: 5000}
}

type wireReply struct {
	text, reasoning string
	answer          ports.Answer
	err             error
}

// askWire calls then after the first chunk.
func askWire(ctx context.Context, m ports.Model, then func()) (r wireReply) {
	prompt := ports.Prompt{
		UserID: "u", Params: chat.Params{Model: "some-model"},
		Messages: []ports.PromptMessage{ports.PromptText(chat.User, "tell me two things")},
	}
	chunks := 0
	r.answer, r.err = m.Generate(ctx, prompt, func(d chat.Delta) {
		if d.Kind == chat.TextPart {
			r.text += d.Text
		} else {
			r.reasoning += d.Text
		}
		if chunks++; chunks == 1 {
			then()
		}
	})
	return r
}

func TestWire_CompleteReplies(t *testing.T) {
	const text = "one two — 三 😀 "
	for wire, open := range wires {
		for name, c := range map[string]struct {
			reply     stub.Reply
			want      string
			reasoning string
		}{
			"Plain":             {reply: stub.Reply{Text: text}, want: text},
			"ByteByByte":        {reply: stub.Reply{Text: text, Split: 1}, want: text},
			"AllInOneWrite":     {reply: stub.Reply{Text: text, Coalesce: true}, want: text},
			"WithPings":         {reply: stub.Reply{Text: text, Ping: true}, want: text},
			"SlowFirstByte":     {reply: stub.Reply{Text: text, Delay: 100 * time.Millisecond}, want: text},
			"ControlCharacters": {reply: stub.Reply{Chunks: []string{"a\x00b", "\x1b[31mred", "\ttab\n"}}, want: "ab[31mred\ttab\n"},
			"Document":          {reply: stub.Reply{Document: true, Reasoning: "hmm", Text: text}, want: text, reasoning: "hmm"},
			"StreamAsJSON":      {reply: stub.Reply{Header: map[string]string{"Content-Type": "application/json"}, Text: text}, want: text},
			"LastEventUnended":  {reply: stub.Reply{Text: text, Unterminated: true}, want: text},
			"CR":                {reply: stub.Reply{Text: text, LineEnd: "\r"}, want: text},
			"CRLFByteWise":      {reply: stub.Reply{Text: text, LineEnd: "\r\n", Split: 1}, want: text},
			"ByteOrderMark":     {reply: stub.Reply{Text: text, ByteMark: true, LineEnd: "\r\n"}, want: text},
			"SplitSurrogates":   {reply: stub.Reply{Chunks: []string{"a😀b", "👩‍💻"}, SplitSurrogates: true}, want: "a😀b👩‍💻"},
			"FinishEach":        {reply: stub.Reply{Text: text, FinishEach: true}, want: text},
		} {
			t.Run(wire+"/"+name, func(t *testing.T) {
				t.Parallel()
				_, m := open(t, stub.Always(c.reply), wireLimits())
				r := askWire(t.Context(), m, func() {})
				if r.err != nil || r.text != c.want || r.reasoning != c.reasoning || r.answer.FinishReason != "stop" {
					t.Errorf("text %q (%q), answer %+v, error %v", r.text, r.reasoning, r.answer, r.err)
				}
			})
		}
	}
}

func TestWire_Failures(t *testing.T) {
	for wire, open := range wires {
		for name, c := range map[string]struct {
			reply  stub.Reply
			reason upstream.Reason
			after  time.Duration
			text   bool
		}{
			"500WithAPage":       {reply: stub.Reply{Status: 500, Header: map[string]string{"Content-Type": "text/html"}, Raw: "<html>"}, reason: upstream.ServerError},
			"529":                {reply: stub.Refuse(529, "overloaded_error"), reason: upstream.Overloaded},
			"529WithoutWords":    {reply: stub.Reply{Status: 529, Raw: "busy"}, reason: upstream.Overloaded},
			"429WithSeconds":     {reply: stub.Refuse(429, "rate_limit_error", "Retry-After", "7"), reason: upstream.RateLimited, after: 7 * time.Second},
			"429WithMillis":      {reply: stub.Refuse(429, "rate_limit_error", "Retry-After-Ms", "250"), reason: upstream.RateLimited, after: 250 * time.Millisecond},
			"429WithoutAnything": {reply: stub.Reply{Status: 429, Raw: "slow down"}, reason: upstream.RateLimited},
			"400":                {reply: stub.Refuse(400, "invalid_request_error"), reason: upstream.BadRequest},
			"401":                {reply: stub.Refuse(401, "authentication_error"), reason: upstream.KeyRefused},
			"413":                {reply: stub.Refuse(413, "request_too_large"), reason: upstream.TooLong},
			"ErrorPageOf10MB":    {reply: stub.Reply{Status: 500, Raw: strings.Repeat("x", 10<<20)}, reason: upstream.ServerError},
			"Redirect":           {reply: stub.Reply{Status: 307, Header: map[string]string{"Location": "http://127.0.0.1:1/"}, Raw: "x"}, reason: upstream.NotAStream},
			"HTML200":            {reply: stub.Reply{Header: map[string]string{"Content-Type": "text/html; charset=utf-8"}, Raw: "<html>welcome</html>"}, reason: upstream.NotAStream},
			"EmptyStream":        {reply: stub.Reply{Raw: "\n"}, reason: upstream.Incomplete},
			"Garbage":            {reply: stub.Reply{Raw: "data: {not json\n\n"}, reason: upstream.NotAStream},
			"LineOf10MB":         {reply: stub.Reply{Raw: "data: " + strings.Repeat("x", 10<<20)}, reason: upstream.LineTooLong},
			"EventOf10MB":        {reply: stub.Reply{Raw: strings.Repeat("data: "+strings.Repeat("x", 1000)+"\n", 10_000)}, reason: upstream.LineTooLong},
			"NoFirstByte":        {reply: stub.Reply{Hang: true}, reason: upstream.FirstToken},
			"NoFirstToken":       {reply: stub.Reply{Cut: stub.Stall}, reason: upstream.FirstToken},
			"Stall":              {reply: stub.Reply{Text: "a b c", Cut: stub.Stall, After: 2}, reason: upstream.Idle, text: true},
			"CleanEarlyEnd":      {reply: stub.Reply{Text: "a b c", Cut: stub.EOF, After: 2}, reason: upstream.Incomplete, text: true},
			"Reset":              {reply: stub.Reply{Text: "a b c", Cut: stub.Reset, After: 2}, reason: upstream.Lost, text: true},
			"ErrorAtOnce":        {reply: stub.Reply{Cut: stub.Overload}, reason: upstream.Overloaded},
			"ErrorInTheMiddle":   {reply: stub.Reply{Text: "a b c", Cut: stub.Overload, After: 2}, reason: upstream.Overloaded, text: true},
			"EndlessReply":       {reply: stub.Reply{Text: stub.Words(3000)}, reason: upstream.ReplyTooLong, text: true},
		} {
			t.Run(wire+"/"+name, func(t *testing.T) {
				t.Parallel()
				l := wireLimits()
				switch c.reason {
				case upstream.FirstToken:
					l.FirstToken = 100 * time.Millisecond
				case upstream.Idle:
					l.Idle = 100 * time.Millisecond
				}
				s, m := open(t, stub.Always(c.reply), l)
				r := askWire(t.Context(), m, func() {})
				if got := upstream.ReasonOf(r.err); got != c.reason || upstream.RetryAfter(r.err) != c.after {
					t.Errorf("reason %q after %v: %v", got, upstream.RetryAfter(r.err), r.err)
				}
				if (r.text != "") != c.text || r.answer.FinishReason != "" || !r.answer.Usage.Estimated {
					t.Errorf("text %.20q, answer %+v", r.text, r.answer)
				}
				// A request that has waited for its first token for long enough may not have
				// come to a stub that is slow.
				if n := len(s.Calls()); n > 1 || n == 0 && c.reason != upstream.FirstToken {
					t.Errorf("%d calls", n)
				}
				if f := fault.As(r.err); f == nil || strings.Contains(f.Error(), "sk-secret") || strings.Contains(f.Error(), "two things") || strings.Contains(f.Error(), "told to") {
					t.Errorf("error %v", r.err)
				}
			})
		}
		t.Run(wire+"/NotListening", func(t *testing.T) {
			s, m := open(t, nil, wireLimits())
			s.Kill()
			r := askWire(t.Context(), m, func() {})
			if upstream.ReasonOf(r.err) != upstream.Unreachable || !fault.Is(r.err, fault.AIUnavailable) || strings.Contains(fmt.Sprint(r.err), "/v1") {
				t.Error(r.err)
			}
		})
		t.Run(wire+"/KilledInTheMiddle", func(t *testing.T) {
			s, m := open(t, stub.Always(stub.Reply{Text: stub.Words(100), Pace: 10 * time.Millisecond}), wireLimits())
			if r := askWire(t.Context(), m, s.Kill); upstream.ReasonOf(r.err) != upstream.Lost || r.text == "" {
				t.Errorf("text %q, error %v", r.text, r.err)
			}
		})
	}
}

func TestWire_Stop(t *testing.T) {
	endless := stub.Always(stub.Reply{Text: stub.Words(1000), Pace: 10 * time.Millisecond})
	for wire, open := range wires {
		t.Run(wire+"/ClosesTheConnection", func(t *testing.T) {
			s, m := open(t, endless, wireLimits())
			ctx, cancel := context.WithCancel(t.Context())
			if r := askWire(ctx, m, cancel); !fault.Is(r.err, fault.Canceled) || r.text == "" {
				t.Fatalf("text %q, error %v", r.text, r.err)
			}
			for begun := time.Now(); !s.Calls()[0].Disconnected; time.Sleep(5 * time.Millisecond) {
				if time.Since(begun) > time.Minute {
					t.Fatal("the connection was not closed")
				}
			}
		})
		t.Run(wire+"/DeadlineIsAFailure", func(t *testing.T) {
			_, m := open(t, endless, wireLimits())
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			r := askWire(ctx, m, func() {})
			if upstream.ReasonOf(r.err) != upstream.Deadline || !errors.Is(r.err, context.DeadlineExceeded) {
				t.Error(r.err)
			}
		})
	}
}

func TestWire_ConnectionsAreKept(t *testing.T) {
	for wire, open := range wires {
		s, m := open(t, stub.Say("one two"), wireLimits())
		for range 5 {
			if r := askWire(t.Context(), m, func() {}); r.err != nil {
				t.Fatal(wire, r.err)
			}
		}
		if n := s.Connections(); n != 1 {
			t.Errorf("%s: %d connections for 5 replies", wire, n)
		}
	}
}
