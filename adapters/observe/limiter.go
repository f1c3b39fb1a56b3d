package observe

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"parley/domain/access"
	"parley/ports"
)

// Limiter measures how long decisions of a limiter take, and gives each a span in
// the trace of its request. system is "redis", or "" for a limiter in memory.
func (ob *Observer) Limiter(system string, next ports.Limiter) ports.Limiter {
	if telemetryOff {
		return next
	}
	return measuredLimiter{ob: ob, system: system, next: next}
}

type measuredLimiter struct {
	ob     *Observer
	system string // of the database that decides, as the conventions spell it; "": none
	next   ports.Limiter
}

func (w measuredLimiter) Take(ctx context.Context, key string, limit int) (access.Decision, error) {
	begun := time.Now()
	if trace.SpanFromContext(ctx).IsRecording() {
		return w.traced(ctx, begun, key, limit)
	}
	d, err := w.next.Take(ctx, key, limit)
	w.ob.metricBuffer.observe(w.ob.m.limitSeconds, time.Since(begun).Seconds())
	return d, err
}

func (w measuredLimiter) traced(ctx context.Context, begun time.Time, key string, limit int) (access.Decision, error) {
	ctx, span := w.ob.tracer.Start(ctx, "limiter take", trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	d, err := w.next.Take(ctx, key, limit)
	span.SetAttributes(keyAllowed.Bool(d.Allowed), keyFallback.Bool(d.Fallback))
	if w.system != "" && !d.Fallback {
		span.SetAttributes(keyDBSystem.String(w.system))
	}
	if err != nil {
		span.SetAttributes(keyErrorType.String(errorType(err)))
		span.SetStatus(codes.Error, "")
	}
	observeTraced(span.SpanContext(), w.ob.m.limitSeconds, time.Since(begun).Seconds())
	return d, err
}
