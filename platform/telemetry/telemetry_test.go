package telemetry_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"parley/platform/telemetry"
)

func setup(t *testing.T, o telemetry.Options) *telemetry.Telemetry {
	t.Helper()
	if o.LogOutput == nil {
		o.LogOutput = io.Discard
	}
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	o.Service, o.Version, o.Instance = "parley", "v0", "i-1"
	tel, err := telemetry.Setup(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = tel.Shutdown(ctx)
	})
	return tel
}

func TestLog_KnowsItsContext(t *testing.T) {
	var out bytes.Buffer
	tel := setup(t, telemetry.Options{
		LogOutput: &out,
		LogAttrs:  func(context.Context) []slog.Attr { return []slog.Attr{slog.String("request_id", "r-1")} },
	})
	ctx, span := tel.Tracers.Tracer("test").Start(context.Background(), "work")
	tel.Log.With("component", "x", "secret", "canary").InfoContext(ctx, "said", "token", "canary", "Authorization", "canary",
		slog.Group("request", "cookie", "canary", slog.Group("deeper", "DSN", "canary")), "who", caller{}, "fine", "kept")
	span.End()

	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	if line["request_id"] != "r-1" || line["component"] != "x" || line["trace_id"] != span.SpanContext().TraceID().String() {
		t.Errorf("the line lacks its context: %v", line)
	}
	if strings.Contains(out.String(), "canary") {
		t.Errorf("a secret was logged: %s", out.String())
	}
	if line["fine"] != "kept" || line["token"] != "[secret]" || line["secret"] != "[secret]" {
		t.Errorf("too much or too little is hidden: %v", line)
	}
}

// caller says more of itself than it should.
type caller struct{}

func (caller) LogValue() slog.Value { return slog.GroupValue(slog.String("password", "canary")) }

func TestLog_OneLineWhateverIsSaid(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		var out bytes.Buffer
		tel := setup(t, telemetry.Options{LogOutput: &out, LogFormat: format})
		tel.Log.Info("x", "agent", "a\r\nlevel=ERROR msg=forged\x1b[31m")
		settle(t, tel)
		if got := strings.Count(out.String(), "\n"); got != 1 || strings.ContainsAny(strings.TrimSpace(out.String()), "\r\x1b") {
			t.Errorf("%s: %d lines in %q", format, got, out.String())
		}
	}
}

func TestLog_LevelAtRunTime(t *testing.T) {
	var out bytes.Buffer
	tel := setup(t, telemetry.Options{LogOutput: &out, LogLevel: slog.LevelWarn})
	tel.Log.Info("hidden")
	tel.Level.Set(slog.LevelDebug)
	tel.Log.Debug("shown")
	settle(t, tel)
	if strings.Contains(out.String(), "hidden") || !strings.Contains(out.String(), "shown") {
		t.Errorf("got %q", out.String())
	}
}

// settle has every line written.
func settle(t *testing.T, tel *telemetry.Telemetry) {
	t.Helper()
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func scrape(t *testing.T, tel *telemetry.Telemetry) string {
	t.Helper()
	rec := httptest.NewRecorder()
	tel.Metrics().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	if rec.Code != http.StatusOK {
		t.Fatalf("scrape answered %d: %s", rec.Code, rec.Body)
	}
	return rec.Body.String()
}

func TestMetrics_OneRegistry(t *testing.T) {
	tel := setup(t, telemetry.Options{})
	h, err := tel.Meters.Meter("test").Float64Histogram("http.server.request.duration", metric.WithUnit("s"))
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"a.example", "b.example", "c.example"} {
		h.Record(context.Background(), .2, metric.WithAttributes(
			attribute.String("server.address", host), attribute.String("http.route", "/api/health")))
	}
	got := scrape(t, tel)
	for _, want := range []string{
		"go_goroutines ",
		"process_cpu_seconds_total ",
		`version="v0"`,
		`chat_telemetry_dropped_total{signal="traces"} 0`,
		`http_server_request_duration_seconds_bucket{http_route="/api/health",le="300"} 3`,
		`service_instance_id="i-1"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the scrape lacks %s", want)
		}
	}
	if strings.Contains(got, "a.example") || strings.Contains(got, "otel_scope") {
		t.Error("a label holds what a caller chose, or the scope")
	}
	if problems, err := testutil.GatherAndLint(tel.Registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

// collector is an OTLP receiver that answers with status.
func collector(t *testing.T, status int) (url string, spans func() []string) {
	t.Helper()
	got := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body io.Reader = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = z
		}
		raw, err := io.ReadAll(body)
		if err != nil {
			t.Error(err)
			return
		}
		var req tracepb.ExportTraceServiceRequest
		if err := proto.Unmarshal(raw, &req); err != nil {
			t.Error(err)
			return
		}
		for _, rs := range req.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					got <- s.Name
				}
			}
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []string {
		var names []string
		for len(got) > 0 {
			names = append(names, <-got)
		}
		return names
	}
}

func TestTraces_ExportedWhenAskedFor(t *testing.T) {
	url, spans := collector(t, http.StatusOK)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
	tel := setup(t, telemetry.Options{Getenv: os.Getenv})
	if !tel.Exporting {
		t.Error("not exporting")
	}
	_, span := tel.Tracers.Tracer("test").Start(context.Background(), "work")
	span.End()
	if err := tel.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := spans(); len(got) != 1 || got[0] != "work" {
		t.Errorf("received %v", got)
	}
}

func TestTraces_LossesAreCounted(t *testing.T) {
	url, _ := collector(t, http.StatusBadRequest)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
	tel := setup(t, telemetry.Options{Getenv: os.Getenv})
	for range 3 {
		_, span := tel.Tracers.Tracer("test").Start(context.Background(), "work")
		span.End()
	}
	_ = tel.Shutdown(context.Background()) // says that it could not deliver
	if got := scrape(t, tel); !strings.Contains(got, `chat_telemetry_dropped_total{signal="traces"} 3`) {
		t.Error("losses were not counted")
	}
}

// A collector that takes its time fills the queue; what does not fit is counted
// as well, each span once.
func TestTraces_FullQueueIsCounted(t *testing.T) {
	const ended, fit = 200, 32
	held := make(chan struct{})
	var received atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		received.Add(1)
		<-held
	}))
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": server.URL, "OTEL_BSP_MAX_QUEUE_SIZE": strconv.Itoa(fit),
		"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8", "OTEL_BSP_SCHEDULE_DELAY": "10",
	} {
		t.Setenv(name, value)
	}
	tel := setup(t, telemetry.Options{Getenv: os.Getenv})
	for range ended {
		_, span := tel.Tracers.Tracer("test").Start(context.Background(), "work")
		span.End()
	}
	close(held)
	if err := tel.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf(`chat_telemetry_dropped_total{signal="traces"} %d`, ended-fit); !strings.Contains(scrape(t, tel), want+"\n") {
		t.Errorf("not %s", want)
	}
	if n := received.Load(); n < fit/8 {
		t.Errorf("%d batches were received, fewer than what was let in", n)
	}
}

func TestTraces_OffByDefault(t *testing.T) {
	tel := setup(t, telemetry.Options{})
	_, span := tel.Tracers.Tracer("test").Start(context.Background(), "work")
	if tel.Exporting || span.IsRecording() {
		t.Error("spans are recorded although nobody asked")
	}
	if !span.SpanContext().TraceID().IsValid() {
		t.Error("the log still needs a trace id")
	}
}
