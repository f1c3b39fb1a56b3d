package anthropic_test

import (
	"testing"

	"parley/adapters/providers/anthropic"
	"parley/adapters/providers/stub"
	"parley/ports"
)

// FuzzGenerate reads any bytes as the events of a reply.
func FuzzGenerate(f *testing.F) {
	stub.FuzzEvents(f, func(f *testing.F, t *stub.RecordedTransport) ports.Model {
		p, err := anthropic.New(anthropic.Config{BaseURL: "http://provider.test", Key: "k", Wrap: t.Wrap})
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { p.Close() })
		return p
	}, []string{
		"event: message_start\n" + `data: {"type":"message_start","message":{"id":"1","type":"message","role":"assistant","model":"m","content":[],"usage":{"input_tokens":1,"output_tokens":1}}}` + "\n\n" +
			"event: content_block_start\n" + `data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}` + "\n\n" +
			"event: content_block_delta\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"canary"}}` + "\n\n" +
			"event: content_block_delta\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"canary"}}` + "\n\n" +
			"event: content_block_stop\n" + `data: {"type":"content_block_stop","index":0}` + "\n\n" +
			"event: message_delta\n" + `data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}` + "\n\n" +
			"event: message_stop\n" + `data: {"type":"message_stop"}` + "\n\n",
		"event: content_block_start\n" + `data: {"type":"content_block_start","index":0,"content_block":{"type":"redacted_thinking","data":"eA=="}}` + "\n\n" +
			"event: content_block_delta\n" + `data: {"type":"content_block_delta","index":1,"delta":{"type":"signature_delta","signature":"eA=="}}` + "\n\n" +
			"event: content_block_start\n" + `data: {"type":"content_block_start","index":2,"content_block":{"type":"web_search_tool_result","content":[{"type":"web_search_result","url":"https://example.com/","title":"canary"}]}}` + "\n\n" +
			"event: content_block_delta\n" + `data: {"type":"content_block_delta","index":3,"delta":{"type":"citations_delta","citation":{"url":"https://example.com/2","title":"canary"}}}` + "\n\n" +
			"event: message_stop\n" + `data: {"type":"message_stop"}` + "\n\n",
		"event: ping\n" + `data: {"type":"ping"}` + "\n\n",
		"event: error\n" + `data: {"type":"error","error":{"type":"overloaded_error","message":"canary"}}` + "\n\n",
		"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"\xff\"}}\n\n",
		`{"type":"message","content":[{"type":"text","text":"canary"}],"stop_reason":"end_turn"}`,
		"data: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"text\",\"text\":\"canary\\ud83d\"}}\r\rdata: {\"type\":\"message_stop\"}",
		`{"type":"error","error":{"type":"api_error","message":"canary"}}`,
	})
}
