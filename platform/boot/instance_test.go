package boot_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"parley/platform/boot"
	"parley/platform/testing/testdb"
	"parley/platform/testing/testenv"
)

// testSecret is an AUTH_SECRET that serve accepts.
const testSecret = "6Ya1yAHe0rUHR5nXtmzhmLgm0N7WZzwl9tkbDUvxDHhL"

// instance is a running process of the program.
type instance struct {
	t     *testing.T
	cmd   *exec.Cmd
	url   string // of the API
	admin string
	out   *output
	done  chan struct{}
}

// output collects what a process writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// databases runs a test on each of them, migrated; env is what selects it.
func databases(t *testing.T, test func(t *testing.T, env []string)) {
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, []string{"DATA_DIR=" + dataDir(t)})
	})
	t.Run("Postgres", func(t *testing.T) {
		t.Parallel()
		test(t, []string{"DATA_DIR=" + t.TempDir(), "DATABASE_URL=" + testdb.Postgres(t)})
	})
}

// dataDir returns a DATA_DIR with a migrated database. To migrate one takes a process of
// a test longer than to start.
func dataDir(t *testing.T) string { return filepath.Dir(testdb.SQLite(t)) }

// environment is what a process gets besides what a test says.
func environment(env []string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), beParley + "=1", "DEMO_DELAY=1ms", testenv.EndAtOnce}, env...)
}

// start starts the program and waits until it is ready.
func start(t *testing.T, env ...string) *instance {
	t.Helper()
	return startBy(t, func(args []string) *exec.Cmd { return exec.Command(args[0], args[1:]...) }, env...)
}

// startBy starts the program by the command that makes its arguments, the
// program first, into a process.
// With -short only the tests that go through all of the program do so.
func startBy(t *testing.T, command func(args []string) *exec.Cmd, env ...string) *instance {
	t.Helper()
	if name, _, _ := strings.Cut(t.Name(), "/"); testing.Short() && name != "TestServe_Checklist" && name != "TestDoctor_ExaminesARunningAPI" {
		t.Skip("starts a process of the program")
	}
	addr, admin := testenv.FreeAddr(), testenv.FreeAddr()
	i := &instance{t: t, url: "http://" + addr, admin: "http://" + admin, out: &output{}, done: make(chan struct{})}
	i.cmd = command([]string{os.Args[0], "serve"})
	i.cmd.Env = environment(append([]string{"ADDR=" + addr, "ADMIN_ADDR=" + admin}, env...))
	if i.cmd.Stderr == nil {
		i.cmd.Stdout, i.cmd.Stderr = i.out, i.out
	}
	if err := i.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = i.cmd.Wait()
		close(i.done)
	}()
	t.Cleanup(func() {
		i.kill()
		if t.Failed() {
			t.Logf("output of the process:\n%s", i.out)
		}
	})
	for deadline := time.Now().Add(2 * time.Minute); ; {
		if resp, err := http.Get(i.admin + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return i
			}
		}
		select {
		case <-i.done:
			t.Fatal("the process ended before it was ready")
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("not ready in 2 minutes")
		}
	}
}

// kill is kill -9.
func (i *instance) kill() {
	_ = i.cmd.Process.Kill()
	<-i.done
}

// terminate sends SIGTERM and returns the exit code.
func (i *instance) terminate() int {
	i.t.Helper()
	if err := i.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		i.t.Fatal(err)
	}
	select {
	case <-i.done:
	case <-time.After(2 * time.Minute):
		i.t.Fatal("still running 2 minutes after SIGTERM")
	}
	return i.cmd.ProcessState.ExitCode()
}

// run runs another command of the program and returns its standard output.
func run(t *testing.T, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = environment(env)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("parley %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimSpace(string(out))
}

// answer is a response that has been read.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%v in %q", err, a.body)
	}
	return v
}

// call makes a request with headers given as "Name: value".
func call(t *testing.T, method, url, body string, headers ...string) answer {
	t.Helper()
	resp := open(t, method, url, body, headers...)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return answer{resp.StatusCode, resp.Header, string(raw)}
}

func open(t *testing.T, method, url, body string, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// events yields the data of a stream of events until it ends or stop says so.
func events(t *testing.T, r io.Reader, stop func(event map[string]any) bool) {
	t.Helper()
	lines(t, r, func(_ string, e map[string]any) bool { return stop(e) })
}

// lines does the same with the id of each event.
func lines(t *testing.T, r io.Reader, stop func(id string, event map[string]any) bool) {
	t.Helper()
	scan := bufio.NewScanner(r)
	scan.Buffer(nil, 1<<20)
	id := ""
	for scan.Scan() {
		if v, ok := strings.CutPrefix(scan.Text(), "id: "); ok {
			id = v
		}
		data, ok := strings.CutPrefix(scan.Text(), "data: ")
		if !ok {
			continue
		}
		var e map[string]any
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatalf("event %q: %v", data, err)
		}
		if stop(id, e) {
			return
		}
	}
	if err := scan.Err(); err != nil {
		t.Fatalf("read events: %v", err)
	}
}

// at reads a member of a decoded JSON value: at(v, "messages", 0, "content").
func at(v any, path ...any) any {
	for _, p := range path {
		switch key := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[key]
		case int:
			l, _ := v.([]any)
			if key >= len(l) {
				return nil
			}
			v = l[key]
		}
	}
	return v
}

// bearer returns the header with a token, which the command makes in this process.
func bearer(t *testing.T, env []string, user string, flags ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	p := boot.Process{Args: append([]string{"token", "--user", user}, flags...), Env: environment(env), Stdout: &out, Stderr: &errs}
	if code := boot.Run(t.Context(), p); code != 0 {
		t.Fatalf("parley token: exit code %d\n%s", code, errs.String())
	}
	return "Authorization: Bearer " + strings.TrimSpace(out.String())
}

func message(content string, more ...any) string {
	m := map[string]any{"content": content}
	for i := 0; i+1 < len(more); i += 2 {
		m[fmt.Sprint(more[i])] = more[i+1]
	}
	raw, _ := json.Marshal(m)
	return string(raw)
}

// fails runs a command that should fail; it returns what was said, and the code.
func fails(t *testing.T, env []string, args ...string) (output string, code int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = environment(env)
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("parley %s succeeded", strings.Join(args, " "))
	}
	return string(out), cmd.ProcessState.ExitCode()
}
