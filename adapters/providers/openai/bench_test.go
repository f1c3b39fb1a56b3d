package openai_test

import (
	"fmt"
	"strings"
	"testing"

	"parley/adapters/providers/openai"
	"parley/adapters/providers/stub"
	"parley/domain/chat"
	"parley/ports"
)

// BenchmarkGenerate relays a reply of 1000 chunks that is available at once: what
// a chunk costs apart from its way through the network.
func BenchmarkGenerate(b *testing.B) {
	const chunks = 1000
	var raw strings.Builder
	for i := range chunks {
		fmt.Fprintf(&raw, `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":" word%d"},"logprobs":null,"finish_reason":null}],"usage":null}`+"\n\n", i)
	}
	raw.WriteString(`data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n")
	s, err := stub.Start(stub.Always(stub.Reply{Raw: raw.String()}))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	p, err := openai.New(openai.Config{BaseURL: s.OpenAIURL()})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	prompt := ports.Prompt{Params: chat.Params{Model: "gpt-4o"}, Messages: []ports.PromptMessage{ports.PromptText(chat.User, "hi")}}
	b.ReportAllocs()
	for b.Loop() {
		got := 0
		if _, err := p.Generate(b.Context(), prompt, func(chat.Delta) { got++ }); err != nil || got != chunks {
			b.Fatal(got, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/chunks, "ns/chunk")
}
