package providers

import (
	"context"
	"errors"
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
	takes  time.Duration // before the first piece
	usage  chat.Usage
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
	calls    int
	times    []time.Time
}

func (s *scripted) Generate(ctx context.Context, p ports.Prompt, emit func(chat.Delta)) (ports.Answer, error) {
	s.mu.Lock()
	s.calls++
	s.times = append(s.times, time.Now())
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
	for _, piece := range o.pieces {
		if err := upstream.Ended(ctx); err != nil {
			return a, err
		}
		emit(chat.Delta{Text: piece})
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
	r.members = nil
	for _, s := range providers {
		m := &member{name: s.name, models: []string{s.name + "-1", "common"}, model: s, most: 8, close: func() {}, breakers: map[string]*breaker{}}
		for _, model := range m.models {
			m.breakers[model] = newBreaker(Breaker{}, observed(r.observer, s.name, model))
		}
		r.members = append(r.members, m)
	}
	return r
}

type reply struct {
	text   string
	answer ports.Answer
	err    error
}

func ask(ctx context.Context, m ports.Model, params chat.Params) reply {
	return askFor(ctx, m, ports.Prompt{UserID: "u", Params: params, Turns: []ports.Turn{{Role: chat.User, Text: "hello"}}})
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
		"FirstServes":              {[]outcome{say("hi")}, []outcome{say("no")}, want{text: "hi", a: 1}},
		"SecondTryServes":          {[]outcome{fail(upstream.Overloaded), say("hi")}, []outcome{say("no")}, want{text: "hi", a: 2, least: backoff / 2, most: backoff}},
		"OtherProviderServes":      {[]outcome{fail(upstream.ServerError)}, []outcome{say("yes")}, want{text: "yes", a: 2, b: 1, least: backoff / 2, most: backoff}},
		"SlowProviderIsNotRetried": {[]outcome{fail(upstream.FirstToken)}, []outcome{say("yes")}, want{text: "yes", a: 1, b: 1}},
		"QuotaIsNotRetried":        {[]outcome{failAfter(upstream.QuotaExhausted, time.Second)}, []outcome{say("yes")}, want{text: "yes", a: 1, b: 1}},
		"LimitWithoutATerm":        {[]outcome{fail(upstream.RateLimited)}, []outcome{say("yes")}, want{text: "yes", a: 1, b: 1}},
		"ShortTermIsWaitedFor":     {[]outcome{failAfter(upstream.RateLimited, time.Second), say("hi")}, []outcome{say("no")}, want{text: "hi", a: 2, least: time.Second, most: time.Second + backoff}},
		"LongTermIsNot":            {[]outcome{failAfter(upstream.RateLimited, 10*time.Second), say("hi")}, []outcome{say("yes")}, want{text: "yes", a: 1, b: 1}},
		"ItIsWithNobodyElse":       {[]outcome{failAfter(upstream.RateLimited, 10*time.Second), say("hi")}, nil, want{text: "hi", a: 2, least: 10 * time.Second, most: 11 * time.Second}},
		"TermBeyondTheDeadline":    {[]outcome{failAfter(upstream.RateLimited, time.Minute), say("hi")}, nil, want{kind: fault.AIUnavailable, reason: upstream.RateLimited, after: time.Minute, a: 1}},
		"BadRequestEndsIt":         {[]outcome{fail(upstream.BadRequest)}, []outcome{say("no")}, want{kind: fault.AIFailed, reason: upstream.BadRequest, a: 1}},
		"NothingAfterAToken":       {[]outcome{{pieces: []string{"half"}, err: upstream.Fail(upstream.Lost, nil)}}, []outcome{say("no")}, want{text: "half", kind: fault.AIFailed, reason: upstream.Lost, a: 1}},
		"BothFail":                 {[]outcome{fail(upstream.ServerError)}, []outcome{fail(upstream.Overloaded)}, want{kind: fault.AIUnavailable, reason: upstream.Overloaded, after: 5 * time.Second, a: 2, b: 2, least: backoff, most: 2 * backoff}},
		"DeadlineEndsIt":           {[]outcome{{takes: time.Hour}}, []outcome{say("no")}, want{kind: fault.AIFailed, reason: upstream.Deadline, a: 1, least: 30 * time.Second, most: 30 * time.Second}},
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
		a := &scripted{name: "a", outcomes: []outcome{failAfter(upstream.RateLimited, 10*time.Second)}}
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
		for range 20 {
			wg.Go(func() {
				begun := time.Now()
				got := ask(t.Context(), r, chat.Params{})
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
// whoever has not been failing.
func TestRouter_EmptyBudgetGoesWhereItWorks(t *testing.T) {
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

func TestRouter_BudgetHoldsWhateverHappens(t *testing.T) {
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
				if recover() == nil && r.members[0].breakers["a-1"].gate.State().String() != "open" {
					t.Error("the panic was swallowed")
				}
			}()
			ask(t.Context(), r, chat.Params{})
		}()
	}
	if n := r.members[0].running.Load(); n != 0 {
		t.Errorf("%d places are lost", n)
	}
}
