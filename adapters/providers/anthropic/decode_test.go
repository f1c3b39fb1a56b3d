package anthropic_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/adapters/providers/anthropic"
	"parley/adapters/providers/stub"
	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// raw is a stream of the given events.
func raw(events ...[2]string) stub.Reply { return stub.Reply{Raw: script(events...)} }

func blockStart(block string) [2]string {
	return [2]string{"content_block_start", `{"type":"content_block_start","index":0,"content_block":` + block + `}`}
}

func blockDelta(delta string) [2]string {
	return [2]string{"content_block_delta", `{"type":"content_block_delta","index":0,"delta":` + delta + `}`}
}

func unnamed(e [2]string) [2]string { return [2]string{"", e[1]} }

func TestDecode_Shapes(t *testing.T) {
	document := func(body string) stub.Reply {
		return stub.Reply{Header: map[string]string{"Content-Type": "application/json"}, Raw: body}
	}
	for name, c := range map[string]struct {
		reply           stub.Reply
		text, reasoning string
		reason          upstream.Reason
	}{
		"TextInBlockStart":     {reply: stub.Reply{Text: "one two", Reasoning: "hmm", TextInStart: true}, text: "one two", reasoning: "hmm"},
		"BlockStartAlone":      {reply: raw(start, blockStart(`{"type":"text","text":"one"}`), delta, stop), text: "one"},
		"BlockStartAndDelta":   {reply: raw(start, blockStart(`{"type":"text","text":"say "}`), hello, delta, stop), text: "say hello"},
		"ThinkingInBlockStart": {reply: raw(start, blockStart(`{"type":"thinking","thinking":"hmm","signature":""}`), hello, delta, stop), text: "hello", reasoning: "hmm"},
		"RedactedThinking":     {reply: raw(start, blockStart(`{"type":"redacted_thinking","data":"eA=="}`), hello, delta, stop), text: "hello"},
		"TextInMessageStart":   {reply: raw([2]string{"message_start", `{"type":"message_start","message":{"content":[{"type":"text","text":"say "}]}}`}, hello, delta, stop), text: "say hello"},
		"ToolUse":              {reply: raw(start, hello, blockStart(`{"type":"tool_use","id":"1","name":"f","input":{}}`), delta, stop), text: "hello", reason: upstream.UnsupportedOutput},
		"InputOfATool":         {reply: raw(start, hello, blockDelta(`{"type":"input_json_delta","partial_json":"{"}`), delta, stop), text: "hello", reason: upstream.UnsupportedOutput},
		"UnknownBlock":         {reply: raw(start, hello, blockStart(`{"type":"image","source":{"data":"eA=="}}`), delta, stop), text: "hello", reason: upstream.UnsupportedOutput},
		"UnknownBlockWithText": {reply: raw(start, blockStart(`{"type":"poem","text":"a"}`), delta, stop), text: "a"},
		"UnknownDeltaWithText": {reply: raw(start, blockDelta(`{"type":"poem_delta","text":"a"}`), delta, stop), text: "a"},
		"DeltaIsAString":       {reply: raw(start, blockDelta(`"a"`), delta, stop), text: "a"},
		"Citations":            {reply: raw(start, hello, blockDelta(`{"type":"citations_delta","citation":{"cited_text":"x"}}`), delta, stop), text: "hello"},
		"UnknownEvent":         {reply: raw(start, hello, [2]string{"brand_new", `{"type":"brand_new","n":1}`}, delta, stop), text: "hello"},
		"UnknownEventWithText": {reply: raw(start, hello, [2]string{"brand_new", `{"type":"brand_new","delta":{"text":"lost"}}`}, delta, stop), text: "hello", reason: upstream.UnsupportedOutput},
		"DataWithoutEvent":     {reply: raw(unnamed(start), unnamed(hello), unnamed(delta), unnamed(stop)), text: "hello"},
		"EventWithoutType":     {reply: raw(start, [2]string{"content_block_delta", `{"delta":{"text":"hello"}}`}, delta, [2]string{"message_stop", `{}`}), text: "hello"},
		"NoStopReason":         {reply: raw(start, hello, stop), text: "hello"},
		"DocumentWithError":    {reply: document(`{"type":"error","error":{"type":"overloaded_error","message":"canary"}}`), reason: upstream.Overloaded},
		"DocumentOfAProxy":     {reply: document(`{"status":"ok"}`), reason: upstream.NotAStream},
		"NoSpace":              {reply: stub.Reply{Raw: strings.ReplaceAll(script(start, hello, delta, stop), ": {", ":{")}, text: "hello"},
		"SurrogatesFromStart":  {reply: raw(start, blockStart(`{"type":"text","text":"\ud83d"}`), blockDelta(`{"type":"text_delta","text":"\ude00"}`), delta, stop), text: "😀"},
		"CharacterInTwo":       {reply: raw(start, blockDelta("{\"text\":\"a\xf0\x9f\"}"), blockDelta("{\"text\":\"\x98\x80b\"}"), delta, stop), text: "a😀b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, p := open(t, stub.Always(c.reply))
			r := ask(t.Context(), p, chat.Params{})
			if r.text != c.text || r.reasoning != c.reasoning || upstream.ReasonOf(r.err) != c.reason {
				t.Errorf("text %q (%q), error %v", r.text, r.reasoning, r.err)
			}
			if (r.answer.FinishReason == "") != (r.err != nil) || strings.Contains(fmt.Sprint(r.err), "canary") {
				t.Errorf("finish %q, error %v", r.answer.FinishReason, r.err)
			}
		})
	}
}

// Thinking and text stay in the order in which a server sends them.
func TestDecode_Order(t *testing.T) {
	think := func(text string) chat.Part { return chat.Part{Kind: chat.ReasoningPart, Text: text} }
	say := func(text string) chat.Part { return chat.Part{Kind: chat.TextPart, Text: text} }
	thinking := func(text string) [2]string { return blockDelta(`{"type":"thinking_delta","thinking":"` + text + `"}`) }
	text := func(text string) [2]string { return blockDelta(`{"type":"text_delta","text":"` + text + `"}`) }
	want := []chat.Part{think("hmm"), say("a"), think("so"), say("b")}
	for name, reply := range map[string]stub.Reply{
		"Stream": raw(start, thinking("hm"), thinking("m"), text("a"), thinking("so"), text("b"), delta, stop),
		"Document": {Raw: `{"type":"message","content":[{"type":"thinking","thinking":"hmm"},{"type":"text","text":"a"},` +
			`{"type":"thinking","thinking":"so"},{"type":"text","text":"b"}],"stop_reason":"end_turn"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, p := open(t, stub.Always(reply))
			r := ask(t.Context(), p, chat.Params{})
			if d := cmp.Diff(want, r.log.Output().Parts()); d != "" || r.err != nil {
				t.Error(r.err, d)
			}
		})
	}
}

func TestDecode_StopReasons(t *testing.T) {
	for stop, want := range map[string]struct {
		finish string
		reason upstream.Reason
	}{
		"end_turn": {finish: "stop"}, "stop_sequence": {finish: "stop"}, "max_tokens": {finish: "length"},
		"model_context_window_exceeded": {finish: "length"}, "tool_use": {finish: "tool_calls"}, "refusal": {finish: "refusal"},
		"pause_turn": {reason: upstream.Incomplete}, "compaction": {reason: upstream.Incomplete},
		"error": {reason: upstream.ServerError}, "brand_new": {reason: upstream.UnknownFinish},
	} {
		t.Run(stop, func(t *testing.T) {
			_, p := open(t, stub.Always(stub.Reply{Text: "one two", Finish: stop}))
			r := ask(t.Context(), p, chat.Params{})
			if r.text != "one two" || r.answer.FinishReason != want.finish || upstream.ReasonOf(r.err) != want.reason {
				t.Errorf("text %q, finish %q, %v", r.text, r.answer.FinishReason, r.err)
			}
			if r.err != nil && !fault.Is(r.err, fault.AIFailed) {
				t.Error(r.err)
			}
		})
	}
}

func TestDecode_Usage(t *testing.T) {
	type m = map[string]any
	for name, c := range map[string]struct {
		reports []any
		want    chat.Usage
	}{
		"Cumulative":    {[]any{m{"input_tokens": 10, "output_tokens": 1}, m{"output_tokens": 7}, m{"output_tokens": 9}}, chat.Usage{Input: 10, Output: 9}},
		"ZeroAtTheEnd":  {[]any{m{"input_tokens": 5000, "output_tokens": 3}, m{"input_tokens": 0, "output_tokens": 0}}, chat.Usage{Input: 5000, Output: 3}},
		"InputAtTheEnd": {[]any{m{"input_tokens": 0, "output_tokens": 0}, m{"input_tokens": 11, "output_tokens": 9}}, chat.Usage{Input: 11, Output: 9}},
		"OnlyFromCache": {[]any{m{"input_tokens": 0, "cache_read_input_tokens": 12, "output_tokens": 1}, m{"output_tokens": 9}}, chat.Usage{Input: 12, Output: 9, CacheRead: 12}},
		"Negative":      {[]any{m{"input_tokens": -100000, "output_tokens": -900}, m{"output_tokens": -1}}, chat.Usage{Estimated: true}},
		"NegativeCache": {[]any{m{"input_tokens": 10, "cache_read_input_tokens": -9, "output_tokens": 1}, m{"output_tokens": 9}}, chat.Usage{Input: 10, Output: 9, Estimated: true}},
		"Huge":          {[]any{m{"input_tokens": int64(math.MaxInt64), "cache_read_input_tokens": int64(math.MaxInt64), "output_tokens": 1}, m{"output_tokens": 1e300}}, chat.Usage{Output: 1, Estimated: true}},
		"OverTheBound":  {[]any{m{"input_tokens": 10, "output_tokens": 1}, m{"output_tokens": 100_000}}, chat.Usage{Input: 10, Estimated: true}},
		"Fractional":    {[]any{m{"input_tokens": 9.5, "output_tokens": 1}, m{"output_tokens": 8.5}}, chat.Usage{Input: 10, Output: 9}},
		"OnlyOutput":    {[]any{m{}, m{"output_tokens": 9}}, chat.Usage{Output: 9, Estimated: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, p := open(t, stub.Always(stub.Reply{Text: "one two", Usage: c.reports}))
			r := ask(t.Context(), p, chat.Params{})
			if d := cmp.Diff(c.want, r.answer.Usage); d != "" || r.err != nil {
				t.Errorf("%v %s", r.err, d)
			}
		})
	}
}

func TestRequest_RefusedMembers(t *testing.T) {
	warm := 0.4
	for name, c := range map[string]struct {
		member  string
		params  chat.Params
		ignored any
	}{
		"Metadata":     {member: "metadata", params: chat.Params{Model: "claude-sonnet-4-5"}},
		"Thinking":     {member: "thinking", params: chat.Params{Model: "claude-sonnet-4-5", Reasoning: "low"}, ignored: []string{"reasoning"}},
		"OutputConfig": {member: "output_config", params: chat.Params{Model: "claude-opus-5", Reasoning: "low"}, ignored: []string{"reasoning"}},
		"Temperature":  {member: "temperature", params: chat.Params{Model: "claude-sonnet-4-5", Temperature: &warm}, ignored: []string{"temperature"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, p := open(t, stub.RefuseMembers(400, stub.Say("ok"), c.member))
			for range 2 {
				r := ask(t.Context(), p, c.params)
				if r.err != nil || r.text != "ok" {
					t.Fatal(r.text, r.err)
				}
				if d := cmp.Diff(c.ignored, r.answer.Metadata["ignored"]); d != "" {
					t.Error(d)
				}
			}
			if n := len(s.Calls()); n != 3 {
				t.Errorf("%d calls: what is refused is not remembered", n)
			}
		})
	}
}

func TestRequest_RolesAlternate(t *testing.T) {
	s, p := open(t, stub.RefuseNeighbours(stub.Say("ok")))
	prompt := ports.Prompt{Params: chat.Params{Model: "m", System: "be brief"}, Messages: []ports.PromptMessage{
		ports.PromptText(chat.User, "one"), ports.PromptText(chat.User, "two"), ports.PromptText(chat.Assistant, "a"), ports.PromptText(chat.Assistant, "b"),
	}}
	if _, err := p.Generate(t.Context(), prompt, func(chat.Delta) {}); err != nil {
		t.Fatal(err)
	}
	got := s.Calls()[0].Messages
	if len(got) != 4 || got[1].Text != "one\n\ntwo" || got[2].Text != "a\n\nb" || got[3].Role != "user" {
		t.Errorf("%+v", got)
	}
}

func TestRequest_BaseURL(t *testing.T) {
	for suffix, query := range map[string]string{
		"": "", "/": "", "/v1": "", "/v1/": "", "?a=b": "a=b", "/?api-version=1&x=%2B": "api-version=1&x=%2B",
		"/v1?a=b": "a=b", "/v1/messages?a=b": "a=b",
	} {
		t.Run(suffix, func(t *testing.T) {
			s, err := stub.Start(stub.Say("ok"))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			p, err := anthropic.New(anthropic.Config{Key: "k", BaseURL: s.AnthropicURL() + suffix})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			if r := ask(t.Context(), p, chat.Params{}); r.err != nil || s.Calls()[0].Query != query {
				t.Errorf("%v, calls %+v", r.err, s.Calls())
			}
		})
	}
}

func TestDecode_SilenceAfterTheStopReason(t *testing.T) {
	_, p := open(t, stub.Always(stub.Reply{Text: "one two three", FinishEach: true, Pace: 300 * time.Millisecond}))
	if r := ask(t.Context(), p, chat.Params{}); r.err != nil || r.text != "one two three" {
		t.Errorf("text %q, %v", r.text, r.err)
	}
}
