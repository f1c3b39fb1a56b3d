package openai_test

import (
	"testing"

	"parley/adapters/providers/openai"
	"parley/adapters/providers/stub"
	"parley/ports"
)

// FuzzGenerate feeds whatever bytes to the reader of a reply's events.
func FuzzGenerate(f *testing.F) {
	stub.FuzzEvents(f, func(f *testing.F, canned *stub.Canned) ports.Model {
		p, err := openai.New(openai.Config{BaseURL: "http://provider.test/v1", Key: "k", Wrap: canned.Wrap})
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { p.Close() })
		return p
	}, []string{
		`data: {"id":"1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"canary"},"finish_reason":null}]}` + "\n\n" +
			`data: {"choices":[{"index":0,"delta":{"reasoning_content":"canary"},"finish_reason":null}]}` + "\n\n" +
			`data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":1}}}` + "\n\ndata: [DONE]\n\n",
		": comment\nevent: x\nid: 1\nretry: 5\n\r\n\r\ndata:{\"choices\":[]}\n\ndata: [DONE]\n\n",
		`data: {"error":{"message":"canary","type":"server_error","code":"overloaded"}}` + "\n\n",
		`data: {"choices":[{"delta":{"content":"\ud800"},"finish_reason":"length"}]}` + "\n\n",
		"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}\n\n",
		`{"error":{"message":"canary"}}`,
	})
}
