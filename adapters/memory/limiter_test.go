package memory

import (
	"fmt"
	"testing"
	"time"

	"parley/ports"
	"parley/ports/portstest"
)

func TestLimiter(t *testing.T) {
	portstest.Limiter(t, func(_ testing.TB, now ports.Clock, n int) []ports.Limiter {
		one := NewLimiter(now)
		shared := make([]ports.Limiter, n)
		for i := range shared {
			shared[i] = one
		}
		return shared
	})
}

func TestLimiter_ForgetsTheQuiet(t *testing.T) {
	now := time.Now()
	l := NewLimiter(func() time.Time { return now })
	for i := range 1000 {
		take(t, l, fmt.Sprint(i), 1)
	}
	for range 3 {
		now = now.Add(61 * time.Second)
		take(t, l, "busy", 100)
	}
	if n := len(l.young) + len(l.old); n != 1 {
		t.Errorf("%d keys are kept, want the busy one", n)
	}
}

func TestLimiter_BoundsItsKeys(t *testing.T) {
	now := time.Now()
	l := NewLimiter(func() time.Time { return now })
	l.max = 10
	for i := range 10 {
		take(t, l, fmt.Sprint(i), 2)
	}
	for i, want := range []bool{true, true, false, false} {
		if got := take(t, l, fmt.Sprint("late", i), 2); got != want {
			t.Errorf("late caller %d: allowed %v, want %v", i, got, want)
		}
	}
	if n := len(l.young) + len(l.old); n != 10 {
		t.Errorf("%d keys are kept, want 10", n)
	}
	if !take(t, l, "3", 2) || take(t, l, "3", 2) {
		t.Error("a key that is known is not counted by itself any more")
	}
}

func TestLimiter_ClockGoesBack(t *testing.T) {
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	now := start
	l := NewLimiter(func() time.Time { return now })
	for _, at := range []time.Duration{0, 30 * time.Second, -time.Hour} {
		now = start.Add(at)
		take(t, l, "k", 2)
	}
	if take(t, l, "k", 2) {
		t.Error("a clock that went back made room")
	}
}

func take(t *testing.T, l *Limiter, key string, limit int) bool {
	t.Helper()
	d, err := l.Take(t.Context(), key, limit)
	if err != nil {
		t.Fatal(err)
	}
	return d.Allowed
}

func BenchmarkLimiter(b *testing.B) {
	l := NewLimiter(time.Now)
	for i := 0; b.Loop(); i++ {
		l.Take(b.Context(), "user", 100)
	}
}
