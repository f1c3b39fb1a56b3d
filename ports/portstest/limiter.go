package portstest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parley/domain/access"
	"parley/ports"
)

// tolerance is how much longer than the window a limiter may count a request, and
// a refused caller may have to wait.
const tolerance = time.Second

// OpenLimiters returns n limiters that share their counts, as those of n
// instances do, and that take the time from now.
type OpenLimiters func(t testing.TB, now ports.Clock, n int) []ports.Limiter

// Limiter holds every limiter to the same contract, on a virtual clock.
func Limiter(t *testing.T, open OpenLimiters) {
	for name, test := range map[string]func(*testing.T, *limiterBench){
		"AdmitsTheLimit":         admitsTheLimit,
		"SeparatesKeys":          separatesKeys,
		"RetryAfterAndResetHold": retryAfterAndResetHold,
		"FollowsTheLimit":        followsTheLimit,
		"AdmitsConcurrently":     admitsConcurrently,
		"AnyRollingMinute":       anyRollingMinute,
	} {
		t.Run(name, func(t *testing.T) {
			clock := &virtualClock{now: time.Date(2026, 3, 1, 12, 0, 0, 123_000_000, time.UTC)}
			test(t, &limiterBench{clock: clock, limiters: open(t, clock.Now, 4)})
		})
	}
}

type limiterBench struct {
	clock    *virtualClock
	limiters []ports.Limiter
	keys     atomic.Int64
}

// key returns one that no other test has used.
func (b *limiterBench) key() string { return fmt.Sprintf("key-%d", b.keys.Add(1)) }

func (b *limiterBench) take(t failer, instance int, key string, limit int) access.Decision {
	t.Helper()
	d, err := b.limiters[instance%len(b.limiters)].Take(context.Background(), key, limit)
	if err != nil {
		t.Fatalf("Take: %v", err)
	}
	if d.Limit != limit || d.Fallback || d.Remaining < 0 || d.Remaining >= limit && limit > 0 {
		t.Fatalf("limit %d: decision %+v", limit, d)
	}
	if wait := d.RetryAfter; d.Allowed != (wait == 0) || wait < 0 || wait > access.Window+tolerance {
		t.Fatalf("allowed %v with RetryAfter %v", d.Allowed, wait)
	}
	return d
}

func admitsTheLimit(t *testing.T, b *limiterBench) {
	key := b.key()
	for i := range 5 {
		if d := b.take(t, i, key, 5); !d.Allowed || d.Remaining != 4-i {
			t.Errorf("request %d: %+v", i+1, d)
		}
	}
	for range 3 { // refusals cost nothing
		if d := b.take(t, 0, key, 5); d.Allowed || d.Remaining != 0 {
			t.Errorf("request beyond the limit: %+v", d)
		}
	}
	b.clock.Advance(access.Window + tolerance)
	if d := b.take(t, 0, key, 5); !d.Allowed || d.Remaining != 4 {
		t.Errorf("a minute later: %+v", d)
	}
}

func separatesKeys(t *testing.T, b *limiterBench) {
	one, other := b.key(), b.key()
	b.take(t, 0, one, 1)
	if d := b.take(t, 0, other, 1); !d.Allowed {
		t.Errorf("another key: %+v", d)
	}
	if d := b.take(t, 0, one, 1); d.Allowed {
		t.Errorf("the same key: %+v", d)
	}
}

func retryAfterAndResetHold(t *testing.T, b *limiterBench) {
	key := b.key()
	for range 3 {
		b.take(t, 0, key, 3)
		b.clock.Advance(7*time.Second + 300*time.Millisecond)
	}
	refused := b.take(t, 1, key, 3)
	if refused.Allowed {
		t.Fatalf("fourth request: %+v", refused)
	}
	b.clock.Advance(refused.RetryAfter)
	if d := b.take(t, 2, key, 3); !d.Allowed {
		t.Errorf("after RetryAfter (%v): %+v", refused.RetryAfter, d)
	}
	last := b.take(t, 3, key, 3)
	b.clock.Advance(last.Reset.Sub(b.clock.Now()))
	if d := b.take(t, 0, key, 3); !d.Allowed || d.Remaining != 2 {
		t.Errorf("after Reset: %+v", d)
	}
}

func followsTheLimit(t *testing.T, b *limiterBench) {
	key := b.key()
	for range 10 {
		b.take(t, 0, key, 10)
	}
	if d := b.take(t, 0, key, 4); d.Allowed || d.Remaining != 0 {
		t.Errorf("lowered limit: %+v", d)
	}
	if d := b.take(t, 0, key, 12); !d.Allowed || d.Remaining != 1 {
		t.Errorf("raised limit: %+v", d)
	}
	if d := b.take(t, 0, b.key(), 0); d.Allowed || d.RetryAfter <= 0 {
		t.Errorf("limit 0: %+v", d)
	}
}

func admitsConcurrently(t *testing.T, b *limiterBench) {
	const limit, callers, each = 37, 8, 20
	key := b.key()
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for range each {
				d, err := b.limiters[i%len(b.limiters)].Take(context.Background(), key, limit)
				if err != nil {
					t.Errorf("Take: %v", err)
				}
				if d.Allowed {
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := admitted.Load(); n != limit {
		t.Errorf("%d requests at once: %d admitted, want %d", callers*each, n, limit)
	}
}

// anyRollingMinute sends random arrivals to random instances: no span of a minute
// admits more than the limit, a caller is refused only after spending it, and a
// caller who waits for RetryAfter is admitted.
func anyRollingMinute(t *testing.T, b *limiterBench) {
	rapid.Check(t, func(t *rapid.T) {
		key, limit := b.key(), rapid.IntRange(1, 8).Draw(t, "limit")
		var admitted []time.Time
		arrive := func(instance int) access.Decision {
			d := b.take(t, instance, key, limit)
			now := b.clock.Now()
			recent := 0
			for _, at := range slices.Backward(admitted) {
				if now.Sub(at) < access.Window+tolerance {
					recent++
				}
			}
			if !d.Allowed && recent < limit {
				t.Fatalf("refused with %d of %d spent", recent, limit)
			}
			if d.Allowed {
				admitted = append(admitted, now)
			}
			if n := len(admitted); n > limit && admitted[n-1].Sub(admitted[n-1-limit]) < access.Window {
				t.Fatalf("%d requests within %v, limit %d", limit+1, admitted[n-1].Sub(admitted[n-1-limit]), limit)
			}
			return d
		}
		for range rapid.IntRange(1, 60).Draw(t, "arrivals") {
			gap := rapid.OneOf(rapid.Just(0), rapid.IntRange(0, 1500), rapid.IntRange(0, 70_000)).Draw(t, "gap in ms")
			b.clock.Advance(time.Duration(gap) * time.Millisecond)
			instance := rapid.IntRange(0, 3).Draw(t, "instance")
			if d := arrive(instance); !d.Allowed && rapid.IntRange(0, 3).Draw(t, "wait") == 0 {
				b.clock.Advance(d.RetryAfter)
				if !arrive(instance).Allowed {
					t.Fatalf("refused after waiting %v as told", d.RetryAfter)
				}
			}
		}
	})
}

// failer is what a test and a property test have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// virtualClock is a clock that a test moves.
type virtualClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *virtualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *virtualClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
