package audit_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/adapters/sqlstore"
	appaudit "parley/app/audit"
	"parley/domain/access"
	"parley/domain/audit"
	"parley/platform/testing/testdb"
	"parley/ports"
)

// bench is an audit on a real store.
type bench struct {
	*testing.T
	store    *sqlstore.Store
	db       *sql.DB
	postgres bool
	url      string
	service  *appaudit.Service
	facts    *facts
	mu       sync.Mutex
	exported bytes.Buffer
	ids      int
}

// facts collects what the service states.
type facts struct {
	mu   sync.Mutex
	list []any
}

func (f *facts) Observe(_ context.Context, fact any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, fact)
}

// failures returns what went wrong in the background.
func (f *facts) failures() (out []ports.BackgroundFailed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fact := range f.list {
		if failed, ok := fact.(ports.BackgroundFailed); ok {
			out = append(out, failed)
		}
	}
	return out
}

// each runs a test on both databases, at the same time as others.
func each(t *testing.T, test func(b *bench)) {
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(setup(t, testdb.SQLite(t)))
	})
	t.Run("Postgres", func(t *testing.T) {
		t.Parallel()
		test(setup(t, withoutSync(testdb.Postgres(t))))
	})
}

// withoutSync does not wait for the disk: no power is lost here.
func withoutSync(url string) string {
	if strings.Contains(url, "?") {
		return url + "&synchronous_commit=off"
	}
	return url + "?synchronous_commit=off"
}

func setup(t *testing.T, url string) *bench {
	t.Helper()
	b := &bench{T: t, url: url, facts: &facts{}}
	b.store = b.open()
	b.db, b.postgres = b.store.DB(), b.store.Dialect() == "postgres"
	if _, err := b.store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !b.postgres {
		b.exec("PRAGMA synchronous = off") // as in withoutSync
	}
	b.service = b.newService(b.store, appaudit.Options{Batch: 7}, "secret")
	return b
}

func (b *bench) open() *sqlstore.Store {
	b.Helper()
	store, err := sqlstore.Open(b.Context(), sqlstore.Options{URL: b.url, Timeout: 30 * time.Second, AcquireTimeout: 30 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	return store
}

func (b *bench) newService(store *sqlstore.Store, opt appaudit.Options, secrets ...string) *appaudit.Service {
	return appaudit.New(appaudit.Deps{
		Ledger: store, Eraser: store, Secrets: secrets, Observer: b.facts, Now: time.Now,
		Export: func(_ context.Context, h audit.Head) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.exported.Write(append(appaudit.FormatHead(h), '\n'))
			return nil
		},
	}, opt)
}

// entry is a new entry of a user with a bit of everything.
func (b *bench) entry(user string, status audit.Status) audit.Entry {
	b.mu.Lock()
	b.ids++
	id := b.ids
	b.mu.Unlock()
	e := audit.Entry{
		ID: fmt.Sprintf("e%05d", id), UserID: user, Action: audit.ActionMessageSent, Resource: audit.ResourceMessage,
		Status: status, CreatedAt: time.Now(),
	}
	if id%2 == 0 {
		e.ResourceID, e.Metadata = "m"+e.ID, map[string]any{"conversationId": nil, "n": id, "ratio": 1.50, "name": "Zoë <&> \u2028"}
	}
	if id%3 == 0 {
		e.Caller = access.Caller{IP: "2001:db8::1", UserAgent: strings.Repeat("Ü", id%5)}
	}
	if status == audit.Failure {
		e.Error = "timeout"
	}
	return e
}

func (b *bench) record(entries ...audit.Entry) {
	b.Helper()
	if err := b.store.Record(b.Context(), entries...); err != nil {
		b.Fatal(err)
	}
}

// complete gives a pending entry its outcome, as the end of a run does.
func (b *bench) complete(e audit.Entry, status audit.Status, at time.Time) {
	b.Helper()
	b.exec("UPDATE audit_logs SET status = $1, error_message = NULL, updated_at = $2 WHERE user_id = $3 AND id = $4 AND status = 'pending'",
		string(status), b.time(at), e.UserID, e.ID)
}

// time is a time as the store would write it.
func (b *bench) time(at time.Time) any {
	if b.postgres {
		return at
	}
	return at.UTC().Format("2006-01-02 15:04:05.999999-07:00")
}

func (b *bench) exec(query string, args ...any) int64 {
	b.Helper()
	done, err := b.db.ExecContext(b.Context(), query, args...)
	if err != nil {
		b.Fatalf("%s: %v", query, err)
	}
	n, err := done.RowsAffected()
	if err != nil {
		b.Fatal(err)
	}
	return n
}

func (b *bench) count(query string, args ...any) (n int) {
	b.Helper()
	if err := b.db.QueryRowContext(b.Context(), query, args...).Scan(&n); err != nil {
		b.Fatalf("%s: %v", query, err)
	}
	return n
}

func (b *bench) seal() {
	b.Helper()
	if err := b.service.Seal(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// head exports the end of the chain.
func (b *bench) head() {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	cancel()
	b.service.Serve(ctx) // its last round
	if failed := b.facts.failures(); len(failed) > 0 {
		b.Fatalf("in the background: %v", failed)
	}
}

func (b *bench) heads() []audit.Head {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	heads, unreadable, err := appaudit.ReadHeads(bytes.NewReader(b.exported.Bytes()))
	if err != nil || unreadable > 0 {
		b.Fatalf("%d unreadable heads, %v", unreadable, err)
	}
	return heads
}

func (b *bench) verify(heads []audit.Head) (appaudit.Report, []appaudit.Finding, error) {
	b.Helper()
	var found []appaudit.Finding
	report, err := b.service.Verify(b.Context(), heads, func(f appaudit.Finding) { found = append(found, f) })
	if report.Findings != len(found) {
		b.Errorf("%d findings counted, %d reported", report.Findings, len(found))
	}
	return report, found, err
}

// clean fails unless everything is in order.
func (b *bench) clean() appaudit.Report {
	b.Helper()
	report, found, err := b.verify(b.heads())
	if err != nil {
		b.Fatalf("verify: %v", err)
	}
	for _, f := range found {
		b.Errorf("false alarm: %+v", f)
	}
	return report
}

// dense fails unless the chain is numbered without gap and holds what it should.
func (b *bench) dense(want int) {
	b.Helper()
	n, first, last := b.count("SELECT count(*) FROM audit_chain"), b.count("SELECT min(seq) FROM audit_chain"), b.count("SELECT max(seq) FROM audit_chain")
	if n != want || first != 1 || last != want {
		b.Errorf("%d links from %d to %d, want %d", n, first, last, want)
	}
	if n := b.count("SELECT count(*) FROM (SELECT 1 FROM audit_chain GROUP BY subject, entry_id, kind HAVING count(*) > 1) AS twice"); n > 0 {
		b.Errorf("%d facts are in the chain twice", n)
	}
}

var outcomes = []audit.Status{audit.Success, audit.Failure}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }
