package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// world is what all servers share: a Postgres, the binary, a collector of traces
// and the users.
type world struct {
	dir              string
	pg               *testenv.Server
	admin            *pgx.Conn // as the server's superuser
	super            string    // its URL
	role             string    // URL of a role that owns nothing yet and may make databases
	bin              string
	withoutTelemetry string // the binary without telemetry
	secret           string
	tokens           []string // of user-0, user-1, ...
	collector        string   // URL that takes spans and keeps none
	closeCollector   func() error
	all              []*server
	databases        int
	redis            *testenv.Server // while instances are compared
}

// users is how many users there are, each a caller at most.
const users = 64

// postgresOptions are those of a Postgres that has a gigabyte to cache with, and
// makes no checkpoint while something is measured.
var postgresOptions = []string{
	"-c", "shared_buffers=1GB", "-c", "max_wal_size=8GB", "-c", "checkpoint_timeout=1h", "-c", "max_connections=300",
	"-c", "shared_preload_libraries=pg_stat_statements", "-c", "pg_stat_statements.max=10000",
}

func newWorld(ctx context.Context) (_ *world, err error) {
	w := &world{secret: random(32), closeCollector: func() error { return nil }}
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
		build := exec.CommandContext(ctx, "make", "build", "OUT="+bin, "MORE_TAGS="+tags)
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build parley: %w\n%s", err, out)
		}
	}
	if w.collector, w.closeCollector, err = startCollector(); err != nil {
		return nil, err
	}
	if w.pg, err = testenv.LaunchPostgres(postgresOptions...); err != nil {
		return nil, err
	}
	w.super = w.pg.URL()
	if w.admin, err = pgx.Connect(ctx, w.super); err != nil {
		return nil, err
	}
	password := random(16)
	for _, sql := range []string{"CREATE ROLE parley_bench LOGIN CREATEDB PASSWORD '" + password + "'", "CREATE EXTENSION pg_stat_statements"} {
		if _, err := w.admin.Exec(ctx, sql); err != nil {
			return nil, err
		}
	}
	u, err := url.Parse(w.super)
	if err != nil {
		return nil, err
	}
	u.User = url.UserPassword("parley_bench", password)
	w.role = u.String()
	for i := range users {
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
	if w.admin != nil {
		w.admin.Close(context.Background())
	}
	if w.pg != nil {
		w.pg.Stop()
	}
	w.closeCollector()
	os.RemoveAll(w.dir)
}

// database makes an empty database and returns its URL for the role of as.
func (w *world) database(as string) (string, error) {
	u, err := url.Parse(as)
	if err != nil {
		return "", err
	}
	w.databases++
	name := fmt.Sprint("bench_", w.databases)
	if _, err := w.admin.Exec(context.Background(), "CREATE DATABASE "+name+" OWNER "+u.User.Username()); err != nil {
		return "", err
	}
	u.Path = "/" + name
	return u.String(), nil
}

// server is a process under load.
type server struct {
	name     string
	addr     string // host:port
	cmd      *exec.Cmd
	exited   chan struct{}
	log      *tail
	tokens   []string
	baseline bool   // it has no conversations of its own, but those of baseline.Group2
	admin    string // host:port of its profiles, "" if it has none

	peers    []*server // other instances on the same database
	world    *world
	database string // its own in the world's Postgres, as a URL; "" if it has none
	settled  bool
}

// features turns on all that costs something: the audit chain and recovery always
// are; here are limits, budgets and traces of every tenth request. A provider that
// answers at once, and bounds that no load reaches, so that nothing is refused.
func (w *world) features() []string {
	return append([]string{
		"AUTH_SECRET=" + w.secret, "LOG_FORMAT=json", "AI_PROVIDERS=demo", "DEMO_DELAY=0s",
		"RATE_LIMIT_AUTHENTICATED=100000000", "MAX_CONCURRENT_REPLIES=1000000", "AI_MAX_CONCURRENCY=1000",
		"BUDGET_TOKENS_DAY=1000000000000", "BUDGET_TOKENS_MONTH=1000000000000", "BUDGET_USD_DAY=1000000", "BUDGET_USD_MONTH=1000000",
	}, w.tracing()...)
}

func (w *world) tracing() []string {
	return []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + w.collector, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		"OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.1",
	}
}

// startParley starts Parley with all features on a new database, unless env names
// one.
func (w *world) startParley(name string, env ...string) (*server, error) {
	return w.startBinary(w.bin, name, env...)
}

func (w *world) startBinary(bin, name string, env ...string) (*server, error) {
	db := ""
	for _, e := range env {
		if value, ok := strings.CutPrefix(e, "DATABASE_URL="); ok {
			db = value
		}
	}
	if db == "" {
		var err error
		if db, err = w.database(w.role); err != nil {
			return nil, err
		}
	}
	dir := filepath.Join(w.dir, fmt.Sprint("data-", len(w.all)))
	env = append([]string{"DATABASE_URL=" + db, "MIGRATE_ON_START=true", "DATA_DIR=" + dir}, env...)
	s, err := w.startServe(bin, name, env...)
	if s != nil {
		s.database = db
	}
	return s, err
}

// startServe runs parley serve with all features and more settings.
func (w *world) startServe(bin, name string, env ...string) (*server, error) {
	admin := testenv.FreeAddr()
	s, err := w.start(name, []string{bin, "serve"}, "/api/health", slices.Concat(w.features(), []string{"ADMIN_ADDR=" + admin}, env, strings.FieldsFunc(*settings, func(r rune) bool { return r == ',' })))
	if s != nil {
		s.admin = admin
	}
	return s, err
}

// startBaseline starts a server of the package baseline.
func (w *world) startBaseline(name string) (*server, error) {
	db, err := w.database(w.role)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s, err := w.start(name+" baseline", []string{self, "baseline", name}, "/", []string{"DATABASE_URL=" + db})
	if s != nil {
		s.baseline, s.database = true, db
	}
	return s, err
}

func (w *world) start(name string, command []string, probe string, env []string) (*server, error) {
	addr := testenv.FreeAddr()
	s := &server{name: name, addr: addr, exited: make(chan struct{}), tokens: w.tokens, world: w, log: &tail{}}
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
		resp, err := http.Get("http://" + addr + probe)
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

// tail reads a server's log, as a container runtime does, and keeps the end. A
// file would be written to the disk on which Postgres waits for
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
	for _, p := range s.peers {
		p.stop()
	}
	s.cmd.Process.Kill()
	<-s.exited
}

// cpu is the processor time that the server has used.
func (s *server) cpu() (time.Duration, error) { return processorTime(s.cmd.Process.Pid) }

// postgresCPU is the processor time that Postgres has used with all its processes.
func (w *world) postgresCPU() (spent time.Duration, err error) {
	for i, pid := range w.pg.Processes() {
		t, err := processorTime(pid)
		if err != nil {
			continue // a session that has just ended: the parent has its time
		}
		spent += t
		if i == 0 {
			ended, err := childrenTime(pid)
			if err != nil {
				return 0, err
			}
			spent += ended
		}
	}
	return spent, nil
}

// processorTime is what the threads of a process have used, to the nanosecond.
func processorTime(pid int) (spent time.Duration, err error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		return 0, fmt.Errorf("process %d has no threads", pid)
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		first, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, err
		}
		spent += time.Duration(ns)
	}
	return spent, nil
}

// childrenTime is what the children of a process used that have ended.
func childrenTime(pid int) (spent time.Duration, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	for _, f := range fields[13:15] { // user and system, in hundredths of a second
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		spent += time.Duration(n) * 10 * time.Millisecond
	}
	return spent, nil
}

// rss is the server's resident memory in bytes, the kernel's buffers of its
// sockets not counted.
func (s *server) rss() (int64, error) {
	m, err := s.memory()
	return m.resident, err
}

// memory is a process' resident memory in bytes.
type memory struct {
	resident int64
	file     int64 // pages of the executable among it, which the kernel can drop
}

func (m memory) String() string {
	return fmt.Sprintf("%s, %s without the executable", mib(m.resident), mib(m.resident-m.file))
}

func (s *server) memory() (m memory, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.cmd.Process.Pid))
	if err != nil {
		return memory{}, err
	}
	for i, into := range []*int64{&m.resident, &m.file} {
		pages, err := strconv.ParseInt(strings.Fields(string(text))[1+i], 10, 64)
		if err != nil {
			return memory{}, err
		}
		*into = pages * int64(os.Getpagesize())
	}
	return m, nil
}

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}
