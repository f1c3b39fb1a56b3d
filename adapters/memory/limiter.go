package memory

import (
	"context"
	"sync"
	"time"

	"parley/domain/access"
	"parley/ports"
)

// Limiter counts requests in a rolling minute, in buckets of one second. A
// bucket counts for as long as any of its instants lies in the window, so
// never more than the limit passes in any span of a minute; a caller who has
// spent everything waits up to a second longer than the exact answer.
type Limiter struct {
	now func() time.Time

	mu        sync.Mutex
	counters  map[string]*counter
	lastSweep int64
}

// buckets is a minute's worth and the second that is under way.
const buckets = int64(access.Window/time.Second) + 1

type counter struct {
	at    int64 // the newest second with a count
	total int
	count [buckets]uint16
}

// NewLimiter returns an empty limiter. Callers that have been quiet for a
// minute take no memory.
func NewLimiter(now ports.Clock) *Limiter {
	return &Limiter{now: now, counters: map[string]*counter{}}
}

// Take counts one request against key. It never fails.
func (l *Limiter) Take(_ context.Context, key string, limit int) (access.Decision, error) {
	now := l.now()
	second := now.Unix()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(second)
	c := l.counters[key]
	if c == nil {
		c = &counter{at: second}
		l.counters[key] = c
	}
	c.advance(second)
	d := access.Decision{Limit: limit}
	if c.total < limit {
		c.count[c.at%buckets]++
		c.total++
		d.Allowed = true
	} else {
		d.RetryAfter = time.Unix(c.freeAt(limit), 0).Sub(now)
	}
	d.Remaining = max(limit-c.total, 0)
	d.Reset = time.Unix(c.at+buckets, 0)
	return d, nil
}

// advance forgets the buckets that have left the window. A clock that goes
// back counts in the newest second.
func (c *counter) advance(second int64) {
	for range min(second-c.at, buckets) {
		c.at++
		c.total -= int(c.count[c.at%buckets])
		c.count[c.at%buckets] = 0
	}
	c.at = max(c.at, second)
}

// freeAt returns the second in which a request would pass again.
func (c *counter) freeAt(limit int) int64 {
	left := c.total
	for s := c.at - buckets + 1; s <= c.at; s++ {
		if left -= int(c.count[(s%buckets+buckets)%buckets]); left < limit {
			return s + buckets
		}
	}
	return c.at + buckets
}

// sweep drops idle counters, once a minute.
func (l *Limiter) sweep(second int64) {
	if second-l.lastSweep < buckets {
		return
	}
	l.lastSweep = second
	for key, c := range l.counters {
		if second-c.at >= buckets {
			delete(l.counters, key)
		}
	}
}
