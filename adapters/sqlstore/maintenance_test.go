package sqlstore_test

import (
	"testing"
	"time"

	"parley/adapters/sqlstore"
	"parley/platform/testing/testenv"
)

// TestMaintenance_SeesWhatGrows: a replication slot that nobody reads, and a transaction
// that stays open.
func TestMaintenance_SeesWhatGrows(t *testing.T) {
	server, err := testenv.LaunchPostgres("-c", "wal_level=logical")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	store := migrated(t, sqlstore.Options{URL: server.URL(), MaxConns: 2})
	before, err := store.Maintenance(t.Context())
	if err != nil || before.RetainedWAL != 0 || before.TransactionIDs <= 0 || before.OldestTransaction > time.Minute {
		t.Fatalf("%+v %v", before, err)
	}
	tx, err := store.DB().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	for _, statement := range []string{
		"SELECT pg_create_physical_replication_slot('forgotten', true)",
		"CREATE TABLE much AS SELECT repeat('x', 1000) FROM generate_series(1, 2000)",
	} {
		if _, err := store.DB().ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tx.ExecContext(t.Context(), "SELECT pg_sleep(0.1)"); err != nil {
		t.Fatal(err)
	}
	after, err := store.Maintenance(t.Context())
	if err != nil || after.RetainedWAL < 1_000_000 || after.TransactionIDs <= before.TransactionIDs || after.OldestTransaction < 100*time.Millisecond {
		t.Errorf("%+v %v", after, err)
	}
}

func TestMaintenance_RunsOnBoth(t *testing.T) {
	each(t, func(t *testing.T, store *sqlstore.Store) {
		if m, err := store.Maintenance(t.Context()); err != nil || store.Dialect() == "sqlite" && m != (sqlstore.Maintenance{}) {
			t.Errorf("%+v %v", m, err)
		}
	})
}
