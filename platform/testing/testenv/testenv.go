// Package testenv gives tests real servers: a private Postgres and a private
// Redis, started from the binaries of this machine as an unprivileged user, in
// a temporary directory, on a free loopback port, and stopped when the test
// process has ended, however it ended. The files of a test's Postgres are in memory
// where there is plenty of it. Only tests and their tools import it.
//
// Postgres and Redis are what most tests want. StartPostgres and StartRedis
// give a server of their own to tests that freeze, kill or flush it. A binary
// that is missing is installed (Debian, as root) or fails the test with the
// command that installs it; nothing is ever skipped.
package testenv

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Servers to use instead of private ones. The user of EnvPostgres may create
// databases. On the server of EnvRedis, databases 1 and up are flushed.
const (
	EnvPostgres = "TEST_DATABASE_URL"
	EnvRedis    = "TEST_REDIS_URL"
)

// EndAtOnce is for the environment of processes that a test starts from its own
// program: with the race detector each sleeps for a second before it ends.
const EndAtOnce = "GORACE=atexit_sleep_ms=0"

// readyTimeout bounds every step that waits for a server.
const readyTimeout = 60 * time.Second

// sharedPostgres is the Postgres of this process, for all tests that need none of their own.
var sharedPostgres = sync.OnceValues(launchShared)

// Postgres returns the URL of a new, empty database, which is dropped when the
// test ends. It lives on the server that TEST_DATABASE_URL names, or on one
// that this test process starts once. Parallel tests do not see each other's.
func Postgres(t testing.TB) string {
	t.Helper()
	server, err := postgresServer(t)
	if err != nil {
		t.Fatal(err)
	}
	return createDatabase(t, server, "")
}

// PostgresCopy is Postgres with a copy of a template in the database. The first
// call for a template makes it on the server, with fill; its name says what fill
// writes, such as by a checksum.
func PostgresCopy(t testing.TB, template string, fill func(url string) error) string {
	t.Helper()
	server, err := postgresServer(t)
	if err != nil {
		t.Fatal(err)
	}
	if err := makeTemplate(server, template, fill); err != nil {
		t.Fatalf("make template database: %v", err)
	}
	return createDatabase(t, server, " TEMPLATE "+template)
}

// postgresServer returns the URL of the server that tests share.
func postgresServer(t testing.TB) (string, error) {
	skipShort(t)
	if server := os.Getenv(EnvPostgres); server != "" {
		return server, nil
	}
	s, err := sharedPostgres()
	if err != nil {
		return "", err
	}
	return s.URL(), nil
}

func createDatabase(t testing.TB, server, options string) string {
	t.Helper()
	name := "parley_test_" + random()
	if err := onPostgres(server, "CREATE DATABASE "+name+options); err != nil {
		t.Fatalf("create test database: %v", err)
	}
	t.Cleanup(func() {
		// FORCE would say the same, but needs Postgres 13.
		err := onPostgres(server,
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+name+"'",
			"DROP DATABASE IF EXISTS "+name)
		if err != nil {
			t.Errorf("drop test database: %v", err)
		}
	})
	return withDatabase(server, name)
}

// made holds the templates that this process has seen.
var made struct {
	sync.Mutex
	templates map[string]bool // by server and name
}

// makeTemplate makes a template database, unless this process or another one has.
func makeTemplate(server, name string, fill func(url string) error) error {
	made.Lock()
	defer made.Unlock()
	if made.templates[server+" "+name] {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*readyTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) // gives the lock back
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock(hashtext($1))", name); err != nil {
		return err
	}
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists); err != nil {
		return err
	}
	if !exists {
		// It gets its name when it is whole.
		unfinished := name + "_unfinished"
		for _, sql := range []string{"DROP DATABASE IF EXISTS " + unfinished, "CREATE DATABASE " + unfinished} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return err
			}
		}
		if err := fill(withDatabase(server, unfinished)); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "ALTER DATABASE "+unfinished+" RENAME TO "+name); err != nil {
			return err
		}
	}
	if made.templates == nil {
		made.templates = map[string]bool{}
	}
	made.templates[server+" "+name] = true
	return nil
}

// Redis returns the URL of an empty Redis database: a server of the test's own,
// or, with TEST_REDIS_URL, a database number of that server which no other test
// holds. Only then are pub/sub channels shared with other tests, and
// FLUSHALL is out of bounds.
func Redis(t testing.TB) string {
	t.Helper()
	skipShort(t)
	if server := os.Getenv(EnvRedis); server != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 10*readyTimeout)
		defer cancel()
		database, release, err := claimRedis(ctx, server)
		if err != nil {
			t.Fatalf("claim a database of %s: %v", EnvRedis, err)
		}
		t.Cleanup(func() {
			if err := release(); err != nil {
				t.Errorf("return Redis database %s: %v", database, err)
			}
		})
		return withDatabase(server, database)
	}
	return StartRedis(t).URL()
}

// skipShort skips tests that need a server or another program: go test -short
// runs the rest, on SQLite.
func skipShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a server, which go test -short does not start")
	}
}

func onPostgres(server string, statements ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

func withDatabase(server, name string) string {
	u, err := url.Parse(server)
	if err != nil {
		panic(fmt.Sprintf("testenv: %s is not a URL", server))
	}
	u.Path = "/" + name
	return u.String()
}

func random() string {
	b := make([]byte, 8)
	rand.Read(b)
	return hex.EncodeToString(b)
}
