package observe_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"parley/adapters/observe"
	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// world is an Observer with its log, metrics and traces.
type world struct {
	*observe.Observer
	log      *bytes.Buffer
	reg      *prometheus.Registry
	spans    *tracetest.InMemoryExporter
	provider *sdktrace.TracerProvider
}

func setup(t *testing.T) world {
	t.Helper()
	w := world{log: &bytes.Buffer{}, reg: prometheus.NewRegistry(), spans: tracetest.NewInMemoryExporter()}
	w.provider = sdktrace.NewTracerProvider(sdktrace.WithSyncer(w.spans))
	reader, err := otelprom.New(otelprom.WithRegisterer(w.reg), otelprom.WithoutScopeInfo())
	if err != nil {
		t.Fatal(err)
	}
	w.Observer, err = observe.New(observe.Options{
		Log:        slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registry:   w.reg,
		Meters:     sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)),
		Tracers:    w.provider,
		Propagator: propagation.TraceContext{},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.RegisterModels([]ports.ModelInfo{{Provider: "openai", Model: "gpt-test"}, {Provider: "demo", Model: "demo"}})
	return w
}

// values returns the counters and gauges of the named metrics that are not 0.
func (w world) values(t *testing.T, names ...string) map[string]float64 {
	t.Helper()
	w.Flush()
	families, err := w.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, name := range names {
			if f.GetName() != name {
				continue
			}
			for _, m := range f.Metric {
				var labels []string
				for _, l := range m.Label {
					labels = append(labels, l.GetName()+"="+l.GetValue())
				}
				v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
				if v != 0 {
					out[name+"{"+strings.Join(labels, ",")+"}"] = v
				}
			}
		}
	}
	return out
}

func TestObserver_TurnsByOutcome(t *testing.T) {
	w := setup(t)
	ctx := context.Background()
	cost := int64(1_500_000)
	w.Observe(ctx, ports.RunStarted{Run: chat.Run{ID: "r1"}})
	w.Observe(ctx, ports.FirstEvent{RunID: "r1", SinceAccepted: time.Second})
	for _, f := range []ports.RunFinished{
		{RunID: "r1", State: chat.Completed, Provider: "openai", Model: "gpt-test", Usage: chat.Usage{Input: 7, Output: 5, Reasoning: 2}, CostMicros: &cost},
		{State: chat.Completed, Provider: "openai", Model: "gpt-made-up", Usage: chat.Usage{Input: 1}},
		{State: chat.Completed, Provider: "openai", Model: "gpt-test", Usage: chat.Usage{Input: 100}, Cached: true},
		{State: chat.Stopped, Provider: "openai", Model: "gpt-test-2026-11-01"},
		{State: chat.Interrupted, Provider: "openai", Model: "gpt-test"},
		{State: chat.Failed, Failure: "ai_unavailable", Reason: "breaker_open"},
		{State: chat.Failed, Failure: "ai_failed", Reason: "idle_timeout", Provider: "openai", Model: "gpt-test"},
		{State: chat.Failed, Failure: "ai_failed", Reason: "incomplete", Provider: "openai", Model: "gpt-test"},
		{State: chat.Failed, Failure: "timeout", Provider: "openai", Model: "gpt-test"},
		{State: chat.Failed, Failure: "attempts_exhausted"},
	} {
		w.Observe(ctx, f)
	}
	w.Observe(ctx, ports.LimitDecided{Scope: "send", Decision: access.Decision{}})

	want := map[string]float64{
		"chat_turns_total{model=gpt-test,outcome=ok,provider=openai}":             2,
		"chat_turns_total{model=other,outcome=ok,provider=openai}":                1,
		"chat_turns_total{model=gpt-test,outcome=client_cancel,provider=openai}":  1,
		"chat_turns_total{model=gpt-test,outcome=internal_error,provider=openai}": 1,
		"chat_turns_total{model=gpt-test,outcome=timeout,provider=openai}":        2,
		"chat_turns_total{model=gpt-test,outcome=provider_error,provider=openai}": 1,
		"chat_turns_total{model=none,outcome=breaker_open,provider=none}":         1,
		"chat_turns_total{model=none,outcome=internal_error,provider=none}":       1,
		"chat_turns_total{model=none,outcome=rate_limited,provider=none}":         1,
		"chat_tokens_total{kind=input,model=gpt-test,provider=openai}":            7,
		"chat_tokens_total{kind=output,model=gpt-test,provider=openai}":           5,
		"chat_tokens_total{kind=reasoning,model=gpt-test,provider=openai}":        2,
		"chat_tokens_total{kind=input,model=other,provider=openai}":               1,
		"chat_cost_usd_total{model=gpt-test,provider=openai}":                     1.5,
		"chat_unpriced_requests_total{model=other,provider=openai}":               1,

		"chat_turn_time_to_first_event_seconds{model=gpt-test,provider=openai}": 2,
		"chat_turn_time_to_first_event_seconds{model=other,provider=openai}":    1,
	}
	got := w.values(t, "chat_turns_total", "chat_tokens_total", "chat_cost_usd_total", "chat_unpriced_requests_total", "chat_turn_time_to_first_event_seconds")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Parley's own share of a turn: before the provider is asked, and between its
// first piece and the moment when that could be shown. Each counts once a run.
func TestObserver_Overhead(t *testing.T) {
	w := setup(t)
	ctx := context.Background()
	w.Observe(ctx, ports.RunStarted{Run: chat.Run{ID: "r1"}, Waited: time.Millisecond})
	for range 2 {
		_, _ = w.Model("demo", "demo", said{}).Generate(ctx, ports.Prompt{RunID: "r1"}, func(chat.Delta) {})
	}
	w.Observe(ctx, ports.FirstEvent{RunID: "r1", SinceAccepted: time.Second})
	w.Observe(ctx, ports.RunFinished{RunID: "r1", State: chat.Completed, Provider: "demo", Model: "demo"})
	w.Observe(ctx, ports.FirstEvent{RunID: "r1", SinceAccepted: time.Second})
	want := map[string]float64{"chat_overhead_seconds{stage=admit}": 1, "chat_overhead_seconds{stage=emit}": 1}
	if diff := cmp.Diff(want, w.values(t, "chat_overhead_seconds")); diff != "" {
		t.Error(diff)
	}
}

func TestObserver_Providers(t *testing.T) {
	w := setup(t)
	for _, f := range []any{
		ports.ProviderAsked{Provider: "openai", Model: "gpt-test", Kind: ports.FirstAttempt, Reason: "overloaded"},
		ports.ProviderAsked{Provider: "openai", Model: "gpt-test", Kind: ports.RetryAttempt},
		ports.ProviderAsked{Provider: "demo", Model: "demo", Kind: ports.Fallback, Reason: "canceled"},
		ports.ProviderSkipped{Provider: "openai", Model: "gpt-test", Reason: "breaker_open"},
		ports.ProviderSkipped{Provider: "openai", Model: "gpt-test", Reason: "saturated"},
		ports.BreakerChanged{Provider: "openai", Model: "gpt-test", From: "closed", To: "open"},
		ports.ProviderHeadroom{Provider: "openai", Kind: "tokens", Ratio: .25},
	} {
		w.Observe(context.Background(), f)
	}
	want := map[string]float64{
		"chat_provider_attempts_total{kind=first,model=gpt-test,provider=openai,result=error}": 1,
		"chat_provider_attempts_total{kind=retry,model=gpt-test,provider=openai,result=ok}":    1,
		"chat_provider_attempts_total{kind=fallback,model=demo,provider=demo,result=canceled}": 1,
		"chat_provider_skips_total{model=gpt-test,provider=openai,reason=breaker_open}":        1,
		"chat_provider_skips_total{model=gpt-test,provider=openai,reason=saturated}":           1,
		"chat_breaker_rejections_total{breaker=openai/gpt-test}":                               1,
		"chat_breaker_transitions_total{breaker=openai/gpt-test,state=open}":                   1,
		"chat_provider_ratelimit_remaining_ratio{kind=tokens,provider=openai}":                 .25,
	}
	got := w.values(t, "chat_provider_attempts_total", "chat_provider_skips_total", "chat_breaker_rejections_total",
		"chat_breaker_transitions_total", "chat_provider_ratelimit_remaining_ratio")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestObserver_RequestFailed(t *testing.T) {
	w := setup(t)
	for i, route := range []string{"POST /api/chat/messages", "PATCH /api/chat/messages/{id}", "GET /api/chat/messages", "GET /api/chat/conversations"} {
		w.Observe(context.Background(), ports.RequestFailed{Route: route, Sends: i < 2, Kind: fault.Internal, Err: errors.New("disk full")})
	}
	got := w.values(t, "chat_turns_total", "chat_refusals_total")
	want := map[string]float64{
		"chat_turns_total{model=none,outcome=internal_error,provider=none}": 2,
		"chat_refusals_total{kind=INTERNAL_ERROR}":                          4,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(w.log.String(), "disk full") {
		t.Error("the cause is not in the log")
	}
}

func TestObserver_Audit(t *testing.T) {
	w := setup(t)
	w.Observe(t.Context(), ports.AuditSealed{Seq: 42, Links: 2, Lag: 1500 * time.Millisecond})
	want := map[string]float64{"chat_audit_seal_lag_seconds{}": 1.5, "chat_audit_sealed_seq{}": 42}
	if diff := cmp.Diff(want, w.values(t, "chat_audit_seal_lag_seconds", "chat_audit_sealed_seq")); diff != "" {
		t.Error(diff)
	}
}

// Nothing that can be stated goes unheard.
func TestObserver_KnowsEveryFact(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../ports/events.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("observe.go")
	if err != nil {
		t.Fatal(err)
	}
	facts := 0
	for _, d := range file.Decls {
		group, ok := d.(*ast.GenDecl)
		if !ok || group.Tok != token.TYPE || !group.Lparen.IsValid() {
			continue // the facts stand in one group
		}
		for _, spec := range group.Specs {
			facts++
			if name := spec.(*ast.TypeSpec).Name.Name; !strings.Contains(string(source), "case ports."+name+":") {
				t.Errorf("%s is not observed", name)
			}
		}
	}
	if facts < 10 {
		t.Errorf("found only %d facts", facts)
	}
}

func TestObserver_Limits(t *testing.T) {
	w := setup(t)
	for _, d := range []access.Decision{{Allowed: true}, {}, {Allowed: true, Fallback: true}, {Fallback: true}} {
		w.Observe(context.Background(), ports.LimitDecided{Scope: "coarse", Decision: d})
	}
	want := map[string]float64{
		"chat_ratelimit_decisions_total{decision=allow,scope=coarse}":          1,
		"chat_ratelimit_decisions_total{decision=deny,scope=coarse}":           1,
		"chat_ratelimit_decisions_total{decision=fallback_allow,scope=coarse}": 1,
		"chat_ratelimit_decisions_total{decision=fallback_deny,scope=coarse}":  1,
	}
	if diff := cmp.Diff(want, w.values(t, "chat_ratelimit_decisions_total")); diff != "" {
		t.Error(diff)
	}
}

// A counter that is first seen at 1 has no rate: it must be there before.
func TestObserver_CountersBeginAtZero(t *testing.T) {
	w := setup(t)
	w.Flush()
	families, err := w.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]int{}
	for _, f := range families {
		series[f.GetName()] = len(f.Metric)
	}
	for name, least := range map[string]int{
		"chat_turns_total": 19, "chat_tokens_total": 10, "chat_cost_usd_total": 2, "chat_unpriced_requests_total": 2,
		"chat_stream_aborts_total": 3, "chat_ratelimit_decisions_total": 8, "chat_refusals_total": 6,
		"chat_background_failures_total": 10, "chat_runs_recovered_total": 1, "chat_runs_fenced_total": 1,
	} {
		if series[name] < least {
			t.Errorf("%s begins with %d series, want %d", name, series[name], least)
		}
	}
}

func TestObserver_Lint(t *testing.T) {
	w := setup(t)
	w.Observe(context.Background(), ports.RunFinished{State: chat.Completed, Provider: "demo", Model: "demo", Usage: chat.Usage{Input: 1}})
	w.Flush()
	problems, err := testutil.GatherAndLint(w.reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

// Whatever names arrive, the number of series stays the same.
func TestObserver_BoundedLabels(t *testing.T) {
	w := setup(t)
	ctx := context.Background()
	logRecord := func(i int) {
		s := fmt.Sprint("name-", i)
		w.Observe(ctx, ports.RunFinished{State: chat.Completed, Provider: s, Model: s, Usage: chat.Usage{Input: 1}})
		w.Observe(ctx, ports.RunFinished{State: chat.Completed, Provider: "openai", Model: s, Usage: chat.Usage{Input: 1}})
		w.Observe(ctx, ports.FollowerLeft{Reason: s})
		w.Observe(ctx, ports.LimitDecided{Scope: s})
		w.Observe(ctx, ports.BackgroundFailed{Task: s, Err: errors.New("x")})
		w.Observe(ctx, ports.ProviderAsked{Provider: s, Model: s, Kind: ports.AttemptKind(s), Reason: s})
		w.Observe(ctx, ports.ProviderSkipped{Provider: s, Model: s, Reason: s})
		w.Observe(ctx, ports.ProviderHeadroom{Provider: s, Kind: s})
		w.Observe(ctx, ports.BreakerChanged{Provider: s, Model: s, To: s})
	}
	count := func() int {
		w.Flush()
		n, err := testutil.GatherAndCount(w.reg)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	logRecord(0)
	before := count()
	for i := range 1000 {
		logRecord(i)
	}
	if after := count(); after != before {
		t.Errorf("%d series became %d", before, after)
	}
}

func TestObserver_FloodsAreThinned(t *testing.T) {
	w := setup(t)
	for range 1000 {
		w.Observe(context.Background(), ports.Refused{Kind: fault.Unauthenticated})
	}
	if n := strings.Count(w.log.String(), "request refused"); n < 10 || n > 30 {
		t.Errorf("%d lines for a flood of 1000", n)
	}
	if got := w.values(t, "chat_refusals_total")["chat_refusals_total{kind=UNAUTHORIZED}"]; got != 1000 {
		t.Errorf("counted %v of 1000", got)
	}
}

func TestObserver_PanicHasItsStack(t *testing.T) {
	w := setup(t)
	w.Observe(context.Background(), ports.BackgroundFailed{Task: "generate", Err: ports.Panic{Value: "canary", Stack: []byte("main.go:1")}})
	if log := w.log.String(); !strings.Contains(log, "main.go:1") || strings.Contains(log, "canary") {
		t.Errorf("log: %s", log)
	}
}

// TestMetrics_BucketsCoverTheTimeouts: the first output may come after the timeout of
// a first chunk and a fallback, and calls of the database end between 1 and 5 s.
func TestMetrics_BucketsCoverTheTimeouts(t *testing.T) {
	w := setup(t)
	w.Observe(context.Background(), ports.RunFinished{State: chat.Completed, Provider: "openai", Model: "gpt-test", Duration: time.Second})
	w.NotConnected(observe.Database{System: "sqlite", Name: func(context.Context) string { return "admit" }})(context.Background(), time.Second, errors.New("refused"))
	w.Flush()
	families, err := w.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	bounds := map[string][]float64{}
	for _, f := range families {
		if f.GetType() == dto.MetricType_HISTOGRAM && len(f.Metric) > 0 {
			for _, b := range f.Metric[0].GetHistogram().Bucket {
				bounds[f.GetName()] = append(bounds[f.GetName()], b.GetUpperBound())
			}
		}
	}
	first, db := bounds["chat_turn_time_to_first_event_seconds"], bounds["db_client_operation_duration_seconds"]
	if len(first) == 0 || first[len(first)-1] <= 120 {
		t.Errorf("first outputs are counted up to %v", first)
	}
	between := 0
	for _, b := range db {
		if b > 1 && b < 5 {
			between++
		}
	}
	if between < 2 {
		t.Errorf("calls of the database have the bounds %v", db)
	}
}

// TestObserver_CachedAndLimited: replies from the cache and answers of status 429 are
// counted apart.
func TestObserver_CachedAndLimited(t *testing.T) {
	w := setup(t)
	ctx := context.Background()
	w.Observe(ctx, ports.RunFinished{State: chat.Completed, Provider: "openai", Model: "gpt-test", Cached: true})
	w.Observe(ctx, ports.RunFinished{State: chat.Completed, Provider: "openai", Model: "gpt-test"})
	w.Observe(ctx, ports.ProviderAsked{Provider: "openai", Model: "gpt-test", Kind: ports.FirstAttempt, Reason: "rate_limited"})
	want := map[string]float64{
		"chat_replies_cached_total{model=gpt-test,provider=openai}":                                   1,
		"chat_provider_attempts_total{kind=first,model=gpt-test,provider=openai,result=rate_limited}": 1,
	}
	if diff := cmp.Diff(want, w.values(t, "chat_replies_cached_total", "chat_provider_attempts_total")); diff != "" {
		t.Error(diff)
	}
}
