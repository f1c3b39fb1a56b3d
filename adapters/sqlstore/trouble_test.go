package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/adapters/sqlstore"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/platform/testing/testdb"
	"parley/platform/testing/testenv"
	"parley/ports"
)

// soon bounds what must not wait for a database that is in trouble. Without
// timeouts of its own the store would wait for those of TCP, a quarter of an hour.
const soon = 2 * time.Minute

func TestTrouble_PoolExhausted(t *testing.T) {
	for name, url := range map[string]string{"SQLite": testdb.SQLite(t), "Postgres": testdb.Postgres(t)} {
		t.Run(name, func(t *testing.T) {
			store := open(t, sqlstore.Options{URL: url, MaxConns: 1, AcquireTimeout: 50 * time.Millisecond})
			held := holdConn(t, store)
			begun := time.Now()
			err := store.Record(t.Context(), entry("a"))
			wantUnavailable(t, err)
			if took := time.Since(begun); took > soon {
				t.Errorf("took %v", took)
			}
			if err := held.Close(); err != nil {
				t.Fatal(err)
			}
			// As soon as a call gets it within AcquireTimeout.
			for end := time.Now().Add(soon); ; {
				err := store.Record(t.Context(), entry("a"))
				if err == nil {
					break
				}
				if !fault.Is(err, fault.Unavailable) || time.Now().After(end) {
					t.Fatalf("with the connection back: %v", err)
				}
			}
		})
	}
}

// holdConn takes the only connection of a store. It tries again as often as the
// establishment of one takes longer than AcquireTimeout, which bounds it too.
func holdConn(t testing.TB, store *sqlstore.Store) *sql.Conn {
	t.Helper()
	for end := time.Now().Add(soon); ; {
		held, err := store.DB().Conn(t.Context())
		if err == nil {
			return held
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// TestTrouble_Postgres kills and freezes a server under one store, which must
// say so at once and recover by itself.
func TestTrouble_Postgres(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t)
	store := migrated(t, sqlstore.Options{URL: server.URL(), Timeout: 3 * time.Second, AcquireTimeout: 3 * time.Second})
	use := func() error {
		_, err := store.Recent(t.Context(), "ann", time.Time{})
		if err != nil {
			return err
		}
		return store.Record(t.Context(), entry("a"))
	}
	// Fill the pool, so that there are connections to find dead.
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := use(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()

	server.Pause()
	begun := time.Now()
	wantUnavailable(t, use())
	wantUnavailable(t, store.Ping(t.Context()))
	if took := time.Since(begun); took > soon {
		t.Errorf("frozen: refused after %v", took)
	}
	server.Resume()
	if err := use(); err != nil {
		t.Errorf("thawed: %v", err)
	}

	server.Kill9()
	begun = time.Now()
	wantUnavailable(t, use())
	if took := time.Since(begun); took > soon {
		t.Errorf("killed: refused after %v", took)
	}
	server.Restart()
	for range 8 {
		if err := use(); err != nil {
			t.Errorf("restarted: %v", err)
		}
	}

	// Sessions cut off under the store's feet, as a failover does.
	if _, err := store.DB().Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name = 'parley'"); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		if err := use(); err != nil {
			t.Errorf("after the sessions were cut off: %v", err)
		}
	}
}

func TestTrouble_Unreachable(t *testing.T) {
	const password = "s3cret-canary"
	store := open(t, sqlstore.Options{URL: "postgres://ann:" + password + "@127.0.0.1:1/db"})
	err := store.Ping(t.Context())
	wantUnavailable(t, err)
	if strings.Contains(err.Error(), password) {
		t.Error("the error holds the password")
	}
	if _, err := store.Migrate(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("migrate: %v", err)
	}
	if _, err := store.MigrationStatus(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("status: %v", err)
	}
	_, err = sqlstore.Open(t.Context(), sqlstore.Options{URL: "postgres://ann:" + password + "@127.0.0.1:port/db"})
	if err == nil || strings.Contains(err.Error(), password) {
		t.Errorf("malformed URL: %v", err)
	}
}

// TestErrors_QuoteNoText makes statements fail that carry a person's text.
func TestErrors_QuoteNoText(t *testing.T) {
	each(t, func(t *testing.T, store *sqlstore.Store) {
		const canary = "canary-of-ann"
		a := sending("ann", canary)
		a.Run.Kind = "nonsense"
		_, err := store.Admit(t.Context(), a, chat.Admit)
		if !fault.Is(err, fault.Internal) {
			t.Errorf("got %v, want %s", err, fault.Internal)
		}
		if strings.Contains(fmt.Sprintf("%v %+v %q", err, err, err), canary) {
			t.Errorf("the error quotes the text: %v", err)
		}
	})
}

func TestSQLite_FilesAreTheOwnersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "with space & ?mark", "parley.db")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	store := migrated(t, sqlstore.Options{URL: path})
	if err := store.Record(t.Context(), entry("a")); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 3 {
		t.Errorf("%d files, want the database, its log and its index", len(files))
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v", f.Name(), info.Mode())
		}
	}
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000"} {
		var got string
		if err := store.DB().QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", pragma, got, err, want)
		}
	}
}

// TestExecModes goes through a turn in every mode that a deployment may choose.
func TestExecModes(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"", "exec", "simple_protocol", "cache_describe", "describe_exec", "cache_statement"} {
		t.Run(mode, func(t *testing.T) {
			store := migrated(t, sqlstore.Options{URL: testenv.Postgres(t), ExecMode: mode})
			out, err := store.Admit(t.Context(), sending("ann", `what's \ "this"?`), chat.Admit)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := store.Finish(t.Context(), chat.Outcome{UserID: "ann", RunID: out.Run.ID, Attempt: 1, State: chat.Completed, Output: chat.TextOutput("that"), At: time.Now()}, chat.Finish); err != nil {
				t.Fatal(err)
			}
			list, _, err := store.Messages(t.Context(), "ann", "", ports.Page{Limit: 10})
			if err != nil || len(list) != 2 || list[0].Content != `what's \ "this"?` {
				t.Errorf("%+v, %v", list, err)
			}
		})
	}
	if _, err := sqlstore.Open(t.Context(), sqlstore.Options{URL: "postgres://h/d", ExecMode: "fast"}); err == nil {
		t.Error("an unknown mode was accepted")
	}
}

// TestPostgres_NoDeadlocks lets everything that writes loose on one user's few
// conversations at once.
func TestPostgres_NoDeadlocks(t *testing.T) {
	t.Parallel()
	store := openPostgres(t)
	ctx := context.Background()
	ids := make(chan string, 4096)
	var n atomic.Int64
	id := func(kind string) string { return fmt.Sprint(kind, n.Add(1)) }
	deadline := time.Now().Add(2 * time.Second)
	unexpected := func(what string, err error) {
		switch fault.KindOf(err) {
		case "", fault.Busy, fault.NotFound, fault.Fenced, fault.Conflict:
		default:
			t.Errorf("%s: %v", what, err)
		}
	}
	var wg sync.WaitGroup
	loop := func(what string, step func() error) {
		wg.Go(func() {
			for time.Now().Before(deadline) && !t.Failed() {
				unexpected(what, step())
			}
		})
	}
	conversations := []string{"", "a", "b"}
	for i := range 6 {
		loop("send", func() error {
			a := sending("ann", "hi")
			a.Run.ID, a.Message.ID, a.Run.AuditID = id("run"), id("msg"), id("audit")
			a.Run.ConversationID, a.CreateConversation = conversations[i%3], true
			a.WhenBusy = []chat.WhenBusy{chat.Supersede, chat.Queue, chat.Reject}[n.Load()%3]
			out, err := store.Admit(ctx, a, chat.Admit)
			if err != nil {
				return err
			}
			ids <- out.Run.ID
			if out.Run.State != chat.Running {
				return nil
			}
			return end(ctx, store, chat.Outcome{UserID: "ann", RunID: out.Run.ID, ConversationID: out.Run.ConversationID, Attempt: out.Run.Attempt, State: chat.Completed, Output: chat.TextOutput("x"), At: time.Now()})
		})
	}
	loop("claim", func() error {
		got, err := store.Claim(ctx, "here", time.Minute, 3)
		for _, run := range got {
			if _, err := store.Checkpoint(ctx, "here", []chat.Checkpoint{{UserID: "ann", RunID: run.ID, Attempt: run.Attempt, New: chat.TextOutput("y")}}); err != nil {
				return err
			}
			unexpected("finish", end(ctx, store, chat.Outcome{UserID: "ann", RunID: run.ID, ConversationID: run.ConversationID, Attempt: run.Attempt, State: chat.Failed, Failure: "X", At: time.Now()}))
		}
		return err
	})
	loop("heartbeat", func() error { _, err := store.Heartbeat(ctx, "here", nil, 10*time.Millisecond); return err })
	loop("stop", func() error {
		_, err := store.RequestStop(ctx, "ann", <-ids, entry(id("stop")))
		return err
	})
	loop("delete", func() error {
		time.Sleep(20 * time.Millisecond)
		return store.DeleteConversation(ctx, "ann", "a", entry(id("delete")))
	})
	wg.Go(func() { // nobody waits for an id in vain
		for time.Now().Before(deadline.Add(time.Second)) {
			select {
			case ids <- "run1":
			case <-time.After(50 * time.Millisecond):
			}
			time.Sleep(time.Millisecond)
		}
	})
	wg.Wait()
	var deadlocks int
	err := store.DB().QueryRow("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").Scan(&deadlocks)
	if err != nil || deadlocks > 0 {
		t.Errorf("%d deadlocks, %v", deadlocks, err)
	}
}

func sending(user, content string) chat.AdmitRequest {
	now := time.Now()
	return chat.AdmitRequest{
		Run:     chat.Run{ID: "run", UserID: user, Kind: chat.Reply, AuditID: "audit"},
		Message: &chat.Message{ID: "msg", Content: content, CreatedAt: now},
		Audit:   audit.Entry{Action: audit.ActionMessageSent, Resource: audit.ResourceMessage},
		Owner:   "here", Lease: time.Minute, MaxQueue: 1000, Context: 50, Now: now,
	}
}

func entry(id string) audit.Entry {
	return audit.Entry{ID: id, UserID: "ann", Action: "test", Resource: "test", CreatedAt: time.Now()}
}

func wantUnavailable(t *testing.T, err error) {
	t.Helper()
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v, want %s", err, fault.Unavailable)
		return
	}
	if f := fault.As(err); f.RetryAfter != time.Second {
		t.Errorf("retry after %v", f.RetryAfter)
	}
}
