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
// lazily: a collector that is down delays nothing and refuses nothing.
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

// queueSize is how many finished spans may wait for the exporter, by default as
// the specification has it.
func queueSize(getenv func(string) string) int64 {
	if n, err := strconv.ParseInt(getenv("OTEL_BSP_MAX_QUEUE_SIZE"), 10, 64); err == nil && n > 0 {
		return n
	}
	return sdktrace.DefaultMaxQueueSize
}

// batches exports spans in batches and counts every span that is lost. The
// SDK's own processor drops what does not fit into its queue without a word;
// this one lets no more in than fit.
type batches struct {
	sdktrace.SpanProcessor
	waiting atomic.Int64 // in the queue, or on their way
	size    int64
	lost    prometheus.Counter
}

func newBatches(e sdktrace.SpanExporter, size int64, lost prometheus.Counter) *batches {
	b := &batches{size: size, lost: lost}
	b.SpanProcessor = sdktrace.NewBatchSpanProcessor(exporting{e, b}, sdktrace.WithMaxQueueSize(int(size)))
	return b
}

func (b *batches) OnEnd(s sdktrace.ReadOnlySpan) {
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

// exporting tells its processor what has left the queue, and how.
type exporting struct {
	sdktrace.SpanExporter
	b *batches
}

func (e exporting) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	e.b.waiting.Add(-int64(len(spans)))
	if err != nil {
		e.b.lost.Add(float64(len(spans)))
	}
	return err
}
