package redis

import (
	"context"
	_ "embed" // the script
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/domain/access"
)

const (
	// heartbeatInterval is how often an instance registers itself; after
	// presenceTTL without that it is no longer counted.
	heartbeatInterval = time.Second
	presenceTTL       = 15 * time.Second
	// settleInterval is how often local decisions are sent to Redis while there
	// are any that it does not have.
	settleInterval = 100 * time.Millisecond
	// contactForFewer is how long Redis must have answered without a break
	// before the number of instances is lowered to what it counts: after a
	// start, of the instances or of Redis, all have registered by then.
	contactForFewer = 5 * time.Second
	// unknownInstances is assumed until instances have been counted, unless
	// Options.Instances says how many are expected.
	unknownInstances = 8
	// carefulAfterOutage is how long a limiter does not admit more than this
	// instance's share after Redis came back: the local decisions of the others
	// arrive within that time, and a heartbeat shows whether the counts are lost.
	carefulAfterOutage = 2 * heartbeatInterval
)

//go:embed present.lua
var presentLua string

var present = redis.NewScript(presentLua)

// presence is what this instance knows of the others.
type presence struct {
	mu         sync.Mutex
	instances  int
	contact    time.Time // since when every heartbeat was answered; zero: the last was not
	registered bool      // Redis has had this instance on its list
	careful    time.Time // until then no limiter admits more than its share
}

func (p *presence) success(counted, expected int, added bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.contact.IsZero() {
		p.contact = now
	}
	if counted = max(counted, expected); counted > p.instances || now.Sub(p.contact) >= contactForFewer {
		p.instances = counted
	}
	if added && p.registered { // Redis has lost its data, and the counts with them
		p.carefulUntil(now.Add(access.Window + time.Second))
	}
	p.registered = true
}

func (p *presence) failure() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.contact = time.Time{}
	p.carefulUntil(time.Now().Add(carefulAfterOutage))
}

func (p *presence) carefulUntil(t time.Time) {
	if t.After(p.careful) {
		p.careful = t
	}
}

// Instances returns how many instances share this Redis: those that were
// counted, but not fewer than Options.Instances. Until Redis has answered for
// some seconds it is an assumption on the safe side.
func (c *Client) Instances() int {
	c.presence.mu.Lock()
	defer c.presence.mu.Unlock()
	return c.presence.instances
}

// careful reports whether Redis may lack requests that were admitted within the
// last minute.
func (c *Client) careful() bool {
	c.presence.mu.Lock()
	defer c.presence.mu.Unlock()
	return time.Now().Before(c.presence.careful)
}

// interrupted notes that Redis has failed for a limiter.
func (c *Client) interrupted() {
	c.presence.mu.Lock()
	defer c.presence.mu.Unlock()
	c.presence.carefulUntil(time.Now().Add(carefulAfterOutage))
}

// heartbeatPresence keeps this instance registered, counts the others and
// sends what limiters have decided without Redis. While Redis is down, the last
// count holds.
func (c *Client) heartbeatPresence(ctx context.Context) {
	defer close(c.done)
	key := c.opt.Prefix + "instances"
	for {
		interval := heartbeatInterval
		call, cancel := context.WithTimeout(ctx, c.opt.callTimeout)
		got, err := present.Run(call, c.rdb, []string{key}, c.opt.Instance, presenceTTL.Milliseconds()).Int64Slice()
		cancel()
		if err == nil && len(got) == 2 {
			c.presence.success(int(got[0]), c.opt.Instances, got[1] == 1)
			if !c.settleLimiters(ctx) {
				interval = settleInterval
			}
		} else if ctx.Err() == nil {
			c.presence.failure()
		}
		select {
		case <-time.After(interval):
		case <-c.settleSoon:
			select {
			case <-time.After(settleInterval):
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			call, cancel := context.WithTimeout(context.Background(), callTimeout)
			defer cancel()
			c.settleLimiters(call)
			c.rdb.ZRem(call, key, c.opt.Instance) // best effort: it expires
			return
		}
	}
}

// settleLimiters reports whether nothing is left to settle.
func (c *Client) settleLimiters(ctx context.Context) bool {
	c.limitersMu.Lock()
	limiters := c.limiters
	c.limitersMu.Unlock()
	done := true
	for _, l := range limiters {
		call, cancel := context.WithTimeout(ctx, c.opt.callTimeout)
		done = l.settle(call) && done
		cancel()
	}
	return done
}
