package observe

import (
	"context"
	"time"

	"parley/domain/access"
	"parley/ports"
)

// Limiter measures how long a limiter takes.
func (ob *Observer) Limiter(next ports.Limiter) ports.Limiter {
	if muted {
		return next
	}
	return watchedLimiter{ob: ob, next: next}
}

type watchedLimiter struct {
	ob   *Observer
	next ports.Limiter
}

func (w watchedLimiter) Take(ctx context.Context, key string, limit int) (access.Decision, error) {
	begun := time.Now()
	d, err := w.next.Take(ctx, key, limit)
	w.ob.later.observe(w.ob.m.limitSeconds, time.Since(begun).Seconds())
	return d, err
}
