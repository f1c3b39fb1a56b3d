package sqlstore_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"parley/adapters/sqlstore"
	"parley/domain/chat"
	"parley/platform/testing/testdb"
	"parley/platform/testing/testenv"
	"parley/ports/portstest"

	"github.com/uptrace/bun"
)

// TestPgBouncer holds the store to the contract behind a PgBouncer that gives
// each transaction whatever session is free: nothing may be left in one. The
// database's defaults are hostile besides: what the store sets must reach the
// session that the transaction runs on. The suite reads tables itself, without a
// search path; and the sessions of a pooler end as it likes.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	through := bouncer(t, testenv.Postgres(t))
	portstest.Store(t, func(t testing.TB) portstest.StoreBundle {
		return bundle(migrated(t, sqlstore.Options{URL: through(hostile(t, "search_path", "idle_session_timeout"))}))
	})
}

// Statements of a turn are prepared where nothing stands before the server, and
// nowhere else; DB_EXEC_MODE=exec prepares nothing at all.
func TestPostgres_Prepares(t *testing.T) {
	t.Parallel()
	direct := testdb.Postgres(t)
	through := bouncer(t, direct)
	for name, c := range map[string]struct {
		opt  sqlstore.Options
		want bool
	}{
		"Direct":    {sqlstore.Options{URL: direct}, true},
		"Exec":      {sqlstore.Options{URL: direct, ExecMode: "exec"}, false},
		"PgBouncer": {sqlstore.Options{URL: through(direct)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c.opt.MaxConns = 1 // the session that made the turn is the one that is asked
			store := open(t, c.opt)
			a := sending("user of "+name, "hi")
			out, err := store.Admit(t.Context(), a, chat.Admit)
			if err != nil {
				t.Fatal(err)
			}
			if err := end(t.Context(), store, chat.Outcome{UserID: a.Run.UserID, RunID: out.Run.ID, Attempt: 1,
				State: chat.Completed, Output: chat.TextOutput("ho"), At: time.Now()}); err != nil {
				t.Fatal(err)
			}
			var prepared int
			err = store.DB().QueryRowContext(t.Context(), "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%chat_%'").Scan(&prepared)
			if err != nil {
				t.Fatal(err)
			}
			if (prepared > 5) != c.want || !c.want && prepared > 0 {
				t.Errorf("%d statements are prepared, wanted some: %v", prepared, c.want)
			}
		})
	}
}

// A mode that keeps prepared statements in sessions fails behind it, and says
// what to do.
func TestPgBouncer_CachedStatements(t *testing.T) {
	direct := testdb.Postgres(t)
	pooled := bouncer(t, direct)(direct)
	store := open(t, sqlstore.Options{URL: pooled, ExecMode: "cache_statement", MaxConns: 1})
	if _, err := store.Keys(t.Context(), "u"); err != nil {
		t.Fatal(err)
	}
	// Another client has the one session there is, so that the next call gets a new one.
	other := open(t, sqlstore.Options{URL: pooled, ExecMode: "exec", MaxConns: 1})
	err := other.Within(t.Context(), "u", func(ctx context.Context, tx bun.IDB) error {
		if _, err := tx.ExecContext(ctx, "SELECT 1"); err != nil {
			return err
		}
		_, failed := store.Keys(ctx, "u")
		if failed == nil || !strings.Contains(failed.Error(), "DB_EXEC_MODE=exec") {
			t.Errorf("it says %v", failed)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// bouncer starts a PgBouncer before the server of a URL. The returned function
// leads any URL of that server through it.
func bouncer(t *testing.T, server string) func(string) string {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	addr := testenv.FreeAddr()
	user := "user=" + target.User.Username()
	if password, ok := target.User.Password(); ok {
		user += " password=" + password
	}
	port := target.Port()
	if port == "" {
		port = "5432"
	}
	config := filepath.Join(t.TempDir(), "pgbouncer.ini")
	text := fmt.Sprintf(`[databases]
* = host=%s port=%s %s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
server_idle_timeout = 1
`, target.Hostname(), port, user, addr[strings.LastIndexByte(addr, ':')+1:])
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-q", config}
	if os.Geteuid() == 0 { // it refuses to be root
		args = append([]string{"-u", "nobody"}, args...)
	}
	cmd := exec.Command(testenv.Binary(t, "pgbouncer"), args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for until := time.Now().Add(soon); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(until) {
			t.Fatalf("pgbouncer does not listen: %v", err)
		}
	}
	return func(direct string) string {
		u, err := url.Parse(direct)
		if err != nil {
			t.Fatal(err)
		}
		u.Host = addr
		return u.String()
	}
}
