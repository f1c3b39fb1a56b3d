package openai_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/adapters/providers/openai"
	"parley/adapters/providers/stub"
	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// raw is a stream of events with the given data.
func raw(data ...string) stub.Reply {
	var b strings.Builder
	for _, d := range data {
		b.WriteString("data: " + d + "\n\n")
	}
	return stub.Reply{Raw: b.String()}
}

// delta is a chunk with a delta.
func delta(delta string) string { return `{"choices":[{"index":0,"delta":` + delta + `}]}` }

const (
	finished = `{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
	doneMark = "[DONE]"
)

func TestDecode_FinishReasonOnEveryChunk(t *testing.T) {
	t.Run("TextGoesOnForSeconds", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			one := "data: " + `{"choices":[{"index":0,"delta":{"content":"word "},"finish_reason":"stop"}]}` + "\n\n"
			r := askRecorded(t, &stub.RecordedTransport{Chunks: slices.Repeat([]string{one}, 20), Pace: 1900 * time.Millisecond})
			if r.err != nil || r.text != strings.Repeat("word ", 20) || r.answer.FinishReason != "stop" {
				t.Errorf("text %q, %+v, %v", r.text, r.answer, r.err)
			}
		})
	})
	t.Run("UsageAfterTheGraceOfTheFirst", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := askRecorded(t, &stub.RecordedTransport{Pace: 1900 * time.Millisecond, Chunks: []string{
				"data: " + finished + "\n\n", "data: " + delta(`{"content":"a"}`) + "\n\n",
				"data: " + `{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}` + "\n\n",
			}})
			if r.err != nil || r.text != "a" || r.answer.Usage.Input != 3 {
				t.Errorf("text %q, %+v, %v", r.text, r.answer, r.err)
			}
		})
	})
	t.Run("TwoSecondsAfterTheLast", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			one := "data: " + `{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}` + "\n\n"
			begun := time.Now()
			r := askRecorded(t, &stub.RecordedTransport{Chunks: slices.Repeat([]string{one}, 2), Pace: time.Hour})
			if took := time.Since(begun); r.err != nil || r.text != "a" || took != 2*time.Second {
				t.Errorf("text %q after %v, %v", r.text, took, r.err)
			}
		})
	})
	t.Run("EndOfStreamWithoutDone", func(t *testing.T) {
		t.Parallel()
		one := func(text string) string {
			return `{"choices":[{"delta":{"content":"` + text + `"},"finish_reason":"stop"}]}`
		}
		_, p := open(t, stub.Always(raw(one("a"), one("b"), delta(`{"content":"c"}`))))
		if r := ask(t.Context(), p, chat.Params{}); r.err != nil || r.text != "abc" {
			t.Errorf("text %q, %v", r.text, r.err)
		}
	})
	t.Run("TheLastReasonCounts", func(t *testing.T) {
		t.Parallel()
		_, p := open(t, stub.Always(raw(`{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}`,
			`{"choices":[{"delta":{"content":"b"},"finish_reason":"length"}]}`, doneMark)))
		if r := ask(t.Context(), p, chat.Params{}); r.err != nil || r.text != "ab" || r.answer.FinishReason != "length" {
			t.Errorf("text %q, %+v, %v", r.text, r.answer, r.err)
		}
	})
	for _, word := range []string{"null", "NOT_FINISHED", "generating", ""} {
		t.Run("NotAReason"+word, func(t *testing.T) {
			t.Parallel()
			one := func(text string) string {
				return `{"choices":[{"delta":{"content":"` + text + `"},"finish_reason":"` + word + `"}]}`
			}
			_, p := open(t, stub.Always(raw(one("a"), one("b"), finished)))
			if r := ask(t.Context(), p, chat.Params{}); r.err != nil || r.text != "ab" || r.answer.FinishReason != "stop" {
				t.Errorf("text %q, %+v, %v", r.text, r.answer, r.err)
			}
		})
	}
	t.Run("FailureStays", func(t *testing.T) {
		t.Parallel()
		_, p := open(t, stub.Always(raw(`{"choices":[{"delta":{"content":"a"},"finish_reason":"error"}]}`, finished, doneMark)))
		if r := ask(t.Context(), p, chat.Params{}); upstream.ReasonOf(r.err) != upstream.ServerError || r.text != "a" {
			t.Errorf("text %q, %v", r.text, r.err)
		}
	})
	t.Run("NullAloneIsNoEnd", func(t *testing.T) {
		t.Parallel()
		_, p := open(t, stub.Always(raw(`{"choices":[{"delta":{"content":"a"},"finish_reason":"null"}]}`)))
		if r := ask(t.Context(), p, chat.Params{}); upstream.ReasonOf(r.err) != upstream.Incomplete || r.text != "a" {
			t.Errorf("text %q, %v", r.text, r.err)
		}
	})
	t.Run("ResetInTheMiddleIsNoEnd", func(t *testing.T) {
		t.Parallel()
		_, p := open(t, stub.Always(stub.Reply{Text: "one two three", FinishEach: true, Cut: stub.Reset, After: 2, Pace: 10 * time.Millisecond}))
		if r := ask(t.Context(), p, chat.Params{}); upstream.ReasonOf(r.err) != upstream.Lost || r.text != "one two " {
			t.Errorf("text %q, %v", r.text, r.err)
		}
	})
}

// askRecorded asks with a fake clock and the usual limits.
func askRecorded(t *testing.T, transport *stub.RecordedTransport) result {
	p, err := openai.New(openai.Config{BaseURL: "http://provider.test/v1", Wrap: transport.Wrap})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	return ask(t.Context(), p, chat.Params{})
}

func TestDecode_FinishReasons(t *testing.T) {
	for finish, want := range map[string]struct {
		finish string
		reason upstream.Reason
	}{
		"stop": {finish: "stop"}, "length": {finish: "length"}, "content_filter": {finish: "content_filter"},
		"tool_calls": {finish: "tool_calls"}, "function_call": {finish: "function_call"}, "STOP": {finish: "stop"},
		"eos_token": {finish: "stop"}, "normal": {finish: "stop"}, "maximum_tokens": {finish: "length"}, "guardrail_intervened": {finish: "content_filter"}, "model_length": {finish: "length"}, "SAFETY": {finish: "content_filter"},
		"error": {reason: upstream.ServerError}, "abort": {reason: upstream.ServerError}, "network_error": {reason: upstream.ServerError},
		"insufficient_system_resource": {reason: upstream.Overloaded},
		"brand_new":                    {reason: upstream.UnknownFinish},
	} {
		t.Run(finish, func(t *testing.T) {
			_, p := open(t, stub.Always(stub.Reply{Text: "one two", Finish: finish}))
			r := ask(t.Context(), p, chat.Params{})
			if r.text != "one two" || r.answer.FinishReason != want.finish || upstream.ReasonOf(r.err) != want.reason {
				t.Errorf("text %q, finish %q, %v", r.text, r.answer.FinishReason, r.err)
			}
			if r.err != nil && (!fault.Is(r.err, fault.AIFailed) || r.answer.Usage.Output == 0) {
				t.Errorf("%+v, %v", r.answer, r.err)
			}
		})
	}
	t.Run("IsNoText", func(t *testing.T) {
		for _, finish := range []string{`1`, `{"reason":"x"}`, `true`} {
			_, p := open(t, stub.Always(raw(`{"choices":[{"delta":{"content":"a"},"finish_reason":`+finish+`}]}`, doneMark)))
			if r := ask(t.Context(), p, chat.Params{}); upstream.ReasonOf(r.err) != upstream.UnknownFinish || r.text != "a" {
				t.Errorf("%s: text %q, %v", finish, r.text, r.err)
			}
		}
	})
}

func TestDecode_Shapes(t *testing.T) {
	for name, c := range map[string]struct {
		reply           stub.Reply
		text, reasoning string
		reason          upstream.Reason
	}{
		"ListOfParts":          {reply: stub.Reply{Parts: true, Reasoning: "hmm", Text: "one two"}, text: "one two", reasoning: "hmm"},
		"ListOfStrings":        {reply: raw(delta(`{"content":["a","b"]}`), finished), text: "ab"},
		"ListOfLists":          {reply: raw(delta(`{"content":[["a"],[{"text":"b"}]]}`), finished), text: "ab"},
		"PartWithoutType":      {reply: raw(delta(`{"content":[{"text":"a"}]}`), finished), text: "a"},
		"UnknownTypeWithText":  {reply: raw(delta(`{"content":[{"type":"poem","text":"a"}]}`), finished), text: "a"},
		"UnknownType":          {reply: raw(delta(`{"content":"a"}`), delta(`{"content":[{"type":"image_url","image_url":{"url":"x"}}]}`), finished), text: "a", reason: upstream.UnsupportedOutput},
		"ThinkingAsString":     {reply: raw(delta(`{"content":[{"type":"thinking","thinking":"hmm"},{"type":"text","text":"a"}]}`), finished), text: "a", reasoning: "hmm"},
		"References":           {reply: raw(delta(`{"content":[{"type":"text","text":"a"},{"type":"reference","reference_ids":[1]}]}`), finished), text: "a"},
		"Object":               {reply: raw(delta(`{"content":{"type":"text","text":"a"}}`), finished), text: "a"},
		"ObjectWithValue":      {reply: raw(delta(`{"content":{"type":"text","text":{"value":"a","annotations":[]}}}`), finished), text: "a"},
		"ObjectOfUnknownShape": {reply: raw(delta(`{"content":{"html":"<p>"}}`), finished), reason: upstream.UnsupportedOutput},
		"Number":               {reply: raw(delta(`{"content":42}`), finished), text: "42"},
		"True":                 {reply: raw(delta(`{"content":true}`), finished), text: "true"},
		"DeltaIsAString":       {reply: raw(`{"choices":[{"delta":"a"}]}`, finished), text: "a"},
		"MessageInsteadOfDelta": {reply: raw(`{"choices":[{"index":0,"message":{"role":"assistant","content":"a","reasoning_content":"hmm"},"finish_reason":"stop"}]}`, doneMark),
			text: "a", reasoning: "hmm"},
		"MessageBesideDelta": {reply: raw(
			`{"choices":[{"delta":{"content":"a"},"message":{"content":"a"}}]}`,
			`{"choices":[{"delta":{"content":"b"},"message":{"content":"ab"}}]}`,
			`{"choices":[{"delta":{"content":""},"message":{"content":"ab"},"finish_reason":"stop"}]}`), text: "ab"},
		"LegacyCompletion":   {reply: raw(`{"object":"text_completion","choices":[{"index":0,"text":"a","finish_reason":null}]}`, `{"choices":[{"index":0,"text":"b","finish_reason":"stop"}]}`, doneMark), text: "ab"},
		"IndexOne":           {reply: raw(`{"choices":[{"index":1,"delta":{"content":"a"}}]}`, `{"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}`), text: "a"},
		"SecondInTheList":    {reply: raw(`{"choices":[{"index":0,"delta":{}},{"index":1,"delta":{"content":"a"}}]}`, `{"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}`), text: "a"},
		"TwoChoices":         {reply: raw(`{"choices":[{"index":0,"delta":{"content":"a"}},{"index":1,"delta":{"content":"b"}}]}`, finished), text: "a", reason: upstream.UnsupportedOutput},
		"NoIndex":            {reply: raw(`{"choices":[{"delta":{"content":"a"}}]}`, `{"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":"stop"}]}`), text: "ab"},
		"ToolCall":           {reply: raw(delta(`{"content":"a","tool_calls":[{"index":0,"id":"1","function":{"name":"f","arguments":"{}"}}]}`), finished), text: "a", reason: upstream.UnsupportedOutput},
		"NoToolCalls":        {reply: raw(delta(`{"content":"a","tool_calls":[],"function_call":null,"audio":null}`), finished), text: "a"},
		"UnknownMember":      {reply: raw(delta(`{"role":"assistant","output":"a"}`), finished), reason: upstream.UnsupportedOutput},
		"UnknownMemberToo":   {reply: raw(delta(`{"content":"a","foo":"bar"}`), finished), text: "a"},
		"UnknownProtocol":    {reply: raw(`{"content":"a"}`, finished), reason: upstream.UnsupportedOutput},
		"UnknownInChoice":    {reply: raw(`{"choices":[{"token":{"text":"a"}}]}`, finished), reason: upstream.UnsupportedOutput},
		"FilteredAtOnce":     {reply: raw(`{"choices":[{"delta":{"note":"x"},"finish_reason":"content_filter"}]}`)},
		"NoText":             {reply: raw(delta(`{"role":"assistant","content":""}`), finished)},
		"ErrorInTheChoice":   {reply: raw(delta(`{"content":"a"}`), `{"choices":[{"delta":{"content":"b"},"finish_reason":"error","error":{"code":502,"message":"canary"}}]}`), text: "ab", reason: upstream.ServerError},
		"ErrorAsText":        {reply: raw(delta(`{"content":"a"}`), `{"error":"canary"}`), text: "a", reason: upstream.ServerError},
		"ErrorObject":        {reply: raw(delta(`{"content":"a"}`), `{"object":"error","message":"canary","type":"x","code":503}`), text: "a", reason: upstream.Overloaded},
		"ErrorByName":        {reply: stub.Reply{Raw: "data: " + delta(`{"content":"a"}`) + "\n\nevent: error\ndata: {\"message\":\"canary\"}\n\n"}, text: "a", reason: upstream.ServerError},
		"DocumentWithParts":  {reply: stub.Reply{Header: map[string]string{"Content-Type": "application/json"}, Raw: "{\n\"choices\": [{\"message\": {\"content\": [{\"type\":\"text\",\"text\":\"a\"}]}, \"finish_reason\": \"stop\"}]\n}\n"}, text: "a"},
		"DocumentAsStream":   {reply: stub.Reply{Raw: `{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}`}, text: "a"},
		"DocumentWithError":  {reply: stub.Reply{Header: map[string]string{"Content-Type": "application/json"}, Raw: `{"error":{"type":"overloaded_error","message":"canary"}}`}, reason: upstream.Overloaded},
		"DocumentCut":        {reply: stub.Reply{Header: map[string]string{"Content-Type": "application/json"}, Raw: `{"choices":[{"message":{"content":"a"},"fini`}, reason: upstream.NotAStream},
		"BlankEvents":        {reply: raw("", " ", delta(`{"content":"a"}`), "", finished, doneMark), text: "a"},
		"FinishUnended":      {reply: stub.Reply{Raw: "data: " + delta(`{"content":"a"}`) + "\n\ndata: " + finished}, text: "a"},
		"TextUnended":        {reply: stub.Reply{Raw: "data: " + finished + "\n\ndata: " + delta(`{"content":"a"}`)}, text: "a"},
		"NoSpace":            {reply: stub.Reply{Raw: "data:" + delta(`{"content":"a"}`) + "\n\ndata:" + finished + "\n\ndata:[DONE]\n\n"}, text: "a"},
		"MultiLineData":      {reply: stub.Reply{Raw: "data: {\"choices\":[{\"delta\":\ndata: {\"content\":\"a\"}}]}\n\ndata: " + finished + "\n\n"}, text: "a"},
		"PairInOneChunk":     {reply: raw(delta(`{"content":"\ud83d\ude00 \\ud83d \u00e9"}`), finished), text: `😀 \ud83d é`},
		"LoneHalf":           {reply: raw(delta(`{"content":"a\ud83d"}`), delta(`{"content":"b\ude00c"}`), finished), text: "abc"},
		"CharacterInTwo":     {reply: raw(delta("{\"content\":\"a\xf0\x9f\"}"), delta("{\"content\":\"\x98\x80b\"}"), finished), text: "a😀b"},
		"HalvesOfReasoning":  {reply: raw(delta(`{"reasoning":"\uD83D"}`), delta(`{"content":"x"}`), delta(`{"reasoning":"\uDE00"}`), finished), text: "x", reasoning: "😀"},
		"ReasoningTwice":     {reply: stub.Reply{Reasoning: "let me think", Text: "a", ReasoningMembers: []string{"reasoning", "reasoning_content"}}, text: "a", reasoning: "let me think"},
		"ReasoningAsDetails": {reply: raw(delta(`{"reasoning":"hmm","reasoning_details":[{"type":"reasoning.text","text":"hmm"}]}`), delta(`{"content":"a"}`), finished), text: "a", reasoning: "hmm"},
		"OnlyDetails":        {reply: raw(delta(`{"reasoning_details":[{"type":"reasoning.summary","summary":"hmm"},{"type":"reasoning.encrypted","data":"eA=="}]}`), delta(`{"content":"a"}`), finished), text: "a", reasoning: "hmm"},
		"ReasoningInTwoChunks": {reply: raw(delta(`{"reasoning":"hm"}`), delta(`{"reasoning_content":"hm"}`), delta(`{"reasoning":"m hm"}`), delta(`{"reasoning_content":"m hm"}`), delta(`{"content":"a"}`), finished),
			text: "a", reasoning: "hmm hm"},
		"ReasoningAgainAtEnd": {reply: raw(delta(`{"reasoning_content":"one "}`), delta(`{"reasoning_content":"two"}`), delta(`{"content":"a"}`), delta(`{"reasoning_details":[{"type":"reasoning.text","text":"one two"}]}`), finished), text: "a", reasoning: "one two"},
		"ReasoningAhead":      {reply: raw(delta(`{"reasoning":"one"}`), delta(`{"reasoning_content":"one two"}`), delta(`{"reasoning":" two three"}`), delta(`{"content":"a"}`), finished), text: "a", reasoning: "one two three"},
		"ReasoningRepeats":    {reply: raw(delta(`{"reasoning":"ha"}`), delta(`{"reasoning":"ha"}`), delta(`{"content":"a"}`), finished), text: "a", reasoning: "haha"},
		"ReasoningOfTwoKinds": {reply: raw(delta(`{"reasoning":"one "}`), delta(`{"reasoning_content":"two "}`), delta(`{"reasoning":"three "}`), delta(`{"reasoning_content":"four"}`), delta(`{"content":"a"}`), finished), text: "a", reasoning: "one two three four"},
		"ReasoningAndPart":    {reply: raw(delta(`{"reasoning_content":"hmm","content":[{"type":"thinking","thinking":[{"type":"text","text":"hmm"}]}]}`), delta(`{"content":"a"}`), finished), text: "a", reasoning: "hmm"},
		"ReasoningDiffers":    {reply: raw(delta(`{"reasoning":"one","reasoning_content":"two"}`), delta(`{"content":"a"}`), finished), text: "a", reasoning: "onetwo"},
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

// Reasoning and text stay in the order in which a server sends them.
func TestDecode_Order(t *testing.T) {
	think := func(text string) chat.Part { return chat.Part{Kind: chat.ReasoningPart, Text: text} }
	say := func(text string) chat.Part { return chat.Part{Kind: chat.TextPart, Text: text} }
	for name, c := range map[string]struct {
		reply stub.Reply
		want  []chat.Part
	}{
		"ReasoningAfterText": {raw(delta(`{"reasoning_content":"hm"}`), delta(`{"reasoning_content":"m"}`), delta(`{"content":"a"}`), delta(`{"reasoning_content":"so"}`), delta(`{"content":"b"}`), finished),
			[]chat.Part{think("hmm"), say("a"), think("so"), say("b")}},
		"MembersOfOneDelta": {raw(delta(`{"content":"a","reasoning":"hmm"}`), finished), []chat.Part{think("hmm"), say("a")}},
		"ListOfParts": {raw(delta(`{"content":[{"type":"text","text":"a"},{"type":"thinking","thinking":[{"type":"text","text":"so"}]},{"type":"text","text":"b"}]}`), finished),
			[]chat.Part{say("a"), think("so"), say("b")}},
		"Document": {stub.Reply{Raw: `{"choices":[{"message":{"content":[{"type":"thinking","thinking":"hmm"},"a",{"type":"thinking","thinking":"so"},"b"]},"finish_reason":"stop"}]}`},
			[]chat.Part{think("hmm"), say("a"), think("so"), say("b")}},
		"MirroredAgainAfterText": {raw(delta(`{"reasoning":"one"}`), delta(`{"content":"a"}`), delta(`{"reasoning_details":[{"type":"reasoning.text","text":"one"}]}`), delta(`{"content":"b"}`), finished),
			[]chat.Part{think("one"), say("ab")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, p := open(t, stub.Always(c.reply))
			r := ask(t.Context(), p, chat.Params{})
			if d := cmp.Diff(c.want, r.log.Output().Parts()); d != "" || r.err != nil {
				t.Error(r.err, d)
			}
		})
	}
}

func TestDecode_Usage(t *testing.T) {
	type m = map[string]any
	for name, c := range map[string]struct {
		reply stub.Reply
		max   int
		want  chat.Usage
	}{
		"Late":            {reply: stub.Reply{Usage: []any{nil, nil, m{"prompt_tokens": 5000, "completion_tokens": 2}}}, want: chat.Usage{Input: 5000, Output: 2}},
		"ZeroAtTheEnd":    {reply: stub.Reply{Usage: []any{m{"prompt_tokens": 5000, "completion_tokens": 1}, nil, m{"prompt_tokens": 0, "completion_tokens": 0}}}, want: chat.Usage{Input: 5000, Output: 1}},
		"LowerAtTheEnd":   {reply: stub.Reply{Usage: []any{m{"prompt_tokens": 5000, "completion_tokens": 7}, m{"prompt_tokens": 4, "completion_tokens": 2}}}, want: chat.Usage{Input: 5000, Output: 7}},
		"InParts":         {reply: stub.Reply{Usage: []any{m{"prompt_tokens": 7}, nil, m{"completion_tokens": 2}}}, want: chat.Usage{Input: 7, Output: 2}},
		"Partial":         {reply: stub.Reply{Usage: []any{m{"prompt_tokens": 7}}}, want: chat.Usage{Input: 7, Estimated: true}},
		"InTheChoice":     {reply: stub.Reply{UsageInChoice: true, Usage: []any{nil, m{"prompt_tokens": 7, "completion_tokens": 2}}}, want: chat.Usage{Input: 7, Output: 2}},
		"OtherNames":      {reply: stub.Reply{Usage: []any{m{"input_tokens": 7, "output_tokens": 2}}}, want: chat.Usage{Input: 7, Output: 2}},
		"Negative":        {reply: stub.Reply{Usage: []any{m{"prompt_tokens": -100000, "completion_tokens": -900}}}, want: chat.Usage{Estimated: true}},
		"NegativeCache":   {reply: stub.Reply{Usage: []any{m{"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": m{"cached_tokens": -5}}}}, want: chat.Usage{Input: 7, Output: 2, Estimated: true}},
		"Fractional":      {reply: stub.Reply{Usage: []any{m{"prompt_tokens": 6.5, "completion_tokens": 1.2}}}, want: chat.Usage{Input: 7, Output: 2}},
		"Text":            {reply: stub.Reply{Usage: []any{m{"prompt_tokens": "7", "completion_tokens": "2"}}}, want: chat.Usage{Input: 7, Output: 2}},
		"NoNumber":        {reply: stub.Reply{Usage: []any{m{"prompt_tokens": "many", "completion_tokens": m{}}}}, want: chat.Usage{Estimated: true}},
		"Huge":            {reply: stub.Reply{Usage: []any{m{"prompt_tokens": int64(1) << 62, "completion_tokens": 1e300}}}, want: chat.Usage{Estimated: true}},
		"MaxInt":          {reply: stub.Reply{Usage: []any{m{"prompt_tokens": int64(math.MaxInt64), "completion_tokens": uint64(math.MaxUint64)}}}, want: chat.Usage{Estimated: true}},
		"TooMuchInput":    {reply: stub.Reply{Usage: []any{m{"prompt_tokens": 1_000_000, "completion_tokens": 2}}}, want: chat.Usage{Output: 2, Estimated: true}},
		"TooMuchOutput":   {reply: stub.Reply{Usage: []any{m{"prompt_tokens": 7, "completion_tokens": 5_000}}}, max: 100, want: chat.Usage{Input: 7, Estimated: true}},
		"HugeThenGood":    {reply: stub.Reply{Usage: []any{m{"prompt_tokens": 1e15, "completion_tokens": 1e15}, m{"prompt_tokens": 7, "completion_tokens": 2}}}, want: chat.Usage{Input: 7, Output: 2, Estimated: true}},
		"CacheOverInput":  {reply: stub.Reply{Usage: []any{m{"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": m{"cached_tokens": 900}}}}, want: chat.Usage{Input: 7, Output: 2, CacheRead: 7, Estimated: true}},
		"ReasoningBeside": {reply: stub.Reply{Usage: []any{m{"prompt_tokens": 7, "completion_tokens": 2, "completion_tokens_details": m{"reasoning_tokens": 30}}}}, want: chat.Usage{Input: 7, Output: 32, Reasoning: 30}},
		"Zeros":           {reply: stub.Reply{Usage: []any{m{"prompt_tokens": 0, "completion_tokens": 0}}}, want: chat.Usage{Estimated: true}},
		"List":            {reply: stub.Reply{Usage: []any{[]int{1}}}, want: chat.Usage{Estimated: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.reply.Text = "one two"
			_, p := open(t, stub.Always(c.reply))
			r := ask(t.Context(), p, chat.Params{MaxTokens: c.max})
			if d := cmp.Diff(c.want, r.answer.Usage); d != "" || r.err != nil {
				t.Errorf("%v %s", r.err, d)
			}
		})
	}
}

func TestRequest_RefusedMembers(t *testing.T) {
	warm := 0.4
	params := chat.Params{Model: "llama3", Temperature: &warm, MaxTokens: 100, Reasoning: "low"}
	for name, c := range map[string]struct {
		members []string
		absent  string
		present string
		ignored any
	}{
		"StreamOptions":    {members: []string{"stream_options"}, absent: "stream_options", present: "temperature"},
		"MaxTokens":        {members: []string{"max_tokens"}, absent: "max_tokens", present: "max_completion_tokens"},
		"Temperature":      {members: []string{"temperature"}, absent: "temperature", present: "max_tokens", ignored: []string{"temperature"}},
		"Reasoning":        {members: []string{"reasoning_effort"}, absent: "reasoning_effort", present: "max_tokens", ignored: []string{"reasoning"}},
		"OneAfterTheOther": {members: []string{"stream_options", "reasoning_effort", "max_tokens"}, absent: "stream_options", present: "max_completion_tokens", ignored: []string{"reasoning"}},
	} {
		for _, status := range []int{400, 422} {
			t.Run(fmt.Sprint(name, status), func(t *testing.T) {
				s, p := open(t, stub.RefuseMembers(status, stub.Say("ok"), c.members...))
				for range 2 {
					r := ask(t.Context(), p, params)
					if r.err != nil || r.text != "ok" {
						t.Fatal(r.text, r.err)
					}
					if d := cmp.Diff(c.ignored, r.answer.Metadata["ignored"]); d != "" {
						t.Error(d)
					}
				}
				calls := s.Calls()
				if len(calls) != len(c.members)+2 {
					t.Errorf("%d calls: what is refused is not remembered", len(calls))
				}
				last := calls[len(calls)-1].Body
				if _, has := last[c.absent]; has {
					t.Errorf("sent %v", last)
				}
				if _, has := last[c.present]; !has {
					t.Errorf("sent %v", last)
				}
			})
		}
	}
	t.Run("NamedByLocation", func(t *testing.T) {
		s, p := open(t, func(c stub.Call) stub.Reply {
			if _, has := c.Body["stream_options"]; has {
				return stub.Reply{Status: 422, Raw: `{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"Extra inputs are not permitted","input":{"temperature":1}}]}`}
			}
			return stub.Reply{Text: "ok"}
		})
		if r := ask(t.Context(), p, params); r.err != nil || len(s.Calls()) != 2 {
			t.Errorf("%d calls, %v", len(s.Calls()), r.err)
		}
	})
	for name, body := range map[string]string{
		"PlainText":    `unknown field: stream_options`,
		"InnerMember":  `{"error":{"message":"include_usage is not supported"}}`,
		"OtherShape":   `{"errors":[{"reason":"property stream_options should not exist"}]}`,
		"Path":         `{"error":{"message":"no","param":"stream_options.include_usage"}}`,
		"ErrorIsText":  `{"error":"json: unknown field \"stream_options\""}`,
		"DetailIsText": `{"detail":"Unsupported parameter: stream_options"}`,
		"ShortLoc":     `{"detail":[{"loc":["stream_options"],"msg":"extra"},{"loc":["body","other"],"msg":"extra"}]}`,
	} {
		t.Run("NamedBy"+name, func(t *testing.T) {
			s, p := open(t, func(c stub.Call) stub.Reply {
				if _, has := c.Body["stream_options"]; has {
					return stub.Reply{Status: 400, Raw: body}
				}
				return stub.Reply{Text: "ok"}
			})
			if r := ask(t.Context(), p, params); r.err != nil || len(s.Calls()) != 2 {
				t.Errorf("%d calls, %v", len(s.Calls()), r.err)
			}
		})
	}
	t.Run("Stream", func(t *testing.T) {
		s, p := open(t, func(c stub.Call) stub.Reply {
			if c.Body["stream"] == true {
				return stub.Reply{Status: 400, Raw: `{"error":{"message":"Your organization must be verified to stream this model.","param":"stream","code":"unsupported_value"}}`}
			}
			return stub.Reply{Document: true, Text: "one two"}
		})
		if r := ask(t.Context(), p, params); r.err != nil || r.text != "one two" || len(s.Calls()) != 2 || r.answer.Usage.Estimated {
			t.Errorf("text %q, %d calls, %v", r.text, len(s.Calls()), r.err)
		}
		if _, has := s.Calls()[1].Body["stream_options"]; has {
			t.Error("stream_options without a stream")
		}
	})
	for name, reply := range map[string]stub.Reply{
		"OtherRefusal":   stub.Refuse(400, "invalid_request_error"),
		"TooManyTokens":  {Status: 400, Raw: `{"error":{"message":"This model's maximum context length is 10 tokens; lower max_tokens","code":"context_length_exceeded"}}`},
		"PartOfAWord":    {Status: 400, Raw: `{"error":{"message":"temperatures and max_tokens_per_day are unknown"}}`},
		"AboutAMessage":  {Status: 400, Raw: `{"error":{"message":"your text on temperature is bad","param":"messages.0.content"}}`},
		"AlwaysTheBound": {Status: 400, Raw: `{"error":{"message":"max_tokens is too large, and max_completion_tokens too"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			s, p := open(t, stub.Always(reply))
			r := ask(t.Context(), p, params)
			most := 1
			if name == "AlwaysTheBound" {
				most = 2
			}
			if r.err == nil || len(s.Calls()) != most {
				t.Errorf("%d calls, %v", len(s.Calls()), r.err)
			}
		})
	}
}

func TestRequest_RolesAlternate(t *testing.T) {
	s, p := open(t, stub.RefuseNeighbours(stub.Say("ok")))
	prompt := ports.Prompt{Params: chat.Params{Model: "m", System: "be brief"}, Messages: []ports.PromptMessage{
		ports.PromptText(chat.User, "one"), ports.PromptText(chat.User, "two"), ports.PromptText(chat.Assistant, " "), ports.PromptText(chat.User, "three"),
	}}
	if _, err := p.Generate(t.Context(), prompt, func(chat.Delta) {}); err != nil {
		t.Fatal(err)
	}
	want := []stub.Message{{Role: "system", Text: "be brief"}, {Role: "user", Text: "one\n\ntwo\n\nthree"}}
	if d := cmp.Diff(want, s.Calls()[0].Messages); d != "" {
		t.Error(d)
	}
}

func TestRequest_BaseURL(t *testing.T) {
	for name, c := range map[string]struct {
		suffix string // of the address without a path
		query  string
	}{
		"Plain":            {"/v1", ""},
		"Query":            {"/v1?api-version=2024-10-21", "api-version=2024-10-21"},
		"SlashAndQuery":    {"/v1/?api-version=2024-10-21", "api-version=2024-10-21"},
		"EscapedQuery":     {"/v1?sig=a%2Bb%3D&x=1&x=2", "sig=a%2Bb%3D&x=1&x=2"},
		"EmptyQuery":       {"/v1?", ""},
		"Fragment":         {"/v1?a=b#c", "a=b"},
		"WithoutVersion":   {"", ""},
		"OnlyASlash":       {"/?api-version=1", "api-version=1"},
		"WithoutPathQuery": {"?api-version=1", "api-version=1"},
		"AddressOfTheCall": {"/v1/chat/completions?a=b", "a=b"},
		"ManySlashes":      {"/v1//?a=b", "a=b"},
		"Spaces":           {"/v1?a=b ", "a=b"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := stub.Start(stub.Say("ok"))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			s.Offer("m")
			p, err := openai.New(openai.Config{Key: "k", BaseURL: strings.TrimSuffix(s.OpenAIURL(), "/v1") + c.suffix})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			for range 2 {
				if r := ask(t.Context(), p, chat.Params{}); r.err != nil {
					t.Fatal(r.err)
				}
			}
			if names, err := p.ListModels(t.Context()); err != nil || len(names) != 1 {
				t.Errorf("models %q, %v", names, err)
			}
			calls := s.Calls()
			if len(calls) != 2 {
				t.Errorf("%d calls", len(calls))
			}
			for _, call := range calls {
				if call.Query != c.query {
					t.Errorf("query %q", call.Query)
				}
			}
		})
	}
}
