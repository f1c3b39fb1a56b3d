package providers

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// shelf is a ports.Cache without an end.
type shelf struct {
	mu     sync.Mutex
	values map[string][]byte
	until  map[string]time.Time
}

func newShelf() *shelf { return &shelf{values: map[string][]byte{}, until: map[string]time.Time{}} }

func (s *shelf) ForgetUser(context.Context, string) error { panic("nobody is forgotten here") }

func (s *shelf) Get(_ context.Context, _, key string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.values[key]
	return v, ok && time.Now().Before(s.until[key])
}

func (s *shelf) Set(_ context.Context, _, key string, value []byte, ttl time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[key], s.until[key] = value, time.Now().Add(ttl)
}

func cachedRouter(shared bool, providers ...*scripted) *Router {
	r := routerOf(nil, providers...)
	r.cache = newCache(newShelf(), time.Minute, shared)
	r.prices = Prices{Models: map[string][]Tier{"a/*": {{Input: 1, Output: 1}}}}
	return r
}

func prompt(user, text string) ports.Prompt {
	return ports.Prompt{UserID: user, Messages: []ports.PromptMessage{ports.PromptText(chat.User, text)}}
}

var paid = outcome{pieces: []string{"one ", "two"}, takes: time.Second, usage: chat.Usage{Input: 10, Output: 5}}

func TestCache_Hit(t *testing.T) {
	hot := 0.9
	for name, c := range map[string]struct {
		again  func(*ports.Prompt)
		shared bool
		calls  int
	}{
		"TheSame":             {func(*ports.Prompt) {}, false, 1},
		"SpaceAround":         {func(p *ports.Prompt) { p.Messages[0] = ports.PromptText(chat.User, "  what\nis this \r\n") }, false, 1},
		"AnotherUser":         {func(p *ports.Prompt) { p.UserID = "other" }, false, 2},
		"AnotherUserOfShared": {func(p *ports.Prompt) { p.UserID = "other" }, true, 1},
		"AnotherCase":         {func(p *ports.Prompt) { p.Messages[0] = ports.PromptText(chat.User, "What\nis this") }, false, 2},
		"AnotherModel":        {func(p *ports.Prompt) { p.Params.Model = "common" }, false, 2},
		"NamedDefault":        {func(p *ports.Prompt) { p.Params.Model = "a-1" }, false, 1},
		"AnotherTemperature":  {func(p *ports.Prompt) { p.Params.Temperature = &hot }, false, 2},
		"AnotherSystem":       {func(p *ports.Prompt) { p.Params.System = "be brief" }, false, 2},
		"AnotherEffort":       {func(p *ports.Prompt) { p.Params.Reasoning = "low" }, false, 2},
		"MoreHistory": {func(p *ports.Prompt) {
			p.Messages = append([]ports.PromptMessage{ports.PromptText(chat.User, "hi")}, p.Messages...)
		}, false, 2},
		"Regeneration": {func(p *ports.Prompt) { p.NoCache = true }, false, 2},
		"Continuation": {func(p *ports.Prompt) {
			p.Messages = append(p.Messages, ports.PromptText(chat.Assistant, "one "))
		}, false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &scripted{name: "a", outcomes: []outcome{paid}}
				r := cachedRouter(c.shared, a)
				first := askFor(t.Context(), r, prompt("u", "what\nis this"))
				if first.err != nil || first.answer.Metadata["cached"] != nil || *first.answer.CostMicros != 15 {
					t.Fatalf("%+v", first)
				}
				p := prompt("u", "what\nis this")
				c.again(&p)
				second := askFor(t.Context(), r, p)
				cached := second.answer.Metadata["cached"] == true
				if a.calls != c.calls || second.text != "one two" || cached != (c.calls == 1) {
					t.Errorf("%d calls, %+v", a.calls, second)
				}
				if cached && (*second.answer.CostMicros != 0 || second.answer.Usage != chat.Usage{} || second.answer.Provider != "a" || second.answer.FinishReason != "stop") {
					t.Errorf("answer %+v", second.answer)
				}
			})
		})
	}
	t.Run("Expires", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := &scripted{name: "a", outcomes: []outcome{paid}}
			r := cachedRouter(false, a)
			askFor(t.Context(), r, prompt("u", "hi"))
			time.Sleep(2 * time.Minute)
			if askFor(t.Context(), r, prompt("u", "hi")); a.calls != 2 {
				t.Errorf("%d calls", a.calls)
			}
		})
	})
	t.Run("OnlyWholeRepliesAreKept", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := &scripted{name: "a", outcomes: []outcome{{pieces: []string{"half"}, err: upstream.Truncated()}, paid}}
			r := cachedRouter(false, a)
			askFor(t.Context(), r, prompt("u", "hi"))
			if got := askFor(t.Context(), r, prompt("u", "hi")); got.text != "one two" || a.calls != 2 {
				t.Errorf("%+v after %d calls", got, a.calls)
			}
		})
	})
	t.Run("FallbacksAreNotKept", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := &scripted{name: "a", outcomes: []outcome{fail(upstream.FirstToken), paid}}, &scripted{name: "b", outcomes: []outcome{say("other")}}
			r := cachedRouter(false, a, b)
			askFor(t.Context(), r, prompt("u", "hi"))
			if got := askFor(t.Context(), r, prompt("u", "hi")); got.text != "one two" {
				t.Errorf("%+v", got)
			}
		})
	})
}

func TestCache_Flight(t *testing.T) {
	t.Run("ManyAskOnce", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := &scripted{name: "a", outcomes: []outcome{paid}}
			r := cachedRouter(false, a)
			var mu sync.Mutex
			var cost, cached int64
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					got := askFor(t.Context(), r, prompt("u", "hi"))
					mu.Lock()
					defer mu.Unlock()
					if cost += *got.answer.CostMicros; got.answer.Metadata["cached"] == true {
						cached++
					}
					if got.err != nil || got.text != "one two" {
						t.Errorf("%+v", got)
					}
				})
			}
			wg.Wait()
			if a.calls != 1 || cost != 15 || cached < 18 {
				t.Errorf("%d calls, cost %d, %d cached", a.calls, cost, cached)
			}
		})
	})
	t.Run("LeaderMayLeave", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := &scripted{name: "a", outcomes: []outcome{paid}}
			r := cachedRouter(false, a)
			leader, leave := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() {
				got := askFor(leader, r, prompt("u", "hi"))
				if !fault.Is(got.err, fault.Canceled) || *got.answer.CostMicros != 0 || got.answer.Provider != "a" {
					t.Errorf("leader: %+v", got)
				}
			})
			synctest.Wait()
			wg.Go(func() {
				got := askFor(t.Context(), r, prompt("u", "hi"))
				if got.err != nil || got.text != "one two" || *got.answer.CostMicros != 15 {
					t.Errorf("follower: %+v", got)
				}
			})
			synctest.Wait()
			leave()
			wg.Wait()
			if a.calls != 1 {
				t.Errorf("%d calls", a.calls)
			}
		})
	})
	t.Run("LeadersDeadlineIsNotTheFollowers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := &scripted{name: "a", outcomes: []outcome{{takes: time.Hour}, paid}}
			r := cachedRouter(false, a)
			var wg sync.WaitGroup
			wg.Go(func() {
				if got := askFor(within(t, 10*time.Second), r, prompt("u", "hi")); upstream.ReasonOf(got.err) != upstream.Deadline {
					t.Errorf("leader: %+v", got)
				}
			})
			time.Sleep(5 * time.Second)
			if got := askFor(within(t, 10*time.Second), r, prompt("u", "hi")); got.err != nil || got.text != "one two" {
				t.Errorf("follower: %+v", got)
			}
			wg.Wait()
		})
	})
	t.Run("LastOneOutStopsTheProvider", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := &scripted{name: "a", outcomes: []outcome{{takes: time.Hour}}}
			r := cachedRouter(false, a)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			begun := time.Now()
			got := askFor(ctx, r, prompt("u", "hi"))
			if !fault.Is(got.err, fault.Canceled) || time.Since(begun) != time.Second || !got.answer.Usage.Estimated || *got.answer.CostMicros == 0 {
				t.Errorf("%+v after %v", got, time.Since(begun))
			}
			synctest.Wait()
			if n := r.providers[0].places.inUse(); n != 0 {
				t.Errorf("%d calls are still running", n)
			}
		})
	})
	t.Run("LateComersSeeItAll", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := cachedRouter(false, &scripted{name: "a"})
			r.providers[0].client = pacedModel{}
			var wg sync.WaitGroup
			for i := range 5 {
				wg.Go(func() {
					time.Sleep(time.Duration(i) * time.Second)
					if got := askFor(t.Context(), r, prompt("u", "hi")); got.err != nil || got.text != "0123456789" {
						t.Errorf("%d: %+v", i, got)
					}
				})
			}
			wg.Wait()
		})
	})
	t.Run("PanicIsAnError", func(t *testing.T) {
		r := cachedRouter(false, &scripted{name: "a"})
		if got := askFor(t.Context(), r, prompt("u", "hi")); !fault.Is(got.err, fault.Internal) {
			t.Errorf("%+v", got)
		}
	})
}

// A reply is replayed as the parts that it was, in their order.
func TestCache_KeepsParts(t *testing.T) {
	said := []chat.Delta{
		chat.ReasoningDelta("hm"), chat.ReasoningDelta("m"),
		{Part: chat.Part{Kind: chat.ReasoningPart, State: "opaque", Provider: "a", Model: "a-1"}},
		chat.TextDelta("one "),
		{Part: chat.Part{Kind: chat.SourcePart, ID: "source-1", URL: "https://example.com/", Title: "Example"}},
		chat.TextDelta("two"), chat.ReasoningDelta("and"), chat.TextDelta("three"),
	}
	a := &scripted{name: "a", outcomes: []outcome{{deltas: said, usage: chat.Usage{Input: 1, Output: 1}}}}
	r := cachedRouter(false, a)
	for range 2 {
		var got []chat.Delta
		if _, err := r.Generate(t.Context(), prompt("u", "hi"), func(d chat.Delta) { got = append(got, d) }); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(said, got); d != "" {
			t.Error(d)
		}
	}
	if a.calls != 1 {
		t.Errorf("%d calls", a.calls)
	}
}

// pacedModel says a digit every second.
type pacedModel struct{}

func (pacedModel) Generate(ctx context.Context, _ ports.Prompt, emit func(chat.Delta)) (ports.Answer, error) {
	for i := range 10 {
		if err := sleep(ctx, time.Second); err != nil {
			return ports.Answer{}, err
		}
		emit(chat.TextDelta(string(rune('0' + i))))
	}
	return ports.Answer{FinishReason: "stop", Usage: chat.Usage{Input: 1, Output: 1}}, nil
}
