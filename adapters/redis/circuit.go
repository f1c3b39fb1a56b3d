package redis

import (
	"sync"
	"time"
)

const (
	maxFailures   = 3           // failures in a row that open the circuit
	retryInterval = time.Second // one request tries again that often while it is open
)

// circuit spares requests the wait for a Redis that has failed several times
// in a row; one request in a second still tries.
type circuit struct {
	mu       sync.Mutex
	failures int
	next     time.Time
}

// allow reports whether to send a command.
func (c *circuit) allow() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failures < maxFailures {
		return true
	}
	now := time.Now()
	if now.Before(c.next) {
		return false
	}
	c.next = now.Add(retryInterval)
	return true
}

// failure counts a failed command and reports whether the circuit is open now.
func (c *circuit) failure() (open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures++
	if c.failures == maxFailures {
		c.next = time.Now().Add(retryInterval)
	}
	return c.failures >= maxFailures
}

// success closes the circuit.
func (c *circuit) success() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures = 0
}
