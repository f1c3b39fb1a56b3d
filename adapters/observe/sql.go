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
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"parley/domain/fault"
)

// Database is what SQL needs to know of a database.
type Database struct {
	System string // in the conventions' spelling: postgresql or sqlite
	Host   string // "": none
	Port   int
	// Name returns the name of the call that a context belongs to, or "".
	Name func(context.Context) string
	// Batch returns the statements, without arguments, of an event that is several;
	// nil: there are no such events.
	Batch func(*bun.QueryEvent) []string
}

// SQL measures statements by the name of their call, or else by their verb. Spans
// have the verbs and tables too, which tell the statements of one call apart; the
// text of a statement is not recorded.
func (ob *Observer) SQL(d Database) bun.QueryHook {
	return &sqlHook{ob: ob, Database: d}
}

// NotConnected counts calls of a database that got no connection, by the name of the
// call: pool_exhausted while all connections were in use, else connect.
func (ob *Observer) NotConnected(d Database) func(ctx context.Context, took time.Duration, err error) {
	return func(ctx context.Context, took time.Duration, err error) {
		if telemetryOff || errors.Is(err, context.Canceled) {
			return
		}
		code := "connect"
		if fault.Is(err, fault.Overloaded) {
			code = "pool_exhausted"
		}
		ob.m.statements.WithLabelValues(d.System, safeName(d.Name(ctx)), code).Observe(took.Seconds())
		span := trace.SpanFromContext(ctx)
		span.AddEvent("no database connection", trace.WithAttributes(keyErrorType.String(code), keyStoreCall.String(safeName(d.Name(ctx)))))
	}
}

type sqlHook struct {
	ob *Observer
	Database
	named sync.Map // name from Name -> statement
	texts sync.Map // text of a statement of a batch -> target
}

// target is a statement's verb and table.
type target struct{ verb, table string }

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
	list, targetOf := []string{e.Query}, verbAndTable
	if h.Batch != nil {
		if batch := h.Batch(e); len(batch) > 0 {
			list, targetOf = batch, h.targetOfKnown
		}
	}
	summary, verb, table := summarize(list, targetOf)
	attrs := []attribute.KeyValue{keyDBSystem.String(h.System), keyDBOperation.String(verb), keyDBSummary.String(summary)}
	if table != "" {
		attrs = append(attrs, keyDBCollection.String(table))
	}
	if len(list) > 1 {
		attrs = append(attrs, keyDBBatch.Int(len(list)))
	}
	if h.Host != "" {
		attrs = append(attrs, keyServerAddress.String(h.Host), keyServerPort.Int(h.Port))
	}
	name := summary
	if call := safeName(h.Name(ctx)); call != "" {
		attrs = append(attrs, keyStoreCall.String(call))
		name = call + ": " + summary
	}
	ctx, span := h.ob.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attrs...))
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
	span, traced := e.Stash[spanKey{}].(trace.Span)
	if errors.Is(e.Err, sql.ErrTxDone) { // the rollback of a committed transaction sends nothing
		if traced {
			span.End()
		}
		return
	}
	s, code := h.name(ctx, e), sqlError(e.Err)
	if code != "" {
		s.seconds = h.ob.m.statements.WithLabelValues(h.System, s.operation, code)
	}
	took := time.Since(e.StartTime).Seconds()
	if !traced {
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
	name := h.Name(ctx)
	if name == "" {
		name = strings.ToUpper(e.Operation())
	}
	if s, ok := h.named.Load(name); ok {
		return s.(statement)
	}
	s := statement{operation: safeName(name)}
	s.seconds = h.ob.m.statements.WithLabelValues(h.System, s.operation, "")
	h.named.Store(name, s)
	return s
}

// summaryMax bounds the statements of a batch in a summary.
const summaryMax = 6

// summarize returns the verbs and tables of statements, and the verb and the table
// that they have in common: BATCH and "" where they differ. Nothing else of their
// text is in it, which may hold arguments.
func summarize(list []string, targetOf func(text string) target) (summary, verb, table string) {
	var parts []string
	for i, text := range list {
		of := targetOf(text)
		v, t := of.verb, of.table
		if i == 0 {
			verb, table = v, t
		}
		if v != verb {
			verb = "BATCH"
		}
		if t != table {
			table = ""
		}
		part := strings.TrimSpace(v + " " + t)
		if len(parts) == 0 || parts[len(parts)-1] != part {
			parts = append(parts, part)
		}
	}
	if len(parts) > summaryMax {
		parts = append(parts[:summaryMax], "...")
	}
	return strings.Join(parts, "; "), verb, table
}

// targetOfKnown is verbAndTable for a statement of a batch: there are few texts of
// those, since they are prepared.
func (h *sqlHook) targetOfKnown(text string) target {
	if known, ok := h.texts.Load(text); ok {
		return known.(target)
	}
	made := verbAndTable(text)
	h.texts.Store(text, made)
	return made
}

// verbAndTable returns the first word of a statement, and the name after the first
// FROM, INTO, UPDATE or TABLE, if there is one before any text argument.
func verbAndTable(text string) target {
	const looked = 4 << 10 // bytes: names come before long arguments
	words := strings.FieldsFunc(text[:min(len(text), looked)], func(r rune) bool { return strings.ContainsRune(" \t\r\n(,;", r) })
	if len(words) == 0 {
		return target{verb: other}
	}
	verb := strings.ToUpper(safeName(words[0]))
	for i, word := range words[:len(words)-1] {
		if strings.Contains(word, "'") {
			break
		}
		switch strings.ToUpper(word) {
		case "FROM", "INTO", "UPDATE", "TABLE":
			forUpdate := i > 0 && (strings.EqualFold(words[i-1], "FOR") || strings.EqualFold(words[i-1], "KEY"))
			if name := safeName(words[i+1]); name != other && !forUpdate {
				return target{verb, name}
			}
		}
	}
	return target{verb: verb}
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
