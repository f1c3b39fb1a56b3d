package memory

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"parley/ports"
	"parley/ports/portstest"
)

// cacheClock is a clock that goes when it is told to.
type cacheClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *cacheClock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *cacheClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestCache(t *testing.T) {
	portstest.Cache(t, func(*testing.T) (ports.Cache, func(time.Duration)) {
		clock := &cacheClock{now: time.Now()}
		return NewCache(clock.time, 1<<20), clock.pass
	})
}

func TestCache_IsBounded(t *testing.T) {
	c := NewCache(time.Now, 100)
	for i := range 100 {
		c.Set(t.Context(), "u", fmt.Sprintf("key-%02d", i), make([]byte, 18), time.Minute) // 25 bytes each
		if i == 2 {
			continue
		}
		c.Get(t.Context(), "u", "key-00")
	}
	if _, ok := c.Get(t.Context(), "u", "key-00"); !ok {
		t.Error("what is used often has gone")
	}
	if _, ok := c.Get(t.Context(), "u", "key-50"); ok {
		t.Error("what was not used is still there")
	}
	if c.size > 100 || len(c.byKey) != c.order.Len() || c.order.Len() != 4 {
		t.Errorf("%d bytes in %d values", c.size, c.order.Len())
	}
	c.Set(t.Context(), "u", "huge", make([]byte, 1000), time.Minute)
	if _, ok := c.Get(t.Context(), "u", "huge"); ok || c.order.Len() != 4 {
		t.Error("a value larger than the cache was kept")
	}
}
