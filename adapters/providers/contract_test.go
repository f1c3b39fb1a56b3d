package providers_test

import (
	"testing"
	"time"

	"parley/adapters/providers/anthropic"
	"parley/adapters/providers/demo"
	"parley/adapters/providers/openai"
	"parley/adapters/providers/stub"
	"parley/domain/chat"
	"parley/ports"
	"parley/ports/portstest"
)

func startStub(t *testing.T, script stub.Script) *stub.Server {
	t.Helper()
	s, err := stub.Start(script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestDemo(t *testing.T) {
	portstest.Model(t, func(*testing.T) (ports.Model, chat.Params) {
		return demo.Provider{Delay: time.Millisecond}, chat.Params{}
	})
}

func TestOpenAI(t *testing.T) {
	portstest.Model(t, func(t *testing.T) (ports.Model, chat.Params) {
		p, err := openai.New(openai.Config{Key: "key", BaseURL: startStub(t, stub.Directives).OpenAIURL()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		return p, chat.Params{Model: "gpt-4o"}
	})
}

func TestAnthropic(t *testing.T) {
	portstest.Model(t, func(t *testing.T) (ports.Model, chat.Params) {
		p, err := anthropic.New(anthropic.Config{Key: "key", BaseURL: startStub(t, stub.Directives).AnthropicURL()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		return p, chat.Params{Model: "claude-sonnet-4-5"}
	})
}
