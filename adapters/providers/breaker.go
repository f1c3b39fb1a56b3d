package providers

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"parley/adapters/providers/upstream"
	"parley/ports"
)

// Breaker says when a model that fails is not asked any more. A field that is 0
// has the default.
type Breaker struct {
	InARow int           // failures in a row that open it; 5
	Window int           // outcomes that are looked at together; 20
	Ratio  float64       // of failures among a full window that opens it; 0.5
	Open   time.Duration // until one call is let through again; 10 s
}

func (b Breaker) orDefaults() Breaker {
	if b.InARow <= 0 {
		b.InARow = 5
	}
	if b.Window <= 0 {
		b.Window = 20
	}
	if b.Ratio <= 0 {
		b.Ratio = 0.5
	}
	if b.Open <= 0 {
		b.Open = 10 * time.Second
	}
	return b
}

// breaker guards one model of one provider. The window is of outcomes, not of
// time: gobreaker counts an outcome under the time of its beginning and drops it
// when that has left its window, so that replies which take longer than the
// window to fail would never count.
type breaker struct {
	settings Breaker
	gate     *gobreaker.TwoStepCircuitBreaker[struct{}]

	mu        sync.Mutex
	outcomes  []bool // true: failed; the newest last
	failed    int    // among them
	opened    time.Time
	notBefore time.Time // when the provider wants to be asked again, as it said last
}

// errExcluded settles a call that says nothing about the provider.
var errExcluded = errors.New("excluded")

// errFailed settles a call that counts as a failure of the provider.
var errFailed = errors.New("failed")

func newBreaker(s Breaker, changed func(from, to string)) *breaker {
	b := &breaker{settings: s.orDefaults()}
	b.gate = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests: 1,
		Timeout:     b.settings.Open,
		ReadyToTrip: b.readyToTrip,
		IsExcluded:  func(err error) bool { return errors.Is(err, errExcluded) },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			b.stateChanged(to)
			changed(from.String(), to.String())
		},
	})
	return b
}

// readyToTrip reports whether the breaker has to open.
func (b *breaker) readyToTrip(c gobreaker.Counts) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int(c.ConsecutiveFailures) >= b.settings.InARow ||
		len(b.outcomes) == b.settings.Window && float64(b.failed) >= b.settings.Ratio*float64(b.settings.Window)
}

func (b *breaker) stateChanged(to gobreaker.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch to {
	case gobreaker.StateOpen:
		b.opened = time.Now()
	case gobreaker.StateClosed:
		b.outcomes, b.failed = nil, 0
	}
}

// allow asks for a call. settle must then be called once, when the reply has
// ended, with errExcluded, errFailed or nil.
func (b *breaker) allow() (settle func(error), ok bool) {
	done, err := b.gate.Allow()
	if err != nil {
		return nil, false
	}
	return func(err error) {
		if !errors.Is(err, errExcluded) {
			b.record(err != nil)
		}
		done(err)
	}, true
}

func (b *breaker) record(failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.outcomes) == b.settings.Window {
		if b.outcomes[0] {
			b.failed--
		}
		b.outcomes = b.outcomes[1:]
	}
	b.outcomes = append(b.outcomes, failed)
	if failed {
		b.failed++
	}
}

// closed reports whether calls are let through.
func (b *breaker) closed() bool { return b.gate.State() == gobreaker.StateClosed }

// state is closed, half-open or open.
func (b *breaker) state() string { return b.gate.State().String() }

// failureRatio is the part of failures among the latest outcomes; 1 while the
// breaker is open.
func (b *breaker) failureRatio() float64 {
	if b.gate.State() == gobreaker.StateOpen {
		return 1
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.outcomes) == 0 {
		return 0
	}
	return float64(b.failed) / float64(len(b.outcomes))
}

// postpone remembers that the provider asked not to be called for a while. It
// makes retryAfter tell the truth, and does not close the way: what one request
// was refused for, another may be granted.
func (b *breaker) postpone(d time.Duration) {
	if d <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notBefore = time.Now().Add(min(d, maxRetryAfter))
}

// retryAfter is when to try again while the breaker is open: when it lets a
// call through, or later if the provider has said so.
func (b *breaker) retryAfter() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(time.Until(b.opened.Add(b.settings.Open)), time.Until(b.notBefore), time.Second)
}

// classify is what the outcome of a call says about the provider: nil, a
// failure, or nothing. begun: some of the reply had come.
func classify(err error, begun bool) error {
	switch reason := upstream.ReasonOf(err); {
	case err == nil:
		return nil
	case reason.Counts(), reason == upstream.Deadline && !begun:
		return errFailed
	}
	return errExcluded
}

// BreakerState is the state of one breaker.
type BreakerState struct {
	Provider, Model string
	State           string // closed, half-open, open
}

// reportChanges tells the observer of a breaker's changes of state.
func reportChanges(o ports.Observer, provider, model string) func(from, to string) {
	return func(from, to string) {
		o.Observe(context.Background(), ports.BreakerChanged{Provider: provider, Model: model, From: from, To: to})
	}
}
