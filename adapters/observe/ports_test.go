package observe_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	_ "modernc.org/sqlite"

	"parley/adapters/observe"
	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// said is a model that says one thing.
type said struct {
	answer ports.Answer
	err    error
}

func (s said) Generate(_ context.Context, _ ports.Prompt, emit func(chat.Delta)) (ports.Answer, error) {
	emit(chat.TextDelta("canary"))
	return s.answer, s.err
}

func TestModel_SpanAndMetrics(t *testing.T) {
	w := setup(t)
	m := w.Model("openai", "gpt-test", said{answer: ports.Answer{
		Model: "gpt-test-2026", FinishReason: "stop", Usage: chat.Usage{Input: 10, Output: 4, CacheRead: 3},
	}})
	var firstChunk string
	_, err := m.Generate(context.Background(), ports.Prompt{
		UserID: "u1", RunID: "r1", Params: chat.Params{MaxTokens: 99, System: "canary"}, Messages: []ports.PromptMessage{ports.PromptText(chat.User, "canary")},
	}, func(d chat.Delta) { firstChunk += d.Text })
	if err != nil || firstChunk != "canary" {
		t.Fatalf("heard %q, %v", firstChunk, err)
	}
	spans := w.spans.GetSpans()
	if len(spans) != 1 {
		t.Fatalf("%d spans", len(spans))
	}
	got := map[string]string{}
	for _, a := range spans[0].Attributes {
		if a.Key != "gen_ai.response.time_to_first_chunk" {
			got[string(a.Key)] = a.Value.String()
		}
	}
	want := map[string]string{
		"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-test",
		"gen_ai.request.stream": "true", "gen_ai.request.max_tokens": "99", "gen_ai.response.model": "gpt-test-2026",
		"gen_ai.response.finish_reasons": `["stop"]`, "gen_ai.usage.input_tokens": "10", "gen_ai.usage.output_tokens": "4",
		"gen_ai.usage.cache_read.input_tokens": "3", "parley.run.id": "r1", "user.id": "u1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if spans[0].Name != "chat gpt-test" {
		t.Errorf("span is named %q", spans[0].Name)
	}
	if n := len(w.values(t, "gen_ai_client_token_usage")); n != 2 {
		t.Errorf("%d series of token usage, want input and output", n)
	}
}

func TestModel_ErrorType(t *testing.T) {
	w := setup(t)
	failed := fault.New(fault.AIFailed, "The AI provider did not complete the reply").With("reason", "incomplete")
	_, _ = w.Model("openai", "gpt-test", said{err: failed}).Generate(context.Background(), ports.Prompt{}, func(chat.Delta) {})
	_, _ = w.Model("openai", "gpt-test", said{err: context.Canceled}).Generate(context.Background(), ports.Prompt{}, func(chat.Delta) {})
	var errorTypes []string
	for name := range w.values(t, "gen_ai_client_operation_duration_seconds") {
		_, rest, _ := strings.Cut(name, "error_type=")
		kind, _, _ := strings.Cut(rest, ",")
		errorTypes = append(errorTypes, kind)
	}
	if got := fmt.Sprint(errorTypes); !strings.Contains(got, "incomplete") || !strings.Contains(got, "CANCELED") {
		t.Errorf("error types %v", errorTypes)
	}
}

func TestSQL_NamesNotText(t *testing.T) {
	w := setup(t)
	raw, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.SetMaxOpenConns(1)
	db := bun.NewDB(raw, sqlitedialect.New())
	type call struct{}
	db = db.WithQueryHook(w.SQL(observe.Database{System: "sqlite", Host: "db.example", Port: 5432, Name: func(ctx context.Context) string {
		name, _ := ctx.Value(call{}).(string)
		return name
	}}))

	ctx, span := w.tracer(t)
	for _, s := range [][2]string{
		{"prepare", "CREATE TABLE notes (body TEXT)"},
		{"keep", "INSERT INTO notes VALUES ('canary')"},
		{"", "SELECT * FROM nowhere WHERE body = 'canary'"},
	} {
		_, _ = db.ExecContext(context.WithValue(ctx, call{}, s[0]), s[1])
	}
	var body string
	err = db.NewSelect().Table("notes").Column("body").Scan(ctx, &body)
	if err != nil || body != "canary" {
		t.Fatalf("%q, %v", body, err)
	}
	span()

	want := map[string]float64{
		"db_client_operation_duration_seconds{db_operation_name=prepare,db_system_name=sqlite,error_type=}":      1,
		"db_client_operation_duration_seconds{db_operation_name=keep,db_system_name=sqlite,error_type=}":         1,
		"db_client_operation_duration_seconds{db_operation_name=SELECT,db_system_name=sqlite,error_type=_OTHER}": 1,
		"db_client_operation_duration_seconds{db_operation_name=SELECT,db_system_name=sqlite,error_type=}":       1,
	}
	if diff := cmp.Diff(want, w.values(t, "db_client_operation_duration_seconds")); diff != "" {
		t.Error(diff)
	}
	var names []string
	for _, s := range w.spans.GetSpans() {
		names = append(names, s.Name)
		if strings.Contains(fmt.Sprintf("%+v", s), "canary") {
			t.Errorf("span %s shows the statement's text", s.Name)
		}
	}
	if diff := cmp.Diff([]string{"prepare: CREATE notes", "keep: INSERT notes", "SELECT nowhere", "SELECT notes", "request"}, names); diff != "" {
		t.Error(diff)
	}
}

// TestSQL_RollbackAfterCommitIsNoStatement: a deferred rollback sends nothing when the
// transaction has been committed, and is not counted as a failure.
func TestSQL_RollbackAfterCommitIsNoStatement(t *testing.T) {
	w := setup(t)
	raw, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	db := bun.NewDB(raw, sqlitedialect.New()).WithQueryHook(w.SQL(observe.Database{System: "sqlite", Name: func(context.Context) string { return "admit" }}))
	ctx, end := w.tracer(t)
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); !errors.Is(err, sql.ErrTxDone) {
		t.Fatal(err)
	}
	end()
	want := map[string]float64{"db_client_operation_duration_seconds{db_operation_name=admit,db_system_name=sqlite,error_type=}": 2}
	if diff := cmp.Diff(want, w.values(t, "db_client_operation_duration_seconds")); diff != "" {
		t.Error(diff)
	}
}

// tracer opens a recorded span, as a request would.
func (w world) tracer(t *testing.T) (context.Context, func()) {
	t.Helper()
	ctx, span := w.provider.Tracer("test").Start(context.Background(), "request")
	return ctx, func() { span.End() }
}

type always struct{}

func (always) Take(context.Context, string, int) (access.Decision, error) {
	return access.Decision{Allowed: true}, nil
}

func TestLimiter_IsMeasured(t *testing.T) {
	w := setup(t)
	d, err := w.Limiter("redis", always{}).Take(context.Background(), "k", 1)
	if err != nil || !d.Allowed {
		t.Fatalf("%+v, %v", d, err)
	}
	if got := w.values(t, "chat_ratelimit_backend_seconds")["chat_ratelimit_backend_seconds{}"]; got != 1 {
		t.Errorf("measured %v times", got)
	}
}

// TestSQL_SpansTellStatementsApart: statements of one call have their verbs and
// tables, and the server's address.
func TestSQL_SpansTellStatementsApart(t *testing.T) {
	w := setup(t)
	type batch struct{}
	hook := w.SQL(observe.Database{System: "postgresql", Host: "db.example", Port: 5432,
		Name: func(context.Context) string { return "admit" },
		Batch: func(e *bun.QueryEvent) []string {
			list, _ := e.Stash[batch{}].([]string)
			return list
		}})
	ctx, end := w.tracer(t)
	for _, e := range []*bun.QueryEvent{
		{Query: "SELECT m.id FROM chat_messages AS m WHERE content = 'canary FROM nowhere' FOR UPDATE SKIP LOCKED"},
		{Query: "WITH picked AS (SELECT 1 FROM chat_runs) UPDATE chat_runs SET state = 'canary'"},
		{Query: "COMMIT"},
		{Stash: map[any]any{batch{}: []string{"BEGIN", "SELECT 1 FROM chat_users WHERE user_id = ? FOR NO KEY UPDATE", "INSERT INTO chat_messages (id) VALUES (?)", "COMMIT"}}},
	} {
		hook.AfterQuery(hook.BeforeQuery(ctx, e), e)
	}
	end()
	var names []string
	for _, s := range w.spans.GetSpans() {
		names = append(names, s.Name)
		if s.Name == "request" {
			continue
		}
		attrs := attribute.NewSet(s.Attributes...)
		if host, _ := attrs.Value("server.address"); host.AsString() != "db.example" {
			t.Errorf("%s: server.address %q", s.Name, host.AsString())
		}
		if call, _ := attrs.Value("parley.store.call"); call.AsString() != "admit" {
			t.Errorf("%s: parley.store.call %q", s.Name, call.AsString())
		}
		if strings.Contains(fmt.Sprintf("%+v", s), "canary") {
			t.Errorf("span %s shows the statement's text", s.Name)
		}
	}
	want := []string{
		"admit: SELECT chat_messages", "admit: WITH chat_runs", "admit: COMMIT",
		"admit: BEGIN; SELECT chat_users; INSERT chat_messages; COMMIT", "request",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

type addressed struct{ said }

func (addressed) Server() (string, int) { return "ai.example", 443 }

// TestTraces_TellWhatHappened: retries, fallbacks, servers and decisions are
// attributes, and a run that no provider was called for has its error on the span
// that it is made in.
func TestTraces_TellWhatHappened(t *testing.T) {
	w := setup(t)
	ctx, end := w.tracer(t)
	_, _ = w.Limiter("redis", always{}).Take(ctx, "k", 1)
	prompt := ports.Prompt{Call: ports.ProviderCall{Kind: ports.Fallback, Number: 3}}
	_, _ = w.Model("openai", "gpt-test", addressed{}).Generate(ctx, prompt, func(chat.Delta) {})
	w.Observe(ctx, ports.ProviderSkipped{Provider: "openai", Model: "gpt-test", Reason: "breaker_open"})
	w.Observe(ctx, ports.RunFinished{RunID: "r1", State: chat.Failed, Failure: "ai_unavailable", Reason: "breaker_open"})
	end()
	want := map[string]map[attribute.Key]string{
		"limiter take":  {"db.system.name": "redis", "parley.limiter.allowed": "true", "parley.limiter.fallback": "false"},
		"chat gpt-test": {"parley.provider.call": "fallback", "parley.provider.number": "3", "server.address": "ai.example", "server.port": "443"},
		"request":       {"error.type": "breaker_open", "parley.outcome": "breaker_open", "parley.run.id": "r1"},
	}
	for _, s := range w.spans.GetSpans() {
		attrs := attribute.NewSet(s.Attributes...)
		for key, value := range want[s.Name] {
			if got, _ := attrs.Value(key); got.String() != value {
				t.Errorf("%s: %s is %q, want %q", s.Name, key, got.String(), value)
			}
		}
		if s.Name == "request" && (s.Status.Code != codes.Error || len(s.Events) != 1 || s.Events[0].Name != "provider skipped") {
			t.Errorf("the run's span: %+v %+v", s.Status, s.Events)
		}
		delete(want, s.Name)
	}
	if len(want) > 0 {
		t.Errorf("there is no span of %v", want)
	}
}

func TestSQL_CountsCallsWithoutConnection(t *testing.T) {
	w := setup(t)
	failed := w.NotConnected(observe.Database{System: "postgresql", Name: func(context.Context) string { return "admit" }})
	failed(context.Background(), time.Second, fault.New(fault.Overloaded, "The server is busy"))
	failed(context.Background(), time.Second, fault.New(fault.Unavailable, "The database does not answer"))
	failed(context.Background(), time.Second, context.Canceled)
	want := map[string]float64{
		"db_client_operation_duration_seconds{db_operation_name=admit,db_system_name=postgresql,error_type=pool_exhausted}": 1,
		"db_client_operation_duration_seconds{db_operation_name=admit,db_system_name=postgresql,error_type=connect}":        1,
	}
	if diff := cmp.Diff(want, w.values(t, "db_client_operation_duration_seconds")); diff != "" {
		t.Error(diff)
	}
}
