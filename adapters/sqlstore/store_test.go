package sqlstore_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/schema"

	"parley/adapters/sqlstore"
	"parley/adapters/sqlstore/rows"
	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/platform/testing/testdb"
	"parley/ports/portstest"
)

func TestSQLite(t *testing.T) {
	t.Parallel()
	portstest.Store(t, func(t testing.TB) portstest.StoreBundle { return bundle(openSQLite(t)) })
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	portstest.Store(t, func(t testing.TB) portstest.StoreBundle { return bundle(openPostgres(t)) })
}

// TestUngrouped holds both dialects to the contract with DB_GROUP=false.
func TestUngrouped(t *testing.T) {
	if testing.Short() {
		t.Skip("TestSQLite runs the same suite")
	}
	t.Parallel()
	for name, url := range map[string]func(testing.TB) string{
		"SQLite":   func(t testing.TB) string { return testdb.SQLite(t) },
		"Postgres": func(t testing.TB) string { return testdb.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			portstest.Store(t, func(t testing.TB) portstest.StoreBundle {
				return bundle(migrated(t, sqlstore.Options{URL: url(t), Ungrouped: true}))
			})
		})
	}
}

// each runs a test on both dialects.
func each(t *testing.T, test func(t *testing.T, store *sqlstore.Store)) {
	t.Run("SQLite", func(t *testing.T) { test(t, openSQLite(t)) })
	t.Run("Postgres", func(t *testing.T) { test(t, openPostgres(t)) })
}

func openSQLite(t testing.TB) *sqlstore.Store {
	t.Helper()
	return migrated(t, sqlstore.Options{URL: testdb.SQLite(t)})
}

func openPostgres(t testing.TB) *sqlstore.Store {
	t.Helper()
	return migrated(t, sqlstore.Options{URL: testdb.Postgres(t)})
}

func migrated(t testing.TB, opt sqlstore.Options) *sqlstore.Store {
	t.Helper()
	store := open(t, opt)
	if _, err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return store
}

func open(t testing.TB, opt sqlstore.Options) *sqlstore.Store {
	t.Helper()
	if opt.Timeout == 0 {
		opt.Timeout = 30 * time.Second // the machine of the tests may be busy
	}
	if opt.AcquireTimeout == 0 {
		opt.AcquireTimeout = 30 * time.Second
	}
	store, err := sqlstore.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return store
}

func bundle(store *sqlstore.Store) portstest.StoreBundle {
	return portstest.StoreBundle{
		Runs: store, History: store, Audit: store, Accounts: store, Feedback: store, Shares: store, Expiry: store, Search: store, Switches: store,
		Entries: func(t testing.TB, user string) []audit.Entry { return entries(t, store, user) },
	}
}

// end ends a run.
func end(ctx context.Context, store *sqlstore.Store, o chat.Outcome) error {
	_, err := store.Finish(ctx, o, chat.Finish)
	return err
}

// raw gives a test a way into the tables.
func raw(store *sqlstore.Store) *bun.DB {
	var dialect schema.Dialect = sqlitedialect.New()
	if store.Dialect() == "postgres" {
		dialect = pgdialect.New()
	}
	return bun.NewDB(store.DB(), dialect)
}

func entries(t testing.TB, store *sqlstore.Store, user string) []audit.Entry {
	t.Helper()
	var found []rows.Entry
	err := raw(store).NewSelect().Model(&found).Where("user_id = ?", user).OrderExpr("created_at, id").Scan(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var list []audit.Entry
	for _, r := range found {
		e := audit.Entry{
			ID: r.ID, UserID: r.UserID, Action: r.Action, Resource: r.Resource, ResourceID: r.ResourceID,
			Caller: access.Caller{IP: r.IPAddress, UserAgent: r.UserAgent}, Status: audit.Status(r.Status), Error: r.ErrorMessage,
			CreatedAt: rows.Time(r.CreatedAt), UpdatedAt: rows.Time(r.UpdatedAt),
		}
		if r.Metadata != "" {
			if err := json.Unmarshal([]byte(r.Metadata), &e.Metadata); err != nil {
				t.Fatal(err)
			}
		}
		list = append(list, e)
	}
	return list
}
