package deploy_test

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
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"parley/platform/testing/testenv"
	"parley/platform/testing/testworld"
)

const proxySecret = "a-secret-of-the-proxy-test-0123456789"

func TestProxy_Config(t *testing.T) {
	run(t, "haproxy", "-c", "-f", "haproxy.cfg")
	var servers []string
	for _, m := range regexp.MustCompile(`(?m)^  server (\S+) (\S+)`).FindAllStringSubmatch(read(t, "haproxy.cfg", nil), -1) {
		servers = append(servers, m[1])
		if m[2] != m[1]+":8080" {
			t.Errorf("%s is at %s", m[1], m[2])
		}
	}
	if want := load(t).instances(); !slices.Equal(servers, want) {
		t.Errorf("the proxy serves %v, not %v", servers, want)
	}
}

// Where the proxies are shown, they may open as many files as their connections
// need, two each.
func TestProxy_DescriptorsSuffice(t *testing.T) {
	number := func(path, pattern string) int {
		t.Helper()
		m := regexp.MustCompile(pattern).FindStringSubmatch(read(t, path, nil))
		if m == nil {
			t.Fatalf("%s has no %s", path, pattern)
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if conns, files := number("haproxy.cfg", `(?m)^  maxconn (\d+)`), number("compose.yaml", `ulimits: \{nofile: (\d+)\}`); files < 2*conns+200 {
		t.Errorf("HAProxy: %d connections, %d files", conns, files)
	}
	if conns, files := number("nginx.conf", `worker_connections (\d+);`), number("nginx.conf", `worker_rlimit_nofile (\d+);`); files < 2*conns+200 {
		t.Errorf("nginx: %d connections, %d files", conns, files)
	}
}

// The proxy passes a stream on piece by piece, and an instance can leave
// without a user noticing.
func TestProxy_StreamsAndDrains(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the image")
	}
	build(t, parseDockerfile(t))
	program := filepath.Join(out, "parley")
	one, two := startInstance(t, program), startInstance(t, program)
	addr := testenv.FreeAddr()
	proxy := testworld.StartProxy(t, addr, testworld.ProxyConfig(t, addr, &testworld.Instance{Addr: one.addr, Admin: one.admin}, &testworld.Instance{Addr: two.addr, Admin: two.admin})).URL
	token := strings.TrimSpace(command{withSecret(exec.Command(program, "token", "--user", "alice"))}.run(t))

	request := func(method, url, body string) *http.Response {
		t.Helper()
		req, _ := http.NewRequest(method, url, strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	resp := request("POST", proxy+"/api/chat/stream", `{"content":"!slow 10m one two three four"}`)
	runID, events := threeEvents(resp.Body)
	if resp.StatusCode != 200 || events < 3 || runID == "" {
		t.Fatalf("status %d, %d events of run %q: the proxy holds them back", resp.StatusCode, events, runID)
	}
	stopped := 0
	for _, i := range []instance{one, two} { // each has a database of its own
		if request("POST", "http://"+i.addr+"/api/chat/messages/"+runID+"/stop", "").StatusCode == 200 {
			stopped++
		}
	}
	if stopped != 1 {
		t.Errorf("the reply was stopped on %d instances", stopped)
	}

	var asked, failed atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			asked.Add(1)
			resp, err := http.Get(proxy + "/api/health")
			if err != nil {
				failed.Add(1)
				continue
			}
			io.Copy(io.Discard, resp.Body)
			if resp.Body.Close(); resp.StatusCode != 200 {
				failed.Add(1)
			}
		}
	}()
	one.cmd.Process.Signal(syscall.SIGTERM)
	if err := one.cmd.Wait(); err != nil {
		t.Errorf("the end of an instance: %v\n%s", err, one.log)
	}
	for deadline, later := time.Now().Add(time.Minute), asked.Load()+50; asked.Load() < later; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the proxy does not answer")
		}
	}
	close(stop)
	<-done
	if failed.Load() > 0 {
		t.Errorf("%d of %d requests failed while an instance left", failed.Load(), asked.Load())
	}
}

type instance struct {
	cmd         *exec.Cmd
	addr, admin string
	log         *bytes.Buffer
}

func withSecret(cmd *exec.Cmd, more ...string) *exec.Cmd {
	cmd.Env = append([]string{"AUTH_SECRET=" + proxySecret, "PATH=" + os.Getenv("PATH")}, more...)
	return cmd
}

func startInstance(t *testing.T, program string) instance {
	t.Helper()
	i := instance{addr: testenv.FreeAddr(), admin: testenv.FreeAddr(), log: new(bytes.Buffer)}
	i.cmd = withSecret(exec.Command(program, "serve"),
		"ADDR="+i.addr, "ADMIN_ADDR="+i.admin, "DATA_DIR="+t.TempDir(), "TRUSTED_PROXIES=1", "DRAIN_DELAY=3s")
	i.cmd.Stdout, i.cmd.Stderr = i.log, i.log
	if err := i.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.cmd.Process.Kill(); i.cmd.Wait() })
	answers(t, "http://"+i.admin+"/readyz", i.log)
	return i
}

func answers(t *testing.T, url string, log fmt.Stringer) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer: %v\n%s", url, err, log)
		}
	}
}

// threeEvents reads three events of a stream, which all come long before its end, and
// returns the id of the run that the first one names, and how many there were.
func threeEvents(stream io.Reader) (runID string, events int) {
	for lines := bufio.NewScanner(stream); events < 3 && lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data:")
		if !ok {
			continue
		}
		var start struct{ RunID string }
		if events++; events == 1 && json.Unmarshal([]byte(data), &start) == nil {
			runID = start.RunID
		}
	}
	return runID, events
}
