package providers

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

const (
	tries    = 2                      // calls to one provider for one message
	backoff  = 250 * time.Millisecond // before the second one, when the provider does not say
	patience = 2 * time.Second        // most that is waited when another provider could be asked instead
)

// Generate implements ports.Model. Beside the faults of the port it returns
// Invalid for a model that is not in the lists.
func (r *Router) Generate(ctx context.Context, p ports.Prompt, emit func(chat.Delta)) (ports.Answer, error) {
	route, chosen, err := r.route(p.Params)
	if err != nil {
		return ports.Answer{}, err
	}
	if r.most > 0 {
		p.Params.MaxTokens = min(p.Params.MaxTokens, r.most) // 0 stays the provider's own default
	}
	ask := func(ctx context.Context, emit func(chat.Delta)) (ports.Answer, error) {
		c := &conversation{Router: r, prompt: p, route: route, chosen: chosen, emit: emit}
		a, err := c.ask(ctx)
		r.account(&a, c, err)
		return a, err
	}
	if r.cache == nil {
		return ask(ctx, emit)
	}
	return r.cache.generate(ctx, p, route[0], ask, emit)
}

// conversation is one message on its way through the providers.
type conversation struct {
	*Router
	prompt ports.Prompt
	route  []target
	chosen bool
	emit   func(chat.Delta)

	calls int
	asked target // the last one
	said  strings.Builder
}

// ask goes along the route until one provider begins to reply.
func (c *conversation) ask(ctx context.Context) (ports.Answer, error) {
	c.budget.earn()
	if !c.chosen && c.budget.empty() {
		// There will be no second call, so the first goes where it is likely to
		// be the last.
		slices.SortStableFunc(c.route, func(a, b target) int {
			return int(100*a.breaker().failing()) - int(100*b.breaker().failing())
		})
	}
	var answer ports.Answer
	var failed error // of a provider that was asked
	var closed error // of one that was not
	for i, t := range c.route {
		for try := 1; ; try++ {
			leave, err := c.enter(ctx, t)
			if err != nil {
				closed = sooner(closed, err)
				break
			}
			var begun bool
			answer, begun, err = c.call(ctx, t, try, leave)
			if err == nil || begun || upstream.Ended(ctx) != nil {
				return answer, err
			}
			failed = err
			wait, again := c.retry(ctx, err, try, i < len(c.route)-1)
			if !again {
				break
			}
			if err := c.pause(ctx, wait); err != nil {
				return answer, err
			}
		}
		if failed != nil && !upstream.ReasonOf(failed).Failover() {
			break
		}
	}
	if failed == nil {
		return answer, closed
	}
	return answer, later(failed)
}

// enter asks the target's guards for a call. The error is an AIUnavailable;
// otherwise leave must be called with the outcome.
func (c *conversation) enter(ctx context.Context, t target) (leave func(error), err error) {
	skip := func(reason upstream.Reason, after time.Duration) (func(error), error) {
		c.observer.Observe(ctx, ports.ProviderSkipped{Provider: t.member.name, Model: t.name, Reason: string(reason)})
		return nil, upstream.Fail(reason, nil).After(after)
	}
	if t.running.Add(1) > t.most {
		t.running.Add(-1)
		return skip(upstream.Saturated, time.Second)
	}
	settle, ok := t.breaker().allow()
	if !ok {
		t.running.Add(-1)
		return skip(upstream.BreakerOpen, t.breaker().retryAfter())
	}
	leave = func(outcome error) {
		settle(outcome)
		t.running.Add(-1)
	}
	if c.calls > 0 && !c.budget.spend() {
		leave(errExcluded)
		return skip(overBudget, time.Second)
	}
	c.calls++
	return leave, nil
}

// overBudget is a call that the retry budget does not pay for.
const overBudget upstream.Reason = "retry_budget"

// call asks a provider once. begun: some of the reply has been passed on.
func (c *conversation) call(ctx context.Context, t target, try int, leave func(error)) (a ports.Answer, begun bool, err error) {
	kind := ports.FirstAttempt
	switch {
	case try > 1:
		kind = ports.RetryAttempt
	case c.calls > 1 || t.member != c.route[0].member:
		kind = ports.Fallback
	}
	c.asked = t
	prompt := c.prompt
	prompt.Params.Provider, prompt.Params.Model = t.member.name, t.name
	start := time.Now()
	var first time.Duration
	err = errPanicked // unless it returns
	defer func() {
		leave(verdict(err, begun))
		reason := ""
		if err != nil {
			reason = string(upstream.ReasonOf(err))
		}
		c.observer.Observe(ctx, ports.ProviderAsked{
			Provider: t.member.name, Model: t.name, Kind: kind, Reason: reason, Took: time.Since(start), FirstToken: first,
		})
	}()
	a, err = t.model.Generate(ctx, prompt, func(d chat.Delta) {
		if !begun {
			begun, first = true, max(time.Since(start), 1)
		}
		c.said.WriteString(d.Text)
		c.emit(d)
	})
	if kind == ports.Fallback {
		a.Metadata = with(a.Metadata, "fallback", true)
	}
	return a, begun, err
}

// errPanicked settles a call whose adapter broke.
var errPanicked = errors.New("panicked")

// retry says whether to ask the same provider again, and when. A rate limit
// without a word of how long it lasts can be a spend cap, and is left alone.
func (c *conversation) retry(ctx context.Context, err error, try int, others bool) (time.Duration, bool) {
	reason, wait := upstream.ReasonOf(err), upstream.RetryAfter(err)
	if try >= tries || !reason.Retry() || reason == upstream.RateLimited && wait == 0 || c.budget.empty() {
		return 0, false
	}
	if wait == 0 {
		wait = c.jitter(backoff)
	} else {
		wait += c.jitter(backoff) / 4
	}
	if others && wait > patience {
		return 0, false
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
		return 0, false
	}
	return wait, true
}

// sooner is of two refusals the one that ends first.
func sooner(a, b error) error {
	if a == nil || upstream.RetryAfter(b) < upstream.RetryAfter(a) {
		return b
	}
	return a
}

// later makes sure that a fault which says "try later" says when.
func later(err error) error {
	if f := fault.As(err); f != nil && f.Kind == fault.AIUnavailable && f.RetryAfter == 0 {
		return f.After(5 * time.Second)
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return upstream.Ended(ctx)
	}
}

// halfToAll is between a half and all of d, so that those who failed together
// do not come back together.
func halfToAll(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}

func with(m map[string]any, name string, value any) map[string]any {
	if m == nil {
		m = map[string]any{}
	}
	m[name] = value
	return m
}
