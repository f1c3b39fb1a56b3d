// Package testdb makes migrated databases for tests. To migrate one takes longer
// than most tests do, so it happens once in a test process, or once on a server of
// Postgres, and each test gets a copy.
package testdb

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/adapters/sqlstore"
	"parley/adapters/sqlstore/migrations"
	"parley/platform/testing/testenv"
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

// Postgres returns the URL of a new, migrated database, which is dropped when the
// test ends.
func Postgres(t testing.TB) string {
	t.Helper()
	return testenv.PostgresCopy(t, "parley_template_"+version(t), migrate)
}

// Owner owns everything in a database of PostgresOwned. It is no superuser, and its
// password is "secret".
const Owner = "parley_test_owner"

// PostgresOwned is Postgres with a database that Owner has migrated. The URL is that of
// the superuser.
func PostgresOwned(t testing.TB) string {
	t.Helper()
	return testenv.PostgresCopy(t, "parley_template_owned_"+version(t), func(raw string) error {
		ctx := context.Background()
		conn, err := pgx.Connect(ctx, raw)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, `DO $$ BEGIN
			IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '`+Owner+`') THEN
				CREATE ROLE `+Owner+` LOGIN PASSWORD 'secret';
			END IF;
			EXECUTE 'GRANT CREATE ON DATABASE ' || current_database() || ' TO `+Owner+`';
			ALTER SCHEMA public OWNER TO `+Owner+`;
		END $$`)
		if err != nil {
			return err
		}
		u, err := url.Parse(raw)
		if err != nil {
			return err
		}
		u.User = url.UserPassword(Owner, "secret")
		return migrate(u.String())
	})
}

// version identifies the migrations of Postgres.
func version(t testing.TB) string {
	t.Helper()
	sums, err := migrations.FS.ReadFile("postgres/atlas.sum")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%.8x", sha256.Sum256(sums))
}

// migrated returns the content of a migrated database's file.
var migrated = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "parley-testdb-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "parley.db")
	if err := migrate(path); err != nil { // which leaves everything in the one file
		return nil, err
	}
	return os.ReadFile(path)
})

func migrate(url string) error {
	ctx := context.Background()
	store, err := sqlstore.Open(ctx, sqlstore.Options{URL: url, Timeout: time.Minute, AcquireTimeout: time.Minute})
	if err != nil {
		return err
	}
	_, err = store.Migrate(ctx)
	if closed := store.Close(); err == nil {
		err = closed
	}
	return err
}

//go:embed prisma.sql
var prisma string

// Prisma returns the URL of a new database with the tables of the backend that
// Parley replaces, in which the statements have been executed.
func Prisma(t testing.TB, statements ...string) string {
	t.Helper()
	url := testenv.Postgres(t)
	Execute(t, url, append([]string{prisma}, statements...)...)
	return url
}

// Execute executes statements in a database of Postgres, on one connection.
func Execute(t testing.TB, url string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, sql := range statements {
		if _, err := conn.Exec(context.Background(), sql); err != nil {
			t.Fatal(err)
		}
	}
}
