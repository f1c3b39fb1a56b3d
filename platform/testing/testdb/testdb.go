// Package testdb makes migrated databases for tests. To migrate one takes longer
// than most tests do, so it happens once in a test process, and each test gets a
// copy.
package testdb

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"parley/adapters/sqlstore"
)

// SQLite returns the path of a new, migrated database, which is deleted when the
// test ends.
func SQLite(t testing.TB) string {
	t.Helper()
	content, err := migrated()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "parley.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// migrated returns the content of a migrated database's file.
var migrated = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "parley-testdb-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "parley.db")
	ctx := context.Background()
	store, err := sqlstore.Open(ctx, sqlstore.Options{URL: path, Timeout: time.Minute, AcquireTimeout: time.Minute})
	if err != nil {
		return nil, err
	}
	_, err = store.Migrate(ctx)
	if closed := store.Close(); err == nil {
		err = closed // which writes everything into the one file
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})
