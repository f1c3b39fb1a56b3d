package redis

import (
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/domain/access"
	"parley/ports"
)

// budget is what a decision may cost a request. A slower Redis is as good as none.
const budget = 50 * time.Millisecond

// FailMode says what a limiter does while Redis cannot be asked.
type FailMode string

const (
	FailLocal  FailMode = "local"  // each instance admits its share of the limit
	FailOpen   FailMode = "open"   // everything passes
	FailClosed FailMode = "closed" // nothing passes
)

// Limiter counts requests for all instances together, in one atomic round trip
// on the clock of Redis: never more than the limit in any rolling minute,
// whichever instances are asked. It keeps 126 bytes a caller, for a minute.
type Limiter struct {
	client *Client
	local  ports.Limiter
	fail   FailMode
	outage outage

	budget time.Duration
	clock  ports.Clock // of tests; nil: Redis' own
}

//go:embed limit.lua
var limitLua string

var limit = redis.NewScript(limitLua)

// NewLimiter returns a limiter on Redis. local decides while Redis does not
// answer, each instance for its share of the limit: together they do not admit
// more than the limit either. It is told of this instance's own requests at
// all times, so that an outage forgives nobody.
func NewLimiter(c *Client, local ports.Limiter, fail FailMode) *Limiter {
	return &Limiter{client: c, local: local, fail: fail, budget: budget}
}

var errOutage = errors.New("redis does not answer")

// Take counts one request. It fails only when ctx is over, or in FailClosed.
func (l *Limiter) Take(ctx context.Context, key string, n int) (access.Decision, error) {
	d, err := l.ask(ctx, key, n)
	switch {
	case err == nil:
		if d.Allowed && l.fail == FailLocal {
			_, _ = l.local.Take(ctx, key, n)
		}
		return d, nil
	case ctx.Err() != nil:
		return access.Decision{}, ctx.Err()
	case l.fail == FailOpen:
		return access.Decision{Allowed: true, Limit: n, Remaining: n, Reset: time.Now(), Fallback: true}, nil
	case l.fail == FailClosed:
		return access.Decision{}, err
	}
	d, err = l.local.Take(ctx, key, max(n/l.client.Instances(), min(n, 1)))
	d.Fallback = true
	return d, err
}

func (l *Limiter) ask(ctx context.Context, key string, n int) (access.Decision, error) {
	if l.outage.skip() {
		return access.Decision{}, errOutage
	}
	call, cancel := context.WithTimeout(ctx, l.budget)
	defer cancel()
	now, fixed := time.Now(), any("")
	if l.clock != nil {
		now = l.clock()
		fixed = now.UnixMilli()
	}
	got, err := limit.Run(call, l.client.rdb, []string{l.client.opt.Prefix + "limit:{" + key + "}"}, n, fixed).Int64Slice()
	if err == nil && len(got) != 4 {
		err = errors.New("unexpected reply")
	}
	if err != nil {
		if ctx.Err() == nil { // else the caller left, which says nothing of Redis
			l.outage.failed()
		}
		return access.Decision{}, fmt.Errorf("ask Redis for the limit: %w", err)
	}
	l.outage.answered()
	return access.Decision{
		Allowed:    got[0] == 1,
		Limit:      n,
		Remaining:  max(n-int(got[1]), 0),
		RetryAfter: time.Duration(got[2]) * time.Millisecond,
		Reset:      now.Add(time.Duration(got[3]) * time.Millisecond),
	}, nil
}

// outage spares requests the wait for a Redis that has failed several times
// running; one request in a second still tries.
type outage struct {
	mu       sync.Mutex
	failures int
	next     time.Time
}

const (
	tolerated = 3
	retryIn   = time.Second
)

// skip reports whether to do without Redis.
func (o *outage) skip() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failures < tolerated {
		return false
	}
	now := time.Now()
	if now.Before(o.next) {
		return true
	}
	o.next = now.Add(retryIn)
	return false
}

func (o *outage) failed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failures++
	if o.failures == tolerated {
		o.next = time.Now().Add(retryIn)
	}
}

func (o *outage) answered() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failures = 0
}
