package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/platform/testing/testenv"
)

// readyTimeout bounds every step that waits for a process.
const readyTimeout = 60 * time.Second

// world is what all servers share: a Postgres, the binary and the users.
type world struct {
	dir              string
	pg               *testenv.Server
	super            string // URL of the server's superuser
	role             string // URL of a role that owns nothing yet and may make databases
	bin              string
	withoutTelemetry string // the binary without telemetry
	secret           string
	tokens           []string // a caller each
	all              []*server
	n                int
}

func newWorld(ctx context.Context) (_ *world, err error) {
	w := &world{secret: random(32)}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.dir, err = os.MkdirTemp("", "parley-bench-"); err != nil {
		return nil, err
	}
	w.bin, w.withoutTelemetry = filepath.Join(w.dir, "parley"), filepath.Join(w.dir, "parley-muted")
	for bin, tags := range map[string]string{w.bin: "", w.withoutTelemetry: "muted"} {
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-tags", tags, "-o", bin, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build parley: %w\n%s", err, out)
		}
	}
	if w.pg, err = testenv.LaunchPostgres(); err != nil {
		return nil, err
	}
	w.super = w.pg.URL()
	password := random(16)
	if err := w.sql(ctx, "CREATE ROLE parley_bench LOGIN CREATEDB PASSWORD '"+password+"'"); err != nil {
		return nil, err
	}
	u, err := url.Parse(w.super)
	if err != nil {
		return nil, err
	}
	u.User = url.UserPassword("parley_bench", password)
	w.role = u.String()
	for i := range loads[len(loads)-1] {
		mint := exec.CommandContext(ctx, w.bin, "token", "--user", fmt.Sprint("user-", i))
		mint.Env = append(os.Environ(), "AUTH_SECRET="+w.secret)
		token, err := mint.Output()
		if err != nil {
			return nil, fmt.Errorf("make a token: %w", err)
		}
		w.tokens = append(w.tokens, strings.TrimSpace(string(token)))
	}
	return w, nil
}

func (w *world) close() {
	for _, s := range w.all {
		s.stop()
	}
	if w.pg != nil {
		w.pg.Stop()
	}
	os.RemoveAll(w.dir)
}

func (w *world) sql(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, w.super)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}

// database makes an empty database and returns its URL for the role of as.
func (w *world) database(ctx context.Context, as string) (string, error) {
	u, err := url.Parse(as)
	if err != nil {
		return "", err
	}
	w.n++
	name := fmt.Sprint("bench_", w.n)
	if err := w.sql(ctx, "CREATE DATABASE "+name+" OWNER "+u.User.Username()); err != nil {
		return "", err
	}
	u.Path = "/" + name
	return u.String(), nil
}

// server is a process under load.
type server struct {
	name     string
	url      string
	cmd      *exec.Cmd
	exited   chan struct{}
	log      *tail
	tokens   []string
	baseline bool
	admin    string // host:port of its profiles, "" if it has none

	pg       *testenv.Server // which all share, and one loads at a time
	database string          // its own there, as a URL
	settled  bool
}

// startParley starts Parley as it ships, but for limits that a benchmark would
// run into and a provider that answers at once.
func (w *world) startParley(name, bin, as string, env ...string) (*server, error) {
	db, err := w.database(context.Background(), as)
	if err != nil {
		return nil, err
	}
	admin, err := freeAddr()
	if err != nil {
		return nil, err
	}
	s, err := w.start(name, []string{bin, "serve"}, "/api/health", append([]string{
		"DATABASE_URL=" + db, "MIGRATE_ON_START=true", "AUTH_SECRET=" + w.secret, "ADMIN_ADDR=" + admin,
		"RATE_LIMIT_AUTHENTICATED=1000000", "AI_PROVIDERS=demo", "DEMO_DELAY=0s", "AI_MAX_CONCURRENCY=10000",
		"LOG_FORMAT=json", "DATA_DIR=" + w.dir,
	}, env...))
	if s != nil {
		s.admin, s.database = admin, db
	}
	return s, err
}

func (w *world) startBaseline(name string) (*server, error) {
	db, err := w.database(context.Background(), w.role)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s, err := w.start(name, []string{self, "baseline"}, "/", []string{"DATABASE_URL=" + db})
	if s != nil {
		s.baseline, s.database = true, db
	}
	return s, err
}

func (w *world) start(name string, command []string, probe string, env []string) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	s := &server{name: name, url: "http://" + addr, exited: make(chan struct{}), tokens: w.tokens, pg: w.pg,
		log: &tail{}}
	s.cmd = exec.Command(command[0], command[1:]...)
	s.cmd.Env = append([]string{"ADDR=" + addr, "PATH=" + os.Getenv("PATH")}, env...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it must not outlive us
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	w.all = append(w.all, s)
	go func() {
		s.cmd.Wait()
		close(s.exited)
	}()
	for until := time.Now().Add(readyTimeout); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(s.url + probe)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode < 500 {
				return s, nil
			}
		}
		select {
		case <-s.exited:
			return nil, s.trouble("it ended")
		default:
		}
		if time.Now().After(until) {
			return nil, s.trouble("it does not answer")
		}
	}
}

// trouble is an error with the end of the server's log.
func (s *server) trouble(what string) error {
	return errors.New(what + "; its log ends:\n" + s.log.String())
}

// tail takes a server's log off its hands, as whatever runs containers does, and
// keeps the end. A file would be written to the disk on which Postgres waits for
// its commits.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if n := len(t.text) - 2000; n > 2000 {
		t.text = append(t.text[:0], t.text[n:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text[max(0, len(t.text)-2000):])
}

func (s *server) stop() {
	s.cmd.Process.Kill()
	<-s.exited
}

// cpu is the processor time that the server has used, and the database.
func (s *server) cpu() (own, database time.Duration, err error) {
	own, _, err = processorTime(s.cmd.Process.Pid)
	if err != nil {
		return 0, 0, err
	}
	for _, pid := range s.pg.Processes() {
		spent, reaped, err := processorTime(pid)
		if err != nil {
			continue // a session that has just ended: its parent has its time
		}
		database += spent + reaped
	}
	return own, database, nil
}

// processorTime is what a process has used, and those of its children that have ended.
func processorTime(pid int) (own, children time.Duration, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var times [4]time.Duration // user, system, and both of the children, in hundredths of a second
	for i, f := range fields[11:15] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		times[i] = time.Duration(n) * 10 * time.Millisecond
	}
	return times[0] + times[1], times[2] + times[3], nil
}

// rss is the server's resident memory in bytes, the kernel's buffers of its
// sockets not counted.
func (s *server) rss() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}
