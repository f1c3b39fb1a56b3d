package observe

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"parley/domain/chat"
	"parley/ports"
)

// runTiming is a run of this instance, with the times from which Parley's own
// share of the duration of a turn is computed.
type runTiming struct {
	accepted time.Time
	asked    atomic.Int64           // when a provider was called first, in Unix nanoseconds; 0 before
	provider atomic.Pointer[string] // the label of the provider that was called last
	chunk    atomic.Int64           // when the provider's first chunk arrived, in Unix nanoseconds; 0 before
	first    atomic.Int64           // time to the first event, once it was sent
	// span is that of the last request to a provider: the exemplar of a run that has
	// no trace of its own.
	span atomic.Pointer[trace.SpanContext]
}

// stages are the values of the label stage of chat_overhead_seconds.
var stages = []string{"admit", "emit"}

// providerCallStarted measures the time before the first request to a provider.
func (ob *Observer) providerCallStarted(ctx context.Context, run string, provider *string) {
	if v, ok := ob.runTiming.Load(run); ok {
		l, span, now := v.(*runTiming), trace.SpanContextFromContext(ctx), time.Now()
		l.span.Store(&span)
		l.provider.Store(provider)
		if l.asked.CompareAndSwap(0, now.UnixNano()) {
			ob.metricBuffer.observe(ob.m.stage["admit"], now.Sub(l.accepted).Seconds())
		}
	}
}

// firstChunk records when a provider sent its first chunk.
func (ob *Observer) firstChunk(run string) {
	if v, ok := ob.runTiming.Load(run); ok {
		v.(*runTiming).chunk.CompareAndSwap(0, time.Now().UnixNano())
	}
}

// outputSpeed returns the visible output tokens per second after the first chunk, or
// 0 for a reply that is too short for it to mean anything.
func (l *runTiming) outputSpeed(usage chat.Usage) float64 {
	chunk := l.chunk.Load()
	tokens := usage.Output - usage.Reasoning
	if chunk == 0 || tokens < minTokensForSpeed {
		return 0
	}
	took := time.Since(time.Unix(0, chunk))
	if took < minTimeForSpeed { // all of it came at once
		return 0
	}
	return float64(tokens-1) / took.Seconds()
}

// A shorter reply has no speed.
const (
	minTokensForSpeed = 5
	minTimeForSpeed   = 20 * time.Millisecond
)

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

// silentAfter is how long a provider must have sent nothing for a run to count as
// one without output.
const silentAfter = 10 * time.Second

// Runs exports the runs that this instance makes at the moment. They are counted
// at each scrape: a run that hangs reports nothing by itself.
func (ob *Observer) Runs() prometheus.Collector {
	active := prometheus.NewDesc("chat_runs_active", "Replies that this instance makes at the moment.", nil, nil)
	oldest := prometheus.NewDesc("chat_oldest_run_seconds", "Age of the oldest reply that this instance makes at the moment; 0: none.", nil, nil)
	silent := prometheus.NewDesc("chat_runs_without_output", "Replies of this instance to which a provider has sent nothing for 10 s after it was asked.", []string{"provider"}, nil)
	return collectorFunc(func(emit func(desc *prometheus.Desc, value float64, labels ...string)) {
		now, count, since := time.Now(), 0, time.Duration(0)
		waiting := map[string]int{}
		for _, provider := range ob.labels.providers() {
			waiting[provider] = 0
		}
		ob.runTiming.Range(func(_, v any) bool {
			l := v.(*runTiming)
			count, since = count+1, max(since, now.Sub(l.accepted))
			if asked := l.asked.Load(); asked > 0 && l.chunk.Load() == 0 && now.Sub(time.Unix(0, asked)) > silentAfter {
				if provider := l.provider.Load(); provider != nil {
					waiting[*provider]++
				}
			}
			return true
		})
		emit(active, float64(count))
		emit(oldest, since.Seconds())
		for provider, n := range waiting {
			emit(silent, float64(n), provider)
		}
	}, active, oldest, silent)
}
