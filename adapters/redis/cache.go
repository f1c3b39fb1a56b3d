package redis

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// Cache is a ports.Cache that instances share. Keys are digested, so that none
// is longer or says more than it must; Redis itself drops what expires.
type Cache struct {
	client *Client
	outage outage
	budget time.Duration
}

// NewCache returns a cache on Redis.
func NewCache(c *Client) *Cache { return &Cache{client: c, budget: budget} }

// longestCached is the largest value that is kept, in bytes: a shared Redis is
// no place for the odd giant.
const longestCached = 1 << 20

// Get implements ports.Cache.
func (c *Cache) Get(ctx context.Context, user, key string) ([]byte, bool) {
	if c.outage.skip() {
		return nil, false
	}
	call, cancel := context.WithTimeout(ctx, c.budget)
	defer cancel()
	value, err := c.client.rdb.Get(call, c.of(user)+digest(key)).Bytes()
	c.settle(ctx, err)
	return value, err == nil
}

// Set implements ports.Cache.
func (c *Cache) Set(ctx context.Context, user, key string, value []byte, ttl time.Duration) {
	if ttl <= 0 || len(value) > longestCached || c.outage.skip() {
		return
	}
	call, cancel := context.WithTimeout(ctx, c.budget)
	defer cancel()
	c.settle(ctx, c.client.rdb.Set(call, c.of(user)+digest(key), value, ttl).Err())
}

// settle tells the outage how a call went. A key that is not there is an answer.
func (c *Cache) settle(ctx context.Context, err error) {
	switch {
	case err == nil || errors.Is(err, redis.Nil):
		c.outage.answered()
	case ctx.Err() == nil:
		c.outage.failed()
	}
}

// ForgetUser implements ports.UserForgetter.
func (c *Cache) ForgetUser(ctx context.Context, user string) error {
	return c.client.unlink(ctx, c.of(user), func(string) bool { return true })
}

// of is how the keys of a user's values begin.
func (c *Cache) of(user string) string { return c.client.opt.Prefix + "cache:" + digest(user) + ":" }

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
