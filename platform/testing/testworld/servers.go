package testworld

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"parley/platform/testing/testenv"
)

// start runs a program until the test ends; ready is a URL that answers 200 once it
// serves.
func start(t testing.TB, ready, program string, args ...string) *exec.Cmd {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(testenv.Binary(t, program), args...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, endsWithUs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait(); log.Close() })
	await(t, ready, log.Name())
	return cmd
}

// write writes a file into a directory of the test.
func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// StartPrometheus starts a Prometheus at addr with a configuration, and returns its URL.
func StartPrometheus(t testing.TB, addr, config string, args ...string) string {
	t.Helper()
	path := write(t, "prometheus.yaml", config)
	start(t, "http://"+addr+"/-/ready", "prometheus", append([]string{"--config.file=" + path,
		"--storage.tsdb.path=" + filepath.Join(filepath.Dir(path), "data"), "--web.listen-address=" + addr}, args...)...)
	return "http://" + addr
}

// StartAlertmanager starts an Alertmanager with a file of configuration, and returns its
// URL.
func StartAlertmanager(t testing.TB, path string) string {
	t.Helper()
	addr := testenv.FreeAddr()
	start(t, "http://"+addr+"/-/ready", "prometheus-alertmanager", "--config.file="+path, "--storage.path="+filepath.Join(t.TempDir(), "data"),
		"--web.listen-address="+addr, "--cluster.listen-address=")
	return "http://" + addr
}

// ProxyConfig returns the bundled configuration of HAProxy with addresses of this
// machine: the proxy listens at addr, in front of one and two.
func ProxyConfig(t testing.TB, addr string, one, two *Instance) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(Root(t), "deploy/haproxy.cfg"))
	if err != nil {
		t.Fatal(err)
	}
	conf := string(content)
	for old, new := range map[string]string{
		"bind :8080":                    "bind " + addr,
		"bind :8405":                    "bind " + testenv.FreeAddr(),
		"check port 9464 ":              "check ",
		"maxconn 20000":                 "maxconn 1000", // of more descriptors than a test may have
		" resolvers docker\n":           "\n",
		"server parley-1 parley-1:8080": fmt.Sprintf("server parley-1 %s check port %s", one.Addr, port(one.Admin)),
		"server parley-2 parley-2:8080": fmt.Sprintf("server parley-2 %s check port %s", two.Addr, port(two.Admin)),
	} {
		if strings.Count(conf, old) != 1 {
			t.Fatalf("haproxy.cfg has no %q", old)
		}
		conf = strings.Replace(conf, old, new, 1)
	}
	return conf
}

// ProxyMetrics returns the address of the proxy's metrics in a configuration that
// ProxyConfig has made.
func ProxyMetrics(config string) string {
	_, rest, _ := strings.Cut(config, "frontend metrics\n")
	_, rest, _ = strings.Cut(rest, "bind ")
	addr, _, _ := strings.Cut(rest, "\n")
	return addr
}

// Proxy is a running HAProxy.
type Proxy struct {
	URL string

	t    testing.TB
	path string // of its configuration
	cmd  *exec.Cmd
}

// StartProxy starts HAProxy at addr with a configuration, which ProxyConfig has made.
func StartProxy(t testing.TB, addr, config string) *Proxy {
	t.Helper()
	p := &Proxy{URL: "http://" + addr, t: t, path: write(t, "haproxy.cfg", config)}
	p.Restart()
	return p
}

// Kill ends the proxy as a crash does.
func (p *Proxy) Kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// Restart starts a proxy that was killed.
func (p *Proxy) Restart() {
	p.t.Helper()
	p.cmd = start(p.t, p.URL+"/api/health", "haproxy", "-f", p.path)
}
