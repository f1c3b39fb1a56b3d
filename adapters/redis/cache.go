package redis

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// Cache is a ports.Cache that instances share. Keys are hashed, which bounds
// their length and hides their content; Redis deletes expired values.
type Cache struct {
	client  *Client
	circuit circuit
	timeout time.Duration
}

// NewCache returns a cache on Redis.
func NewCache(c *Client) *Cache { return &Cache{client: c, timeout: decisionTimeout} }

// maxCachedBytes is the size of the largest value that is stored.
const maxCachedBytes = 1 << 20

// Get implements ports.Cache.
func (c *Cache) Get(ctx context.Context, user, key string) ([]byte, bool) {
	if !c.circuit.allow() {
		return nil, false
	}
	call, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	value, err := c.client.rdb.Get(call, c.keyPrefix(user)+digest(key)).Bytes()
	c.record(ctx, err)
	return value, err == nil
}

// Set implements ports.Cache.
func (c *Cache) Set(ctx context.Context, user, key string, value []byte, ttl time.Duration) {
	if ttl <= 0 || len(value) > maxCachedBytes || !c.circuit.allow() {
		return
	}
	call, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	c.record(ctx, c.client.rdb.Set(call, c.keyPrefix(user)+digest(key), value, ttl).Err())
}

// record reports the outcome of a call to the circuit. A missing key is an answer.
func (c *Cache) record(ctx context.Context, err error) {
	switch {
	case err == nil || errors.Is(err, redis.Nil):
		c.circuit.success()
	case ctx.Err() == nil:
		c.circuit.failure()
	}
}

// ForgetUser implements ports.UserForgetter.
func (c *Cache) ForgetUser(ctx context.Context, user string) error {
	return c.client.unlink(ctx, c.keyPrefix(user), func(string) bool { return true })
}

// keyPrefix returns what the keys of all values of a user begin with.
func (c *Cache) keyPrefix(user string) string {
	return c.client.opt.Prefix + "cache:" + digest(user) + ":"
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
