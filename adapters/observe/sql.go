package observe

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/uptrace/bun"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// SQL watches statements by name. system is the database as the conventions
// call it: postgresql or sqlite. A statement is named by what nameOf says of its
// context, else by its verb and table; its text is shown to nobody.
func (ob *Observer) SQL(system string, nameOf func(context.Context) string) bun.QueryHook {
	return &sqlHook{ob: ob, system: system, nameOf: nameOf}
}

type sqlHook struct {
	ob     *Observer
	system string
	nameOf func(context.Context) string
	names  sync.Map // what a statement is called by its maker -> statement
	sets   sets[statement]
}

// statement is what is told about a statement.
type statement struct{ operation, collection, err string }

type spanKey struct{}

func (h *sqlHook) BeforeQuery(ctx context.Context, e *bun.QueryEvent) context.Context {
	if muted || !trace.SpanFromContext(ctx).IsRecording() {
		return ctx // statements of nobody's request would be traces of their own
	}
	s := h.name(ctx, e)
	ctx, span := h.ob.tracer.Start(ctx, strings.TrimSpace(s.operation+" "+s.collection), trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(keyDBSystem.String(h.system), keyDBOperation.String(s.operation)))
	if s.collection != "" {
		span.SetAttributes(keyDBCollection.String(s.collection))
	}
	return context.WithValue(ctx, spanKey{}, span)
}

func (h *sqlHook) AfterQuery(ctx context.Context, e *bun.QueryEvent) {
	if muted {
		return
	}
	s := h.name(ctx, e)
	s.err = sqlError(e.Err)
	h.ob.otel.dbSeconds.Record(ctx, time.Since(e.StartTime).Seconds(), h.sets.of(s, func() []attribute.KeyValue {
		attrs := []attribute.KeyValue{keyDBSystem.String(h.system), keyDBOperation.String(s.operation)}
		if s.collection != "" {
			attrs = append(attrs, keyDBCollection.String(s.collection))
		}
		if s.err != "" {
			attrs = append(attrs, keyErrorType.String(s.err))
		}
		return attrs
	}))
	if span, ok := ctx.Value(spanKey{}).(trace.Span); ok {
		if s.err != "" {
			span.SetAttributes(keyErrorType.String(s.err))
			span.SetStatus(codes.Error, s.err)
		}
		span.End()
	}
}

func (h *sqlHook) name(ctx context.Context, e *bun.QueryEvent) statement {
	if name := h.nameOf(ctx); name != "" {
		if s, ok := h.names.Load(name); ok {
			return s.(statement)
		}
		s := statement{operation: word(name)}
		h.names.Store(name, s)
		return s
	}
	s := statement{operation: word(strings.ToUpper(e.Operation()))}
	if e.IQuery != nil {
		s.collection = word(e.IQuery.GetTableName())
	}
	return s
}

// word keeps a name to what names are made of.
func word(s string) string {
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
