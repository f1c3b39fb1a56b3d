package providers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// outcome is one answer of a scripted provider: pieces, then an error or none.
type outcome struct {
	pieces []string
	err    error
	deltas []chat.Delta  // before the pieces
	takes  time.Duration // before the first piece
	usage  chat.Usage
}

// emits returns the chunks of an outcome.
func (o outcome) emits() []chat.Delta {
	deltas := o.deltas
	for _, piece := range o.pieces {
		deltas = append(deltas, chat.TextDelta(piece))
	}
	return deltas
}

func fail(r upstream.Reason) outcome { return outcome{err: upstream.Fail(r, errors.New("scripted"))} }

func failAfter(r upstream.Reason, d time.Duration) outcome {
	return outcome{err: upstream.Fail(r, errors.New("scripted")).After(d)}
}

func say(pieces ...string) outcome { return outcome{pieces: pieces} }

// scripted plays its outcomes in turn, and the last one for ever.
type scripted struct {
	name     string
	mu       sync.Mutex
	outcomes []outcome
	prompts  []string // of the calls, see promptShown
	files    Files    // that it reads
	calls    int
	times    []time.Time
}

func (s *scripted) Generate(ctx context.Context, p ports.Prompt, emit func(chat.Delta)) (ports.Answer, error) {
	s.mu.Lock()
	s.calls++
	s.times = append(s.times, time.Now())
	s.prompts = append(s.prompts, promptShown(ctx, p))
	var o outcome
	left := len(s.outcomes)
	if left > 0 {
		o = s.outcomes[0]
	}
	if left > 1 {
		s.outcomes = s.outcomes[1:]
	}
	s.mu.Unlock()
	if left == 0 {
		panic("scripted")
	}
	a := ports.Answer{Provider: s.name, Model: p.Params.Model, Usage: chat.Usage{Estimated: true}}
	if o.takes > 0 {
		if err := sleep(ctx, o.takes); err != nil {
			return a, err
		}
	}
	for _, d := range o.emits() {
		if err := upstream.Ended(ctx); err != nil {
			return a, err
		}
		emit(d)
	}
	if o.err == nil {
		a.FinishReason, a.Usage = "stop", o.usage
	}
	return a, o.err
}

type facts struct {
	mu   sync.Mutex
	list []any
}

func (f *facts) Observe(_ context.Context, fact any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, fact)
}

// routerOf puts a router before scripted providers, each with its own model.
func routerOf(seen ports.Observer, providers ...*scripted) *Router {
	r, err := New(Config{Observer: seen})
	if err != nil {
		panic(err)
	}
	r.providers = nil
	for _, s := range providers {
		p := &provider{
			entry:  entry{name: s.name, setting: "MODEL", files: func(string) Files { return s.files }},
			client: s, places: newPlaces(8), close: func() {}, discovered: func() {},
		}
		p.models.newBreaker = func(model string) *breaker {
			return newBreaker(Breaker{}, reportChanges(r.observer, s.name, model))
		}
		p.models.set(s.name+"-1", "common")
		r.providers = append(r.providers, p)
	}
	return r
}

type reply struct {
	text   string
	answer ports.Answer
	err    error
}

func ask(ctx context.Context, m ports.Model, params chat.Params) reply {
	return askFor(ctx, m, ports.Prompt{UserID: "u", Params: params, Messages: []ports.PromptMessage{ports.PromptText(chat.User, "hello")}})
}

func askFor(ctx context.Context, m ports.Model, p ports.Prompt) (r reply) {
	r.answer, r.err = m.Generate(ctx, p, func(d chat.Delta) { r.text += d.Text })
	return r
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestRouter_RetryAndFailover(t *testing.T) {
	type want struct {
		text   string
		kind   fault.Kind // "" for a whole reply
		reason upstream.Reason
		after  time.Duration // RetryAfter
		a, b   int           // calls
		least  time.Duration // that it takes
		most   time.Duration
	}
	for name, c := range map[string]struct {
		a, b []outcome
		want want
	}{
		"FirstServes":                   {[]outcome{say("hi")}, []outcome{say("no")}, want{text: "hi", a: 1}},
		"SecondTryServes":               {[]outcome{fail(upstream.Overloaded), say("hi")}, []outcome{say("no")}, want{text: "hi", a: 2, least: backoff / 2, most: backoff}},
		"OtherProviderServes":           {[]outcome{fail(upstream.ServerError)}, []outcome{say("yes")}, want{text: "yes", a: 2, b: 1, least: backoff / 2, most: backoff}},
		"SlowProviderIsNotRetried":      {[]outcome{fail(upstream.FirstToken)}, []outcome{say("yes")}, want{text: "yes", a: 1, b: 1}},
		"QuotaIsNotRetried":             {[]outcome{failAfter(upstream.QuotaExhausted, time.Second)}, []outcome{say("yes")}, want{text: "yes", a: 1, b: 1}},
		"RateLimitWithoutATime":         {[]outcome{fail(upstream.RateLimited)}, []outcome{say("yes")}, want{text: "yes", a: 1, b: 1}},
		"AnotherProviderIsNotWaitedFor": {[]outcome{failAfter(upstream.RateLimited, time.Second), say("no")}, []outcome{say("yes")}, want{text: "yes", a: 1, b: 1}},
		"ShortRetryAfterIsWaitedFor":    {[]outcome{failAfter(upstream.RateLimited, 4*time.Second), say("hi")}, nil, want{text: "hi", a: 2, least: 4 * time.Second, most: 4*time.Second + backoff}},
		"LongRetryAfterIsAnswered":      {[]outcome{failAfter(upstream.RateLimited, 10*time.Second), say("no")}, nil, want{kind: fault.AIUnavailable, reason: upstream.RateLimited, after: 10 * time.Second, a: 1}},
		"LongRetryAfterOfOverload":      {[]outcome{failAfter(upstream.Overloaded, 2*time.Minute), say("no")}, nil, want{kind: fault.AIUnavailable, reason: upstream.Overloaded, after: 2 * time.Minute, a: 1}},
		"EndlessRetryAfter":             {[]outcome{failAfter(upstream.RateLimited, 100_000*time.Hour)}, nil, want{kind: fault.AIUnavailable, reason: upstream.RateLimited, after: 24 * time.Hour, a: 1}},
		"NoRetryAfter":                  {[]outcome{fail(upstream.RateLimited)}, nil, want{kind: fault.AIUnavailable, reason: upstream.RateLimited, after: 5 * time.Second, a: 1}},
		"QuotaUsedUp":                   {[]outcome{fail(upstream.QuotaExhausted)}, nil, want{kind: fault.AIUnavailable, reason: upstream.QuotaExhausted, after: 5 * time.Second, a: 1}},
		"EarliestRetryAfterOfBoth":      {[]outcome{failAfter(upstream.RateLimited, 20*time.Second)}, []outcome{failAfter(upstream.RateLimited, 2*time.Minute)}, want{kind: fault.AIUnavailable, reason: upstream.RateLimited, after: 20 * time.Second, a: 1, b: 1}},
		"RetryAfterBeyondDeadline":      {[]outcome{failAfter(upstream.RateLimited, time.Minute), say("hi")}, nil, want{kind: fault.AIUnavailable, reason: upstream.RateLimited, after: time.Minute, a: 1}},
		"BadRequestEndsIt":              {[]outcome{fail(upstream.BadRequest)}, []outcome{say("no")}, want{kind: fault.AIFailed, reason: upstream.BadRequest, a: 1}},
		"NothingAfterAToken":            {[]outcome{{pieces: []string{"half"}, err: upstream.Fail(upstream.Lost, nil)}}, []outcome{say("no")}, want{text: "half", kind: fault.AIFailed, reason: upstream.Lost, a: 1}},
		"BothFail":                      {[]outcome{fail(upstream.ServerError)}, []outcome{fail(upstream.Overloaded)}, want{kind: fault.AIUnavailable, reason: upstream.Overloaded, after: 5 * time.Second, a: 2, b: 2, least: backoff, most: 2 * backoff}},
		"DeadlineEndsIt":                {[]outcome{{takes: time.Hour}}, []outcome{say("no")}, want{kind: fault.AIFailed, reason: upstream.Deadline, a: 1, least: 30 * time.Second, most: 30 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := &scripted{name: "a", outcomes: c.a}, &scripted{name: "b", outcomes: c.b}
				list := []*scripted{a}
				if c.b != nil {
					list = append(list, b)
				}
				begun := time.Now()
				r := ask(within(t, 30*time.Second), routerOf(nil, list...), chat.Params{})
				got := want{text: r.text, kind: fault.KindOf(r.err), reason: upstream.ReasonOf(r.err), after: upstream.RetryAfter(r.err), a: a.calls, b: b.calls, least: c.want.least, most: c.want.most}
				if d := cmp.Diff(c.want, got, cmp.AllowUnexported(want{})); d != "" {
					t.Error(d)
				}
				if took := time.Since(begun); took < c.want.least || took > c.want.most {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestRouter_Stop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &scripted{name: "a", outcomes: []outcome{failAfter(upstream.RateLimited, 4*time.Second)}}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begun := time.Now()
		if r := ask(ctx, routerOf(nil, a), chat.Params{}); !fault.Is(r.err, fault.Canceled) || time.Since(begun) != time.Second {
			t.Errorf("after %v: %v", time.Since(begun), r.err)
		}
	})
}

func TestRouter_Concurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &scripted{name: "a", outcomes: []outcome{{takes: time.Minute, pieces: []string{"a"}}}}
		b := &scripted{name: "b", outcomes: []outcome{{takes: time.Minute, pieces: []string{"b"}}}}
		r := routerOf(nil, a, b)
		said := map[string]int{}
		shed := 0
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				begun := time.Now()
				got := askFor(t.Context(), r, prompt(fmt.Sprint("user ", i), "hello"))
				mu.Lock()
				defer mu.Unlock()
				said[got.text]++
				if fault.Is(got.err, fault.AIUnavailable) {
					if shed++; time.Since(begun) > 0 || upstream.RetryAfter(got.err) <= 0 {
						t.Errorf("shed after %v: %v", time.Since(begun), got.err)
					}
				}
			})
		}
		wg.Wait()
		if said["a"] != 8 || said["b"] != 8 || shed != 4 {
			t.Errorf("said %v, shed %d", said, shed)
		}
		if got := ask(t.Context(), r, chat.Params{}); got.err != nil {
			t.Errorf("places were not given back: %v", got.err)
		}
	})
}

// A provider that named a short time is waited for when the other one could not
// answer either.
func TestRouter_WaitsWhenTheOthersAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &scripted{name: "a", outcomes: []outcome{failAfter(upstream.RateLimited, time.Second), say("hi")}}
		b := &scripted{name: "b", outcomes: []outcome{fail(upstream.FirstToken)}}
		r := routerOf(nil, a, b)
		settled(r.providers[1].models.breaker("b-1"), errFailed, errFailed, errFailed, errFailed, errFailed)
		if got := ask(t.Context(), r, chat.Params{}); got.text != "hi" || a.calls != 2 || b.calls != 0 {
			t.Errorf("%+v after %d and %d calls", got, a.calls, b.calls)
		}
	})
}

// An open breaker names the time that the provider has named, if that is later.
func TestRouter_OpenBreakerKeepsRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &scripted{name: "a", outcomes: []outcome{failAfter(upstream.RateLimited, 2*time.Minute)}}
		r := routerOf(nil, a)
		for range 5 {
			ask(t.Context(), r, chat.Params{})
		}
		time.Sleep(5 * time.Second)
		got := ask(t.Context(), r, chat.Params{})
		if upstream.ReasonOf(got.err) != upstream.BreakerOpen || upstream.RetryAfter(got.err) != 115*time.Second || a.calls != 5 {
			t.Errorf("%v, retry after %v, %d calls", got.err, upstream.RetryAfter(got.err), a.calls)
		}
	})
}

// However many replies one user asks for, others get theirs.
func TestRouter_PlacesAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &scripted{name: "a", outcomes: []outcome{{takes: time.Hour, pieces: []string{"a"}}}}
		r := routerOf(nil, a)
		r.providers[0].places = newPlaces(64)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var mu sync.Mutex
		refused := map[string]int{}
		send := func(user string, n int) {
			for range n {
				wg.Go(func() {
					if got := askFor(ctx, r, prompt(user, "hello")); upstream.ReasonOf(got.err) == upstream.Saturated {
						mu.Lock()
						refused[user]++
						mu.Unlock()
					}
				})
			}
			synctest.Wait()
		}
		send("greedy", 70)
		send("greedy too", 70)
		for i := range 5 {
			send(fmt.Sprint("user ", i), 1)
		}
		if refused["greedy"] != 70-32 || refused["greedy too"] != 70-16 || len(refused) != 2 {
			t.Errorf("refused: %v", refused)
		}
		cancel()
		wg.Wait()
		if p := r.providers[0].places; p.inUse() != 0 || len(p.byUser) != 0 {
			t.Errorf("%d places were not given back: %v", p.inUse(), p.byUser)
		}
	})
}

// Whatever the limit: a user who holds nothing is admitted while a place is
// free, and one user alone never holds them all.
func TestPlaces_Properties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 20).Draw(t, "limit")
		p := newPlaces(limit)
		held := map[string]int{}
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			user := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "user")
			if rapid.Bool().Draw(t, "acquire") || held[user] == 0 {
				free := limit - p.inUse()
				ok := p.acquire(user)
				if !ok && held[user] == 0 && free > 0 {
					t.Fatalf("%s holds none of %d, %d are free, and was refused", user, limit, free)
				}
				if ok {
					held[user]++
				}
			} else {
				p.release(user)
				held[user]--
			}
			if p.inUse() > limit || limit > 1 && held[user] == limit {
				t.Fatalf("%d of %d are taken, %d by %s", p.inUse(), limit, held[user], user)
			}
		}
	})
}

func TestRouter_AllOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := &facts{}
		a := &scripted{name: "a", outcomes: []outcome{fail(upstream.FirstToken)}}
		r := routerOf(seen, a)
		for range 5 {
			ask(t.Context(), r, chat.Params{})
		}
		time.Sleep(4 * time.Second)
		got := ask(t.Context(), r, chat.Params{})
		if !fault.Is(got.err, fault.AIUnavailable) || upstream.ReasonOf(got.err) != upstream.BreakerOpen || upstream.RetryAfter(got.err) != 6*time.Second {
			t.Errorf("%v after %v", got.err, upstream.RetryAfter(got.err))
		}
		if a.calls != 5 || r.Breakers()[0].State != "open" {
			t.Errorf("%d calls, %v", a.calls, r.Breakers())
		}
		last := seen.list[len(seen.list)-1]
		if d := cmp.Diff(any(ports.ProviderSkipped{Provider: "a", Model: "a-1", Reason: "breaker_open"}), last); d != "" {
			t.Error(d)
		}
	})
}

// Once the budget is spent there is no second call, so the first one goes to
// endpoints that have not been failing.
func TestRouter_EmptyRetryBudgetGoesWhereItWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &scripted{name: "a"}, &scripted{name: "b", outcomes: []outcome{say("yes")}}
		for range 1000 { // four of ten fail: never enough to open the breaker
			a.outcomes = append(a.outcomes, fail(upstream.FirstToken), say("hi"), fail(upstream.FirstToken), say("hi"), say("hi"))
		}
		r := routerOf(nil, a, b)
		refused := 0
		const messages = 500
		for range messages {
			if got := ask(t.Context(), r, chat.Params{}); got.err != nil {
				refused++
			}
		}
		if calls := a.calls + b.calls; calls > messages*11/10+10 || refused > 1 {
			t.Errorf("%d calls, %d of %d messages failed", calls, refused, messages)
		}
	})
}

func TestRouter_RetryBudgetHoldsWhateverHappens(t *testing.T) {
	reasons := []upstream.Reason{
		"", upstream.ServerError, upstream.RateLimited, upstream.Lost, upstream.FirstToken, upstream.BadRequest, upstream.Unreachable,
	}
	rapid.Check(t, func(rt *rapid.T) {
		plan := rapid.SliceOfN(rapid.SampledFrom(reasons), 50, 400).Draw(rt, "outcomes")
		messages := rapid.IntRange(20, 200).Draw(rt, "messages")
		synctest.Test(t, func(t *testing.T) {
			a, b := &scripted{name: "a"}, &scripted{name: "b"}
			for i, reason := range plan {
				o := say("hi")
				if reason != "" {
					o = fail(reason)
				}
				if i%2 == 0 {
					a.outcomes = append(a.outcomes, o)
				} else {
					b.outcomes = append(b.outcomes, o)
				}
			}
			r := routerOf(nil, a, b)
			for range messages {
				ask(t.Context(), r, chat.Params{})
				time.Sleep(time.Second)
			}
			if calls := a.calls + b.calls; float64(calls) > 1.1*float64(messages)+10 {
				rt.Fatalf("%d calls for %d messages", calls, messages)
			}
		})
	})
}

func TestRouter_Facts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := &facts{}
		a := &scripted{name: "a", outcomes: []outcome{fail(upstream.Overloaded)}}
		b := &scripted{name: "b", outcomes: []outcome{{takes: time.Second, pieces: []string{"yes"}}}}
		r := routerOf(seen, a, b)
		r.jitter = func(d time.Duration) time.Duration { return d }
		got := ask(t.Context(), r, chat.Params{})
		want := []any{
			ports.ProviderAsked{Provider: "a", Model: "a-1", Kind: ports.FirstAttempt, Reason: "overloaded"},
			ports.ProviderAsked{Provider: "a", Model: "a-1", Kind: ports.RetryAttempt, Reason: "overloaded"},
			ports.ProviderAsked{Provider: "b", Model: "b-1", Kind: ports.Fallback, Took: time.Second, FirstToken: time.Second},
		}
		if d := cmp.Diff(want, seen.list); d != "" || got.answer.Metadata["fallback"] != true {
			t.Error(d, got.answer.Metadata)
		}
	})
}

func TestRouter_Panic(t *testing.T) {
	r := routerOf(nil, &scripted{name: "a"}) // it breaks
	for range 20 {
		func() {
			defer func() {
				if recover() == nil && r.providers[0].models.breaker("a-1").state() != "open" {
					t.Error("the panic was swallowed")
				}
			}()
			ask(t.Context(), r, chat.Params{})
		}()
	}
	if n := r.providers[0].places.inUse(); n != 0 {
		t.Errorf("%d places are lost", n)
	}
}
