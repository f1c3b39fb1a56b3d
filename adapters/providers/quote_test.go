package providers

import (
	"os"
	"path/filepath"
	"testing"

	"parley/adapters/providers/upstream"
	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
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
		"Unknown":   {chat.Params{Model: "none", MaxTokens: 1}, access.Hold{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := r.Quote(c.params, 1000); got != c.want || (err != nil) != (c.want == access.Hold{}) {
				t.Errorf("got %+v, %v, want %+v", got, err, c.want)
			}
		})
	}
}

// A user with a budget of money is never answered by a model without a price:
// neither by name, nor by default, nor by failover, nor beyond the last tier.
func TestRouter_PricedModelsOnly(t *testing.T) {
	type want struct {
		text    string
		refused bool
	}
	for name, c := range map[string]struct {
		params chat.Params
		fails  bool // the first provider does
		want   want
	}{
		"Priced":            {chat.Params{Model: "a-1"}, false, want{text: "a"}},
		"NamedAndUnpriced":  {chat.Params{Model: "b-1"}, false, want{refused: true}},
		"ByItsProvider":     {chat.Params{Provider: "b"}, false, want{refused: true}},
		"Default":           {chat.Params{}, false, want{text: "a"}},
		"NotByFailover":     {chat.Params{}, true, want{}},
		"BeyondTheLastTier": {chat.Params{Model: "common"}, false, want{refused: true}},
	} {
		t.Run(name, func(t *testing.T) {
			first := say("a")
			if c.fails {
				first = fail(upstream.Idle)
			}
			a, b := &scripted{name: "a", outcomes: []outcome{first}}, &scripted{name: "b", outcomes: []outcome{say("b")}}
			r := routerOf(nil, a, b)
			r.prices = Prices{Models: map[string][]Tier{"a/a-1": {{Input: 1, Output: 1}}, "a/common": {{UpTo: 1, Input: 1, Output: 1}}}}
			c.params.Priced = true
			got := ask(t.Context(), r, c.params)
			_, err := r.Quote(c.params, 1000)
			if got.text != c.want.text || fault.Is(got.err, fault.Invalid) != c.want.refused || fault.Is(err, fault.Invalid) != c.want.refused || b.calls > 0 {
				t.Errorf("%q, %v; quote: %v; %d calls of the unpriced", got.text, got.err, err, b.calls)
			}
		})
	}
	t.Run("DefaultWithoutAPrice", func(t *testing.T) {
		a, b := &scripted{name: "a", outcomes: []outcome{say("a")}}, &scripted{name: "b", outcomes: []outcome{say("b")}}
		r := routerOf(nil, a, b)
		r.prices = Prices{Models: map[string][]Tier{"b/*": {{}}}}
		if got := ask(t.Context(), r, chat.Params{Priced: true}); got.text != "b" || a.calls > 0 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("LargerThanItSeemed", func(t *testing.T) {
		a := &scripted{name: "a", outcomes: []outcome{{pieces: []string{"a"}, usage: chat.Usage{Input: 1000, Output: 1}}}}
		r := routerOf(nil, a)
		r.prices = Prices{Models: map[string][]Tier{"a/a-1": {{UpTo: 100, Input: 1, Output: 1}}}}
		if got := ask(t.Context(), r, chat.Params{Priced: true}); got.answer.CostMicros == nil || *got.answer.CostMicros != 1001 {
			t.Errorf("%+v", got.answer)
		}
	})
}
