package stub

import (
	"cmp"
	"fmt"
)

// openAIVoice speaks chat completion chunks.
type openAIVoice struct{ p *performance }

func (v openAIVoice) chunk(choices []any, usage any) error {
	return v.p.write("data: " + encode(map[string]any{
		"id": fmt.Sprintf("chatcmpl-%d", v.p.call.N), "object": "chat.completion.chunk", "created": v.p.call.At.Unix(),
		"model": v.p.call.Model, "system_fingerprint": "fp_stub", "choices": choices, "usage": usage,
	}) + "\n\n")
}

func (v openAIVoice) delta(delta map[string]any, finish any) error {
	return v.chunk([]any{map[string]any{"index": 0, "delta": delta, "logprobs": nil, "finish_reason": finish}}, nil)
}

func (v openAIVoice) begin() error {
	return v.delta(map[string]any{"role": "assistant", "content": "", "refusal": nil}, nil)
}

func (v openAIVoice) reason(piece string) error {
	return v.delta(map[string]any{"reasoning_content": piece}, nil)
}

func (v openAIVoice) say(piece string) error { return v.delta(map[string]any{"content": piece}, nil) }

func (v openAIVoice) ping() error { return v.p.write(": keep-alive\n\n") }

func (v openAIVoice) fail(kind string) error {
	return v.p.write("data: " + encode(map[string]any{
		"error": map[string]any{"message": "The stub was told to fail.", "type": kind, "param": nil, "code": nil},
	}) + "\n\n")
}

func (v openAIVoice) end() error {
	if err := v.delta(map[string]any{}, cmp.Or(v.p.reply.Finish, "stop")); err != nil {
		return err
	}
	if !v.p.reply.NoUsage {
		err := v.chunk([]any{}, map[string]any{
			"prompt_tokens": v.p.call.Input, "completion_tokens": v.p.said, "total_tokens": v.p.call.Input + v.p.said,
			"prompt_tokens_details":     map[string]any{"cached_tokens": v.p.reply.CacheRead, "audio_tokens": 0},
			"completion_tokens_details": map[string]any{"reasoning_tokens": Tokens(v.p.reply.Reasoning)},
		})
		if err != nil {
			return err
		}
	}
	return v.p.write("data: [DONE]\n\n")
}

// anthropicVoice speaks named events.
type anthropicVoice struct{ p *performance }

func (v anthropicVoice) event(name string, data map[string]any) error {
	data["type"] = name
	return v.p.write("event: " + name + "\ndata: " + encode(data) + "\n\n")
}

func (v anthropicVoice) begin() error {
	err := v.event("message_start", map[string]any{"message": map[string]any{
		"id": fmt.Sprintf("msg_%d", v.p.call.N), "type": "message", "role": "assistant", "model": v.p.call.Model,
		"content": []any{}, "stop_reason": nil, "stop_sequence": nil,
		"usage": map[string]any{
			"input_tokens":                v.p.call.Input - v.p.reply.CacheRead - v.p.reply.CacheWrite,
			"cache_creation_input_tokens": v.p.reply.CacheWrite,
			"cache_read_input_tokens":     v.p.reply.CacheRead, "output_tokens": 1,
		},
	}})
	if err != nil {
		return err
	}
	return v.ping()
}

func (v anthropicVoice) block(index int, start, delta map[string]any) error {
	if err := v.event("content_block_start", map[string]any{"index": index, "content_block": start}); err != nil {
		return err
	}
	return v.event("content_block_delta", map[string]any{"index": index, "delta": delta})
}

func (v anthropicVoice) reason(piece string) error {
	err := v.block(0, map[string]any{"type": "thinking", "thinking": "", "signature": ""},
		map[string]any{"type": "thinking_delta", "thinking": piece})
	if err == nil {
		err = v.event("content_block_delta", map[string]any{"index": 0,
			"delta": map[string]any{"type": "signature_delta", "signature": "c3R1Yg=="}})
	}
	if err == nil {
		err = v.event("content_block_stop", map[string]any{"index": 0})
	}
	return err
}

// index is the text's block: the second when there was thinking.
func (v anthropicVoice) index() int {
	if v.p.reply.Reasoning != "" {
		return 1
	}
	return 0
}

func (v anthropicVoice) say(piece string) error {
	delta := map[string]any{"type": "text_delta", "text": piece}
	if v.p.said == Tokens(v.p.reply.Reasoning) {
		return v.block(v.index(), map[string]any{"type": "text", "text": ""}, delta)
	}
	return v.event("content_block_delta", map[string]any{"index": v.index(), "delta": delta})
}

func (v anthropicVoice) ping() error { return v.event("ping", map[string]any{}) }

func (v anthropicVoice) fail(kind string) error {
	return v.p.write("event: error\ndata: " + encode(map[string]any{
		"type":  "error",
		"error": map[string]any{"type": kind, "message": "The stub was told to fail."}, "request_id": "req_stub",
	}) + "\n\n")
}

func (v anthropicVoice) end() error {
	if err := v.event("content_block_stop", map[string]any{"index": v.index()}); err != nil {
		return err
	}
	usage := map[string]any{"output_tokens": v.p.said}
	if n := Tokens(v.p.reply.Reasoning); n > 0 {
		usage["output_tokens_details"] = map[string]any{"thinking_tokens": n}
	}
	if err := v.event("message_delta", map[string]any{
		"delta": map[string]any{"stop_reason": cmp.Or(v.p.reply.Finish, "end_turn"), "stop_sequence": nil},
		"usage": usage,
	}); err != nil {
		return err
	}
	return v.event("message_stop", map[string]any{})
}
