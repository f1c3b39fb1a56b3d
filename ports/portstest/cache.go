package portstest

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"parley/ports"
)

// Cache is the contract of ports.Cache. pass advances the clock of the cache that
// open returned.
func Cache(t *testing.T, open func(t *testing.T) (c ports.Cache, pass func(time.Duration))) {
	t.Run("ReturnsWhatWasSet", func(t *testing.T) {
		c, _ := open(t)
		value := []byte("a\x00b\xff")
		c.Set(t.Context(), "u", "key", value, time.Minute)
		if got, ok := c.Get(t.Context(), "u", "key"); !ok || !bytes.Equal(got, value) {
			t.Errorf("got %q, %v", got, ok)
		}
		if got, ok := c.Get(t.Context(), "u", "other"); ok {
			t.Errorf("another key has %q", got)
		}
	})
	t.Run("LastValueWins", func(t *testing.T) {
		c, _ := open(t)
		c.Set(t.Context(), "u", "key", []byte("one"), time.Minute)
		c.Set(t.Context(), "u", "key", []byte("two"), time.Minute)
		if got, _ := c.Get(t.Context(), "u", "key"); string(got) != "two" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("Expires", func(t *testing.T) {
		c, pass := open(t)
		c.Set(t.Context(), "u", "key", []byte("one"), time.Minute)
		pass(59 * time.Second)
		if _, ok := c.Get(t.Context(), "u", "key"); !ok {
			t.Error("gone too early")
		}
		pass(2 * time.Second)
		if _, ok := c.Get(t.Context(), "u", "key"); ok {
			t.Error("kept too long")
		}
	})
	t.Run("SeparatesUsers", func(t *testing.T) {
		c, _ := open(t)
		for _, user := range []string{"u", "u2", ""} {
			c.Set(t.Context(), user, "key", []byte("of "+user), time.Minute)
			c.Set(t.Context(), user, "key 2", []byte("of "+user), time.Minute)
		}
		if err := c.ForgetUser(t.Context(), "u"); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"key", "key 2"} {
			if got, ok := c.Get(t.Context(), "u", key); ok {
				t.Errorf("forgotten, and %q is still there", got)
			}
			for _, other := range []string{"u2", ""} {
				if got, ok := c.Get(t.Context(), other, key); !ok || string(got) != "of "+other {
					t.Errorf("%q has %q, %v", other, got, ok)
				}
			}
		}
	})
	t.Run("ConcurrentUse", func(t *testing.T) {
		c, _ := open(t)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 50 {
					key, value := fmt.Sprintf("key %d", j%10), fmt.Sprintf("value %d", j%10)
					c.Set(t.Context(), "u", key, []byte(value), time.Minute)
					if got, ok := c.Get(t.Context(), "u", key); ok && string(got) != value {
						t.Errorf("%d: %s has %q", i, key, got)
					}
				}
			})
		}
		wg.Wait()
	})
}
