package providers

import (
	"context"
	"errors"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/ports"
)

// spy shows every prompt before it is asked.
type spy struct {
	see  func(ports.Prompt)
	next ports.Model
}

func (s spy) Generate(ctx context.Context, p ports.Prompt, emit func(chat.Delta)) (ports.Answer, error) {
	s.see(p)
	return s.next.Generate(ctx, p, emit)
}

func micros(n int64) *int64 { return &n }

func TestRouter_Account(t *testing.T) {
	for name, c := range map[string]struct {
		outcome outcome
		usage   chat.Usage
		cost    *int64
	}{
		"Reported": {
			outcome{pieces: []string{"hi"}, usage: chat.Usage{Input: 1000, Output: 200, CacheRead: 400, Reasoning: 50}},
			chat.Usage{Input: 1000, Output: 200, CacheRead: 400, Reasoning: 50}, micros(600*2 + 400/2 + 200*8),
		},
		"NotReported": {outcome{pieces: []string{"hello ", "world"}, usage: chat.Usage{Estimated: true}}, chat.Usage{Input: 5, Output: 2, Estimated: true}, micros(5*2 + 2*8)},
		"Zeros":       {outcome{pieces: []string{"hello ", "world"}}, chat.Usage{Input: 5, Output: 2, Estimated: true}, micros(5*2 + 2*8)},
		"BrokenOff":   {outcome{pieces: []string{"hello"}, err: upstream.Truncated()}, chat.Usage{Input: 5, Output: 1, Estimated: true}, micros(5*2 + 8)},
		"NeverBegun":  {fail(upstream.FirstToken), chat.Usage{Input: 5, Estimated: true}, micros(10)},
		"TurnedAway":  {fail(upstream.BadRequest), chat.Usage{}, micros(0)},
	} {
		t.Run(name, func(t *testing.T) {
			r := routerOf(nil, &scripted{name: "a", outcomes: []outcome{c.outcome}})
			half := 0.5
			r.prices = Prices{Models: map[string][]Tier{"a/a-1": {{Input: 2, CacheRead: &half, Output: 8}}}}
			got := ask(t.Context(), r, chat.Params{})
			if d := cmp.Diff(c.usage, got.answer.Usage); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(c.cost, got.answer.CostMicros); d != "" {
				t.Error(d)
			}
		})
	}
	t.Run("UnknownPriceIsNotZero", func(t *testing.T) {
		r := routerOf(nil, &scripted{name: "a", outcomes: []outcome{say("hi")}})
		if got := ask(t.Context(), r, chat.Params{}); got.answer.CostMicros != nil {
			t.Error(*got.answer.CostMicros)
		}
	})
	t.Run("NothingAskedIsNotZero", func(t *testing.T) {
		r := routerOf(nil, &scripted{name: "a"})
		r.providers[0].places = newPlaces(0)
		if got := ask(t.Context(), r, chat.Params{}); got.err == nil || got.answer.CostMicros != nil {
			t.Error(got)
		}
	})
	t.Run("DemoIsFree", func(t *testing.T) {
		r, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		for _, message := range []string{"hi", "!fail"} {
			got := askFor(t.Context(), r, ports.Prompt{Messages: []ports.PromptMessage{ports.PromptText(chat.User, message)}})
			if got.answer.CostMicros == nil || *got.answer.CostMicros != 0 || got.answer.Usage.Output == 0 || got.answer.Metadata["demo"] != true {
				t.Errorf("%s: %+v", message, got.answer)
			}
		}
	})
}

func TestPrices(t *testing.T) {
	p, err := LoadPrices("")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		provider string
		usage    chat.Usage
		names    []string
		want     *int64
	}{
		"Exact":              {"openai", chat.Usage{Input: 1_000_000, Output: 1_000_000}, []string{"gpt-4o"}, micros(12_500_000)},
		"Dated":              {"openai", chat.Usage{Input: 1_000_000}, []string{"gpt-4o-2024-08-06"}, micros(2_500_000)},
		"DatedOtherwise":     {"anthropic", chat.Usage{Output: 1_000_000}, []string{"claude-haiku-4-5-20251001"}, micros(5_000_000)},
		"AsAsked":            {"openai", chat.Usage{Input: 2}, []string{"gpt-4o-internal-name", "gpt-4o"}, micros(5)},
		"CacheIsPartOfInput": {"anthropic", chat.Usage{Input: 1_000_000, CacheRead: 400_000, CacheWrite: 100_000}, []string{"claude-sonnet-4-5"}, micros(1_500_000 + 120_000 + 375_000)},
		"SmallTier":          {"anthropic", chat.Usage{Input: 100_000}, []string{"claude-haiku-5-5"}, micros(10_000)},
		"LargeTier":          {"anthropic", chat.Usage{Input: 100_001}, []string{"claude-haiku-5-5"}, micros(50_001)},
		"BeyondTheTiers":     {"openai", chat.Usage{Input: 300_000}, []string{"gpt-6-luna"}, nil},
		"Unknown":            {"openai", chat.Usage{Input: 1}, []string{"llama3"}, nil},
		"OtherProviders":     {"anthropic", chat.Usage{Input: 1}, []string{"gpt-4o"}, nil},
		"RoundedHalfUp":      {"openai", chat.Usage{Input: 1}, []string{"gpt-4o"}, micros(3)},
		"DefaultOpenAI":      {"openai", chat.Usage{}, []string{DefaultOpenAI}, micros(0)},
		"DefaultAnthropic":   {"anthropic", chat.Usage{}, []string{DefaultAnthropic}, micros(0)},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, p.Cost(c.provider, c.usage, c.names...)); d != "" {
				t.Error(d)
			}
		})
	}
	t.Run("AreExact", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			u := chat.Usage{Input: rapid.Int64Range(0, 99_999).Draw(t, "in"), Output: rapid.Int64Range(0, 99_999).Draw(t, "out")}
			got := *p.Cost("openai", u, "gpt-5.4-mini")
			exact := new(big.Rat).Add(
				new(big.Rat).Mul(big.NewRat(75, 100), big.NewRat(u.Input, 1)), new(big.Rat).Mul(big.NewRat(45, 10), big.NewRat(u.Output, 1)))
			want, _ := exact.Float64()
			if math.Abs(float64(got)-want) > 0.5 {
				t.Fatalf("%d, want %v", got, want)
			}
		})
	})
}

func TestLoadPrices(t *testing.T) {
	file := func(t *testing.T, text string) string {
		t.Helper()
		name := filepath.Join(t.TempDir(), "prices.json")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	t.Run("OverTheBundledOnes", func(t *testing.T) {
		p, err := LoadPrices(file(t, `{"date":"2027-01-31","models":{"openai/gpt-4o":[{"input":1,"output":1}],"openai/*":[{"input":0,"output":0}]}}`))
		if err != nil {
			t.Fatal(err)
		}
		u := chat.Usage{Input: 1_000_000}
		if *p.Cost("openai", u, "gpt-4o") != 1_000_000 || *p.Cost("openai", u, "llama3") != 0 || *p.Cost("openai", u, "o3") != 2_000_000 || p.Date != "2027-01-31" {
			t.Errorf("%+v", p)
		}
	})
	for name, text := range map[string]string{
		"NotJSON":         `prices`,
		"WithoutADate":    `{"models":{}}`,
		"UnknownField":    `{"date":"2027-01-31","models":{"openai/x":[{"inputs":1}]}}`,
		"Negative":        `{"date":"2027-01-31","models":{"openai/x":[{"input":-1,"output":1}]}}`,
		"OutputIsMissing": `{"date":"2027-01-31","models":{"openai/x":[{"input":1}]}}`,
		"InputIsMissing":  `{"date":"2027-01-31","models":{"openai/x":[{"output":1}]}}`,
		"NoTier":          `{"date":"2027-01-31","models":{"openai/x":[]}}`,
		"TiersMixedUp":    `{"date":"2027-01-31","models":{"openai/x":[{"input":1,"output":1},{"upTo":5,"input":1,"output":1}]}}`,
		"TiersBackward":   `{"date":"2027-01-31","models":{"openai/x":[{"upTo":9,"input":1,"output":1},{"upTo":5,"input":1,"output":1}]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := LoadPrices(file(t, text)); err == nil {
				t.Error("was taken")
			}
		})
	}
	t.Run("Absent", func(t *testing.T) {
		if _, err := LoadPrices("nowhere.json"); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
}
