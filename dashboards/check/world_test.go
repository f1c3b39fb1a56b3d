//go:build e2e

package check_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the database/sql driver "pgx"

	"parley/adapters/providers/stub"
	"parley/dashboards/check"
	"parley/platform/testing/testenv"
)

// world is two instances of the real program with everything that they need,
// and a Prometheus that watches them.
type world struct {
	t          *testing.T
	postgres   *testenv.Server
	redis      *testenv.Server
	providers  *stub.Server
	openai     atomic.Value // mood of a provider, as a string
	anthropic  atomic.Value
	one, two   *process
	prometheus check.Prometheus
	program    string
	env        []string
	begun      time.Time
}

type process struct {
	cmd         *exec.Cmd
	addr, admin string
	env         []string
	log         *os.File
}

func (p *process) url() string { return "http://" + p.addr }

const (
	priced   = "gpt-5-mini"
	unpriced = "house-model"
	claude   = "claude-sonnet-5"
)

// newWorld starts everything. Limits are low and time limits short, so that all
// of them can be met within a minute.
func newWorld(t *testing.T) *world {
	w := &world{t: t, postgres: testenv.StartPostgres(t), redis: testenv.StartRedis(t), begun: time.Now()}
	var err error
	if w.program = os.Getenv("PARLEY"); w.program == "" { // make build has made it
		if w.program, err = filepath.Abs("../../bin/parley"); err != nil {
			t.Fatal(err)
		}
	}
	if w.providers, err = stub.Start(w.script); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.providers.Close)
	w.openai.Store("well")
	w.anthropic.Store("well")
	tiers := filepath.Join(t.TempDir(), "tiers.json")
	if err := os.WriteFile(tiers, []byte(`{"webhook": {"tokensPerDay": 20000}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	w.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LOG_FORMAT=json", "GOMEMLIMIT=512MiB",
		"DATABASE_URL=" + w.postgres.URL(), "DB_MAX_CONNS=4", "REDIS_URL=" + w.redis.URL(), "INSTANCES=2",
		"AUTH_SECRET=a-secret-of-the-gate-0123456789abcdef",
		"RATE_LIMIT_AUTHENTICATED=2000", "MAX_CONCURRENT_REPLIES=0", "RATE_LIMIT_API_KEY=5", "TIERS_FILE=" + tiers,
		"OPENAI_API_KEY=sk-gate", "OPENAI_BASE_URL=" + w.providers.OpenAIURL(), "OPENAI_MODEL=" + priced + "," + unpriced,
		"ANTHROPIC_API_KEY=sk-gate", "ANTHROPIC_BASE_URL=" + w.providers.AnthropicURL(), "ANTHROPIC_MODEL=" + claude,
		"AI_PROVIDERS=openai,anthropic", "AI_FIRST_TOKEN_TIMEOUT=1500ms", "AI_IDLE_TIMEOUT=1500ms", "AI_MAX_CONCURRENCY=50",
		"OTEL_TRACES_SAMPLER=always_on", "OTEL_BSP_SCHEDULE_DELAY=500", "SHUTDOWN_TIMEOUT=5s",
	}
	w.run("migrate", "up")
	// Spans of one instance arrive; the other's collector is not there.
	there := collector(t) // first: it could be given a port that was free a moment ago
	w.one = w.start(&process{addr: free(t), admin: free(t), env: []string{"INSTANCE=one", "OTEL_EXPORTER_OTLP_ENDPOINT=" + there}})
	w.two = w.start(&process{addr: free(t), admin: free(t), env: []string{"INSTANCE=two", "OTEL_EXPORTER_OTLP_ENDPOINT=http://" + free(t)}})
	w.prometheus = w.startPrometheus()
	return w
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
		r.Delay = 500 * time.Millisecond
		return r
	case "hanging":
		return stub.Reply{Hang: true}
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
	r.Header = limits
	return r
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// collector takes spans and forgets them.
func collector(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return "http://" + l.Addr().String()
}

func (w *world) run(args ...string) string {
	w.t.Helper()
	cmd := exec.Command(w.program, args...)
	cmd.Env = w.env
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("parley %s: %v\n%s", strings.Join(args, " "), err, &errs)
	}
	return strings.TrimSpace(string(out))
}

// start runs an instance, again on the same addresses if it ran before.
func (w *world) start(p *process) *process {
	w.t.Helper()
	if p.log == nil {
		var err error
		if p.log, err = os.Create(filepath.Join(w.t.TempDir(), "log")); err != nil {
			w.t.Fatal(err)
		}
	}
	p.cmd = exec.Command(w.program, "serve")
	p.cmd.Env = append(append(w.env, p.env...), "ADDR="+p.addr, "ADMIN_ADDR="+p.admin)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	cmd := p.cmd
	w.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	w.await("http://"+p.admin+"/readyz", p.log.Name())
	return p
}

// kill ends an instance as a crash would.
func (w *world) kill(p *process) {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

func (w *world) await(url, log string) {
	w.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if status, _ := get(url); status == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(log)
			w.t.Fatalf("%s does not answer\n%s", url, said)
		}
	}
}

func get(url string) (status int, body string) {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	content, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(content)
}

func (w *world) startPrometheus() check.Prometheus {
	dir, addr := w.t.TempDir(), free(w.t)
	for _, name := range []string{"slos.yaml", "alerts.yaml"} {
		rules, err := os.ReadFile(filepath.Join("../alerts", name))
		if err != nil {
			w.t.Fatal(err)
		}
		// Every group as often as it goes, or the slow ones would never speak.
		text := strings.ReplaceAll(string(rules), "    interval: 5m\n", "")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	config, _ := json.Marshal(map[string]any{ // JSON is YAML
		"global":     map[string]any{"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
		"rule_files": []string{dir + "/slos.yaml", dir + "/alerts.yaml"},
		"scrape_configs": []any{
			map[string]any{"job_name": "parley", "static_configs": []any{map[string]any{"targets": []string{w.one.admin, w.two.admin}}}},
			map[string]any{"job_name": "prometheus", "static_configs": []any{map[string]any{"targets": []string{addr}}}},
		},
	})
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yaml"), config, 0o644); err != nil {
		w.t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(testenv.Binary(w.t, "prometheus"), "--config.file="+dir+"/prometheus.yaml", "--storage.tsdb.path="+dir+"/data",
		"--web.listen-address="+addr, "--enable-feature=exemplar-storage")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	w.await("http://"+addr+"/-/ready", log.Name())
	return check.Prometheus{URL: "http://" + addr}
}

// reader opens the database as dashboards do.
func (w *world) reader() *sql.DB {
	w.t.Helper()
	out, err := exec.Command(testenv.Binary(w.t, "psql"), w.postgres.URL(), "-v", "ON_ERROR_STOP=1", "-v", "password=reader", "-q",
		"-f", "../../deploy/postgres/reader.sql").CombinedOutput()
	if err != nil {
		w.t.Fatalf("reader.sql: %v\n%s", err, out)
	}
	db, err := sql.Open("pgx", strings.Replace(w.postgres.URL(), "parley@", "parley_reader:reader@", 1))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { db.Close() })
	return db
}

// metrics is what both instances expose now.
func (w *world) metrics() []string {
	var out []string
	for _, p := range []*process{w.one, w.two} {
		req, _ := http.NewRequestWithContext(context.Background(), "GET", "http://"+p.admin+"/metrics", nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			w.t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			w.t.Fatalf("metrics: %v %v", resp.Status, err)
		}
		out = append(out, string(body))
	}
	return out
}
