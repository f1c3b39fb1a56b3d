package observe

import (
	"context"
	"time"

	"parley/domain/access"
	"parley/ports"
)

// Limiter measures how long decisions of a limiter take.
func (ob *Observer) Limiter(next ports.Limiter) ports.Limiter {
	if telemetryOff {
		return next
	}
	return measuredLimiter{ob: ob, next: next}
}

type measuredLimiter struct {
	ob   *Observer
	next ports.Limiter
}

func (w measuredLimiter) Take(ctx context.Context, key string, limit int) (access.Decision, error) {
	begun := time.Now()
	d, err := w.next.Take(ctx, key, limit)
	w.ob.metricBuffer.observe(w.ob.m.limitSeconds, time.Since(begun).Seconds())
	return d, err
}
