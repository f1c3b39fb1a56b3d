package providers

import (
	"os"
	"path/filepath"
	"testing"

	"parley/domain/access"
	"parley/domain/chat"
)

// What is held is the most that any of the providers that may answer can cost.
func TestQuote_IsTheDearestOfTheRoute(t *testing.T) {
	prices := filepath.Join(t.TempDir(), "prices.json")
	err := os.WriteFile(prices, []byte(`{"date": "2026-11-22", "models": {
		"openai/cheap": [{"input": 1, "output": 2}],
		"anthropic/dear": [{"input": 10, "output": 20, "cacheWrite": 15}]}}`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{
		Order: []string{"openai", "anthropic"}, PricesFile: prices, MaxTokens: 500,
		OpenAI: Provider{Key: "k", Models: []string{"cheap"}}, Anthropic: Provider{Key: "k", Models: []string{"dear"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for name, c := range map[string]struct {
		params chat.Params
		want   access.Hold
	}{
		"Bounded":   {chat.Params{MaxTokens: 100}, access.Hold{Tokens: 1100, Micros: 1000*15 + 100*20}},
		"Unbounded": {chat.Params{}, access.Hold{Tokens: 1500, Micros: 1000*15 + 500*20}},
		"Unknown":   {chat.Params{Model: "none", MaxTokens: 1}, access.Hold{Tokens: 1001}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := r.Quote(c.params, 1000); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}
