package observe

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"parley/ports"
)

// runTiming is a run of this instance, with the times from which Parley's own
// share of the duration of a turn is computed.
type runTiming struct {
	accepted time.Time
	asked    atomic.Bool  // a provider was called
	chunk    atomic.Int64 // when the provider's first chunk arrived, in Unix nanoseconds; 0 before
	first    atomic.Int64 // time to the first event, once it was sent
	// span is that of the last request to a provider: the exemplar of a run that has
	// no trace of its own.
	span atomic.Pointer[trace.SpanContext]
}

// stages are the values of the label stage of chat_overhead_seconds.
var stages = []string{"admit", "emit"}

// providerCallStarted measures the time before the first request to a provider.
func (ob *Observer) providerCallStarted(ctx context.Context, run string) {
	if v, ok := ob.runTiming.Load(run); ok {
		span := trace.SpanContextFromContext(ctx)
		v.(*runTiming).span.Store(&span)
		if l := v.(*runTiming); l.asked.CompareAndSwap(false, true) {
			ob.metricBuffer.observe(ob.m.stage["admit"], time.Since(l.accepted).Seconds())
		}
	}
}

// firstChunk records when a provider sent its first chunk.
func (ob *Observer) firstChunk(run string) {
	if v, ok := ob.runTiming.Load(run); ok {
		v.(*runTiming).chunk.CompareAndSwap(0, time.Now().UnixNano())
	}
}

// firstEvent measures the time from the provider's first chunk until it could be
// shown.
func (ob *Observer) firstEvent(f ports.FirstEvent) {
	v, ok := ob.runTiming.Load(f.RunID)
	if !ok {
		return
	}
	l := v.(*runTiming)
	l.first.CompareAndSwap(0, int64(f.SinceAccepted))
	if chunk := l.chunk.Load(); chunk > 0 {
		ob.metricBuffer.observe(ob.m.stage["emit"], time.Since(time.Unix(0, chunk)).Seconds())
	}
}
