package openai_test

import (
	"testing"

	"parley/adapters/providers/openai"
	"parley/adapters/providers/stub"
	"parley/ports"
)

// FuzzGenerate reads any bytes as the events of a reply.
func FuzzGenerate(f *testing.F) {
	stub.FuzzEvents(f, func(f *testing.F, t *stub.RecordedTransport) ports.Model {
		p, err := openai.New(openai.Config{BaseURL: "http://provider.test/v1", Key: "k", Wrap: t.Wrap})
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { p.Close() })
		return p
	}, []string{
		`data: {"id":"1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"canary"},"finish_reason":null}]}` + "\n\n" +
			`data: {"choices":[{"index":0,"delta":{"reasoning_content":"canary"},"finish_reason":null}]}` + "\n\n" +
			`data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":1}}}` + "\n\ndata: [DONE]\n\n",
		`data: {"citations":["https://example.com/"],"search_results":[{"url":"https://example.com/2","title":"canary"}],"choices":[{"delta":{"content":"canary","annotations":[{"type":"url_citation","url_citation":{"url":"https://example.com/3","title":"canary"}}]},"finish_reason":"stop"}]}` + "\n\n",
		": comment\nevent: x\nid: 1\nretry: 5\n\r\n\r\ndata:{\"choices\":[]}\n\ndata: [DONE]\n\n",
		`data: {"error":{"message":"canary","type":"server_error","code":"overloaded"}}` + "\n\n",
		`data: {"choices":[{"delta":{"content":"\ud800"},"finish_reason":"length"}]}` + "\n\n",
		"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}\n\n",
		`{"error":{"message":"canary"}}`,
		`{"object":"chat.completion","choices":[{"message":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"canary"}]},{"type":"text","text":"canary"}]},"finish_reason":"stop"}]}`,
		`data: {"choices":[{"index":1,"text":"canary","finish_reason":"stop","usage":{"prompt_tokens":-1,"completion_tokens":1e300}}]}` + "\r\rdata: [DONE]",
	})
}
