// Package testworld starts, for a test, what Parley runs in: two instances of the
// built program, Postgres, Redis, scripted providers, the bundled proxy, Prometheus
// and Alertmanager. Everything ends with the test.
package testworld

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"parley/adapters/providers/stub"
	"parley/platform/testing/testenv"
)

// World is two instances of Parley with their databases and providers.
type World struct {
	T         testing.TB
	Postgres  *testenv.Server
	Redis     *testenv.Server
	Providers *stub.Server
	One, Two  *Instance
	Program   string   // path of the built program
	Env       []string // of every instance and command
	Begun     time.Time
}

// Instance is one process of parley serve. Its addresses survive a restart.
type Instance struct {
	Cmd         *exec.Cmd
	Addr, Admin string
	Env         []string // besides the world's
	Log         *os.File
}

// endsWithUs lets a process end with the test, also when the test is killed.
var endsWithUs = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

// URL is the address of the instance's API.
func (i *Instance) URL() string { return "http://" + i.Addr }

// Start starts the databases and the providers and applies the migrations. env is
// added to the environment of every instance; the caller starts those with
// StartInstance.
func Start(t testing.TB, script stub.Script, env ...string) *World {
	t.Helper()
	w := &World{T: t, Postgres: testenv.StartPostgres(t), Redis: testenv.StartRedis(t), Program: program(t), Begun: time.Now()}
	var err error
	if w.Providers, err = stub.Start(script); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Providers.Close)
	w.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LOG_FORMAT=json", "GOMEMLIMIT=512MiB",
		"DATABASE_URL=" + w.Postgres.URL(), "REDIS_URL=" + w.Redis.URL(), "INSTANCES=2",
		"AUTH_SECRET=a-secret-of-the-gate-0123456789abcdef",
		"OPENAI_API_KEY=sk-gate", "OPENAI_BASE_URL=" + w.Providers.OpenAIURL(),
		"ANTHROPIC_API_KEY=sk-gate", "ANTHROPIC_BASE_URL=" + w.Providers.AnthropicURL(),
		"AI_PROVIDERS=openai,anthropic",
	}, env...)
	w.Run("migrate", "up")
	return w
}

// program is what make build has made, or the file that PARLEY names.
func program(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("PARLEY"); path != "" {
		return path
	}
	return filepath.Join(Root(t), "bin", "parley")
}

// Root returns the root of the repository: the directory of go.mod above the test.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("no go.mod above the test")
	return ""
}

// Run runs a command of the program and returns what it prints.
func (w *World) Run(args ...string) string {
	w.T.Helper()
	cmd := exec.Command(w.Program, args...)
	cmd.Env = w.Env
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		w.T.Fatalf("parley %s: %v\n%s", strings.Join(args, " "), err, &errs)
	}
	return strings.TrimSpace(string(out))
}

// NewInstance starts an instance on free ports.
func (w *World) NewInstance(env ...string) *Instance {
	w.T.Helper()
	return w.StartInstance(&Instance{Addr: testenv.FreeAddr(), Admin: testenv.FreeAddr(), Env: env})
}

// StartInstance starts an instance, on the same addresses if it ran before, and waits
// until it is ready.
func (w *World) StartInstance(i *Instance) *Instance {
	w.T.Helper()
	w.Launch(i)
	w.Await("http://"+i.Admin+"/readyz", i.Log.Name())
	return i
}

// Launch starts an instance and does not wait for it.
func (w *World) Launch(i *Instance) {
	w.T.Helper()
	if i.Log == nil {
		var err error
		if i.Log, err = os.Create(filepath.Join(w.T.TempDir(), "log")); err != nil {
			w.T.Fatal(err)
		}
	}
	i.Cmd = exec.Command(w.Program, "serve")
	i.Cmd.Env = slices.Concat(w.Env, i.Env, []string{"ADDR=" + i.Addr, "ADMIN_ADDR=" + i.Admin})
	i.Cmd.Stdout, i.Cmd.Stderr, i.Cmd.SysProcAttr = i.Log, i.Log, endsWithUs
	if err := i.Cmd.Start(); err != nil {
		w.T.Fatal(err)
	}
	cmd := i.Cmd
	w.T.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
}

// Kill ends an instance as a crash does.
func (w *World) Kill(i *Instance) {
	i.Cmd.Process.Kill()
	i.Cmd.Wait()
}

// Await waits until url answers 200. A failure shows the file log.
func (w *World) Await(url, log string) {
	w.T.Helper()
	await(w.T, url, log)
}

func await(t testing.TB, url, log string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if status, _ := Get(url); status == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			content, _ := os.ReadFile(log)
			t.Fatalf("%s does not answer\n%s", url, content)
		}
	}
}

// Get requests url; status is 0 and body the error when there is no answer.
func Get(url string) (status int, body string) {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	content, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(content)
}

// Collector starts a server that accepts spans and discards them, and returns its URL.
func Collector(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return "http://" + l.Addr().String()
}

// ReaderURL creates the role of deploy/postgres/reader.sql and returns a URL of the
// database for it.
func (w *World) ReaderURL() string {
	w.T.Helper()
	out, err := exec.Command(testenv.Binary(w.T, "psql"), w.Postgres.URL(), "-v", "ON_ERROR_STOP=1", "-v", "password=reader", "-q",
		"-f", filepath.Join(Root(w.T), "deploy/postgres/reader.sql")).CombinedOutput()
	if err != nil {
		w.T.Fatalf("reader.sql: %v\n%s", err, out)
	}
	return strings.Replace(w.Postgres.URL(), "parley@", "parley_reader:reader@", 1)
}

// Metrics returns what both instances expose.
func (w *World) Metrics() []string {
	var out []string
	for _, i := range []*Instance{w.One, w.Two} {
		req, err := http.NewRequestWithContext(w.T.Context(), http.MethodGet, "http://"+i.Admin+"/metrics", nil)
		if err != nil {
			w.T.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			w.T.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			w.T.Fatalf("metrics: %v %v", resp.Status, err)
		}
		out = append(out, string(body))
	}
	return out
}

// port returns the port of an address.
func port(addr string) string { _, p, _ := net.SplitHostPort(addr); return fmt.Sprint(p) }
