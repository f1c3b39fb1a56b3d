package boot_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/platform/testing/testdb"
	"parley/platform/testing/testenv"
)

// A second serve on the same DATA_DIR refuses to start, whatever became of the
// first one's file; commands beside a running one work.
func TestServe_OneInstancePerDataDir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	env := []string{"DATA_DIR=" + dir, "ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0"}
	first := start(t, "DATA_DIR="+dir)
	out, code := fails(t, env, "serve")
	if code != 2 || !strings.Contains(out, "another parley serve (process ") || !strings.Contains(out, "uses DATA_DIR "+dir) {
		t.Errorf("exit code %d: %s", code, out)
	}
	link := t.TempDir() + "/link"
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if out, code := fails(t, append(env, "DATA_DIR="+link), "serve"); code != 2 || !strings.Contains(out, "another parley serve") {
		t.Errorf("by another name: exit code %d: %s", code, out)
	}
	for _, args := range [][]string{{"migrate", "up"}, {"migrate", "status"}, {"doctor"}, {"key", "create", "--user", "ann", "--name", "k"}, {"audit", "verify"}, {"backup", t.TempDir() + "/backup"}} {
		run(t, env, args...)
	}
	first.kill()
	start(t, "DATA_DIR="+dir)
	other := start(t, "DATA_DIR="+t.TempDir())
	if code := other.terminate(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// The database of a running server becomes read-only, as after a failover, and
// writable again. Nobody restarts anything.
func TestServe_ReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	raw := testdb.Postgres(t)
	env := []string{"DATA_DIR=" + t.TempDir(), "DATABASE_URL=" + raw}
	p := start(t, env...)
	auth := bearer(t, env, "ann")
	if a := call(t, "POST", p.url+"/api/chat/messages", message("!echo x"), auth); a.status != http.StatusCreated {
		t.Fatalf("%d %s", a.status, a.body)
	}
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := pgx.Connect(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.WithoutCancel(t.Context()))
	for _, statement := range []string{
		"ALTER DATABASE " + u.Path[1:] + " SET default_transaction_read_only = on",
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
	} {
		if _, err := admin.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "readiness that speaks of read-only", func() bool {
		a := call(t, "GET", p.admin+"/readyz", "")
		return a.status == http.StatusServiceUnavailable && strings.Contains(a.body, "database: read-only")
	})
	health := call(t, "GET", p.url+"/api/health", "").json(t)
	if at(health, "status") != "degraded" || at(health, "components", "database", "note") != "postgres, read-only" {
		t.Errorf("health: %v", health)
	}
	if a := call(t, "POST", p.url+"/api/chat/messages", message("!echo x"), auth); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("a send: %d %s", a.status, a.body)
	}
	if a := call(t, "GET", p.url+"/api/chat/messages", "", auth); a.status != http.StatusOK {
		t.Errorf("a read: %d %s", a.status, a.body)
	}
	if !strings.Contains(p.out.String(), "a dependency fails") {
		t.Error("no word of it in the log")
	}
	if _, err := admin.Exec(t.Context(), "ALTER DATABASE "+u.Path[1:]+" RESET default_transaction_read_only"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a send that is accepted", func() bool {
		return call(t, "POST", p.url+"/api/chat/messages", message("!echo x"), auth).status == http.StatusCreated
	})
	eventually(t, "ready again", func() bool { return call(t, "GET", p.admin+"/readyz", "").status == http.StatusOK })
}

// What no waiting heals ends serve at once; a server that starts is waited for.
func TestServe_WaitsOnlyForWhatHeals(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t)
	env := []string{"DATA_DIR=" + t.TempDir(), "ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "MIGRATE_ON_START=true"}
	out, code := fails(t, append(env, "DATABASE_URL="+strings.Replace(server.URL(), "parley@", "nobody@", 1)), "serve")
	if code != 2 || !strings.Contains(out, "Database role does not exist") || strings.Contains(out, "does not answer yet") {
		t.Errorf("exit code %d: %s", code, out)
	}
	server.Kill9()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "serve")
	cmd.Env = environment(append(env, "DATABASE_URL="+server.URL()))
	log := &output{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	eventually(t, "the wait", func() bool { return strings.Contains(log.String(), "does not answer yet") })
	server.Restart()
	eventually(t, "serving", func() bool { return strings.Contains(log.String(), "serving") })
	if bytes.Contains([]byte(log.String()), []byte("panic")) {
		t.Error(log.String())
	}
}

// The host may be a directory of sockets, written as with Prisma and libpq.
func TestServe_SocketPath(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(testdb.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pg") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", dir+"/.s.PGSQL.5432")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", u.Host)
			if err != nil {
				client.Close()
				continue
			}
			go func() { defer client.Close(); defer server.Close(); _, _ = io.Copy(client, server) }()
			go func() { defer client.Close(); defer server.Close(); _, _ = io.Copy(server, client) }()
		}
	}()
	for _, raw := range []string{
		"postgresql://" + u.User.String() + "@" + url.QueryEscape(dir) + u.Path + "?schema=public&connection_limit=5&pgbouncer=true",
		"postgresql://" + u.User.String() + "@localhost" + u.Path + "?host=" + dir,
	} {
		env := []string{"DATA_DIR=" + t.TempDir(), "DATABASE_URL=" + raw}
		p := start(t, env...)
		if a := call(t, "POST", p.url+"/api/chat/messages", message("!echo x"), bearer(t, env, "ann")); a.status != http.StatusCreated {
			t.Errorf("%d %s", a.status, a.body)
		}
		p.terminate()
	}
}
