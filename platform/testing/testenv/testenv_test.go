package testenv_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"parley/platform/testing/testenv"
)

func TestPostgres_EachCallAnEmptyDatabase(t *testing.T) {
	a, b := connect(t, testenv.Postgres(t)), connect(t, testenv.Postgres(t))
	if _, err := a.Exec(t.Context(), "CREATE TABLE only_in_a (n int)"); err != nil {
		t.Fatal(err)
	}
	var tables int
	err := b.QueryRow(t.Context(), "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'").Scan(&tables)
	if err != nil || tables != 0 {
		t.Errorf("second database has %d tables, error %v; want 0, nil", tables, err)
	}
}

func TestPostgres_DropsItsDatabase(t *testing.T) {
	var url string
	t.Run("user", func(t *testing.T) {
		url = testenv.Postgres(t)
		connect(t, url)
	})
	if _, err := pgx.Connect(t.Context(), url); err == nil {
		t.Error("the database is still there")
	}
}

// TestPostgresCopy makes a template once, of which each caller gets a copy of its own.
func TestPostgresCopy(t *testing.T) {
	filled := 0
	fill := func(url string) error {
		filled++
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			return err
		}
		defer conn.Close(t.Context())
		_, err = conn.Exec(t.Context(), "CREATE TABLE filled (n int)")
		return err
	}
	template := "parley_template_of_a_test_" + strconv.Itoa(os.Getpid())
	admin := connect(t, testenv.Postgres(t))
	t.Cleanup(func() {
		if _, err := admin.Exec(context.Background(), "DROP DATABASE "+template); err != nil {
			t.Error(err)
		}
	})
	for range 2 {
		conn := connect(t, testenv.PostgresCopy(t, template, fill))
		if _, err := conn.Exec(t.Context(), "INSERT INTO filled VALUES (1)"); err != nil {
			t.Fatal(err)
		}
		var rows int
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM filled").Scan(&rows); err != nil || rows != 1 {
			t.Errorf("%d rows, error %v; want 1, nil", rows, err)
		}
	}
	if filled != 1 {
		t.Errorf("the template was filled %d times", filled)
	}
}

func TestRedis_StartsEmpty(t *testing.T) {
	for range 2 {
		c := client(t, testenv.Redis(t))
		if n, err := c.DBSize(t.Context()).Result(); err != nil || n != 0 {
			t.Errorf("got %d keys, error %v; want 0, nil", n, err)
		}
		if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Error(err)
		}
	}
}

// TestRedis_Shared runs on a server that all tests share, as in CI.
func TestRedis_Shared(t *testing.T) {
	server := testenv.StartRedis(t)
	t.Setenv(testenv.EnvRedis, server.URL())
	a, b := client(t, testenv.Redis(t)), client(t, testenv.Redis(t))
	if err := a.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Exists(t.Context(), "k").Result(); err != nil || n != 0 {
		t.Errorf("the second caller sees the key of the first (%d, %v)", n, err)
	}
}

func TestServer_PausedPostgresIsSilent(t *testing.T) {
	s := testenv.StartPostgres(t)
	conn := connect(t, s.URL())
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := conn.Ping(ctx); err == nil {
		t.Error("a paused server answered")
	}
	s.Resume()
	if err := connect(t, s.URL()).Ping(t.Context()); err != nil {
		t.Errorf("after Resume: %v", err)
	}
}

func TestServer_KilledPostgresKeepsItsData(t *testing.T) {
	s := testenv.StartPostgres(t)
	if _, err := connect(t, s.URL()).Exec(t.Context(), "CREATE TABLE kept (n int)"); err != nil {
		t.Fatal(err)
	}
	before := s.Pid()
	s.Kill9()
	if _, err := pgx.Connect(t.Context(), s.URL()); err == nil {
		t.Error("a killed server answered")
	}
	s.Restart()
	if s.Pid() == before {
		t.Error("the process id has not changed")
	}
	if _, err := connect(t, s.URL()).Exec(t.Context(), "SELECT n FROM kept"); err != nil {
		t.Errorf("after Restart: %v", err)
	}
}

func TestServer_KilledRedisStartsEmpty(t *testing.T) {
	s := testenv.StartRedis(t)
	if err := client(t, s.URL()).Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	if n, err := client(t, s.URL()).DBSize(t.Context()).Result(); err != nil || n != 0 {
		t.Errorf("got %d keys, error %v; want 0, nil", n, err)
	}
}

// TestServer_DiesWithItsUser kills a process that uses both servers, one of
// them paused, and expects neither a process nor a file to be left.
func TestServer_DiesWithItsUser(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	if os.Getenv("TESTENV_VICTIM") != "" {
		p, r := testenv.StartPostgres(t), testenv.StartRedis(t)
		r.Pause()
		fmt.Printf("up %d %d %s\n", p.Pid(), r.Pid(), p.Dir())
		select {}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestServer_DiesWithItsUser$")
	cmd.Env = append(os.Environ(), "TESTENV_VICTIM=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	var pids []int
	var dir string
	for lines := bufio.NewScanner(out); dir == "" && lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) == 4 && f[0] == "up" {
			for _, s := range f[1:3] {
				pid, _ := strconv.Atoi(s)
				pids = append(pids, pid)
			}
			dir = f[3]
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if dir == "" {
		t.Fatal("the victim did not start its servers")
	}
	gone := func() bool {
		for _, pid := range pids {
			if syscall.Kill(pid, 0) == nil {
				return false
			}
		}
		_, err := os.Stat(dir)
		return os.IsNotExist(err)
	}
	for deadline := time.Now().Add(30 * time.Second); !gone(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still there: one of the processes %v, or %s", pids, dir)
		}
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func client(t *testing.T, url string) *redis.Client {
	t.Helper()
	opt, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(opt)
	t.Cleanup(func() { c.Close() })
	return c
}

// TestStandby_Follows writes to a server and reads it from its standby, also after
// that was killed.
func TestStandby_Follows(t *testing.T) {
	t.Parallel()
	primary := testenv.StartPostgres(t)
	standby := testenv.StartStandby(t, primary)
	ctx := t.Context()
	to, err := pgx.Connect(ctx, primary.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close(context.WithoutCancel(ctx))
	for _, table := range []string{"one", "two"} {
		if _, err := to.Exec(ctx, "CREATE TABLE "+table+" (n int)"); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			var follows bool
			from, err := pgx.Connect(ctx, standby.URL())
			if err == nil {
				err = from.QueryRow(ctx, "SELECT pg_is_in_recovery() AND to_regclass($1) IS NOT NULL", table).Scan(&follows)
				from.Close(ctx)
			}
			if follows {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the standby has no table %s: %v", table, err)
			}
		}
		standby.Restart()
	}
}
