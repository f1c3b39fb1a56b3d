package httpapi_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"parley/adapters/httpapi"
	"parley/adapters/httpapi/aisdk"
	"parley/adapters/httpapi/rest"
	"parley/adapters/identity"
	"parley/adapters/memory"
	"parley/adapters/providers/demo"
	"parley/adapters/sqlstore"
	appaudit "parley/app/audit"
	"parley/app/conversations"
	"parley/app/files"
	"parley/app/gate"
	"parley/app/replies"
	"parley/domain/access"
	"parley/domain/audit"
	"parley/platform/testing/testdb"
	"parley/ports"
	"parley/ports/portstest"
)

func TestMain(m *testing.M) {
	if os.Getenv(asCurl) != "" { // an example of the documentation runs
		if err := curl(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(22)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

const secret = "a-secret-for-tests-0123456789abcdef"

// bench is the whole service behind a real HTTP server: a real store, the
// in-process limiter and feed, and the demo provider or a scripted one.
type bench struct {
	t      testing.TB
	config httpapi.Config
	wires  [][]httpapi.Endpoint
	api    *httpapi.API
	server *httptest.Server
	store  *sqlstore.Store
	gate   *gate.Gate
	model  *portstest.Scripted // nil: the demo provider answers
	files  *files.Service
	dir    string // of the files
	health httpapi.Health
	drain  func() // SIGTERM, and wait

	ahead atomic.Int64 // how far the clock of credentials is put forward

	mu    sync.Mutex
	facts []any
}

func (b *bench) clock() time.Time { return time.Now().Add(time.Duration(b.ahead.Load())) }

func (b *bench) advance(d time.Duration) { b.ahead.Add(int64(d)) }

type settings struct {
	httpapi.Config
	opt      replies.Options
	limits   access.Limits
	database string // a URL; "": a SQLite file
	scripted bool
	disabled bool
	quota    int64 // of files
	model    ports.Model
	handler  func(http.Handler) http.Handler

	connection func(context.Context, net.Conn) context.Context
	pool       func(*sqlstore.Options) // changes how the store is opened
}

func setup(t testing.TB, change ...func(*settings)) *bench {
	t.Helper()
	s := settings{
		limits: access.Limits{access.Anonymous: 10_000, access.Authenticated: 10_000, access.Admin: 10_000, access.APIKey: 10_000},
		opt: replies.Options{
			Heartbeat: 20 * time.Millisecond, Sweep: 30 * time.Millisecond, Checkpoint: 20 * time.Millisecond,
			Eager: 5 * time.Millisecond, Poll: 20 * time.Millisecond, ShutdownTimeout: time.Second,
		},
		handler: func(h http.Handler) http.Handler { return h },
	}
	for _, f := range change {
		f(&s)
	}
	if s.database == "" {
		s.database = testdb.SQLite(t)
	}
	b := &bench{t: t, health: httpapi.Health{
		Status: httpapi.HealthOK, Components: map[string]httpapi.Component{"database": {Status: httpapi.HealthOK}},
	}}
	var err error
	options := sqlstore.Options{
		URL: s.database, AcquireTimeout: 20 * time.Second, Timeout: 20 * time.Second, // machines may be busy
	}
	if s.pool != nil {
		s.pool(&options)
	}
	b.store, err = sqlstore.Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.store.Close() })
	if _, err := b.store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	verifier, err := identity.New([]string{secret}, b.clock)
	if err != nil {
		t.Fatal(err)
	}
	if s.model == nil {
		s.model = demo.Provider{}
	}
	if s.scripted {
		b.model = portstest.NewScripted(t)
		s.model = b.model
	}
	feed := memory.NewFeed()
	newID := func() string { return uuid.Must(uuid.NewV7()).String() }
	b.gate = gate.New(gate.Deps{
		Identity: &identity.Authenticator{Tokens: verifier, Keys: b.store}, Limiter: memory.NewLimiter(time.Now), Audit: b.store, Accounts: b.store, Revocations: b.store, Switches: gate.NewSwitches(b.store, b, s.disabled),
		Observer: b, Now: time.Now,
	}, s.limits)
	s.opt.Owner = uuid.NewString()
	making := replies.New(replies.Deps{
		Store: b.store, ReadFile: func(ctx context.Context, user, id string) ([]byte, error) {
			content, _, err := b.files.Read(ctx, user, id)
			return content, err
		}, Model: s.model, Tokens: func(s string) int { return len(s) / 4 }, Feed: feed,
		Observer: b, Now: time.Now, NewID: newID,
	}, s.opt)
	s.Gate, s.Observer, s.Now = b.gate, b, time.Now
	s.Health = func(context.Context) httpapi.Health { return b.health }
	erasing := appaudit.New(appaudit.Deps{
		Ledger: b.store, Eraser: b.store, Secrets: []string{secret}, Feed: feed, Observer: b, Now: time.Now,
	}, appaudit.Options{})
	talks := &conversations.Service{History: b.store, Feedback: b.store, ShareStore: b.store, Index: b.store, Audit: b.store, Feed: feed, Observer: b, Now: time.Now, NewID: newID}
	b.openFiles(s)
	erasing.UserCaches = append(erasing.UserCaches, b.files)
	b.wires = [][]httpapi.Endpoint{rest.Routes(rest.Services{
		Files: b.files, Replies: making, Gate: b.gate, Erase: erasing.EraseUser, Now: time.Now,
		Conversations: talks,
		Catalogue:     catalogue{{Provider: "demo", Model: "demo", Default: true, State: "closed", Demo: true}},
	}), aisdk.Routes(making, talks, b.files)}
	s.Version = "test"
	b.config = s.Config
	if b.api, err = httpapi.New(s.Config, b.wires...); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = making.Serve(ctx) }()
	b.drain = func() { cancel(); <-done }
	t.Cleanup(b.drain)
	b.server = httptest.NewUnstartedServer(s.handler(b.api))
	b.server.Config.ConnContext = s.connection
	b.server.Start()
	t.Cleanup(b.server.Close)
	return b
}

// onBoth runs a test against the service on SQLite and on Postgres, beside other
// tests.
func onBoth(t *testing.T, test func(*testing.T, *bench), change ...func(*settings)) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) { test(t, setup(t, change...)) })
	t.Run("Postgres", func(t *testing.T) {
		test(t, setup(t, append(change, func(s *settings) { s.database = testdb.Postgres(t) })...))
	})
}

type catalogue []ports.ModelInfo

func (c catalogue) Models() []ports.ModelInfo { return c }

// scripted makes the test say what the model says.
func scripted(s *settings) { s.scripted = true }

// Observe collects facts.
func (b *bench) Observe(_ context.Context, fact any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.facts = append(b.facts, fact)
}

// seen returns the facts of a type.
func seen[T any](b *bench) (out []T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.facts {
		if f, ok := f.(T); ok {
			out = append(out, f)
		}
	}
	return out
}

func token(t testing.TB, user string) string {
	t.Helper()
	token, err := identity.Mint(secret, identity.Grant{UserID: user, TTL: time.Hour, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// key makes an API key for a user; no scopes are all of them.
func (b *bench) key(user string, scopes ...access.Scope) string {
	b.t.Helper()
	k, secret := identity.NewKey(user, uuid.NewString())
	k.Scopes, k.CreatedAt = scopes, time.Now()
	err := b.store.CreateKey(context.Background(), k, audit.Entry{
		ID: uuid.NewString(), UserID: user, Action: audit.ActionKeyCreated, Resource: audit.ResourceKey, ResourceID: k.ID,
		Status: audit.Success, CreatedAt: k.CreatedAt, UpdatedAt: k.CreatedAt,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return secret
}

func cookie(t testing.TB, user string) string {
	t.Helper()
	value, err := identity.MintCookie(secret, identity.CookieV5, identity.Grant{UserID: user, TTL: time.Hour, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return identity.CookieV5 + "=" + value
}

// answer is a response that has been read.
type answer struct {
	t      testing.TB
	status int
	header http.Header
	raw    string
	body   map[string]any
}

// do sends a request as user ("" is a stranger). headers are name, value pairs;
// an empty value takes a header away.
func (b *bench) do(user, method, target, body string, headers ...string) answer {
	b.t.Helper()
	req := b.request(user, method, target, body, headers...)
	res, err := b.server.Client().Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := description(b.t).disagrees(method, req.URL.EscapedPath(), res.StatusCode, res.Header, raw); err != nil {
		b.t.Errorf("%s %s: not as described: %v\n%d %.2000s", method, target, err, res.StatusCode, raw)
	}
	a := answer{t: b.t, status: res.StatusCode, header: res.Header, raw: string(raw)}
	if strings.Contains(res.Header.Get("Content-Type"), "json") && len(raw) > 0 {
		if err := json.Unmarshal(raw, &a.body); err != nil {
			b.t.Fatalf("%s %s: %v in %q", method, target, err, raw)
		}
	}
	return a
}

func (b *bench) request(user, method, target, body string, headers ...string) *http.Request {
	b.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.server.URL+target, reader)
	if err != nil {
		b.t.Fatal(err)
	}
	if user != "" {
		req.Header.Set("Authorization", "Bearer "+token(b.t, user))
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i+1] == "" {
			req.Header.Del(headers[i])
		} else {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	return req
}

// get walks into the body: get("error", "code").
func (a answer) get(path ...string) any {
	var v any = a.body
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[p]
	}
	return v
}

// text is get for strings.
func (a answer) text(path ...string) string {
	s, _ := a.get(path...).(string)
	return s
}

// must fails the test unless the status is the one wanted.
func (a answer) must(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.raw)
	}
	return a
}

// code is the code of a refusal.
func (a answer) code() string { return cmp.Or(a.header.Get("X-Error-Code"), a.text("error", "code")) }

// sentence is what a refusal says to people.
func (a answer) sentence() string {
	if a.header.Get("X-Error-Code") != "" {
		return a.raw
	}
	return a.text("message")
}

// refused asserts a problem in its full shape.
func (a answer) refused(status int, code, sentence string) answer {
	a.t.Helper()
	if a.status != status || a.code() != code {
		a.t.Fatalf("got %d %s, want %d %s", a.status, a.raw, status, code)
	}
	if sentence != "" && a.sentence() != sentence {
		a.t.Errorf("says %q, want %q", a.sentence(), sentence)
	}
	if code := a.header.Get("X-Error-Code"); code != "" { // a route whose clients show the body to people
		if a.header.Get("Content-Type") != "text/plain; charset=utf-8" || a.raw == "" || strings.ContainsAny(a.raw, "{}") || a.header.Get("X-Request-Id") == "" {
			a.t.Errorf("not a plain refusal: %v %q", a.header, a.raw)
		}
		return a
	}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		a.t.Errorf("content type %q", got)
	}
	for _, v := range []any{a.get("title"), a.get("type"), a.get("detail"), a.get("requestId"), a.get("message"), a.get("error", "message")} {
		if s, _ := v.(string); s == "" {
			a.t.Errorf("incomplete problem %s", a.raw)
		}
	}
	if a.get("status") != float64(status) || a.text("detail") != a.text("error", "message") ||
		a.header.Get("X-Request-Id") != a.text("requestId") {
		a.t.Errorf("inconsistent problem %s", a.raw)
	}
	return a
}

// rows counts what is stored, by table. The audit is not counted: it tells of
// refusals too.
func (b *bench) rows() string {
	b.t.Helper()
	var out []string
	for _, table := range []string{"chat_conversations", "chat_messages", "chat_runs"} {
		var n int
		if err := b.store.DB().QueryRow("SELECT COUNT(*) FROM " + table).Scan(&n); err != nil {
			b.t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s %d", table, n))
	}
	return strings.Join(out, ", ")
}

// dump is everything of a user in all tables but the audit's refusals.
func (b *bench) dump(user string) string {
	b.t.Helper()
	var out strings.Builder
	for _, query := range []string{
		"SELECT * FROM chat_conversations WHERE user_id = $1 ORDER BY id",
		"SELECT * FROM chat_messages WHERE user_id = $1 ORDER BY id",
		"SELECT * FROM chat_runs WHERE user_id = $1 ORDER BY id",
		"SELECT * FROM chat_feedback WHERE user_id = $1 ORDER BY message_id",
		"SELECT * FROM chat_shares WHERE user_id = $1 ORDER BY id",
		"SELECT * FROM chat_files WHERE user_id = $1 ORDER BY id",
		"SELECT * FROM audit_logs WHERE user_id = $1 ORDER BY id",
	} {
		b.write(&out, query, user)
	}
	return out.String()
}

// write writes the rows of a query, one a line.
func (b *bench) write(out *strings.Builder, query string, args ...any) {
	b.t.Helper()
	rows, err := b.store.DB().Query(query, args...)
	if err != nil {
		b.t.Fatal(err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		b.t.Fatal(err)
	}
	for rows.Next() {
		values := make([]any, len(names))
		for i := range values {
			values[i] = new(sql.NullString)
		}
		if err := rows.Scan(values...); err != nil {
			b.t.Fatal(err)
		}
		for i, v := range values {
			fmt.Fprintf(out, "%s=%q ", names[i], v.(*sql.NullString).String)
		}
		out.WriteByte('\n')
	}
	if err := rows.Err(); err != nil {
		b.t.Fatal(err)
	}
}

// audited counts the audit entries of an action and status.
func (b *bench) audited(user, action, status string) (n int) {
	b.t.Helper()
	err := b.store.DB().QueryRow("SELECT COUNT(*) FROM audit_logs WHERE user_id = $1 AND action = $2 AND status = $3",
		user, action, status).Scan(&n)
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// alive asserts that the process still serves.
func (b *bench) alive() {
	b.t.Helper()
	b.do("", "GET", "/api/health", "").must(http.StatusOK)
}

// stream is a response that is read as it comes.
type stream struct {
	t      testing.TB
	res    *http.Response
	lines  *bufio.Reader
	cancel context.CancelFunc
}

// open sends a request and returns when the header is there.
func (b *bench) open(req *http.Request) *stream {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(req.Context(), 2*time.Minute)
	res, err := b.server.Client().Do(req.WithContext(ctx))
	if err != nil {
		cancel()
		b.t.Fatal(err)
	}
	s := &stream{b.t, res, bufio.NewReader(res.Body), cancel}
	b.t.Cleanup(s.close)
	if res.StatusCode != http.StatusOK {
		raw, _ := io.ReadAll(res.Body)
		b.t.Fatalf("status %d: %s", res.StatusCode, raw)
	}
	return s
}

func (s *stream) close() { s.cancel(); s.res.Body.Close() }

// event is one server-sent event as it came.
type event struct {
	id   string
	data map[string]any
}

func (e event) kind() string { return fmt.Sprint(e.data["type"]) }

// next returns the next event; comments are skipped. ok is false at the end.
func (s *stream) next() (e event, ok bool) {
	s.t.Helper()
	for {
		block, err := s.block()
		if errors.Is(err, io.EOF) && block == "" {
			return event{}, false
		}
		if err != nil {
			s.t.Fatalf("stream: %v after %q", err, block)
		}
		if strings.HasPrefix(block, ":") {
			continue
		}
		for line := range strings.Lines(block) {
			line = strings.TrimSuffix(line, "\n")
			if id, found := strings.CutPrefix(line, "id: "); found {
				e.id = id
			} else if line == "data: [DONE]" { // the AI SDK's mark behind the last event
				e.data = map[string]any{"type": "[DONE]"}
			} else if data, found := strings.CutPrefix(line, "data: "); found {
				if err := json.Unmarshal([]byte(data), &e.data); err != nil {
					s.t.Fatalf("stream: %v in %q", err, line)
				}
			} else {
				s.t.Fatalf("stream: line %q", line)
			}
		}
		return e, true
	}
}

// block returns the lines up to the next empty one.
func (s *stream) block() (string, error) {
	var out bytes.Buffer
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			return out.String() + line, err
		}
		if line == "\n" {
			return out.String(), nil
		}
		out.WriteString(line)
	}
}

// rest returns all further events.
func (s *stream) rest() (out []event) {
	s.t.Helper()
	for {
		e, ok := s.next()
		if !ok {
			return out
		}
		out = append(out, e)
	}
}
