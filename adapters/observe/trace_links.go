package observe

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"parley/domain/chat"
	"parley/ports"
)

// A run goes on after the request that started it, and other requests, on other
// instances, read or stop it. The run's row has the trace of the first request,
// so that their spans can link to it.

var w3c propagation.TraceContext

const traceparent = "traceparent"

// Trace returns the trace of ctx in W3C form, or "" when it is not sampled: a link
// to it would lead nowhere.
func (*Observer) Trace(ctx context.Context) string {
	if telemetryOff || !trace.SpanContextFromContext(ctx).IsSampled() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	w3c.Inject(ctx, carrier)
	return carrier[traceparent]
}

// linkTo returns a link to a trace in W3C form; ok is false for anything else.
func linkTo(w3cForm string) (link trace.Link, ok bool) {
	sc := trace.SpanContextFromContext(w3c.Extract(context.Background(), propagation.MapCarrier{traceparent: w3cForm}))
	return trace.Link{SpanContext: sc}, sc.IsValid()
}

// runJoined links the span of a request to its run.
func (*Observer) runJoined(ctx context.Context, run chat.Run) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(keyRun.String(run.ID))
	from, _ := run.Metadata[ports.MetadataTrace].(string)
	if link, ok := linkTo(from); ok {
		span.AddLink(link)
	}
}
