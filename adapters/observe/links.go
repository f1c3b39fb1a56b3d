package observe

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"parley/domain/chat"
	"parley/ports"
)

// A run outlives the request that began it, and other requests, on other
// instances, are about it too. Its row carries the first request's trace, so
// that their spans can link to it.

var w3c propagation.TraceContext

const traceparent = "traceparent"

// Trace returns the trace of ctx in W3C form, "" when there is none that is
// kept: a link to it would lead nowhere.
func (*Observer) Trace(ctx context.Context) string {
	if muted || !trace.SpanContextFromContext(ctx).IsSampled() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	w3c.Inject(ctx, carrier)
	return carrier[traceparent]
}

// linkTo makes a link of a trace in W3C form; ok is false when it is none.
func linkTo(w3cForm string) (link trace.Link, ok bool) {
	sc := trace.SpanContextFromContext(w3c.Extract(context.Background(), propagation.MapCarrier{traceparent: w3cForm}))
	return trace.Link{SpanContext: sc}, sc.IsValid()
}

// runJoined links the span of a request to the run that it is about.
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
