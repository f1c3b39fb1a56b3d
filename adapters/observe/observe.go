// Package observe turns events into logs, metrics and traces. The use cases
// report typed events to the Observer; decorators and hooks measure the ports.
// Message text never reaches this package, and ids of users and runs never
// become labels of metrics.
package observe

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"parley/domain/chat"
	"parley/domain/fault"
	"parley/domain/webhook"
	"parley/ports"
)

// Options are what an Observer writes to.
type Options struct {
	Log        *slog.Logger
	Registry   prometheus.Registerer
	Meters     metric.MeterProvider
	Tracers    trace.TracerProvider
	Propagator propagation.TextMapPropagator
	Sentry     *SentryReporter // nil: none
}

// Observer implements ports.Observer and returns the decorators of other ports.
type Observer struct {
	log        *slog.Logger
	logSampler sampler
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	labels     currentLabels
	m          *metrics
	otel       instruments
	sentry     *SentryReporter

	chatDisabled func() bool // by an operator

	active   atomic.Int64 // requests in progress
	requests attrSetCache[requestLabels]
	asked    attrSetCache[callLabels]
	tokens   attrSetCache[tokenLabels]

	metricBuffer metricBuffer

	// runTiming holds the runs of this instance.
	runTiming sync.Map // run id -> *runTiming
}

// New registers every metric.
func New(o Options) (*Observer, error) {
	ob := &Observer{
		log: o.Log, tracer: o.Tracers.Tracer("parley", trace.WithSchemaURL(schemaURL)), propagator: o.Propagator,
		logSampler: newSampler(time.Now), sentry: o.Sentry,
		chatDisabled: func() bool { return false },
	}
	ob.labels.set(newLabels(nil))
	var err error
	if ob.otel, err = newInstruments(o.Meters.Meter("parley"), ob.active.Load); err != nil {
		return nil, err
	}
	ob.m, err = newMetrics(o.Registry)
	return ob, err
}

// RegisterModels sets the models whose names may become labels, and creates their
// counters at 0. It is called before the first event, and again when a server has
// listed a model that was not configured.
func (ob *Observer) RegisterModels(models []ports.ModelInfo) {
	l := newLabels(models)
	ob.m.begin(l)
	ob.labels.set(l)
}

// Observe implements ports.Observer.
func (ob *Observer) Observe(ctx context.Context, event any) {
	if telemetryOff {
		return
	}
	switch f := event.(type) {
	case ports.RunStarted:
		ob.runStarted(ctx, f)
	case ports.FirstEvent:
		ob.firstEvent(f)
	case ports.RunFinished:
		ob.runFinished(ctx, f)
	case ports.TitleGenerated:
		provider, model := ob.labels.of(f.Provider, f.Model)
		ob.m.model(pair{provider, model}).spend(f.Usage, f.CostMicros)
	case ports.RunJoined:
		ob.runJoined(ctx, f.Run)
	case ports.RunFenced:
		ob.runTiming.Delete(f.RunID)
		ob.m.fenced.Inc()
		ob.log.WarnContext(ctx, "reply lost to a newer attempt", "run", f.RunID, "attempt", f.Attempt)
	case ports.Checkpointed:
		ob.checkpointed(ctx, f)
	case ports.LimitDecided:
		ob.limitDecided(f)
	case ports.Refused:
		if f.Kind == fault.OverBudget {
			ob.m.turns.WithLabelValues("none", "none", "quota").Inc()
		}
		ob.m.refusals.WithLabelValues(kindLabel(f.Kind)).Inc()
		ob.logRateLimited(ctx, slog.LevelInfo, "request refused", "kind", string(f.Kind), "tier", string(f.Tier), "user", f.UserID)
	case ports.RequestFailed:
		ob.requestFailed(ctx, f)
	case ports.FollowerLeft:
		if f.Reason != "done" {
			ob.m.aborts.WithLabelValues(abortLabel(f.Reason)).Inc()
		}
	case ports.ProviderAsked:
		ob.providerAsked(ctx, f)
	case ports.ProviderSkipped:
		trace.SpanFromContext(ctx).AddEvent("provider skipped", trace.WithAttributes(
			keyGenProvider.String(f.Provider), keyGenModel.String(f.Model), keyReason.String(f.Reason)))
		if f.Reason == "breaker_open" {
			ob.m.rejections.WithLabelValues(ob.labels.breaker(f.Provider, f.Model)).Inc()
		}
		provider, model := ob.labels.of(f.Provider, f.Model)
		ob.m.skips.WithLabelValues(provider, model, skipLabel(f.Reason)).Inc()
	case ports.ProviderHeadroom:
		ob.m.headroom.WithLabelValues(ob.labels.provider(f.Provider), headroomLabel(f.Kind)).Set(f.Ratio)
	case ports.BreakerChanged:
		ob.m.transitions.WithLabelValues(ob.labels.breaker(f.Provider, f.Model), stateLabel(f.To)).Inc()
		ob.log.WarnContext(ctx, "breaker changed", "provider", f.Provider, "model", f.Model, "from", f.From, "to", f.To)
	case ports.SwitchChanged:
		ob.switchChanged(ctx, f)
	case ports.AuditSealed:
		ob.m.auditLag.Set(f.Lag.Seconds())
		ob.m.auditSeq.Set(float64(f.Seq))
	case ports.FeedbackGiven:
		provider, model := ob.labels.of(f.Provider, f.Model)
		ob.m.feedback.WithLabelValues(provider, model, string(f.Rating)).Inc()
	case ports.FileUploaded:
		ob.m.files.WithLabelValues(fileKind(f.MediaType)).Inc()
		ob.m.fileBytes.Add(float64(f.Bytes))
	case ports.FilesSwept:
		ob.filesSwept(ctx, f)
	case ports.WebhookSent:
		ob.webhookSent(ctx, f)
	case ports.EventQueue:
		ob.m.webhookEvents.WithLabelValues(string(webhook.Pending)).Set(float64(f.Pending))
		ob.m.webhookEvents.WithLabelValues(string(webhook.Dead)).Set(float64(f.Dead))
		ob.m.webhookOldest.Set(f.Oldest.Seconds())
	case ports.BackgroundFailed:
		ob.backgroundFailed(ctx, f)
	}
}

func (ob *Observer) runStarted(ctx context.Context, f ports.RunStarted) {
	if f.Recover {
		ob.m.recovered.Inc()
	}
	ob.metricBuffer.observe(ob.m.wait, f.Waited.Seconds())
	ob.runTiming.Store(f.Run.ID, &runTiming{accepted: time.Now().Add(-f.Waited)})
	if !ob.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	ob.log.DebugContext(ctx, "reply started",
		"run", f.Run.ID, "user", f.Run.UserID, "conversation", f.Run.ConversationID, "kind", string(f.Run.Kind),
		"attempt", f.Run.Attempt, "recovered", f.Recover, "waited_ms", f.Waited.Milliseconds())
}

func (ob *Observer) runFinished(ctx context.Context, f ports.RunFinished) {
	provider, model := ob.labels.of(f.Provider, f.Model)
	outcome := outcomeOf(f)
	span := trace.SpanContextFromContext(ctx)
	first, ok := f.Duration, f.State == chat.Completed // a reply that came in one piece could first be shown at its end
	speed := 0.0
	if v, known := ob.runTiming.LoadAndDelete(f.RunID); known {
		if earlier := v.(*runTiming).first.Load(); earlier > 0 {
			first, ok = time.Duration(earlier), true
		}
		speed = v.(*runTiming).outputSpeed(f.Usage)
		if last := v.(*runTiming).span.Load(); last != nil && !span.IsValid() {
			span, ctx = *last, trace.ContextWithSpanContext(ctx, *last)
		}
	}
	ob.metricBuffer.do(func() {
		by := ob.m.model(pair{provider, model})
		by.turns[outcome].Inc()
		observeTraced(span, by.seconds, f.Duration.Seconds())
		if ok {
			observeTraced(span, by.first, first.Seconds())
		}
		if speed > 0 {
			by.speed.Observe(speed)
		}
		switch {
		case !f.Cached:
			by.spend(f.Usage, f.CostMicros)
		case by.cached != nil:
			by.cached.Inc()
		}
	})

	traceOutcome(trace.SpanFromContext(ctx), outcome, f)

	level := slog.LevelInfo
	if f.State == chat.Failed || f.State == chat.Interrupted {
		level = slog.LevelWarn
	}
	attrs := make([]slog.Attr, 0, 16)
	attrs = append(attrs,
		slog.String("run", f.RunID), slog.String("user", f.UserID), slog.String("state", string(f.State)), slog.String("outcome", outcome),
		slog.String("provider", f.Provider), slog.String("model", f.Model), slog.String("finish_reason", f.FinishReason),
		slog.Int("attempt", f.Attempt), slog.Int64("duration_ms", f.Duration.Milliseconds()),
		slog.Int64("input_tokens", f.Usage.Input), slog.Int64("output_tokens", f.Usage.Output))
	if f.Failure != "" {
		attrs = append(attrs, slog.String("failure", f.Failure), slog.String("reason", f.Reason))
	}
	if f.CostMicros != nil {
		attrs = append(attrs, slog.Float64("cost_usd", float64(*f.CostMicros)/1e6))
	}
	ob.logRecord(ctx, level, "reply finished", attrs)
}

// traceOutcome sets the end of a run on the span that it is made in. A run that no
// provider was called for has no other span that could tell why it failed.
func traceOutcome(span trace.Span, outcome string, f ports.RunFinished) {
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(keyRun.String(f.RunID), keyOutcome.String(outcome))
	if f.State == chat.Failed || f.State == chat.Interrupted {
		span.SetAttributes(keyErrorType.String(cmp.Or(f.Reason, f.Failure, string(f.State))))
		span.SetStatus(codes.Error, outcome)
	}
}

// logRecord writes a line of a fixed kind without looking up its source position.
func (ob *Observer) logRecord(ctx context.Context, level slog.Level, msg string, attrs []slog.Attr) {
	h := ob.log.Handler()
	if !h.Enabled(ctx, level) {
		return
	}
	r := slog.NewRecord(time.Now(), level, msg, 0)
	r.AddAttrs(attrs...)
	_ = h.Handle(ctx, r) // there is nowhere to report it
}

func (ob *Observer) providerAsked(ctx context.Context, f ports.ProviderAsked) {
	provider, model := ob.labels.of(f.Provider, f.Model)
	result := "error"
	switch f.Reason {
	case "":
		result = "ok"
	case "canceled", "rate_limited":
		result = f.Reason
	}
	ob.metricBuffer.do(func() { ob.m.attempts.WithLabelValues(provider, model, attemptLabel(f.Kind), result).Inc() })
	if result == "error" || result == "rate_limited" {
		ob.logRateLimited(ctx, slog.LevelWarn, "provider failed", "provider", f.Provider, "model", f.Model,
			"kind", string(f.Kind), "reason", f.Reason, "took_ms", f.Took.Milliseconds())
	}
}

func (ob *Observer) checkpointed(ctx context.Context, f ports.Checkpointed) {
	ob.m.checkpointSeconds.Observe(f.Took.Seconds())
	if f.Err != nil {
		ob.m.background.WithLabelValues("checkpoint").Inc()
		ob.logRateLimited(ctx, slog.LevelWarn, "output not recorded yet", "runs", f.Runs, "bytes", f.Bytes, "error", f.Err)
		return
	}
	ob.m.checkpointBytes.Add(float64(f.Bytes))
}

func (ob *Observer) limitDecided(f ports.LimitDecided) {
	decision := "allow"
	switch {
	case f.Decision.Fallback && f.Decision.Allowed:
		decision = "fallback_allow"
	case f.Decision.Fallback:
		decision = "fallback_deny"
	case !f.Decision.Allowed:
		decision = "deny"
	}
	ob.metricBuffer.do(func() { ob.m.limits.WithLabelValues(scopeLabel(f.Scope), decision).Inc() })
	if f.Scope == "send" && !f.Decision.Allowed {
		ob.m.turns.WithLabelValues("none", "none", "rate_limited").Inc()
	}
}

// requestFailed counts a turn that failed before it had a run, which would not be
// counted otherwise.
func (ob *Observer) requestFailed(ctx context.Context, f ports.RequestFailed) {
	if f.Sends {
		ob.m.turns.WithLabelValues("none", "none", "internal_error").Inc()
	}
	ob.m.refusals.WithLabelValues(kindLabel(f.Kind)).Inc()
	ob.sentry.send(ctx, f.Route, string(f.Kind), f.Err)
	ob.logRateLimited(ctx, slog.LevelError, "request failed", withStack(f.Err, "route", f.Route, "kind", string(f.Kind), "error", f.Err)...)
}

func (ob *Observer) filesSwept(ctx context.Context, f ports.FilesSwept) {
	for reason, n := range map[string]int{"expired": f.Expired, "deleted": f.Deleted, "orphan": f.Orphans, "lost": f.Lost, "found": f.Found} {
		ob.m.filesSwept.WithLabelValues(reason).Add(float64(n))
	}
	if f.Lost > 0 {
		ob.log.ErrorContext(ctx, "files are missing in the blob store", "files", f.Lost)
	}
}

// fileKind is what a media type counts as.
func fileKind(mediaType string) string {
	group, kind, _ := strings.Cut(mediaType, "/")
	switch {
	case group == "image" || group == "text":
		return group
	case kind == "pdf" || kind == "json":
		return kind
	}
	return other
}

func (ob *Observer) switchChanged(ctx context.Context, f ports.SwitchChanged) {
	what, args := "chat", []any(nil)
	if f.Provider != "" {
		what, args = "a provider", []any{"provider", f.Provider}
	}
	if f.Disabled {
		ob.log.WarnContext(ctx, what+" was disabled", args...)
	} else {
		ob.log.InfoContext(ctx, what+" was enabled", args...)
	}
}

func (ob *Observer) backgroundFailed(ctx context.Context, f ports.BackgroundFailed) {
	ob.m.background.WithLabelValues(taskLabel(f.Task)).Inc()
	if _, isPanic := errors.AsType[ports.Panic](f.Err); isPanic {
		ob.sentry.send(ctx, f.Task, "panic", f.Err)
	}
	ob.logRateLimited(ctx, slog.LevelError, "background work failed", withStack(f.Err, "task", f.Task, "error", f.Err)...)
}

// withStack adds the stack of a panic.
func withStack(err error, attrs ...any) []any {
	var p ports.Panic
	if errors.As(err, &p) {
		return append(attrs, "stack", string(p.Stack))
	}
	return attrs
}

// logRateLimited logs at most linesPerSecond lines of one message; the next line
// has the number of those that were suppressed.
func (ob *Observer) logRateLimited(ctx context.Context, level slog.Level, msg string, attrs ...any) {
	if !ob.log.Enabled(ctx, level) {
		return
	}
	ok, suppressed := ob.logSampler.pass(msg)
	if !ok {
		return
	}
	if suppressed > 0 {
		attrs = append(attrs, "suppressed", suppressed)
	}
	ob.log.Log(ctx, level, msg, attrs...)
}

// outcomeOf maps the end of a run to the label outcome of chat_turns_total.
func outcomeOf(f ports.RunFinished) string {
	switch f.State {
	case chat.Completed:
		return "ok"
	case chat.Stopped:
		return "client_cancel"
	case chat.Interrupted:
		return "internal_error"
	}
	switch f.Failure {
	case "timeout":
		return "timeout"
	case "provider_auth":
		return "provider_auth"
	case "ai_unavailable", "ai_failed", "file_refused", "empty_reply":
		switch f.Reason {
		case "breaker_open", "disabled":
			return "breaker_open"
		case "first_token_timeout", "idle_timeout", "deadline":
			return "timeout"
		}
		return "provider_error"
	}
	return "internal_error"
}

// kindLabel returns the label value of a kind of fault.
func kindLabel(k fault.Kind) string {
	if k == "" {
		return string(fault.Internal)
	}
	return string(k)
}
