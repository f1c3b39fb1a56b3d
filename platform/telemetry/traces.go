package telemetry

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// newTraceExporter returns nil when no endpoint is configured. It connects
// lazily: a collector that is down does not delay the start.
func newTraceExporter(ctx context.Context, getenv func(string) string) (sdktrace.SpanExporter, error) {
	first := func(names ...string) string {
		for _, n := range names {
			if v := strings.TrimSpace(getenv(n)); v != "" {
				return v
			}
		}
		return ""
	}
	endpoint := first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	if endpoint == "" || strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || getenv("OTEL_TRACES_EXPORTER") == "none" {
		return nil, nil
	}
	if first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc" {
		return otlptracegrpc.New(ctx)
	}
	return otlptracehttp.New(ctx)
}

// queueSize returns how many finished spans may wait for the exporter; the default
// is that of the specification.
func queueSize(getenv func(string) string) int64 {
	if n, err := strconv.ParseInt(getenv("OTEL_BSP_MAX_QUEUE_SIZE"), 10, 64); err == nil && n > 0 {
		return n
	}
	return sdktrace.DefaultMaxQueueSize
}

// countingProcessor exports spans in batches and counts every span that is lost.
// The SDK's own processor drops spans that do not fit into its queue without
// counting them; this one does not pass on more than fit.
type countingProcessor struct {
	sdktrace.SpanProcessor
	waiting atomic.Int64 // in the queue, or on their way
	size    int64
	lost    prometheus.Counter
}

func newCountingProcessor(e sdktrace.SpanExporter, size int64, lost prometheus.Counter) *countingProcessor {
	b := &countingProcessor{size: size, lost: lost}
	b.SpanProcessor = sdktrace.NewBatchSpanProcessor(countingExporter{e, b}, sdktrace.WithMaxQueueSize(int(size)))
	return b
}

func (b *countingProcessor) OnEnd(s sdktrace.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	if b.waiting.Add(1) > b.size {
		b.waiting.Add(-1)
		b.lost.Inc()
		return
	}
	b.SpanProcessor.OnEnd(s)
}

// countingExporter reports to its processor which spans have left the queue, and
// which were lost.
type countingExporter struct {
	sdktrace.SpanExporter
	b *countingProcessor
}

func (e countingExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	e.b.waiting.Add(-int64(len(spans)))
	if err != nil {
		e.b.lost.Add(float64(len(spans)))
	}
	return err
}
