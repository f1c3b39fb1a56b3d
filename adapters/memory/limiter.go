package memory

import (
	"context"
	"sync"
	"time"

	"parley/domain/access"
	"parley/ports"
)

// maxKeys bounds the memory of a limiter to some 40 MB. Callers beyond that share
// one count.
const maxKeys = 100_000

// Limiter counts requests in a rolling minute, in buckets of one second. A
// bucket counts for as long as any part of it lies in the window, so that never
// more than the limit passes in any span of a minute; a caller that has used the
// limit waits up to a second longer than necessary.
type Limiter struct {
	now   ports.Clock
	start time.Time // second 0: by Go's monotonic clock, where now has one
	max   int

	mu sync.Mutex
	// Two generations of a minute each: a key that is not used during one has
	// nothing left to count, and is dropped with it.
	young, old map[string]*counter
	rotated    int64 // the second in which young began
	overflow   counter
}

// buckets is the number of seconds in a minute, and the current one.
const buckets = int64(access.Window/time.Second) + 1

type counter struct {
	at    int64 // the newest second with a bucket
	total int
	count [buckets]uint32
}

// NewLimiter returns an empty limiter. It releases the memory of callers that
// send nothing for two minutes.
func NewLimiter(now ports.Clock) *Limiter {
	return &Limiter{
		now: now, start: now(), max: maxKeys,
		young: map[string]*counter{}, old: map[string]*counter{},
	}
}

// Take counts one request against key. It never fails.
func (l *Limiter) Take(_ context.Context, key string, limit int) (access.Decision, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	second := int64(now.Sub(l.start) / time.Second)
	c := l.counter(key, second)
	c.advance(second)
	d := access.Decision{Limit: limit, Allowed: c.total < limit}
	if d.Allowed {
		c.count[c.at%buckets]++
		c.total++
	} else {
		d.RetryAfter = l.until(c.freeAt(limit), now)
	}
	d.Remaining = max(limit-c.total, 0)
	d.Reset = now.Add(l.until(c.freeAt(1), now))
	return d, nil
}

func (l *Limiter) until(second int64, now time.Time) time.Duration {
	return max(time.Duration(second)*time.Second-now.Sub(l.start), 0)
}

func (l *Limiter) counter(key string, second int64) *counter {
	if second-l.rotated >= buckets {
		if second-l.rotated >= 2*buckets {
			clear(l.young)
		}
		l.old, l.young, l.rotated = l.young, map[string]*counter{}, second
	}
	if c := l.young[key]; c != nil {
		return c
	}
	c := l.old[key]
	switch {
	case c != nil:
		delete(l.old, key)
	case len(l.young)+len(l.old) >= l.max:
		return &l.overflow
	default:
		c = &counter{at: max(second, 0)}
	}
	l.young[key] = c
	return c
}

// advance clears the buckets that have left the window. When the clock goes
// back, requests count in the newest second.
func (c *counter) advance(second int64) {
	for range min(second-c.at, buckets) {
		c.at++
		c.total -= int(c.count[c.at%buckets])
		c.count[c.at%buckets] = 0
	}
	c.at = max(c.at, second)
}

// freeAt returns the second in which fewer than limit requests will count.
func (c *counter) freeAt(limit int) int64 {
	left := c.total
	for i := range buckets {
		s := c.at + 1 + i // the oldest bucket first, by the second in which it leaves
		if left -= int(c.count[s%buckets]); left < limit {
			return s
		}
	}
	return c.at + buckets
}
