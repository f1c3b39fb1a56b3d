package memory

import (
	"container/list"
	"context"
	"sync"
	"time"

	"parley/ports"
)

// Cache is a ports.Cache of one instance. When it is full, the least
// recently used values are dropped.
type Cache struct {
	now  ports.Clock
	most int

	mu    sync.Mutex
	size  int
	byKey map[cacheKey]*list.Element
	order *list.List // of cached, the latest used first
}

type cacheKey struct{ user, key string }

type cached struct {
	key     cacheKey
	value   []byte
	expires time.Time
}

// NewCache returns a cache of at most that many bytes of keys and values.
func NewCache(now ports.Clock, most int) *Cache {
	return &Cache{now: now, most: most, byKey: map[cacheKey]*list.Element{}, order: list.New()}
}

// Get implements ports.Cache.
func (c *Cache) Get(_ context.Context, user, key string) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[cacheKey{user, key}]
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
func (c *Cache) Set(_ context.Context, user, key string, value []byte, ttl time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := cacheKey{user, key}
	if e, ok := c.byKey[k]; ok {
		c.drop(e)
	}
	v := cached{key: k, value: value, expires: c.now().Add(ttl)}
	if ttl <= 0 || v.size() > c.most {
		return
	}
	c.byKey[k] = c.order.PushFront(v)
	c.size += v.size()
	for c.size > c.most {
		c.drop(c.order.Back())
	}
}

func (c *Cache) drop(e *list.Element) {
	v := c.order.Remove(e).(cached) //nolint:forcetypeassert // the list holds nothing else
	delete(c.byKey, v.key)
	c.size -= v.size()
}

func (v cached) size() int { return len(v.key.user) + len(v.key.key) + len(v.value) }

// ForgetUser implements ports.UserForgetter.
func (c *Cache) ForgetUser(_ context.Context, user string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.byKey {
		if k.user == user {
			c.drop(e)
		}
	}
	return nil
}
