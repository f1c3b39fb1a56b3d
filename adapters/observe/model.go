package observe

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// Model measures one provider: each request gets a client span with the attributes
// of the GenAI conventions, and is counted in its metrics. model is the one that
// is called when the prompt names none.
func (ob *Observer) Model(provider, model string, next ports.Model) ports.Model {
	if telemetryOff {
		return next
	}
	m := &measuredModel{ob: ob, provider: provider, model: model, next: next}
	if at, ok := next.(interface{ Server() (string, int) }); ok {
		m.host, m.port = at.Server()
	}
	return m
}

type measuredModel struct {
	ob              *Observer
	provider, model string
	next            ports.Model
	host            string // of the provider; "": unknown
	port            int
}

func (w *measuredModel) Generate(ctx context.Context, p ports.Prompt, emit func(chat.Delta)) (ports.Answer, error) {
	asked := w.model
	if p.Params.Model != "" {
		asked = p.Params.Model
	}
	ctx, span := w.begin(ctx, asked, p)
	defer span.End()

	w.ob.providerCallStarted(ctx, p.RunID, &w.provider)
	begun := time.Now()
	var first time.Duration
	answer, err := w.next.Generate(ctx, p, func(d chat.Delta) {
		if first == 0 {
			first = time.Since(begun)
			w.ob.firstChunk(p.RunID)
		}
		emit(d)
	})
	took := time.Since(begun)
	w.ob.metricBuffer.do(func() { w.measure(ctx, asked, took, first, answer, err) })
	if span.IsRecording() {
		describe(span, first, answer, err)
	}
	return answer, err
}

// begin starts the span of a request to the provider, unless its trace is not
// sampled.
func (w *measuredModel) begin(ctx context.Context, asked string, p ports.Prompt) (context.Context, trace.Span) {
	if whole := trace.SpanFromContext(ctx); whole.SpanContext().IsValid() && !whole.SpanContext().IsSampled() {
		return ctx, noop.Span{}
	}
	attrs := []attribute.KeyValue{
		keyGenOperation.String(chatOperation), keyGenProvider.String(w.provider), keyGenModel.String(asked),
		keyGenStream.Bool(true), keyRun.String(p.RunID), keyUser.String(p.UserID),
	}
	if p.Call.Number > 0 {
		attrs = append(attrs, keyCallKind.String(string(p.Call.Kind)), keyCallNumber.Int(p.Call.Number))
	}
	if w.host != "" {
		attrs = append(attrs, keyServerAddress.String(w.host), keyServerPort.Int(w.port))
	}
	if p.Params.MaxTokens > 0 {
		attrs = append(attrs, keyGenMaxTokens.Int(p.Params.MaxTokens))
	}
	if p.Params.Temperature != nil {
		attrs = append(attrs, keyGenTemp.Float64(*p.Params.Temperature))
	}
	if p.ConversationID != "" {
		attrs = append(attrs, keyGenConversation.String(p.ConversationID))
	}
	start := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attrs...)}
	if link, ok := linkTo(p.Trace); ok {
		start = append(start, trace.WithLinks(link))
	}
	return w.ob.tracer.Start(ctx, chatOperation+" "+asked, start...)
}

func (w *measuredModel) measure(ctx context.Context, asked string, took, first time.Duration, a ports.Answer, err error) {
	provider, model := w.ob.labels.of(w.provider, asked)
	of := callLabels{pair: pair{provider, model}}
	if first > 0 {
		w.ob.otel.genFirst.Record(ctx, first.Seconds(), w.ob.asked.of(of))
	}
	if a.Usage.Input > 0 {
		in := tokenLabels{of.pair, "input"}
		w.ob.otel.genTokens.Record(ctx, a.Usage.Input, w.ob.tokens.of(in))
	}
	if a.Usage.Output > 0 {
		out := tokenLabels{of.pair, "output"}
		w.ob.otel.genTokens.Record(ctx, a.Usage.Output, w.ob.tokens.of(out))
	}
	if err != nil {
		of.err = errorType(err)
	}
	w.ob.otel.genSeconds.Record(ctx, took.Seconds(), w.ob.asked.of(of))
}

// callLabels are the labels of the duration of a request to a provider; err is ""
// for a successful one.
type callLabels struct {
	pair
	err string
}

func (a callLabels) attributes() []attribute.KeyValue {
	attrs := a.pair.attributes()
	if a.err != "" {
		attrs = append(attrs, keyErrorType.String(a.err))
	}
	return attrs
}

// tokenLabels are the labels of a count of tokens.
type tokenLabels struct {
	pair
	kind string
}

func (t tokenLabels) attributes() []attribute.KeyValue {
	return append(t.pair.attributes(), keyGenTokenType.String(t.kind))
}

func (p pair) attributes() []attribute.KeyValue {
	return []attribute.KeyValue{keyGenOperation.String(chatOperation), keyGenProvider.String(p.provider), keyGenModel.String(p.model)}
}

func describe(span trace.Span, first time.Duration, a ports.Answer, err error) {
	if a.Model != "" {
		span.SetAttributes(keyGenAnswered.String(a.Model))
	}
	if a.FinishReason != "" {
		span.SetAttributes(keyGenFinish.StringSlice([]string{a.FinishReason}))
	}
	if first > 0 {
		span.SetAttributes(keyGenFirst.Float64(first.Seconds()))
	}
	for key, n := range map[attribute.Key]int64{
		keyGenInput: a.Usage.Input, keyGenOutput: a.Usage.Output, keyGenReasoning: a.Usage.Reasoning,
		keyGenCacheRead: a.Usage.CacheRead, keyGenCacheMade: a.Usage.CacheWrite,
	} {
		if n > 0 {
			span.SetAttributes(key.Int64(n))
		}
	}
	if err != nil {
		span.SetAttributes(keyErrorType.String(errorType(err)))
		span.SetStatus(codes.Error, errorType(err))
	}
}

// errorType returns the provider's reason if there is one, or else the kind of
// fault.
func errorType(err error) string {
	if f := fault.As(err); f != nil {
		if reason, ok := f.Details["reason"].(string); ok {
			return reason
		}
	}
	return string(fault.KindOf(err))
}
