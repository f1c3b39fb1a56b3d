package observe

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/uptrace/bun"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// SQL measures statements by name. system is the database in the conventions'
// spelling: postgresql or sqlite. The name of a statement is what nameOf returns
// for its context, or else its verb and table. Its text is not recorded.
func (ob *Observer) SQL(system string, nameOf func(context.Context) string) bun.QueryHook {
	return &sqlHook{ob: ob, system: system, nameOf: nameOf}
}

type sqlHook struct {
	ob     *Observer
	system string
	nameOf func(context.Context) string
	named  sync.Map // name from nameOf -> statement
}

// statement is what is recorded for statements of one name, looked up once.
type statement struct {
	operation string
	seconds   prometheus.Observer // of successful ones
}

type spanKey struct{}

func (h *sqlHook) BeforeQuery(ctx context.Context, e *bun.QueryEvent) context.Context {
	if telemetryOff || !trace.SpanFromContext(ctx).IsRecording() {
		return ctx // statements of background work would be traces of their own
	}
	operation, collection := h.name(ctx, e).operation, ""
	if e.IQuery != nil {
		collection = safeName(e.IQuery.GetTableName())
	}
	ctx, span := h.ob.tracer.Start(ctx, strings.TrimSpace(operation+" "+collection), trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(keyDBSystem.String(h.system), keyDBOperation.String(operation)))
	if collection != "" {
		span.SetAttributes(keyDBCollection.String(collection))
	}
	if e.Stash == nil {
		e.Stash = map[any]any{}
	}
	e.Stash[spanKey{}] = span
	return ctx
}

func (h *sqlHook) AfterQuery(ctx context.Context, e *bun.QueryEvent) {
	if telemetryOff {
		return
	}
	s, code := h.name(ctx, e), sqlError(e.Err)
	if code != "" {
		s.seconds = h.ob.m.statements.WithLabelValues(h.system, s.operation, code)
	}
	took := time.Since(e.StartTime).Seconds()
	span, ok := e.Stash[spanKey{}].(trace.Span)
	if !ok {
		h.ob.metricBuffer.observe(s.seconds, took)
		return
	}
	observeTraced(span.SpanContext(), s.seconds, took)
	if code != "" {
		span.SetAttributes(keyErrorType.String(code))
		span.SetStatus(codes.Error, code)
	}
	span.End()
}

func (h *sqlHook) name(ctx context.Context, e *bun.QueryEvent) statement {
	name := h.nameOf(ctx)
	if name == "" {
		name = strings.ToUpper(e.Operation())
	}
	if s, ok := h.named.Load(name); ok {
		return s.(statement)
	}
	s := statement{operation: safeName(name)}
	s.seconds = h.ob.m.statements.WithLabelValues(h.system, s.operation, "")
	h.named.Store(name, s)
	return s
}

// safeName returns a name of letters, digits and "_.-", or other.
func safeName(s string) string {
	s = strings.Trim(strings.TrimSpace(s), `"`)
	if len(s) > 48 {
		return other
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '.' && r != '-' {
			return other
		}
	}
	return s
}

func sqlError(err error) string {
	var state interface{ SQLState() string }
	switch {
	case err == nil, errors.Is(err, sql.ErrNoRows):
		return ""
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.As(err, &state):
		return state.SQLState()
	}
	return "_OTHER"
}
