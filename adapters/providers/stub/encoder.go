package stub

import (
	"cmp"
	"fmt"
	"strings"
)

// openAIEncoder writes chat completion chunks.
type openAIEncoder struct{ s *session }

func (e openAIEncoder) chunk(choices []any, usage any) error {
	return e.s.event("", map[string]any{
		"id": fmt.Sprintf("chatcmpl-%d", e.s.call.N), "object": "chat.completion.chunk", "created": e.s.call.At.Unix(),
		"model": e.s.call.Model, "system_fingerprint": "fp_stub", "choices": choices, "usage": usage,
	})
}

func (e openAIEncoder) delta(delta map[string]any, finish any) error {
	choice := map[string]any{"index": 0, "delta": delta, "logprobs": nil, "finish_reason": finish}
	if content, _ := delta["content"].(string); content == "" {
		return e.chunk([]any{choice}, nil)
	}
	usage, _ := e.s.nextUsage()
	if e.s.reply.UsageInChoice && usage != nil {
		choice["usage"], usage = usage, nil
	}
	return e.chunk([]any{choice}, usage)
}

func (e openAIEncoder) begin() error {
	return e.delta(map[string]any{"role": "assistant", "content": "", "refusal": nil}, nil)
}

func (e openAIEncoder) reasoning(text string) error {
	if e.s.reply.Parts {
		return e.delta(map[string]any{"content": []any{
			map[string]any{"type": "thinking", "thinking": []any{map[string]any{"type": "text", "text": text}}},
		}}, e.finishEach())
	}
	delta := map[string]any{}
	for _, name := range e.reasoningMembers() {
		delta[name] = text
	}
	return e.delta(delta, e.finishEach())
}

func (e openAIEncoder) reasoningMembers() []string {
	if e.s.reply.ReasoningMembers == nil {
		return []string{"reasoning_content"}
	}
	return e.s.reply.ReasoningMembers
}

func (e openAIEncoder) text(text string) error {
	chunks := []string{text}
	if e.s.reply.SplitSurrogates {
		chunks = splitSurrogates(text)
	}
	for _, chunk := range chunks {
		content := any(chunk)
		if e.s.reply.Parts {
			content = []any{map[string]any{"type": "text", "text": chunk}}
		}
		if err := e.delta(map[string]any{"content": content}, e.finishEach()); err != nil {
			return err
		}
	}
	return nil
}

// finishEach is the reason to end that comes with every chunk, if any.
func (e openAIEncoder) finishEach() any {
	if e.s.reply.FinishEach {
		return e.finish()
	}
	return nil
}

func (e openAIEncoder) finish() string { return cmp.Or(e.s.reply.Finish, "stop") }

func (e openAIEncoder) ping() error { return e.s.write(": keep-alive\n\n") }

func (e openAIEncoder) fail(kind string) error {
	return e.s.event("", map[string]any{
		"error": map[string]any{"message": "The stub was told to fail.", "type": kind, "param": nil, "code": nil},
	})
}

func (e openAIEncoder) end() error {
	if err := e.delta(map[string]any{}, e.finish()); err != nil {
		return err
	}
	switch {
	case e.s.reply.NoUsage:
	case e.s.reply.Usage == nil:
		if err := e.chunk([]any{}, e.usage()); err != nil {
			return err
		}
	default:
		for usage, ok := e.s.nextUsage(); ok; usage, ok = e.s.nextUsage() {
			if err := e.chunk([]any{}, usage); err != nil {
				return err
			}
		}
	}
	return e.s.write("data: [DONE]\n\n")
}

func (e openAIEncoder) usage() any {
	return map[string]any{
		"prompt_tokens": e.s.call.Input, "completion_tokens": e.s.output, "total_tokens": e.s.call.Input + e.s.output,
		"prompt_tokens_details":     map[string]any{"cached_tokens": e.s.reply.CacheRead, "audio_tokens": 0},
		"completion_tokens_details": map[string]any{"reasoning_tokens": Tokens(e.s.reply.Reasoning)},
	}
}

func (e openAIEncoder) document() any {
	message := map[string]any{"role": "assistant", "content": strings.Join(e.s.chunks(), ""), "refusal": nil}
	if e.s.reply.Reasoning != "" {
		message["reasoning_content"] = e.s.reply.Reasoning
	}
	if e.s.reply.Output != nil {
		e.addParts(message)
	}
	return map[string]any{
		"id": fmt.Sprintf("chatcmpl-%d", e.s.call.N), "object": "chat.completion", "created": e.s.call.At.Unix(), "model": e.s.call.Model,
		"choices": []any{map[string]any{"index": 0, "message": message, "logprobs": nil, "finish_reason": e.finish()}},
		"usage":   e.usage(),
	}
}

// anthropicEncoder writes named events.
type anthropicEncoder struct{ s *session }

func (e anthropicEncoder) event(name string, data map[string]any) error {
	data["type"] = name
	return e.s.event(name, data)
}

func (e anthropicEncoder) begin() error {
	err := e.event("message_start", map[string]any{"message": map[string]any{
		"id": fmt.Sprintf("msg_%d", e.s.call.N), "type": "message", "role": "assistant", "model": e.s.call.Model,
		"content": []any{}, "stop_reason": nil, "stop_sequence": nil,
		"usage": e.inputUsage(),
	}})
	if err != nil {
		return err
	}
	return e.ping()
}

// inputUsage is the report at the start of a message.
func (e anthropicEncoder) inputUsage() any {
	if report, ok := e.s.nextUsage(); ok {
		return report
	}
	return map[string]any{
		"input_tokens":                e.s.call.Input - e.s.reply.CacheRead - e.s.reply.CacheWrite,
		"cache_creation_input_tokens": e.s.reply.CacheWrite,
		"cache_read_input_tokens":     e.s.reply.CacheRead, "output_tokens": 1,
	}
}

func (e anthropicEncoder) start(index int, block map[string]any) error {
	return e.event("content_block_start", map[string]any{"index": index, "content_block": block})
}

func (e anthropicEncoder) delta(index int, delta map[string]any) error {
	return e.event("content_block_delta", map[string]any{"index": index, "delta": delta})
}

func (e anthropicEncoder) reasoning(text string) error {
	var err error
	if e.s.reply.TextInStart {
		err = e.start(0, map[string]any{"type": "thinking", "thinking": text, "signature": ""})
	} else if err = e.start(0, map[string]any{"type": "thinking", "thinking": "", "signature": ""}); err == nil {
		err = e.delta(0, map[string]any{"type": "thinking_delta", "thinking": text})
	}
	if err == nil {
		err = e.delta(0, map[string]any{"type": "signature_delta", "signature": "c3R1Yg=="})
	}
	if err == nil {
		err = e.event("content_block_stop", map[string]any{"index": 0})
	}
	return err
}

// index is that of the block of text: the second when there is reasoning.
func (e anthropicEncoder) index() int {
	if e.s.reply.Reasoning != "" {
		return 1
	}
	return 0
}

func (e anthropicEncoder) text(text string) error {
	chunks := []string{text}
	if e.s.reply.SplitSurrogates {
		chunks = splitSurrogates(text)
	}
	for i, chunk := range chunks {
		if i == 0 && e.s.output == Tokens(e.s.reply.Reasoning) {
			first := ""
			if e.s.reply.TextInStart {
				first, chunk = chunk, ""
			}
			if err := e.start(e.index(), map[string]any{"type": "text", "text": first}); err != nil {
				return err
			}
		}
		if chunk == "" {
			continue
		}
		if err := e.delta(e.index(), map[string]any{"type": "text_delta", "text": chunk}); err != nil {
			return err
		}
	}
	if e.s.reply.FinishEach {
		return e.messageDelta(map[string]any{"output_tokens": 1})
	}
	return nil
}

func (e anthropicEncoder) ping() error { return e.event("ping", map[string]any{}) }

func (e anthropicEncoder) fail(kind string) error {
	return e.s.event("error", map[string]any{
		"type":  "error",
		"error": map[string]any{"type": kind, "message": "The stub was told to fail."}, "request_id": "req_stub",
	})
}

func (e anthropicEncoder) end() error {
	err := e.closeBlock()
	if e.s.reply.Output == nil {
		err = e.event("content_block_stop", map[string]any{"index": e.index()})
	}
	if err != nil {
		return err
	}
	reports := e.s.usage
	if e.s.reply.Usage == nil && !e.s.reply.NoUsage {
		reports = []any{e.usage()}
	}
	if len(reports) == 0 {
		reports = []any{nil}
	}
	for _, report := range reports {
		if err := e.messageDelta(report); err != nil {
			return err
		}
	}
	return e.event("message_stop", map[string]any{})
}

func (e anthropicEncoder) messageDelta(usage any) error {
	return e.event("message_delta", map[string]any{
		"delta": map[string]any{"stop_reason": e.stopReason(), "stop_sequence": nil}, "usage": usage,
	})
}

func (e anthropicEncoder) stopReason() string { return cmp.Or(e.s.reply.Finish, "end_turn") }

func (e anthropicEncoder) usage() map[string]any {
	usage := map[string]any{"output_tokens": e.s.output}
	if n := Tokens(e.s.reply.Reasoning); n > 0 {
		usage["output_tokens_details"] = map[string]any{"thinking_tokens": n}
	}
	return usage
}

func (e anthropicEncoder) document() any {
	content := []any{}
	if e.s.reply.Reasoning != "" {
		content = append(content, map[string]any{"type": "thinking", "thinking": e.s.reply.Reasoning, "signature": "c3R1Yg=="})
	}
	content = append(content, map[string]any{"type": "text", "text": strings.Join(e.s.chunks(), "")})
	if e.s.reply.Output != nil {
		content = e.blocks()
	}
	usage := e.usage()
	usage["input_tokens"] = e.s.call.Input
	return map[string]any{
		"id": fmt.Sprintf("msg_%d", e.s.call.N), "type": "message", "role": "assistant", "model": e.s.call.Model,
		"content": content, "stop_reason": e.stopReason(), "stop_sequence": nil, "usage": usage,
	}
}
