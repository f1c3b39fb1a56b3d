//go:build e2e

package check_test

import (
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the database/sql driver "pgx"

	"parley/adapters/providers/stub"
	"parley/dashboards/check"
	"parley/platform/testing/incidents"
	"parley/platform/testing/testenv"
	"parley/platform/testing/testworld"
)

// world is two instances of the real program with everything that they need,
// and a Prometheus that watches them.
type world struct {
	*testworld.World
	openai     atomic.Value // mood of a provider, as a string
	anthropic  atomic.Value
	prometheus check.Prometheus
	proxy      *testworld.Proxy
	data       string // DATA_DIR of both instances
}

type process = testworld.Instance

const (
	priced   = "gpt-5-mini"
	unpriced = "house-model"
	claude   = "claude-sonnet-5"
	slow     = "slow-model"
)

// newWorld starts everything. Limits are low and time limits short, so that all
// of them can be met within a minute.
func newWorld(t *testing.T) *world {
	w := &world{data: t.TempDir()}
	w.openai.Store("well")
	w.anthropic.Store("well")
	tiers := filepath.Join(t.TempDir(), "tiers.json")
	if err := os.WriteFile(tiers, []byte(`{"webhook": {"tokensPerDay": 20000}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	w.World = testworld.Start(t, w.script,
		"WEBHOOK_URL="+webhookReceiver(t), "WEBHOOK_SECRET=whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 32)),
		"DB_MAX_CONNS=4", "RATE_LIMIT_AUTHENTICATED=2000", "MAX_CONCURRENT_REPLIES=0", "RATE_LIMIT_API_KEY=5", "TIERS_FILE="+tiers,
		"OPENAI_MODEL="+priced+","+unpriced+","+slow, "ANTHROPIC_MODEL="+claude, "DATA_DIR="+w.data, "RATE_LIMIT_ANONYMOUS=2000",
		"AI_FIRST_TOKEN_TIMEOUT=4s", "AI_IDLE_TIMEOUT=1500ms", "AI_MAX_CONCURRENCY=50",
		"OTEL_TRACES_SAMPLER=always_on", "OTEL_BSP_SCHEDULE_DELAY=500", "SHUTDOWN_TIMEOUT=5s")
	// Spans of one instance arrive; the other's collector is not there.
	there := testworld.Collector(t) // first: it could be given a port that was free a moment ago
	w.One = w.NewInstance("INSTANCE=one", "OTEL_EXPORTER_OTLP_ENDPOINT="+there)
	w.Two = w.NewInstance("INSTANCE=two", "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+testenv.FreeAddr())
	addr := testenv.FreeAddr()
	proxy := testworld.ProxyConfig(t, addr, w.One, w.Two)
	w.proxy = testworld.StartProxy(t, addr, proxy)
	w.prometheus = w.startPrometheus(testworld.ProxyMetrics(proxy))
	return w
}

// webhookReceiver accepts most events, fails some, and wants no more of others.
func webhookReceiver(t *testing.T) string {
	var n atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch n.Add(1) % 8 {
		case 3:
			w.WriteHeader(http.StatusInternalServerError)
		case 6:
			w.WriteHeader(http.StatusGone)
		}
	}))
	t.Cleanup(receiver.Close)
	return receiver.URL
}

// script answers for both providers, each in its mood; the message may ask for
// more.
func (w *world) script(c stub.Call) stub.Reply {
	mood := w.openai.Load()
	limits := map[string]string{
		"x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": fmt.Sprint(100 - c.N%60),
		"x-ratelimit-limit-tokens": "100000", "x-ratelimit-remaining-tokens": fmt.Sprint(100000 - (c.N*731)%70000),
	}
	if c.Provider == stub.Anthropic {
		mood = w.anthropic.Load()
		limits = map[string]string{
			"anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-requests-remaining": fmt.Sprint(50 - c.N%20),
			"anthropic-ratelimit-tokens-limit": "40000", "anthropic-ratelimit-tokens-remaining": fmt.Sprint(40000 - (c.N*97)%9000),
		}
	}
	switch mood {
	case "limited":
		return stub.Refuse(http.StatusTooManyRequests, "rate_limit_exceeded", "Retry-After", "1")
	case "broken":
		return stub.Refuse(http.StatusInternalServerError, "server_error")
	case "unauthorized":
		return stub.Refuse(http.StatusUnauthorized, "invalid_api_key")
	case "late":
		r := stub.Refuse(http.StatusInternalServerError, "server_error")
		r.Delay = 3 * time.Second
		return r
	case "hanging":
		return stub.Reply{Hang: true}
	case "low":
		for name := range limits {
			if strings.Contains(name, "remaining") {
				limits[name] = "5"
			}
		}
	}
	r := stub.Directives(c)
	if strings.Contains(c.Last(), "cached") {
		r.CacheRead, r.CacheWrite = 3, 2
	}
	if strings.Contains(c.Last(), "flood") {
		for range 48 {
			r.Chunks = append(r.Chunks, strings.Repeat("flood ", 1300))
		}
	}
	if strings.Contains(c.Last(), "think") {
		r.Reasoning = "one two three four"
	}
	if r.Pace == 0 {
		r.Delay, r.Pace = time.Duration(20+c.N*37%180)*time.Millisecond, 5*time.Millisecond
	}
	if mood == "slow" {
		r.Delay = 3 * time.Second
	}
	r.Header = limits
	return r
}

// startPrometheus starts a Prometheus with the bundled rules, all of whose durations
// are divided by incidents.Factor: what takes minutes takes seconds.
func (w *world) startPrometheus(proxyMetrics string) check.Prometheus {
	dir, addr := w.T.TempDir(), testenv.FreeAddr()
	for _, name := range []string{"slos.yaml", "alerts.yaml"} {
		rules, err := os.ReadFile(filepath.Join("../alerts", name))
		if err != nil {
			w.T.Fatal(err)
		}
		fast, err := incidents.CompressRules(rules)
		if err != nil {
			w.T.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), fast, 0o644); err != nil {
			w.T.Fatal(err)
		}
	}
	config, _ := json.Marshal(map[string]any{ // JSON is YAML
		"global":     map[string]any{"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
		"rule_files": []string{dir + "/slos.yaml", dir + "/alerts.yaml"},
		"alerting": map[string]any{"alertmanagers": []any{ // it is not there
			map[string]any{"static_configs": []any{map[string]any{"targets": []string{testenv.FreeAddr()}}}}}},
		"scrape_configs": []any{
			map[string]any{"job_name": "parley", "static_configs": []any{map[string]any{"targets": []string{w.One.Admin, w.Two.Admin}}}},
			map[string]any{"job_name": "proxy", "params": map[string]any{"scope": []string{"backend", "server"}},
				"static_configs": []any{map[string]any{"targets": []string{proxyMetrics}, "labels": map[string]string{"component": "proxy"}}}},
			map[string]any{"job_name": "prometheus", "static_configs": []any{map[string]any{"targets": []string{addr}}}},
		},
	})
	return check.Prometheus{URL: testworld.StartPrometheus(w.T, addr, string(config), "--enable-feature=exemplar-storage")}
}

// sql runs statements as the owner of the database.
func (w *world) sql(statements ...string) {
	w.T.Helper()
	db, err := sql.Open("pgx", w.Postgres.URL())
	if err != nil {
		w.T.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			w.T.Fatalf("%s: %v", s, err)
		}
	}
}

// reader opens the database as dashboards do.
func (w *world) reader() *sql.DB {
	w.T.Helper()
	db, err := sql.Open("pgx", w.ReaderURL())
	if err != nil {
		w.T.Fatal(err)
	}
	w.T.Cleanup(func() { db.Close() })
	return db
}
