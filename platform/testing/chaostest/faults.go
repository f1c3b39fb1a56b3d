package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"parley/platform/testing/testenv"
)

// chaos injects faults, one after the other, and keeps the record of them.
type chaos struct {
	h        *history
	slots    []*slot
	postgres *testenv.Server
	redis    *testenv.Server
	provider *provider

	mu        sync.Mutex
	done      map[kind]int
	spent     map[kind]time.Duration
	points    map[string]int // failpoints that were reached
	missed    map[string]int // and those that were not
	kills     int            // processes that died without a warning
	swallowed int
	deaths    []death // of those that were only out of reach
	away      []span  // database
	deaf      []span
	lost      []span // what the shared limiter knew
	drains    []time.Duration
}

func newChaos(h *history, w *world) *chaos {
	return &chaos{
		h: h, slots: w.slots, postgres: w.postgres, redis: w.redis, provider: w.provider, done: map[kind]int{}, spent: map[kind]time.Duration{},
		points: map[string]int{}, missed: map[string]int{},
	}
}

func (c *chaos) count(k kind, begun time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.done[k]++
	c.spent[k] += now.Sub(begun)
	switch k {
	case kill, failpoint, rolling, redisDie, redisIce, redisFlush, redisCut, postgresCut, commitLost:
	default: // an instance may not be able to learn that it should stop
		c.deaf = append(c.deaf, span{begun, now})
	}
}

// settle is what an instance gets after it was frozen.
const settle = time.Second

// grace is what an instance gets to drain; the program's own limit is below it.
const (
	shutdownTimeout = 5 * time.Second
	grace           = shutdownTimeout + 3*time.Second
)

// do injects one fault and returns when the servers, if not the instances, are
// well again.
func (c *chaos) do(f fault) error {
	s := c.slots[f.victim]
	c.h.meanwhile(f.kind)
	defer c.count(f.kind, time.Now())
	switch f.kind {
	case kill:
		return c.kill(s, f.delay)
	case failpoint:
		return c.failpoint(s, f)
	case zombie:
		p, err := c.healthy(s, f.delay)
		if err != nil {
			return err
		}
		c.outOfReach(p)
		err = p.freeze(f.length)
		time.Sleep(settle) // what it answers now is late through no fault of its own
		return err
	case partition:
		p, err := c.healthy(s, f.delay)
		if err != nil {
			return err
		}
		c.outOfReach(p)
		s.pg.silent.Store(true)
		time.Sleep(f.length)
		s.pg.silent.Store(false)
		return nil
	case postgresDie:
		time.Sleep(f.delay)
		c.without(&c.away, func() {
			c.postgres.Kill9()
			time.Sleep(f.length)
			c.postgres.Restart()
		})
		return c.serving(s)
	case postgresIce:
		time.Sleep(f.delay)
		c.without(&c.away, func() {
			c.postgres.Pause()
			time.Sleep(f.length)
			c.postgres.Resume()
		})
		return c.serving(s)
	case postgresCut:
		time.Sleep(f.delay)
		s.pg.cut()
		return nil
	case commitLost:
		return c.loseCommits(s, f)
	case locked:
		return c.lock(f)
	case redisDie:
		time.Sleep(f.delay)
		c.without(&c.lost, func() {
			c.redis.Kill9()
			time.Sleep(f.length)
			c.redis.Restart()
		})
		return nil
	case redisIce:
		time.Sleep(f.delay)
		c.redis.Pause()
		time.Sleep(f.length)
		c.redis.Resume()
		return nil
	case redisFlush:
		time.Sleep(f.delay)
		return c.flush()
	case redisCut:
		time.Sleep(f.delay)
		s.redis.cut()
		return nil
	case rolling:
		return c.roll()
	}
	return fmt.Errorf("no such fault: %s", f.kind)
}

// without notes the time that do takes as one in which something was missing.
func (c *chaos) without(what *[]span, do func()) {
	from := time.Now()
	do()
	c.mu.Lock()
	defer c.mu.Unlock()
	*what = append(*what, span{from, time.Now()})
}

func (c *chaos) outOfReach(p *proc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deaths = append(c.deaths, death{p.name, time.Now()})
}

// healthy waits until a slot has a process that has been ready for a while.
func (c *chaos) healthy(s *slot, while time.Duration) (*proc, error) {
	p := s.current()
	if p.gone() {
		var err error
		if p, err = c.restart(s, ""); err != nil {
			return nil, err
		}
	}
	time.Sleep(while)
	return p, nil
}

// restart starts a process in a slot. One that carries a failpoint may die
// before it is ready.
func (c *chaos) restart(s *slot, failpoint string) (*proc, error) {
	p, err := s.start(failpoint)
	if err != nil && !(failpoint != "" && errors.Is(err, errDied)) {
		return nil, fmt.Errorf("slot %s does not come back: %w", s.letter, err)
	}
	return p, nil
}

func (c *chaos) died() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kills++
}

func (c *chaos) kill(s *slot, delay time.Duration) error {
	if delay >= 0 {
		p, err := c.healthy(s, delay)
		if err != nil {
			return err
		}
		p.kill()
		c.died()
	} else { // in the middle of starting
		p := s.current()
		if !p.gone() {
			p.kill()
			c.died()
		}
		starting := make(chan error, 1)
		go func() { _, err := s.start(""); starting <- err }()
		time.Sleep(-delay)
		if p = s.current(); p.cmd.Process != nil && !p.gone() {
			p.kill()
			c.died()
		}
		<-starting
	}
	_, err := c.restart(s, "")
	return err
}

// failpoint starts a process that will kill itself, and waits until it has.
func (c *chaos) failpoint(s *slot, f fault) error {
	if p := s.current(); !p.gone() {
		p.kill()
		c.died()
	}
	p, err := c.restart(s, f.failpoint)
	if err != nil {
		return err
	}
	limit := 4 * time.Second
	if name := pointName(f.failpoint); name == "release" { // reached only by a process that is told to end, with replies that no reader has seen
		c.provider.silent.Store(true)
		time.Sleep(1500 * time.Millisecond)
		p.requestEnd()
		c.provider.silent.Store(false)
		limit = grace
	}
	var reached bool
	select {
	case <-p.exited:
		reached = !p.drainSucceeded()
	case <-time.After(limit):
		p.kill()
	}
	c.died()
	c.mu.Lock()
	name, _, _ := cutLast(f.failpoint)
	if reached {
		c.points[name]++
	} else {
		c.missed[name]++
	}
	c.mu.Unlock()
	_, err = c.restart(s, "")
	return err
}

// roll replaces one instance after the other, as a deployment does.
func (c *chaos) roll() error {
	for _, s := range c.slots {
		p, err := c.healthy(s, 0)
		if err != nil {
			return err
		}
		begun := time.Now()
		if err := p.terminate(grace); err != nil {
			c.h.violate("drain", "%v", err)
		} else if !p.drainSucceeded() {
			c.h.violate("drain", "%s did not end well after SIGTERM", p.name)
		}
		c.mu.Lock()
		c.drains = append(c.drains, time.Since(begun))
		c.mu.Unlock()
		if _, err := c.restart(s, ""); err != nil {
			return err
		}
	}
	return nil
}

// record adds to a snapshot what happened to the instances and the servers.
func (c *chaos) record(s *snapshot) (unexpectedExits []string) {
	var up []span
	s.Deaths = append(s.Deaths, c.deaths...)
	for _, slot := range c.slots {
		u, d, foreign := slot.lifetimes()
		up = append(up, u...)
		s.Deaths = append(s.Deaths, d...)
		unexpectedExits = append(unexpectedExits, foreign...)
	}
	s.Outages = append(c.away, outages(up, time.Now())...)
	s.Lost, s.Deaf = c.lost, c.deaf
	return unexpectedExits
}
