package imports_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"parley/adapters/prisma"
	"parley/adapters/sqlstore"
	"parley/app/imports"
	"parley/domain/chat"
	"parley/platform/testing/testdb"
	"parley/platform/testing/testenv"
	"parley/ports"
)

// seed makes users with conversations of messages, one in five without one, three
// of each five at one time.
func seed(users, messages int) string {
	return fmt.Sprintf(`
		INSERT INTO users SELECT 'user' || u FROM generate_series(1, %[1]d) AS u;
		INSERT INTO chat_conversations (id, "userId", title, "lastMessageAt", "createdAt", "updatedAt")
			SELECT 'c' || u || '-' || c, 'user' || u, 'Title ' || c, '2025-01-01', '2025-01-01', '2025-01-01'
			FROM generate_series(1, %[1]d) AS u, generate_series(0, 3) AS c;
		INSERT INTO chat_messages (id, "conversationId", "userId", content, role, metadata, "createdAt", "updatedAt")
			SELECT 'm' || u || '-' || m, CASE WHEN m %% 5 < 4 THEN 'c' || u || '-' || m %% 4 END, 'user' || u, repeat('word ', 100) || m,
				CASE m %% 2 WHEN 0 THEN 'user' ELSE 'assistant' END, '{"n": 1}', timestamp '2025-01-01' + interval '1 second' * (m / 3), '2025-01-01'
			FROM generate_series(1, %[1]d) AS u, generate_series(0, %[2]d - 1) AS m;
		ANALYZE;`, users, messages)
}

func openSource(t testing.TB, url string) *prisma.Source {
	t.Helper()
	s, err := prisma.Open(context.Background(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// openStore opens a migrated store on a new database.
func openStore(t testing.TB, url string) *sqlstore.Store {
	t.Helper()
	store, err := sqlstore.Open(context.Background(), sqlstore.Options{URL: url, Timeout: time.Minute, AcquireTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if _, err := store.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return store
}

func ids() ports.IDs {
	n := 0
	return func() string { n++; return fmt.Sprintf("%d-%d", time.Now().UnixNano(), n) }
}

func service(source ports.ImportSource, store ports.ImportStore) *imports.Service {
	return &imports.Service{Source: source, Store: store, Now: time.Now, IDs: ids(), From: "prisma"}
}

// databases runs a test on a store of each dialect.
func databases(t *testing.T, test func(t *testing.T, open func() *sqlstore.Store)) {
	t.Run("SQLite", func(t *testing.T) {
		test(t, func() *sqlstore.Store { return openStore(t, testdb.SQLite(t)) })
	})
	t.Run("Postgres", func(t *testing.T) {
		test(t, func() *sqlstore.Store { return openStore(t, testdb.Postgres(t)) })
	})
}

// content is everything of the store that an import writes, but ids and times of
// audit entries.
func content(t *testing.T, store *sqlstore.Store) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for name, query := range map[string]string{
		"users":         "SELECT user_id, COALESCE(leaf_id, ''), CAST(created_at AS text), '', '' FROM chat_users ORDER BY 1",
		"conversations": "SELECT id, user_id, COALESCE(leaf_id, ''), title, CAST(last_message_at AS text) FROM chat_conversations ORDER BY 1",
		"messages": `SELECT id, user_id || ' ' || COALESCE(conversation_id, ''), COALESCE(parent_id, ''), role || content || CAST(metadata AS text), CAST(created_at AS text)
			FROM chat_messages ORDER BY 1`,
	} {
		found, err := store.DB().Query(query)
		if err != nil {
			t.Fatal(err)
		}
		for found.Next() {
			var a, b, c, d, e string
			if err := found.Scan(&a, &b, &c, &d, &e); err != nil {
				t.Fatal(err)
			}
			out[name] = append(out[name], fmt.Sprint(a, "|", b, "|", c, "|", d, "|", e))
		}
		if err := found.Err(); err != nil {
			t.Fatal(err)
		}
		found.Close()
	}
	return out
}

// breaking is a store that fails at one of its batches, before or after it is
// durable, as a process that is killed there.
type breaking struct {
	*sqlstore.Store
	left   int
	before bool
}

var errKilled = errors.New("killed")

func (b *breaking) Import(ctx context.Context, r ports.ImportRequest, decide ports.ImportDecision) error {
	b.left--
	if b.left == 0 && b.before {
		return errKilled
	}
	err := b.Store.Import(ctx, r, decide)
	if b.left == 0 && err == nil {
		return errKilled
	}
	return err
}

// An import that ends at any batch goes on when it is repeated, to the same result
// as one that is not interrupted.
func TestRun_InterruptedAtEachBatch(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	from := testdb.Prisma(t, seed(3, 50))
	databases(t, func(t *testing.T, open func() *sqlstore.Store) {
		run := func(store ports.ImportStore) (imports.Report, error) {
			s := service(openSource(t, from), store)
			s.BatchRows = 40
			return s.Run(context.Background(), false)
		}
		whole := open()
		first, err := run(whole)
		want := content(t, whole)
		if err != nil || !first.Messages.Complete() || first.Messages.Added != 150 || first.Conversations.Added != 12 {
			t.Fatalf("uninterrupted: %+v, %v", first, err)
		}
		batches := 1 + (150+39)/40
		for _, before := range []bool{true, false} {
			store := open()
			for k := 1; k <= batches; k++ { // each one on what the last left
				if _, err := run(&breaking{Store: store, left: k, before: before}); !errors.Is(err, errKilled) {
					t.Fatalf("batch %d: %v", k, err)
				}
			}
			again, err := run(store)
			if err != nil || !again.Messages.Complete() || !again.Conversations.Complete() || again.Messages.Read != 150 {
				t.Errorf("repeated: %+v, %v", again, err)
			}
			if diff := cmp.Diff(want, content(t, store)); diff != "" {
				t.Errorf("before %v: -uninterrupted +interrupted:\n%s", before, diff)
			}
		}
		again, err := run(whole)
		if err != nil || again.Messages.Present != 150 || again.Messages.Added != 0 || again.Conversations.Present != 12 {
			t.Errorf("a second time: %+v, %v", again, err)
		}
		if diff := cmp.Diff(want, content(t, whole)); diff != "" {
			t.Errorf("the second time changed something:\n%s", diff)
		}
	})
}

// A dry run reports what an import does, and stores nothing.
func TestRun_DryRun(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	from := testdb.Prisma(t, seed(2, 30), `INSERT INTO chat_messages VALUES ('bad', NULL, 'user1', 'x', 'tool', NULL, now(), now())`)
	databases(t, func(t *testing.T, open func() *sqlstore.Store) {
		store := open()
		would, err := service(openSource(t, from), store).Run(context.Background(), true)
		if err != nil || len(content(t, store)) > 0 {
			t.Fatalf("dry run: %v, stored %v", err, content(t, store))
		}
		var entries int
		if err := store.DB().QueryRow("SELECT count(*) FROM audit_logs").Scan(&entries); err != nil || entries != 0 {
			t.Errorf("%d audit entries, %v", entries, err)
		}
		did, err := service(openSource(t, from), store).Run(context.Background(), false)
		did.Conversations.Found, did.Messages.Found = 0, 0
		if diff := cmp.Diff(did, would); err != nil || diff != "" || did.Messages.Refused != 1 {
			t.Errorf("%v, -import +dry run:\n%s", err, diff)
		}
	})
}

// watching looks at the source while a batch is stored.
type watching struct {
	*sqlstore.Store
	look func()
}

func (w *watching) Import(ctx context.Context, r ports.ImportRequest, decide ports.ImportDecision) error {
	w.look()
	return w.Store.Import(ctx, r, decide)
}

// While Parley stores, the import holds nothing in the source: no transaction, no
// snapshot, no lock.
func TestRun_HoldsNothingInTheSource(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	from := testdb.Prisma(t, seed(2, 1500))
	conn, err := pgx.Connect(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	looks := 0
	store := &watching{openStore(t, testdb.SQLite(t)), func() {
		looks++
		var others, locks int
		err := conn.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE state <> 'idle' OR backend_xmin IS NOT NULL),
			COALESCE(sum((SELECT count(*) FROM pg_locks AS l WHERE l.pid = a.pid)), 0)::int
			FROM pg_stat_activity AS a WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'`).Scan(&others, &locks)
		if err != nil || others > 0 || locks > 0 {
			t.Errorf("%d sessions at work, %d locks, %v", others, locks, err)
		}
	}}
	if report, err := service(openSource(t, from), store).Run(t.Context(), false); err != nil || report.Messages.Added != 3000 || looks < 6 {
		t.Errorf("%+v, %v, looked %d times", report, err, looks)
	}
}

// Long messages are read and stored in small batches. One that is too long is not
// read at all.
func TestRun_LongMessages(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	const long = chat.MaxImported - 10
	from := testdb.Prisma(t, seed(1, 0), fmt.Sprintf(`INSERT INTO chat_messages (id, "userId", content, role, "createdAt", "updatedAt")
		SELECT 'long' || n, 'user1', repeat('x', %d) || n, 'user', timestamp '2025-01-01' + interval '1 second' * n, now() FROM generate_series(1, 4) AS n
		UNION ALL SELECT 'longer', 'user1', repeat('x', %d), 'user', '2025-01-02', now()`, long, chat.MaxImported+1))
	store := &watching{openStore(t, testdb.SQLite(t)), func() {}}
	s := service(openSource(t, from), store)
	var refused []chat.ImportOutcome
	s.Note = func(_ imports.Table, o chat.ImportOutcome) { refused = append(refused, o) }
	report, err := s.Run(t.Context(), false)
	if err != nil || report.Messages.Added != 4 || report.Messages.Refused != 1 || len(refused) != 1 || refused[0].Reason != chat.ImportTooLong {
		t.Errorf("%+v, %v, %+v", report, err, refused)
	}
	var least, most int
	if err := store.DB().QueryRow("SELECT min(length(content)), max(length(content)) FROM chat_messages").Scan(&least, &most); err != nil || least != long+1 || most != long+1 {
		t.Errorf("stored lengths %d to %d, %v", least, most, err)
	}
}

// Ids of other types, a schema of another name, names of columns that are mapped,
// enumerated roles, times with and without a zone, values that may be NULL.
func TestRun_OtherSchemas(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	url := testenv.Postgres(t)
	testdb.Execute(t, url, `CREATE SCHEMA "My App"; SET search_path = "My App"; SET timezone = 'America/New_York';
		CREATE TYPE "Role" AS ENUM ('USER', 'ASSISTANT');
		CREATE TABLE chat_conversations (id bigint PRIMARY KEY, user_id bigint, title text, last_message_at timestamptz, created_at timestamp(6) NOT NULL);
		CREATE TABLE chat_messages (id bigint PRIMARY KEY, user_id bigint, conversation_id bigint, content text, role "Role" NOT NULL, metadata json,
			created_at timestamp(3), deleted_at timestamp);
		INSERT INTO chat_conversations VALUES (9007199254740993, 7, NULL, '2025-06-01 12:00:00+02', '2025-06-01 09:00');
		INSERT INTO chat_messages SELECT n, 7, CASE WHEN n > 2 THEN 9007199254740993 END, 'text ' || n, CASE n % 2 WHEN 1 THEN 'USER' ELSE 'ASSISTANT' END::"Role",
			'{"a": "\u0000"}', '2025-06-01 10:00' FROM generate_series(1, 12) AS n;
		INSERT INTO chat_messages (id, user_id, content, role, created_at, deleted_at) VALUES
			(101, 7, NULL, 'USER', now(), NULL), (102, NULL, 'x', 'USER', now(), NULL), (103, 7, 'x', 'USER', NULL, NULL),
			(104, 7, 'x', 'USER', 'infinity', NULL), (105, 7, 'x', 'USER', now(), now()), (106, 7, 'x', 'USER', '-infinity', NULL)`)
	src, err := prisma.Open(t.Context(), url, []string{"public", "My App"})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	store := openStore(t, testdb.Postgres(t))
	s := service(src, store)
	reasons := map[string]chat.ImportReason{}
	s.Note = func(_ imports.Table, o chat.ImportOutcome) {
		if o.Result == chat.ImportRefused {
			reasons[o.ID] = o.Reason
		}
	}
	s.BatchRows = 5
	report, err := s.Run(t.Context(), false)
	if err != nil || report.Messages.Added != 12 || report.Messages.Deleted != 1 || !report.Messages.Complete() || !report.Conversations.Complete() {
		t.Errorf("%+v, %v", report, err)
	}
	if diff := cmp.Diff(map[string]chat.ImportReason{"101": chat.ImportNoContent, "102": chat.ImportBadUser, "103": chat.ImportBadTime, "104": chat.ImportBadTime, "106": chat.ImportBadTime}, reasons); diff != "" {
		t.Errorf("reasons, -want +got:\n%s", diff)
	}
	list, _, err := store.Messages(t.Context(), "7", "9007199254740993", ports.Page{Limit: 100})
	if err != nil || len(list) != 10 {
		t.Fatalf("%d messages, %v", len(list), err)
	}
	for i, m := range list {
		if m.ID != fmt.Sprint(i+3) || m.Role != []chat.Role{chat.User, chat.Assistant}[i%2] || m.CreatedAt.Truncate(time.Millisecond) != time.Date(2025, 6, 1, 10, 0, 0, 0, time.UTC) {
			t.Errorf("message %d is %s, %s at %v", i+3, m.ID, m.Role, m.CreatedAt)
		}
	}
	conversation, err := store.Conversation(t.Context(), "7", "9007199254740993")
	if err != nil || conversation.LastMessageAt != time.Date(2025, 6, 1, 10, 0, 0, 0, time.UTC) || conversation.CreatedAt != time.Date(2025, 6, 1, 9, 0, 0, 0, time.UTC) {
		t.Errorf("%+v, %v", conversation, err)
	}
}

// BenchmarkRun imports 100,000 messages of 505 bytes and 800 conversations of 200
// users, into Postgres and into SQLite.
func BenchmarkRun(b *testing.B) {
	from := testdb.Prisma(b, seed(200, 500))
	for name, open := range map[string]func() string{
		"Postgres": func() string { return testdb.Postgres(b) },
		"SQLite":   func() string { return filepath.Join(b.TempDir(), "parley.db") },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				store := openStore(b, open())
				began := time.Now()
				report, err := service(openSource(b, from), store).Run(context.Background(), false)
				if err != nil || report.Messages.Added != 100_000 || !report.Messages.Complete() {
					b.Fatalf("%+v, %v", report, err)
				}
				b.ReportMetric(float64(report.Messages.Read)/time.Since(began).Seconds(), "messages/s")
				began = time.Now()
				if report, err = service(openSource(b, from), store).Run(context.Background(), false); err != nil || report.Messages.Present != 100_000 {
					b.Fatalf("again: %+v, %v", report, err)
				}
				b.ReportMetric(float64(report.Messages.Read)/time.Since(began).Seconds(), "again/s")
			}
		})
	}
}
