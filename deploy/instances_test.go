package deploy_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
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
	"parley/platform/testing/testworld"
)

const appPassword = "a-password-of-the-role-0123456789"

// TestInstances goes through docs/deploy.md: the owner migrates, roles.sql and
// password.sql make the restricted role, and two instances serve as that role
// through PgBouncer, with Redis, behind HAProxy and behind nginx, each with the
// configuration of this directory. Behind both, doctor finds nothing to fix, and
// requests as large as Parley takes them get through.
func TestInstances(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	build(t, parseDockerfile(t))
	t.Setenv("PARLEY", filepath.Join(out, "parley"))
	dir := t.TempDir()
	w := testworld.Start(t, slowly, "TRUSTED_PROXIES=1", "DRAIN_DELAY=1s", "DB_MAX_CONNS=12",
		"AUTH_SECRET=Zo1H2kq8mXv0pT4sLw9eRb7yNc3uJd6g", "AUDIT_KEY=Qk5Vt8Bz2Xr7Lm1Pn4Sd9Gh6Jc3Fw0Ye",
		"AUDIT_HEADS="+filepath.Join(dir, "heads.jsonl"), "BLOB_URL=file://"+filepath.Join(dir, "files"),
		"NEXTAUTH_URL=https://app.example.com")
	for _, file := range []string{"roles.sql", "password.sql"} {
		psql := exec.Command(testenv.Binary(t, "psql"), w.Postgres.URL(), "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--file=postgres/"+file)
		psql.Env = append(os.Environ(), "APP_PASSWORD="+appPassword)
		if text, err := psql.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", file, err, text)
		}
	}
	w.Env = append(w.Env, "DATABASE_URL="+startPgBouncer(t, w.Postgres.URL()))
	one, two := w.NewInstance(), w.NewInstance()

	haproxy := testenv.FreeAddr()
	nginx := testenv.FreeAddr()
	proxies := map[string]string{
		"HAProxy": testworld.StartProxy(t, haproxy, testworld.ProxyConfig(t, haproxy, one, two)).URL,
		"nginx":   startNginx(t, nginx, one, two),
	}
	token := w.Run("token", "--user", "alice")
	for name, address := range proxies {
		t.Run(name, func(t *testing.T) {
			report := w.Run("doctor", "--url", address)
			for _, line := range strings.Split(report, "\n") {
				if strings.HasPrefix(line, "FAIL") {
					t.Error(line)
				}
			}
			checkStreams(t, address, token)
			checkLargest(t, address, token)
		})
	}
}

// startPgBouncer starts PgBouncer with its configuration in this directory, and
// returns the URL of the database for the restricted role.
func startPgBouncer(t *testing.T, server string) string {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	host, port, err := net.SplitHostPort(testenv.FreeAddr())
	if err != nil {
		t.Fatal(err)
	}
	database := strings.TrimPrefix(target.Path, "/")
	config := edited(t, "pgbouncer/pgbouncer.ini", map[string]string{
		"parley = host=postgres port=5432 dbname=parley": fmt.Sprintf("%s = host=%s port=%s dbname=%s", database, target.Hostname(), target.Port(), database),
		"listen_addr = 0.0.0.0":                          "listen_addr = " + host,
		"listen_port = 6432":                             "listen_port = " + port,
		"/tmp/userlist.txt":                              dir + "/userlist.txt",
	})
	for name, content := range map[string]string{"pgbouncer.ini": config, "userlist.txt": fmt.Sprintf("\"parley_app\" \"%s\"\n", appPassword)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"-q", filepath.Join(dir, "pgbouncer.ini")}
	if os.Geteuid() == 0 { // it refuses to be root
		for path := dir; path != filepath.Dir(os.TempDir()) && path != "/"; path = filepath.Dir(path) {
			if err := os.Chmod(path, 0o755); err != nil && path != os.TempDir() {
				t.Fatal(err)
			}
			if filepath.Dir(path) == os.TempDir() {
				break
			}
		}
		args = append([]string{"-u", "nobody"}, args...)
	}
	background(t, exec.Command(testenv.Binary(t, "pgbouncer"), args...), os.Kill, net.JoinHostPort(host, port))
	return fmt.Sprintf("postgres://parley_app:%s@%s/%s?sslmode=disable", appPassword, net.JoinHostPort(host, port), database)
}

// startNginx starts nginx with its configuration in this directory, and returns its
// URL.
func startNginx(t *testing.T, addr string, one, two *testworld.Instance) string {
	t.Helper()
	dir := t.TempDir()
	config := edited(t, "nginx.conf", map[string]string{
		"listen 8080;":             "listen " + addr + ";",
		"server parley-1:8080 ":    "server " + one.Addr + " ",
		"server parley-2:8080 ":    "server " + two.Addr + " ",
		"/tmp/nginx.pid":           dir + "/nginx.pid",
		"worker_connections 20000": "worker_connections 1000", // of more descriptors than a test may have
		"worker_rlimit_nofile 65536;      # two for each of worker_connections\n": "",
	})
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	background(t, exec.Command(testenv.Binary(t, "nginx"), "-c", path, "-p", dir, "-g", "daemon off;"), syscall.SIGTERM, addr)
	return "http://" + addr
}

// edited returns a file of this directory with other texts in place of some, each
// of which it must have once.
func edited(t *testing.T, path string, changes map[string]string) string {
	t.Helper()
	content := read(t, path, nil)
	for old, new := range changes {
		if strings.Count(content, old) != 1 {
			t.Fatalf("%s has no %q, or more than one", path, old)
		}
		content = strings.Replace(content, old, new, 1)
	}
	return content
}

// background runs a server until the test ends, when it is sent a signal, and waits
// until it listens.
func background(t *testing.T, cmd *exec.Cmd, end os.Signal, addr string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log")) // a pipe would be kept open by processes of its own
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() { cmd.Process.Signal(end); <-ended })
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return
		}
		select {
		case <-ended:
		default:
			if time.Now().Before(deadline) {
				continue
			}
		}
		t.Fatalf("%s does not listen\n%s", cmd.Path, read(t, log.Name(), nil))
	}
}

// slowly is the script of the providers: a request for it takes ten minutes.
func slowly(call stub.Call) stub.Reply {
	if strings.Contains(call.Last(), "slowly") {
		return stub.Reply{Chunks: slices.Repeat([]string{"word "}, 3000), Pace: 200 * time.Millisecond}
	}
	return stub.Reply{Text: "hello"}
}

// checkStreams: events of a reply that takes ten minutes come through one by one.
func checkStreams(t *testing.T, address, token string) {
	t.Helper()
	resp := post(t, address+"/api/chat/stream", token, "application/json", strings.NewReader(`{"content":"slowly"}`))
	defer resp.Body.Close()
	late := time.AfterFunc(time.Minute, func() { resp.Body.Close() })
	defer late.Stop()
	runID, events := threeEvents(resp.Body)
	if resp.StatusCode != http.StatusOK || events < 3 || runID == "" {
		t.Errorf("status %d, %d events of run %q: the proxy holds them back", resp.StatusCode, events, runID)
	}
	stopped := post(t, address+"/api/chat/messages/"+runID+"/stop", token, "application/json", nil)
	stopped.Body.Close()
	if stopped.StatusCode != http.StatusOK {
		t.Errorf("stop: %d", stopped.StatusCode)
	}
}

// checkLargest: a file of MAX_FILE_BYTES gets through, and so do 50 kB of headers,
// such as the cookies of an app.
func checkLargest(t *testing.T, address, token string) {
	t.Helper()
	file := append([]byte("%PDF-1.7\n"), make([]byte, 20<<20-9)...)
	resp := post(t, address+"/api/chat/files?name=large.pdf", token, "application/pdf", bytes.NewReader(file))
	answer, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Errorf("a file of 20 MiB: %d %s", resp.StatusCode, answer)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+"/api/chat/conversations", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Cookie", "app="+strings.Repeat("x", 50_000))
	if resp, err = http.DefaultClient.Do(req); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("50 kB of headers: %d", resp.StatusCode)
	}
}

func post(t *testing.T, address, token, mediaType string, body io.Reader) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", mediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}
