// Package testenv gives tests real servers: a private Postgres and a private
// Redis, started from the binaries of this machine as an unprivileged user, in
// a temporary directory, on a free loopback port, and stopped when the test
// process has ended, however it ended. Only tests and their tools import it.
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
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// Servers to use instead of private ones. The user of EnvPostgres may create
// databases. On the server of EnvRedis, databases 1 and up are flushed.
const (
	EnvPostgres = "TEST_DATABASE_URL"
	EnvRedis    = "TEST_REDIS_URL"
)

// readyTimeout bounds every step that waits for a server.
const readyTimeout = 60 * time.Second

// sharedPostgres is the Postgres of this process, for all tests that need none of their own.
var sharedPostgres = sync.OnceValues(func() (*Server, error) { return LaunchPostgres(withoutSync...) })

// Postgres returns the URL of a new, empty database, which is dropped when the
// test ends. It lives on the server that TEST_DATABASE_URL names, or on one
// that this test process starts once. Parallel tests do not see each other's.
func Postgres(t testing.TB) string {
	t.Helper()
	skipShort(t)
	server := os.Getenv(EnvPostgres)
	if server == "" {
		s, err := sharedPostgres()
		if err != nil {
			t.Fatal(err)
		}
		server = s.URL()
	}
	name := "parley_test_" + random()
	if err := onPostgres(server, "CREATE DATABASE "+name); err != nil {
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

// Redis returns the URL of an empty Redis database: a server of the test's own,
// or, with TEST_REDIS_URL, a database number of that server which no other test
// holds. Only then are pub/sub channels shared with other tests, and
// FLUSHALL is out of bounds.
func Redis(t testing.TB) string {
	t.Helper()
	skipShort(t)
	if server := os.Getenv(EnvRedis); server != "" {
		return claimRedis(t, server)
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

// borrowRedis takes one of the databases 1 to 15 of a shared server. The claim
// is a key in database 0, which expires in case the holder dies.
func claimRedis(t testing.TB, server string) string {
	t.Helper()
	opt, err := redis.ParseURL(server)
	if err != nil {
		t.Fatalf("%s: %v", EnvRedis, err)
	}
	opt.DB = 0
	claims := redis.NewClient(opt)
	ctx, cancel := context.WithTimeout(context.Background(), 10*readyTimeout)
	defer cancel()
	for {
		for n := 1; n <= 15; n++ {
			key := "parley:testenv:" + strconv.Itoa(n)
			claimed, err := claims.SetNX(ctx, key, "", 15*time.Minute).Result()
			if err != nil {
				t.Fatalf("claim a Redis database: %v", err)
			}
			if !claimed {
				continue
			}
			at := *opt
			at.DB = n
			db := redis.NewClient(&at)
			defer db.Close()
			if err := db.FlushDB(ctx).Err(); err != nil {
				t.Fatalf("flush Redis database %d: %v", n, err)
			}
			t.Cleanup(func() {
				if err := claims.Del(context.Background(), key).Err(); err != nil {
					t.Errorf("return Redis database %d: %v", n, err)
				}
				claims.Close()
			})
			return withDatabase(server, strconv.Itoa(n))
		}
		select { // all are taken: other tests are at work
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("claim a Redis database: all are taken: %v", ctx.Err())
		}
	}
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
