package providers

import (
	"cmp"
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
	maxCalls          = 2                      // to one provider for one message
	backoff           = 250 * time.Millisecond // before the second one, when the provider does not say
	defaultRetryWait  = 5 * time.Second
	defaultRetryAfter = 5 * time.Second // told to the caller when no provider says when to try again
	maxRetryAfter     = 24 * time.Hour
	disabledRetry     = time.Minute // told to the caller while providers are disabled
)

// Generate implements ports.Model. Beside the faults of the port it returns
// Invalid for a model that is not in the lists.
func (r *Router) Generate(ctx context.Context, p ports.Prompt, emit func(chat.Delta)) (ports.Answer, error) {
	input := int64(0)
	if p.Params.Priced {
		input = r.inputTokens(p)
	}
	route, named, err := r.route(p.Params, input)
	if err != nil {
		return ports.Answer{}, err
	}
	route = withReaders(route, named, p.Messages)
	if r.maxTokens > 0 {
		p.Params.MaxTokens = min(p.Params.MaxTokens, r.maxTokens) // 0 stays the provider's own default
	}
	ask := func(ctx context.Context, emit func(chat.Delta)) (ports.Answer, error) {
		a := &attempt{Router: r, prompt: p, route: slices.Clone(route), named: named, emit: emit}
		answer, err := a.run(ctx)
		r.completeUsage(&answer, a, err)
		return answer, err
	}
	if r.cache == nil || r.disabled(route[0].name) { // a disabled provider does not reply from the cache either
		return ask(ctx, emit)
	}
	return r.cache.generate(ctx, p, route[0], ask, emit)
}

// attempt makes the reply to one prompt: it asks the endpoints of a route until
// one begins to reply.
type attempt struct {
	*Router
	prompt ports.Prompt
	route  []endpoint
	named  bool       // the caller has named the first endpoint
	files  *heldFiles // nil: the prompt has none
	recent bool       // leave out the files of earlier messages, which a provider did not take
	emit   func(chat.Delta)

	calls int
	asked endpoint // the last one
	text  strings.Builder

	earliestRetry time.Duration // that any endpoint has named; 0: none has
}

// run asks one endpoint after the other until one begins to reply.
func (a *attempt) run(ctx context.Context) (ports.Answer, error) {
	if hasFiles(a.prompt) {
		files, err := a.readFiles(ctx, a.prompt, a.route)
		if err != nil {
			return ports.Answer{Provider: a.route[0].name, Model: a.route[0].model}, a.withRetryAfter(err)
		}
		a.files = files
		defer files.release()
	}
	a.retries.deposit()
	if !a.named && a.retries.empty() {
		// There will be no second call, so the first goes where it is likely to
		// be the last.
		slices.SortStableFunc(a.route, func(x, y endpoint) int {
			return cmp.Compare(int(100*x.breaker().failureRatio()), int(100*y.breaker().failureRatio()))
		})
	}
	var answer ports.Answer
	var failed error  // of an endpoint that was asked
	var skipped error // of one that was not
	for i, e := range a.route {
		var err error
		if !a.disabled(e.name) {
			e, err = e.resolve(ctx)
		}
		if err != nil {
			a.observer.Observe(ctx, ports.ProviderSkipped{Provider: e.name, Reason: string(upstream.ReasonOf(err))})
			a.noteRetryAfter(err)
			failed = err
			if upstream.Ended(ctx) != nil {
				return answer, err
			}
			continue
		}
		for try := 1; ; try++ {
			release, err := a.acquire(ctx, e)
			if err != nil {
				a.noteRetryAfter(err)
				skipped = earlierRetry(skipped, err)
				break
			}
			var begun bool
			answer, begun, err = a.call(ctx, e, try, release)
			if err == nil || begun || upstream.Ended(ctx) != nil {
				return answer, err
			}
			a.noteRetryAfter(err)
			failed = err
			if a.leaveOutEarlierFiles(err, e) {
				continue
			}
			wait, again := a.retryWait(ctx, err, try, a.route[i+1:])
			if !again {
				break
			}
			if err := a.pause(ctx, wait); err != nil {
				return answer, err
			}
		}
		if failed != nil && !upstream.ReasonOf(failed).Failover() {
			break
		}
	}
	if failed == nil {
		failed = skipped
	}
	return answer, a.withRetryAfter(failed)
}

// acquire takes what a call of an endpoint needs: a provider that is not disabled,
// a place of it, its breaker's consent, and, from the second call on, a call of the retry
// budget. The error is an AIUnavailable; otherwise release must be called with
// what the call says about the provider.
func (a *attempt) acquire(ctx context.Context, e endpoint) (release func(error), err error) {
	skip := func(reason upstream.Reason, after time.Duration) (func(error), error) {
		a.observer.Observe(ctx, ports.ProviderSkipped{Provider: e.name, Model: e.model, Reason: string(reason)})
		return nil, upstream.Fail(reason, nil).After(after)
	}
	if a.disabled(e.name) {
		return skip(upstream.Disabled, disabledRetry)
	}
	user := a.prompt.UserID
	if !e.places.acquire(user) {
		return skip(upstream.Saturated, time.Second)
	}
	settle, ok := e.breaker().allow()
	if !ok {
		e.places.release(user)
		return skip(upstream.BreakerOpen, e.breaker().retryAfter())
	}
	release = func(outcome error) {
		settle(outcome)
		e.places.release(user)
	}
	if a.calls > 0 && !a.retries.withdraw() {
		release(errExcluded)
		return skip(retryBudgetEmpty, time.Second)
	}
	a.calls++
	return release, nil
}

// retryBudgetEmpty is a call that the retry budget does not pay for.
const retryBudgetEmpty upstream.Reason = "retry_budget"

// call asks an endpoint once. begun: some of the reply has been passed on.
func (a *attempt) call(ctx context.Context, e endpoint, try int, release func(error)) (answer ports.Answer, begun bool, err error) {
	kind := ports.FirstAttempt
	switch {
	case try > 1:
		kind = ports.RetryAttempt
	case a.calls > 1 || e.provider != a.route[0].provider:
		kind = ports.Fallback
	}
	a.asked = e
	prompt := a.prompt
	if a.files != nil {
		prompt = a.files.promptFor(prompt, e, a.recent)
	}
	prompt.Params.Provider, prompt.Params.Model = e.name, e.model
	prompt.Call = ports.ProviderCall{Kind: kind, Number: a.calls}
	start := time.Now()
	var first time.Duration
	err = errPanicked // unless it returns
	defer func() {
		e.breaker().postpone(upstream.RetryAfter(err))
		e.models.record(e.model, err, begun)
		release(classify(err, begun))
		reason := ""
		if err != nil {
			reason = string(upstream.ReasonOf(err))
		}
		a.observer.Observe(ctx, ports.ProviderAsked{
			Provider: e.name, Model: e.model, Kind: kind, Reason: reason, Took: time.Since(start), FirstToken: first,
		})
	}()
	answer, err = e.client.Generate(ctx, prompt, func(d chat.Delta) {
		if !begun {
			begun, first = true, max(time.Since(start), 1)
			if a.files != nil {
				a.files.release() // there will be no other call
			}
		}
		a.text.WriteString(d.Text)
		a.emit(d)
	})
	if kind == ports.Fallback {
		answer.Metadata = with(answer.Metadata, "fallback", true)
	}
	return answer, begun, err
}

// errPanicked settles a call whose adapter broke.
var errPanicked = errors.New("panicked")

// leaveOutEarlierFiles reports whether to ask an endpoint again, without the files
// of earlier messages: a file that a provider refuses must not end every reply
// of a conversation that goes on.
func (a *attempt) leaveOutEarlierFiles(err error, e endpoint) bool {
	switch upstream.ReasonOf(err) {
	case upstream.FileRefused, upstream.BadRequest, upstream.TooLong:
	default:
		return false
	}
	if a.recent || a.files == nil || !a.files.hasEarlier(a.prompt, e) {
		return false
	}
	a.recent = true
	return true
}

// retryWait says whether to ask the same endpoint again, and after how long.
// One that names a time is waited for only if that is short and none of the
// other endpoints can answer now. A rate limit without a time can be a spend
// cap, and is not retried.
func (a *attempt) retryWait(ctx context.Context, err error, try int, others []endpoint) (time.Duration, bool) {
	reason, wait := upstream.ReasonOf(err), upstream.RetryAfter(err)
	if try >= maxCalls || !reason.Retry() || reason == upstream.RateLimited && wait == 0 || a.retries.empty() {
		return 0, false
	}
	switch {
	case wait == 0:
		wait = a.jitter(backoff)
	case wait > a.maxRetryWait, slices.ContainsFunc(others, func(e endpoint) bool { return !a.disabled(e.name) && e.available(a.prompt.UserID) }):
		return 0, false
	default:
		wait += a.jitter(backoff) / 4
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
		return 0, false
	}
	return wait, true
}

// noteRetryAfter remembers the earliest time at which an endpoint may answer.
func (a *attempt) noteRetryAfter(err error) {
	if after := upstream.RetryAfter(err); after > 0 && (a.earliestRetry == 0 || after < a.earliestRetry) {
		a.earliestRetry = after
	}
}

// withRetryAfter makes sure that a fault which says "try later" says when: at
// the earliest time that any endpoint has named.
func (a *attempt) withRetryAfter(err error) error {
	f := fault.As(err)
	if f == nil || f.Kind != fault.AIUnavailable {
		return err
	}
	dated := *f
	return dated.After(min(cmp.Or(a.earliestRetry, defaultRetryAfter), maxRetryAfter))
}

// earlierRetry is of two refusals the one that ends first.
func earlierRetry(a, b error) error {
	if a == nil || upstream.RetryAfter(b) < upstream.RetryAfter(a) {
		return b
	}
	return a
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
