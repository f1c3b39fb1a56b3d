package observe

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"parley/ports"
)

// live is a run that this instance makes: the moments from which Parley's own
// share of a turn's time can be told.
type live struct {
	accepted time.Time
	asked    atomic.Bool  // a provider has been
	chunk    atomic.Int64 // when the provider's first piece came, in Unix nanoseconds; 0 before
	first    atomic.Int64 // time to the first event, once there was one
	// span is the last request to a provider: the trace that an exemplar of the
	// run leads to when the run has none of its own.
	span atomic.Pointer[trace.SpanContext]
}

// stages of chat_overhead_seconds.
var stages = []string{"admit", "emit"}

// asking measures what came before the first request to a provider.
func (ob *Observer) asking(ctx context.Context, run string) {
	if v, ok := ob.live.Load(run); ok {
		span := trace.SpanContextFromContext(ctx)
		v.(*live).span.Store(&span)
		if l := v.(*live); l.asked.CompareAndSwap(false, true) {
			ob.later.observe(ob.m.stage["admit"], time.Since(l.accepted).Seconds())
		}
	}
}

// heard notes the first piece that a provider sent.
func (ob *Observer) heard(run string) {
	if v, ok := ob.live.Load(run); ok {
		v.(*live).chunk.CompareAndSwap(0, time.Now().UnixNano())
	}
}

// firstEvent measures what lay between the provider's first piece and the
// moment when it could be shown.
func (ob *Observer) firstEvent(f ports.FirstEvent) {
	v, ok := ob.live.Load(f.RunID)
	if !ok {
		return
	}
	l := v.(*live)
	l.first.CompareAndSwap(0, int64(f.SinceAccepted))
	if chunk := l.chunk.Load(); chunk > 0 {
		ob.later.observe(ob.m.stage["emit"], time.Since(time.Unix(0, chunk)).Seconds())
	}
}
