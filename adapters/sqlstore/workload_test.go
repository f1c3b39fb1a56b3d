package sqlstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/adapters/sqlstore"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/platform/testing/testdb"
)

// TestWorkload_Queue counts what waits, and ages only what could be started.
func TestWorkload_Queue(t *testing.T) {
	each(t, func(t *testing.T, store *sqlstore.Store) {
		queue := func() sqlstore.Workload {
			t.Helper()
			w, err := store.Queue(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return w
		}
		if w := queue(); w != (sqlstore.Workload{}) {
			t.Errorf("an empty queue: %+v", w)
		}
		a := sending("ann", "hello")
		a.Owner, a.Now = "", a.Now.Add(-time.Minute)
		if _, err := store.Admit(t.Context(), a, chat.Admit); err != nil {
			t.Fatal(err)
		}
		if w := queue(); w.Queued != 1 || w.OldestQueued < time.Minute {
			t.Errorf("one waits: %+v", w)
		}
		if claimed, err := store.Claim(t.Context(), "one", time.Minute, 1); err != nil || len(claimed) != 1 {
			t.Fatal(claimed, err)
		}
		if w := queue(); w != (sqlstore.Workload{}) {
			t.Errorf("it is being made: %+v", w)
		}
	})
}

// TestWorkload_Locks sees who waits for a table that another session has locked,
// while all connections of the pool are taken.
func TestWorkload_Locks(t *testing.T) {
	t.Parallel()
	store := migrated(t, sqlstore.Options{URL: testdb.Postgres(t), MaxConns: 2})
	if w, err := store.Locks(t.Context()); err != nil || w.LockWaits != 0 {
		t.Fatalf("nobody waits: %+v %v", w, err)
	}
	holder, err := store.DB().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	tx, err := holder.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "LOCK TABLE chat_runs"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = store.Recent(ctx, "ann", time.Time{}) // waits
	}()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		w, err := store.Locks(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if w.LockWaits == 1 && w.OldestLock >= 500*time.Millisecond {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody is seen to wait: %+v", w)
		}
	}
	cancel()
	<-done
	if err := tx.Rollback(); err != nil {
		t.Error(err)
	}
}

// TestNotConnected_IsReported: a call that gets no connection is reported by name,
// since no query hook sees it.
func TestNotConnected_IsReported(t *testing.T) {
	t.Parallel()
	var calls []string
	store := open(t, sqlstore.Options{URL: testdb.Postgres(t), MaxConns: 1, AcquireTimeout: 50 * time.Millisecond,
		NotConnected: func(ctx context.Context, took time.Duration, err error) {
			if took < 50*time.Millisecond || !fault.Is(err, fault.Unavailable) {
				t.Errorf("after %v: %v", took, err)
			}
			calls = append(calls, sqlstore.StatementName(ctx))
		}})
	defer holdConn(t, store).Close()
	calls = nil // of attempts that were too slow
	_, _ = store.Recent(t.Context(), "ann", time.Time{})
	if diff := cmp.Diff([]string{"recent"}, calls); diff != "" {
		t.Error(diff)
	}
}
