package deploy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"parley/platform/testing/testenv"
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

// The proxy passes a stream on piece by piece, and an instance can leave
// without a user noticing.
func TestProxy_StreamsAndDrains(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the image")
	}
	build(t, parseDockerfile(t))
	program := filepath.Join(out, "parley")
	one, two := startInstance(t, program), startInstance(t, program)
	proxy := startProxy(t, one, two)
	token := strings.TrimSpace(command{withSecret(exec.Command(program, "token", "--user", "alice"))}.run(t))

	req, _ := http.NewRequest("POST", proxy+"/api/chat/stream", strings.NewReader(`{"content":"!slow 2s one two three four"}`))
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var events []string
	var first, last time.Time
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "data:") {
			events = append(events, lines.Text())
			if last = time.Now(); len(events) == 2 { // after the start event
				first = last
			}
		}
	}
	if resp.StatusCode != 200 || len(events) < 4 || last.Sub(first) < 500*time.Millisecond {
		t.Errorf("status %d, %d events in %v: the proxy holds them back", resp.StatusCode, len(events), last.Sub(first))
	}

	var asked, failed atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
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
	time.Sleep(500 * time.Millisecond)
	close(stop)
	<-stopped
	if failed.Load() > 0 || asked.Load() < 50 {
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
	i := instance{addr: free(t), admin: free(t), log: new(bytes.Buffer)}
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

// startProxy runs the configuration as it is, but for addresses of this machine.
func startProxy(t *testing.T, one, two instance) string {
	t.Helper()
	addr := free(t)
	conf := read(t, "haproxy.cfg", nil)
	port := func(a string) string { _, p, _ := net.SplitHostPort(a); return p }
	for old, new := range map[string]string{
		"bind :8080":                    "bind " + addr,
		"check port 9464 ":              "check ",
		"maxconn 20000":                 "maxconn 200", // of more descriptors than a test may have
		" resolvers docker\n":           "\n",
		"server parley-1 parley-1:8080": fmt.Sprintf("server parley-1 %s check port %s", one.addr, port(one.admin)),
		"server parley-2 parley-2:8080": fmt.Sprintf("server parley-2 %s check port %s", two.addr, port(two.admin)),
	} {
		if strings.Count(conf, old) != 1 {
			t.Fatalf("haproxy.cfg has no %q", old)
		}
		conf = strings.Replace(conf, old, new, 1)
	}
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(testenv.Binary(t, "haproxy"), "-f", path)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	answers(t, "http://"+addr+"/api/health", &log)
	return "http://" + addr
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
