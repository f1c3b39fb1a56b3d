package stub_test

import (
	"context"
	"fmt"

	"parley/adapters/providers/openai"
	"parley/adapters/providers/stub"
	"parley/domain/chat"
	"parley/ports"
)

// A stub answers a provider adapter by a script, and counts what it was asked.
func Example() {
	server, err := stub.Start(stub.Always(stub.Reply{Reasoning: "Easy.", Text: "It is four."}))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	provider, err := openai.New(openai.Config{BaseURL: server.OpenAIURL()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer provider.Close()

	prompt := ports.Prompt{
		Params:   chat.Params{Model: "any"},
		Messages: []ports.PromptMessage{ports.PromptText(chat.User, "What is two and two?")},
	}
	answer, err := provider.Generate(context.Background(), prompt, func(d chat.Delta) {
		fmt.Printf("%q\n", d.Text)
	})
	fmt.Println(answer.FinishReason, answer.Usage.Input, answer.Usage.Output, err)

	// From now on the server breaks off after one word.
	server.Play(stub.Always(stub.Reply{Text: "It is four.", Cut: stub.EOF, After: 1}))
	_, err = provider.Generate(context.Background(), prompt, func(chat.Delta) {})
	fmt.Println(err)
	fmt.Println(len(server.Calls()), "calls, the last one with", server.Calls()[1].Messages[0].Text)

	// Output:
	// "Easy."
	// "It "
	// "is "
	// "four."
	// stop 5 4 <nil>
	// AI_FAILED: The AI provider did not complete the reply: the stream ended without a terminal marker
	// 2 calls, the last one with What is two and two?
}

// ExampleRefuseMembers plays a server that does not know stream_options.
func ExampleRefuseMembers() {
	server, err := stub.Start(stub.RefuseMembers(400, stub.Echo, "stream_options"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	provider, err := openai.New(openai.Config{BaseURL: server.OpenAIURL()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer provider.Close()
	_, err = provider.Generate(context.Background(), ports.Prompt{
		Params: chat.Params{Model: "any"}, Messages: []ports.PromptMessage{ports.PromptText(chat.User, "Hello")},
	}, func(d chat.Delta) { fmt.Println(d.Text) })
	fmt.Println(len(server.Calls()), err)

	// Output:
	// Hello
	// 2 <nil>
}
