package providers_test

import (
	"testing"

	"parley/adapters/providers"
	"parley/adapters/providers/stub"
	"parley/domain/chat"
	"parley/ports"
)

// Whatever a provider reports, a reply is charged for at least its own text,
// for no more than its request can have used, and never less than nothing.
func TestRouter_ReportedUsageIsNotTrusted(t *testing.T) {
	type m = map[string]any
	for name, report := range map[string]any{
		"Negative":   m{"prompt_tokens": -100_000, "completion_tokens": -900},
		"Huge":       m{"prompt_tokens": int64(1) << 62, "completion_tokens": int64(1) << 62},
		"Overflow":   m{"prompt_tokens": 1e300, "completion_tokens": 1e300},
		"CacheOnly":  m{"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": m{"cached_tokens": int64(1) << 62}},
		"Unreadable": []any{"many"},
		"Zero":       m{"prompt_tokens": 0, "completion_tokens": 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := startStub(t, stub.Always(stub.Reply{Text: "one two three", Usage: []any{report}}))
			r, err := providers.New(providers.Config{OpenAI: providers.Provider{BaseURL: s.OpenAIURL(), Models: []string{"gpt-4o"}}})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			a, err := r.Generate(t.Context(), ports.Prompt{
				UserID: "u", Messages: []ports.PromptMessage{ports.PromptText(chat.User, "tell me three things")},
			}, func(chat.Delta) {})
			if err != nil {
				t.Fatal(err)
			}
			u := a.Usage
			if !u.Estimated || u.Input < 4 || u.Input > 50 || u.Output < 2 || u.Output > 50 || u.CacheRead < 0 || u.CacheRead > u.Input {
				t.Errorf("usage %+v", u)
			}
			if a.CostMicros == nil || *a.CostMicros <= 0 || *a.CostMicros > 1000 {
				t.Errorf("cost %v", a.CostMicros)
			}
		})
	}
}
