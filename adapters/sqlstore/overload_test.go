package sqlstore_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore"
	"parley/domain/fault"
	"parley/platform/testing/testdb"
)

// slowHook makes every round trip take a while.
type slowHook time.Duration

func (h slowHook) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context {
	time.Sleep(time.Duration(h))
	return ctx
}

func (slowHook) AfterQuery(context.Context, *bun.QueryEvent) {}

// Nor is it an outage when the database is in the middle of one long transaction,
// whose statements it answers.
func TestTrouble_LongTransaction(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{"SQLite": testdb.SQLite(t), "Postgres": testdb.Postgres(t)} {
		t.Run(name, func(t *testing.T) {
			migrated(t, sqlstore.Options{URL: url})
			store := open(t, sqlstore.Options{URL: url, MaxConns: 1, AcquireTimeout: 3 * time.Second, Timeout: 2 * soon})
			begun, answered := make(chan struct{}), make(chan struct{})
			ended := make(chan error, 1)
			go func() {
				ended <- store.Within(t.Context(), "ann", func(ctx context.Context, tx bun.IDB) error {
					for first := true; ; first = false {
						if _, err := tx.ExecContext(ctx, "SELECT 1"); err != nil {
							return err
						}
						if first {
							close(begun)
						}
						select {
						case <-answered:
							return nil
						case <-time.After(10 * time.Millisecond):
						}
					}
				})
			}()
			select {
			case <-begun:
			case err := <-ended:
				t.Fatal(err)
			}
			if err := store.Record(t.Context(), entry("a")); !fault.Is(err, fault.Overloaded) {
				t.Errorf("got %v", err)
			}
			close(answered)
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// A pool that more calls wait for than it can serve is overload while the
// database answers, and no outage: neither for the calls nor for Ping.
func TestTrouble_Overload(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{"SQLite": testdb.SQLite(t), "Postgres": testdb.Postgres(t)} {
		t.Run(name, func(t *testing.T) {
			migrated(t, sqlstore.Options{URL: url})
			store := open(t, sqlstore.Options{
				URL: url, MaxConns: 1, AcquireTimeout: time.Second, Hooks: []bun.QueryHook{slowHook(20 * time.Millisecond)},
			})
			for _, call := range []struct {
				name string
				do   func() error
			}{
				{"Write", func() error { return store.Record(t.Context(), entry("a")) }},
				{"Read", func() error { _, err := store.Usage(t.Context(), "ann", time.Now()); return err }},
				{"Ping", func() error { return store.Ping(t.Context()) }},
			} {
				const calls = 120
				errs := make([]error, calls)
				var wg sync.WaitGroup
				for i := range errs {
					wg.Go(func() { errs[i] = call.do() })
				}
				wg.Wait()
				served, overloaded := 0, 0
				for _, err := range errs {
					switch {
					case err == nil:
						served++
					case fault.Is(err, fault.Overloaded) && fault.As(err).RetryAfter > 0:
						overloaded++
					default:
						t.Errorf("%s: %v", call.name, err)
					}
				}
				if served == 0 || overloaded == 0 != (call.name == "Ping") {
					t.Errorf("%s: of %d calls %d were served and %d refused for overload", call.name, calls, served, overloaded)
				}
			}
		})
	}
}
