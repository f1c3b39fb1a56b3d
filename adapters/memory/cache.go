package memory

import (
	"container/list"
	"context"
	"sync"
	"time"

	"parley/ports"
)

// Cache is a ports.Cache of one instance. What was used longest ago goes first
// when it is full.
type Cache struct {
	now  ports.Clock
	most int

	mu    sync.Mutex
	size  int
	byKey map[string]*list.Element
	order *list.List // of cached, the latest used first
}

type cached struct {
	key     string
	value   []byte
	expires time.Time
}

// NewCache returns a cache that holds at most so many bytes of keys and values.
func NewCache(now ports.Clock, most int) *Cache {
	return &Cache{now: now, most: most, byKey: map[string]*list.Element{}, order: list.New()}
}

// Get implements ports.Cache.
func (c *Cache) Get(_ context.Context, key string) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return nil, false
	}
	v := e.Value.(cached) //nolint:forcetypeassert // the list holds nothing else
	if !c.now().Before(v.expires) {
		c.drop(e)
		return nil, false
	}
	c.order.MoveToFront(e)
	return v.value, true
}

// Set implements ports.Cache. It keeps value itself, which must not change.
func (c *Cache) Set(_ context.Context, key string, value []byte, ttl time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[key]; ok {
		c.drop(e)
	}
	if ttl <= 0 || len(key)+len(value) > c.most {
		return
	}
	c.byKey[key] = c.order.PushFront(cached{key: key, value: value, expires: c.now().Add(ttl)})
	c.size += len(key) + len(value)
	for c.size > c.most {
		c.drop(c.order.Back())
	}
}

func (c *Cache) drop(e *list.Element) {
	v := c.order.Remove(e).(cached) //nolint:forcetypeassert // the list holds nothing else
	delete(c.byKey, v.key)
	c.size -= len(v.key) + len(v.value)
}
