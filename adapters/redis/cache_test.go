package redis

import (
	"bytes"
	"context"
	"testing"
	"time"

	"parley/platform/testing/testenv"
	"parley/ports"
	"parley/ports/portstest"
)

// openCache returns a cache that waits for a busy machine.
func openCache(t testing.TB, url string) *Cache {
	t.Helper()
	c := NewCache(open(t, url, Options{callTimeout: 20 * time.Second}))
	c.timeout = 20 * time.Second
	return c
}

func TestCache(t *testing.T) {
	portstest.Cache(t, func(t *testing.T) (ports.Cache, func(time.Duration)) {
		c := openCache(t, testenv.Redis(t))
		return c, func(d time.Duration) { age(t, c, d) }
	})
}

// age lets time go by for what is kept: Redis has no clock that a test could set.
func age(t *testing.T, c *Cache, d time.Duration) {
	t.Helper()
	ctx := context.Background()
	keys, err := c.client.rdb.Keys(ctx, c.client.opt.Prefix+"cache:*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		left, err := c.client.rdb.PTTL(ctx, key).Result()
		if err != nil {
			t.Fatal(err)
		}
		if left <= 0 {
			t.Errorf("%s never expires", key)
		}
		if left <= d {
			err = c.client.rdb.Del(ctx, key).Err()
		} else {
			err = c.client.rdb.PExpire(ctx, key, left-d).Err()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestCache_IsSharedAndSaysLittle(t *testing.T) {
	url := testenv.Redis(t)
	one, two := openCache(t, url), openCache(t, url)
	one.Set(t.Context(), "u", "a question", []byte("an answer"), time.Minute)
	if got, ok := two.Get(t.Context(), "u", "a question"); !ok || string(got) != "an answer" {
		t.Errorf("another instance has %q, %v", got, ok)
	}
	for _, key := range one.client.rdb.Keys(t.Context(), "*").Val() {
		if bytes.Contains([]byte(key), []byte("question")) {
			t.Errorf("the key %s shows the question", key)
		}
	}
	one.Set(t.Context(), "u", "giant", make([]byte, maxCachedBytes+1), time.Minute)
	if _, ok := two.Get(t.Context(), "u", "giant"); ok {
		t.Error("a giant was kept")
	}
}

// TestCache_FrozenRedis: calls are bounded by the cache's own timeout, here not by
// the client's, and after some that fail no further ones are made.
func TestCache_FrozenRedis(t *testing.T) {
	server := testenv.StartRedis(t)
	c := NewCache(open(t, server.URL(), Options{callTimeout: time.Hour}))
	server.Pause()
	defer server.Resume()
	for range 20 {
		c.Set(t.Context(), "u", "key", []byte("x"), time.Minute)
		if _, ok := c.Get(t.Context(), "u", "key"); ok {
			t.Error("an answer from a frozen Redis")
		}
	}
	if c.circuit.failures < maxFailures {
		t.Errorf("%d failures: the circuit is closed", c.circuit.failures)
	}
}
