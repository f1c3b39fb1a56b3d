//go:build e2e

package incidents

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.yaml.in/yaml/v3"

	"parley/adapters/providers/stub"
	"parley/dashboards/check"
	"parley/platform/testing/testenv"
	"parley/platform/testing/testworld"
)

// world is two instances behind the bundled proxy, a load of users, and the monitoring
// with compressed rules. The instances run as the role of deploy/postgres/roles.sql.
type world struct {
	*testworld.World
	t            *testing.T
	root         string
	haproxy      *testworld.Proxy
	proxy        string // its URL
	proxyConfig  string
	proxyAddr    string
	prometheus   check.Prometheus
	reader       string // URL of the database for the role of dashboards
	alertmanager string // its URL
	monitoring   string // directory of rules, routes and runbooks
	instances    string // file with the targets of Prometheus's job "parley"
	targets      string // file with those of the job "alone"
	bin          string // directory of the commands that runbooks use
	blobs        string // directory of files
	scraped      bool   // the job "alone" has been there since the last forget
	restarted    bool   // an instance was restarted on purpose since the last forget
	alone        *testworld.Instance
	small        string // file system of the tablespace
	received     *receiver
	openai       atomic.Pointer[stub.Script]
	anthropic    atomic.Pointer[stub.Script]
	webhooks     atomic.Int32 // status that the receiver of webhooks answers; 0: 200
	badTokens    atomic.Bool  // the load sends tokens that are not valid
	paused       atomic.Bool  // the load waits
	begun        time.Time    // of what Prometheus remembers
}

const (
	defaultModel = "gpt-5-mini"
	secondModel  = "gpt-5-nano"
	idleModel    = "gpt-5" // nobody uses it
	claude       = "claude-sonnet-5"

	unpricedModel = "house-model"
)

func newWorld(t *testing.T) *world {
	w := &world{t: t, root: testworld.Root(t), blobs: t.TempDir(), received: newReceiver(t)}
	w.heal()
	w.World = testworld.Start(t, func(c stub.Call) stub.Reply {
		script := &w.openai
		if c.Provider == stub.Anthropic {
			script = &w.anthropic
		}
		return (*script.Load())(c)
	},
		"WEBHOOK_URL="+w.startWebhooks(), "WEBHOOK_SECRET=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAbCdEfGhIjK=",
		"DB_MAX_CONNS=10", "BLOB_URL=file://"+w.blobs, "TRUSTED_PROXIES=1", "RATE_LIMIT_AUTHENTICATED=3000", "RATE_LIMIT_API_KEY=30", "MAX_CONCURRENT_REPLIES=0",
		"OPENAI_MODEL="+defaultModel+","+secondModel+","+idleModel+","+unpricedModel, "ANTHROPIC_MODEL="+claude,
		"AI_FIRST_TOKEN_TIMEOUT=30s", "SHUTDOWN_TIMEOUT=5s")
	w.small = w.mount(postgresBytes)
	w.psql("-c", "CREATE TABLESPACE small LOCATION '"+w.small+"'")
	w.psql("-c", "ALTER TABLE ALL IN TABLESPACE pg_default SET TABLESPACE small")
	w.psql("-c", "ALTER INDEX ALL IN TABLESPACE pg_default SET TABLESPACE small")
	w.psql("-f", filepath.Join(w.root, "deploy/postgres/roles.sql"))
	w.reader = w.ReaderURL()
	// A file system of their own: whether the machine's disk fills does not matter.
	w.Env = append(w.Env, "DATABASE_URL="+w.appURL(), "DATA_DIR="+w.mount(dataBytes))
	w.One, w.Two = w.NewInstance("INSTANCE=parley-1"), w.NewInstance("INSTANCE=parley-2")
	w.proxyAddr = testenv.FreeAddr()
	w.proxyConfig = testworld.ProxyConfig(t, w.proxyAddr, w.One, w.Two)
	w.haproxy = testworld.StartProxy(t, w.proxyAddr, w.proxyConfig)
	w.proxy = w.haproxy.URL
	w.startMonitoring()
	w.bin = w.commands()
	w.startLoad()
	w.forget() // the start
	return w
}

func (w *world) appURL() string {
	return strings.Replace(w.Postgres.URL(), "parley@", "parley_app@", 1)
}

// Sizes of the file systems that incidents fill.
const (
	postgresBytes = 384 << 20
	sqliteBytes   = 48 << 20
	logBytes      = 1 << 20
	dataBytes     = 2 << 30 // of instances whose disk does not fill; memory only as far as it is used
)

// mount makes a file system in memory that belongs to the user of Postgres and that
// every user may write to.
func (w *world) mount(bytes int) string {
	w.t.Helper()
	dir, err := os.MkdirTemp("/tmp", "parley-incidents-")
	if err == nil {
		err = syscall.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=1777", bytes))
	}
	if err == nil {
		var info os.FileInfo
		if info, err = os.Stat(w.Postgres.Dir()); err == nil {
			owner := info.Sys().(*syscall.Stat_t)
			err = os.Chown(dir, int(owner.Uid), int(owner.Gid))
		}
	}
	if err != nil {
		w.t.Fatalf("a small file system needs root: %v", err)
	}
	w.t.Cleanup(func() {
		syscall.Unmount(dir, syscall.MNT_DETACH)
		os.Remove(dir)
	})
	return dir
}

// fill takes all that is left of a file system, and returns what frees it.
func (w *world) fill(dir string) (free func()) {
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		w.t.Fatal(err)
	}
	chunk := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(chunk)
	}
	f.Close()
	return func() { os.Remove(ballast) }
}

// crowd lets n users do something again and again until it is stopped.
func (w *world) crowd(n int, do func(u *testworld.User)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for i := range n {
		u := w.User(fmt.Sprintf("crowd-%d", i))
		all.Go(func() {
			for ctx.Err() == nil {
				do(u)
			}
		})
	}
	return sync.OnceFunc(func() { cancel(); all.Wait() })
}

// restart replaces an instance by one with more settings, as a deploy does.
func (w *world) restart(i *testworld.Instance, env ...string) {
	w.t.Helper()
	i.Cmd.Process.Signal(syscall.SIGTERM)
	i.Cmd.Wait()
	i.Env = env
	w.StartInstance(i)
	w.restarted = true
}

// startWebhooks starts the receiver of webhooks and returns its URL.
func (w *world) startWebhooks() string {
	w.webhooks.Store(http.StatusOK)
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		rw.WriteHeader(int(w.webhooks.Load()))
	}))
	w.t.Cleanup(s.Close)
	return s.URL
}

// heal makes both providers answer well.
func (w *world) heal() {
	w.setProviders(well, well)
}

func (w *world) setProviders(openai, anthropic stub.Script) {
	w.openai.Store(&openai)
	w.anthropic.Store(&anthropic)
}

// well answers within a fifth of a second.
func well(c stub.Call) stub.Reply {
	r := stub.Directives(c)
	r.Delay = time.Duration(20+c.N*37%150) * time.Millisecond
	if r.Pace == 0 {
		r.Pace = 3 * time.Millisecond
	}
	if strings.HasPrefix(c.Last(), "!large") {
		r.Chunks = slices.Repeat([]string{strings.Repeat("large ", 3000)}, 12)
	}
	if strings.HasPrefix(c.Last(), "!flood") {
		r.Chunks = slices.Repeat([]string{strings.Repeat("flood ", 1300)}, 48)
	}
	if strings.HasPrefix(c.Last(), "!dear") {
		r.Text, r.Usage = "a dear reply", []any{map[string]any{"prompt_tokens": 100, "completion_tokens": 200_000}}
	}
	r.Header = headroom(c, 0.7)
	return r
}

// headroom is what a provider says of its own limits.
func headroom(c stub.Call, ratio float64) map[string]string {
	left := func(limit float64) string { return fmt.Sprint(int(limit * ratio)) }
	if c.Provider == stub.Anthropic {
		return map[string]string{
			"anthropic-ratelimit-requests-limit": "1000", "anthropic-ratelimit-requests-remaining": left(1000),
			"anthropic-ratelimit-tokens-limit": "100000", "anthropic-ratelimit-tokens-remaining": left(100000),
		}
	}
	return map[string]string{
		"x-ratelimit-limit-requests": "1000", "x-ratelimit-remaining-requests": left(1000),
		"x-ratelimit-limit-tokens": "100000", "x-ratelimit-remaining-tokens": left(100000),
	}
}

// psql runs psql as the owner of the tables.
func (w *world) psql(args ...string) string {
	w.t.Helper()
	out, err := exec.Command(testenv.Binary(w.t, "psql"), append([]string{w.Postgres.URL(), "-v", "ON_ERROR_STOP=1", "-qAt"}, args...)...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("psql %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// alter changes tables that requests use, in one transaction. It does not queue
// for their locks, as behind an autovacuum: all requests would wait behind it, and
// that is another incident.
func (w *world) alter(statements ...string) {
	w.t.Helper()
	args := []string{w.Postgres.URL(), "-v", "ON_ERROR_STOP=1", "-qAt1", "-c", "SET LOCAL lock_timeout = '100ms'"}
	for _, sql := range statements {
		args = append(args, "-c", sql)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		out, err := exec.Command(testenv.Binary(w.t, "psql"), args...).CombinedOutput()
		if err == nil {
			return
		}
		if !strings.Contains(string(out), "lock timeout") || time.Now().After(end) {
			w.t.Fatalf("psql %v: %v\n%s", args, err, out)
		}
	}
}

// connect opens a connection to the database that ends with the test.
func (w *world) connect(url string) *pgx.Conn {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), url)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// mutate changes the content of a file of rules, routes or runbooks, by its path in the
// repository.
type mutate func(path string, content string) string

func unchanged(_, content string) string { return content }

// read reads a file of the repository and changes it.
func (w *world) read(path string, change mutate) string {
	content, err := os.ReadFile(filepath.Join(w.root, path))
	if err != nil {
		w.t.Fatal(err)
	}
	return change(path, string(content))
}

// configure writes the compressed rules and routes and the runbooks, and has Prometheus
// and Alertmanager read them if they run already.
func (w *world) configure(change mutate) {
	w.t.Helper()
	files := map[string]string{}
	routes, err := CompressRoutes([]byte(w.read("dashboards/alerts/alertmanager.yaml", change)), w.received.url)
	if err != nil {
		w.t.Fatal(err)
	}
	files["alertmanager.yaml"] = string(routes)
	for _, name := range []string{"slos.yaml", "alerts.yaml"} {
		rules, err := CompressRules([]byte(w.read("dashboards/alerts/"+name, change)))
		if err != nil {
			w.t.Fatal(err)
		}
		files[name] = string(rules)
	}
	runbooks, err := filepath.Glob(filepath.Join(w.root, "docs/runbooks/*.md"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, path := range runbooks {
		name := filepath.Base(path)
		files[name] = w.read("docs/runbooks/"+name, change)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(w.monitoring, name), []byte(content), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, url := range []string{w.prometheus.URL, w.alertmanager} {
		if url == "" {
			continue
		}
		resp, err := http.Post(url+"/-/reload", "", nil)
		if err != nil {
			w.t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			w.t.Fatalf("reload %s: %s", url, resp.Status)
		}
	}
}

// startMonitoring starts Prometheus and Alertmanager as deploy/prometheus.yaml and
// dashboards/alerts/alertmanager.yaml say, with addresses of this machine and
// compressed rules.
func (w *world) startMonitoring() {
	w.monitoring = w.t.TempDir()
	w.configure(unchanged)
	w.alertmanager = testworld.StartAlertmanager(w.t, filepath.Join(w.monitoring, "alertmanager.yaml"))
	addr := testenv.FreeAddr()
	w.instances, w.targets = filepath.Join(w.monitoring, "instances.json"), filepath.Join(w.monitoring, "targets.json")
	text := strings.NewReplacer("parley-1:9464", w.One.Admin, "parley-2:9464", w.Two.Admin, "localhost:9090", addr,
		"proxy:8405", testworld.ProxyMetrics(w.proxyConfig),
		"alertmanager:9093", strings.TrimPrefix(w.alertmanager, "http://")).Replace(w.read("deploy/prometheus.yaml", unchanged))
	var config map[string]any
	if err := yaml.Unmarshal([]byte(text), &config); err != nil {
		w.t.Fatal(err)
	}
	config["global"] = map[string]any{"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
	config["rule_files"] = []string{w.monitoring + "/slos.yaml", w.monitoring + "/alerts.yaml"}
	fromFile := func(path string) []any {
		return []any{map[string]any{"files": []string{path}, "refresh_interval": "1s"}}
	}
	jobs := config["scrape_configs"].([]any)
	for _, job := range jobs { // so that targets can be taken out
		if job := job.(map[string]any); job["job_name"] == "parley" {
			delete(job, "static_configs")
			job["file_sd_configs"] = fromFile(w.instances)
		}
	}
	config["scrape_configs"] = append(jobs, map[string]any{"job_name": "alone", "file_sd_configs": fromFile(w.targets)})
	out, err := yaml.Marshal(config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.scrape(w.instances, w.One.Admin, w.Two.Admin)
	w.scrapeAlone()
	w.prometheus = check.Prometheus{URL: testworld.StartPrometheus(w.t, addr, string(out), "--enable-feature=exemplar-storage",
		"--web.enable-admin-api", "--web.enable-lifecycle", "--rules.alert.resend-delay=1s")}
}

// scrapeAlone replaces the targets of the job "alone".
func (w *world) scrapeAlone(targets ...string) {
	w.scraped = w.scraped || len(targets) > 0
	w.scrape(w.targets, targets...)
}

// scrape replaces the targets in a file that Prometheus reads.
func (w *world) scrape(file string, targets ...string) {
	if targets == nil {
		targets = []string{}
	}
	content, _ := json.Marshal([]any{map[string]any{"targets": targets}})
	if err := os.WriteFile(file+".new", content, 0o644); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		w.t.Fatal(err)
	}
}

// commands makes a directory with what runbooks call: parley is the built program, and
// journalctl prints the logs of the instances, which run without systemd here.
func (w *world) commands() string {
	dir := w.t.TempDir()
	for name, script := range map[string]string{
		"parley":     "#!/bin/sh\nexec '" + w.Program + "' \"$@\"\n",
		"journalctl": "#!/bin/sh\nexec tail -q -n 400 '" + w.One.Log.Name() + "' '" + w.Two.Log.Name() + "'\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
	return dir
}

// shell runs a command of a runbook where Parley runs: with the settings of an
// instance in its environment.
func (w *world) shell(command string, env ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", command)
	cmd.Env = slices.Concat(w.Env, w.One.Env, []string{"ADDR=" + w.One.Addr, "ADMIN_ADDR=" + w.One.Admin,
		"PATH=" + w.bin + ":" + os.Getenv("PATH")}, env)
	out, _ := cmd.CombinedOutput() // what it prints counts; a check may exit with 1
	return string(out)
}

// run runs a step of a runbook as written, and returns what the reader sees.
func (w *world) run(s Step, env ...string) string {
	switch s.Language {
	case "promql":
		series, err := w.prometheus.Instant(w.t.Context(), s.Text, time.Now())
		if err != nil {
			return err.Error()
		}
		var b strings.Builder
		for _, one := range series {
			labels, _ := json.Marshal(one.Labels)
			fmt.Fprintf(&b, "%s %g\n", labels, one.Points[0].Value)
		}
		return b.String()
	case "sql":
		out, _ := exec.Command(testenv.Binary(w.t, "psql"), w.reader, "-c", s.Text).CombinedOutput()
		return string(out)
	case "sh":
		return w.shell(strings.ReplaceAll(HostCommand(s), "https://your-domain.com", w.proxy), env...)
	}
	return "there is no way to run " + s.Language
}

// startLoad lets users send, stream and read through the proxy until the test ends.
func (w *world) startLoad() {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	w.t.Cleanup(func() { cancel(); all.Wait() })
	for i := range 6 {
		u := w.User(fmt.Sprintf("user-%d", i))
		all.Go(func() {
			conversation := ""
			next := time.Now()
			for n := i; ctx.Err() == nil; n++ {
				// Users do not send faster when they are answered faster, as by an error.
				next = next.Add(700 * time.Millisecond)
				time.Sleep(max(time.Until(next), 50*time.Millisecond))
				if time.Since(next) > time.Second {
					next = time.Now()
				}
				for w.paused.Load() && ctx.Err() == nil {
					time.Sleep(50 * time.Millisecond)
				}
				u := u
				if w.badTokens.Load() {
					u = &testworld.User{Token: "expired"}
				}
				if n%20 == i || conversation == "" {
					conversation = u.Do(w.proxy, "POST", "/api/chat/conversations", map[string]any{"title": "a day"}).At("id")
				}
				switch n % 4 {
				case 0:
					u.Send(w.proxy, "!echo all is well", "conversationId", conversation)
				case 1:
					u.Send(w.proxy, "!echo all is well", "conversationId", conversation, "provider", "openai", "model", secondModel)
				case 2:
					u.Send(w.proxy, "!echo all is well", "conversationId", conversation, "provider", "anthropic", "model", claude)
				case 3:
					u.Do(w.proxy, "GET", "/api/chat/messages?limit=20", nil)
					u.Do(w.proxy, "GET", "/api/chat/conversations?limit=20", nil)
				}
			}
		})
	}
}

// firing returns the names of the alerts that fire now.
func (w *world) firing() []string {
	resp, err := http.Get(w.prometheus.URL + "/api/v1/alerts")
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	var body struct {
		Data struct {
			Alerts []struct {
				Labels map[string]string
				State  string
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, a := range body.Data.Alerts {
		if name := a.Labels["alertname"]; a.State == "firing" && name != watchdog && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

const watchdog = "ChatWatchdog"

// forget deletes all that Prometheus has recorded, as if a month had passed since the
// last incident: the long windows of the service levels would keep their tickets open.
func (w *world) forget() {
	resp, err := http.Post(w.prometheus.URL+`/api/v1/admin/tsdb/delete_series?match[]={__name__=~".%2B"}`, "", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		w.t.Fatalf("delete series: %s", resp.Status)
	}
	w.begun, w.scraped, w.restarted = time.Now(), false, false
}

// receiver is the pager and the ticket system.
type receiver struct {
	url    string
	refuse atomic.Bool // the dead man's switch refuses the watchdog
	mu     sync.Mutex
	got    []notification
}

// notification is an alert that began to fire and reached a receiver.
type notification struct {
	at       time.Time
	receiver string
	alert    string
	runbook  string
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: r}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	r.url = "http://" + l.Addr().String()
	return r
}

func (r *receiver) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	if r.refuse.Load() && req.URL.Path == "/deadman" {
		http.Error(rw, "expired token", http.StatusForbidden)
		return
	}
	var body struct {
		Alerts []struct {
			Status              string
			Labels, Annotations map[string]string
		}
	}
	if json.NewDecoder(req.Body).Decode(&body) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range body.Alerts {
		if a.Status == "firing" && a.Labels["alertname"] != watchdog {
			r.got = append(r.got, notification{time.Now(), strings.TrimPrefix(req.URL.Path, "/"), a.Labels["alertname"], a.Annotations["runbook_url"]})
		}
	}
}

// since returns what was received after a moment, in its order.
func (r *receiver) since(t time.Time) []notification {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.got, func(n notification) bool { return n.at.After(t) })
	if i < 0 {
		return nil
	}
	return slices.Clone(r.got[i:])
}
