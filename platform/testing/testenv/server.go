package testenv

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Server is a private server that a test may freeze, kill and start again. Its
// port and, for Postgres, its data survive that. Methods fail the test, or
// panic where there is none. They are not for concurrent use.
type Server struct {
	dir  string
	port int
	url  string
	pid  int
	// ready returns nil once this very server answers.
	ready      func(ctx context.Context, s *Server) error
	supervisor supervisor
	fail       func(format string, args ...any)
}

// StartPostgres starts a Postgres for this test alone, stopped when it ends.
func StartPostgres(t testing.TB) *Server {
	return start(t, func() (*Server, error) { return launchPostgres(inMemory()) })
}

// StartRedis starts a Redis for this test alone, stopped when it ends. It keeps
// nothing on disk: a killed one starts empty. Options are those of redis-server,
// such as "--cluster-enabled", "yes".
func StartRedis(t testing.TB, options ...string) *Server {
	t.Helper()
	return start(t, func() (*Server, error) { return LaunchRedis(options...) })
}

// StartStandby starts a standby that streams from a Postgres of StartPostgres, for this
// test alone, stopped when it ends.
func StartStandby(t testing.TB, primary *Server) *Server {
	return start(t, func() (*Server, error) { return LaunchStandby(primary) })
}

func start(t testing.TB, launch func() (*Server, error)) *Server {
	t.Helper()
	skipShort(t)
	s, err := launch()
	if err != nil {
		t.Fatal(err)
	}
	s.fail = func(format string, args ...any) { t.Helper(); t.Fatalf(format, args...) }
	t.Cleanup(s.Stop)
	return s
}

// forAll are options of a Postgres that all tests share. It survives its own end, as any
// does, but not a loss of power: tests have a fraction of the waits. Each of the many
// tests at once may fill a pool.
var forAll = []string{"-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=600"}

// launchShared starts a Postgres for all tests of this process or of a command.
func launchShared() (*Server, error) { return launchPostgres(inMemory(), forAll...) }

// LaunchPostgres starts a Postgres with more options, if any, outside any test, on disk. It
// ends with Stop, or with this process.
func LaunchPostgres(options ...string) (*Server, error) { return launchPostgres(onDisk(), options...) }

func launchPostgres(parent string, options ...string) (*Server, error) {
	return launchOn(parent, "initdb", ` -D "$dir/data" -U parley -A trust -E UTF8 --locale=C --no-sync --no-instructions`, options)
}

// LaunchStandby starts a standby of a Postgres outside any test, where that keeps its
// files. It must have those options of the primary that bound connections and
// transactions.
func LaunchStandby(primary *Server, options ...string) (*Server, error) {
	args := fmt.Sprintf(` -D "$dir/data" -h 127.0.0.1 -p %d -U parley --checkpoint=fast --wal-method=stream --write-recovery-conf --no-sync`, primary.port)
	// Both are on one machine: the standby has its own files of each tablespace.
	conn, err := pgx.Connect(context.Background(), primary.url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.Background())
	places, err := conn.Query(context.Background(), "SELECT oid, pg_tablespace_location(oid) FROM pg_tablespace WHERE pg_tablespace_location(oid) <> ''")
	if err != nil {
		return nil, err
	}
	var oid uint32
	var place string
	if _, err := pgx.ForEachRow(places, []any{&oid, &place}, func() error {
		args += fmt.Sprintf(` -T '%s'="$dir/tablespace-%d"`, place, oid)
		return nil
	}); err != nil {
		return nil, err
	}
	return launchOn(filepath.Dir(primary.dir), "pg_basebackup", args, options)
}

// launchOn starts a Postgres whose data a program makes below parent.
func launchOn(parent, program, args string, options []string) (*Server, error) {
	initdb, err := find("initdb")
	if err != nil {
		return nil, err
	}
	// A link to it may stand alone; its like-versioned server stands beside the file.
	if initdb, err = filepath.EvalSymlinks(initdb); err != nil {
		return nil, err
	}
	dir, err := makeDir(parent)
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, ready: postgresReady}
	command := append([]string{
		filepath.Join(filepath.Dir(initdb), "postgres"), "-D", filepath.Join(dir, "data"),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "shared_buffers=32MB", "-c", "max_connections=200", "-c", "max_wal_size=256MB",
		"-c", "timezone=UTC", "-c", "jit=off",
	}, options...)
	return s, s.launch("postgres://parley@127.0.0.1:%d/postgres?sslmode=disable", "QUIT",
		filepath.Join(filepath.Dir(initdb), program)+args, append(command, "-p")...)
}

// LaunchRedis starts a Redis outside any test. It ends with Stop, or with this
// process.
func LaunchRedis(options ...string) (*Server, error) {
	bin, err := find("redis-server")
	if err != nil {
		return nil, err
	}
	dir, err := makeDir(onDisk())
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, ready: redisReady}
	command := append([]string{bin, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "no"}, options...)
	return s, s.launch("redis://127.0.0.1:%d/0", "KILL", "", append(command, "--port")...)
}

// launch starts the server under its supervisor.
func (s *Server) launch(url, stopSignal, prepare string, command ...string) error {
	s.fail = func(format string, args ...any) { panic("testenv: " + fmt.Sprintf(format, args...)) }
	var err error
	if s.supervisor, err = newSupervisor(s.dir, stopSignal, prepare, command); err != nil {
		os.RemoveAll(s.dir)
		return err
	}
	s.port = freePort()
	s.url = fmt.Sprintf(url, s.port)
	if err = s.startServer(); err != nil {
		s.supervisor.close()
	}
	return err
}

// startServer has the supervisor start the server and waits until it answers.
func (s *Server) startServer() error {
	var err error
	if s.pid, err = s.supervisor.start(s.port); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	for {
		if err = s.ready(ctx, s); err == nil {
			return nil
		}
		if !alive(s.pid) || ctx.Err() != nil {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("start %s: %w\n%s", s.url, err, log)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// URL is where the server listens. Postgres: its database "postgres", empty,
// as a superuser. Redis: database 0.
func (s *Server) URL() string { return s.url }

// Addr is its host:port, for a proxy in front of it.
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// Dir holds its files and its log, as long as it is not stopped.
func (s *Server) Dir() string { return s.dir }

// Pid is the process id of the server; it changes with Restart.
func (s *Server) Pid() int { return s.pid }

// Processes lists its processes, the parent first.
func (s *Server) Processes() []int { return descendants(s.pid) }

// Pause freezes the server with all its processes: connections stay open and
// nothing answers.
func (s *Server) Pause() { s.signalAll(syscall.SIGSTOP) }

// Resume wakes a server that was paused.
func (s *Server) Resume() { s.signalAll(syscall.SIGCONT) }

// Kill9 kills the server with all its processes, as a power cut would.
func (s *Server) Kill9() {
	// Stopped first, so that the parent neither replaces nor cleans up.
	s.signalAll(syscall.SIGSTOP)
	s.signalAll(syscall.SIGKILL)
	for deadline := time.Now().Add(readyTimeout); alive(s.pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.fail("kill -9 of %d had no effect", s.pid)
			return
		}
	}
}

// Restart starts the server again, on the same port and data, after Kill9 or
// instead of it.
func (s *Server) Restart() {
	if alive(s.pid) {
		s.Kill9()
	}
	if err := s.startServer(); err != nil {
		s.fail("restart: %v", err)
	}
}

// Stop ends the server and removes its files. A second Stop does nothing.
func (s *Server) Stop() { s.supervisor.close() }

// signal reaches the server's processes, the parent first, so that it makes no
// more of them meanwhile.
func (s *Server) signalAll(sig syscall.Signal) {
	for _, pid := range s.Processes() {
		if err := syscall.Kill(pid, sig); err != nil && err != syscall.ESRCH {
			s.fail("signal %v to %d: %v", sig, pid, err)
			return
		}
	}
}

// postgresReady returns nil once this very server answers: another one may listen on
// the port, so it is asked where its files are.
func postgresReady(ctx context.Context, s *Server) error {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var data string
	if err := conn.QueryRow(ctx, "SHOW data_directory").Scan(&data); err != nil {
		return err
	}
	return ownedByUs(s, data)
}

func ownedByUs(s *Server, path string) error {
	if !strings.HasPrefix(path, s.dir) {
		return fmt.Errorf("port %d belongs to another server", s.port)
	}
	return nil
}
