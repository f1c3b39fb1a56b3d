package redis

import (
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/domain/access"
	"parley/ports"
)

// decisionTimeout bounds how long a request waits for a decision of Redis. A
// slower answer is treated as none.
const decisionTimeout = 50 * time.Millisecond

// FailMode says what a limiter does while Redis does not answer.
type FailMode string

const (
	FailLocal  FailMode = "local"  // each instance admits its share of the limit
	FailOpen   FailMode = "open"   // everything passes
	FailClosed FailMode = "closed" // nothing passes
)

// Limiter counts requests for all instances together, in one atomic round trip
// on the clock of Redis: never more than the limit in any rolling minute,
// whichever instances are asked. A caller takes 126 bytes, and 5 for each of
// its last 64 requests, for a minute.
//
// What is decided without Redis is sent to it as soon as it answers again, and
// counted there exactly once, also if the command that was too slow has been
// carried out after all.
type Limiter struct {
	client  *Client
	local   ports.Limiter
	fail    FailMode
	circuit circuit
	callers callers

	timeout time.Duration
	clock   ports.Clock // of tests; nil: Redis' own
}

//go:embed limit.lua
var limitLua string

var limit = redis.NewScript(limitLua)

// NewLimiter returns a limiter on Redis. While Redis does not answer, local
// decides, each instance for its share of the limit: together the instances do
// not admit more than the limit either. Local counts this instance's own
// requests at all times, so that an outage resets no count.
func NewLimiter(c *Client, local ports.Limiter, fail FailMode) *Limiter {
	l := &Limiter{client: c, local: local, fail: fail, timeout: decisionTimeout, callers: newCallers()}
	c.limitersMu.Lock()
	defer c.limitersMu.Unlock()
	c.limiters = append(c.limiters, l)
	return l
}

var errCircuitOpen = errors.New("redis does not answer")

// Take counts one request. It fails only when ctx is over, or in FailClosed.
func (l *Limiter) Take(ctx context.Context, key string, n int) (access.Decision, error) {
	t := newTicket()
	d, err := l.ask(ctx, key, n, t)
	if err == nil {
		if !d.Allowed || l.fail != FailLocal {
			return d, nil
		}
		if !l.client.careful() {
			_, _ = l.local.Take(ctx, key, n)
			return d, nil
		}
		local, err := l.local.Take(ctx, key, l.share(n))
		if err != nil || local.Allowed {
			return d, nil //nolint:nilerr // Redis has decided
		}
		local.Fallback = true
		l.cancel(key, t)
		return local, nil
	}
	sent := !errors.Is(err, errCircuitOpen)
	switch {
	case ctx.Err() != nil:
		return access.Decision{}, ctx.Err()
	case l.fail == FailOpen:
		l.count(key, t, sent)
		return access.Decision{Allowed: true, Limit: n, Remaining: n, Reset: time.Now(), Fallback: true}, nil
	case l.fail == FailClosed:
		if sent {
			l.cancel(key, t)
		}
		return access.Decision{}, err
	}
	d, err = l.decideLocally(ctx, key, n)
	switch {
	case err == nil && d.Allowed:
		l.count(key, t, sent)
	case sent:
		l.cancel(key, t)
	}
	return d, err
}

// share is what this instance may admit of a limit by itself, but 1 at least.
func (l *Limiter) share(n int) int { return max(n/l.client.Instances(), min(n, 1)) }

// decideLocally admits this instance's share of the limit, and of what was left
// of it for all instances when Redis last answered for this caller.
func (l *Limiter) decideLocally(ctx context.Context, key string, n int) (access.Decision, error) {
	share := l.share(n)
	if wait := l.callers.exhausted(key, n, l.client.Instances()); wait > 0 {
		return access.Decision{Limit: share, RetryAfter: wait, Reset: time.Now().Add(wait), Fallback: true}, nil
	}
	d, err := l.local.Take(ctx, key, share)
	d.Fallback = true
	return d, err
}

// count has Redis count a request that was admitted without it.
func (l *Limiter) count(key string, t ticket, sent bool) {
	l.callers.admitted(key, t, sent)
	l.client.wakeSettler()
}

// cancel has Redis not count a request that was refused although the command
// may have been carried out.
func (l *Limiter) cancel(key string, t ticket) {
	l.callers.refused(key, t)
	l.client.wakeSettler()
}

func (l *Limiter) ask(ctx context.Context, key string, n int, t ticket) (access.Decision, error) {
	if !l.circuit.allow() {
		return access.Decision{}, errCircuitOpen
	}
	call, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	now, fixed := l.now()
	settling := l.callers.unsettled(key)
	got, err := limit.Run(call, l.client.rdb, []string{l.redisKey(key)}, n, fixed, string(t[:]), encodeSettlements(settling)).Int64Slice()
	if err == nil && len(got) != 4 {
		err = errors.New("unexpected reply")
	}
	if err != nil {
		if ctx.Err() == nil { // else the caller left, which says nothing about Redis
			if open := l.circuit.failure(); open || !errors.Is(err, context.DeadlineExceeded) {
				l.client.interrupted()
			}
		}
		return access.Decision{}, fmt.Errorf("ask Redis for the limit: %w", err)
	}
	l.circuit.success()
	l.callers.settled(key, settling)
	l.callers.counted(key, int(got[1]))
	return access.Decision{
		Allowed:    got[0] == 1,
		Limit:      n,
		Remaining:  max(n-int(got[1]), 0),
		RetryAfter: time.Duration(got[2]) * time.Millisecond,
		Reset:      now.Add(time.Duration(got[3]) * time.Millisecond),
	}, nil
}

func (l *Limiter) now() (now time.Time, fixed any) {
	if l.clock == nil {
		return time.Now(), ""
	}
	now = l.clock()
	return now, now.UnixMilli()
}

func (l *Limiter) redisKey(key string) string { return l.client.opt.Prefix + "limit:{" + key + "}" }

// settle sends what was decided without Redis and reports whether nothing is
// left to send.
func (l *Limiter) settle(ctx context.Context) bool {
	for range maxCallers / batchSize {
		keys := l.callers.owing(batchSize)
		if len(keys) == 0 {
			return true
		}
		lists := make([][]settlement, len(keys))
		replies := make([]*redis.Cmd, len(keys))
		_, fixed := l.now()
		// The error of the pipeline is the first of its commands'.
		_, _ = l.client.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, key := range keys {
				lists[i] = l.callers.unsettled(key)
				replies[i] = limit.EvalSha(ctx, p, []string{l.redisKey(key)}, 0, fixed, "", encodeSettlements(lists[i]))
			}
			return nil
		})
		for i, key := range keys {
			err := replies[i].Err()
			if redis.HasErrorPrefix(err, "NOSCRIPT") {
				err = limit.Run(ctx, l.client.rdb, []string{l.redisKey(key)}, 0, fixed, "", encodeSettlements(lists[i])).Err()
			}
			if err != nil {
				return false
			}
			l.callers.settled(key, lists[i])
		}
	}
	return false
}
