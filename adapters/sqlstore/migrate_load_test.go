package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"parley/adapters/sqlstore"
	"parley/platform/testing/testenv"
)

// loadMessages is how many messages there are while migrations are applied; make
// migrate-load sets a million.
func loadMessages(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("MIGRATE_LOAD_MESSAGES"))
	if os.Getenv("MIGRATE_LOAD_MESSAGES") == "" {
		return 20_000
	}
	if err != nil || n < 1000 {
		t.Fatal("MIGRATE_LOAD_MESSAGES must be a number of at least 1000")
	}
	return n
}

// loadedTables were there when the schema began anew; later migrations meet them
// with rows.
const loadedTables = "20261127000300"

// blockedFor is how long a statement of a user may wait for a lock of a migration.
// The database measures it: probes have it as their lock_timeout.
const blockedFor = 100 * time.Millisecond

// controlTakes is what control takes on a machine with nothing else to do, at most.
const controlTakes = 25 * time.Millisecond

// Every migration is applied to tables with rows while users read, write and
// delete, and while long transactions hold locks that it needs. No statement of a
// user may wait for a lock for more than 100 ms.
//
// A machine that is busy with other things keeps a migration from running while it
// holds a lock. So the bound grows by the factor by which a transaction of a dozen
// statements on a table without rows is slower than it should be, measured just
// before; and each file has three tries, on copies of the same database. One that
// blocks by what it does, such as reading the whole table, is slower by the same
// factor, and is found in all of them.
func TestMigrations_BlockNobody(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	template := loadedDatabase(t, loadMessages(t))
	files := copied(t, "postgres")
	names := slices.Sorted(maps.Keys(files))
	var later []string
	for _, name := range names {
		if strings.HasSuffix(name, ".sql") && name > "postgres/"+loadedTables+"~" {
			later = append(later, name)
		}
	}
	tries := map[string][]string{}
	for try := 0; try < 3; try++ {
		blocked := migrateUnderLoad(t, template, files, later)
		if try == 0 && len(later) == 0 {
			t.Fatal("no migration is later than the tables")
		}
		for name, statements := range blocked {
			if try == len(tries[name]) { // blocked in each try so far
				tries[name] = append(tries[name], statements[0])
			}
		}
		if len(blocked) == 0 {
			return
		}
	}
	for name, statements := range tries {
		if len(statements) == 3 {
			t.Errorf("%s blocks others, such as %s", name, statements[2])
		}
	}
}

// A migration that holds its lock, or waits for one with the others behind it, is
// found.
func TestMigrations_BlockNobodyFindsThoseThatDo(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	template := loadedDatabase(t, 2000)
	for name, text := range map[string]string{
		"holds its lock":       "ALTER TABLE chat_messages ADD COLUMN more text NULL; SELECT pg_sleep(1);",
		"blocks writers alone": "CREATE INDEX chat_messages_role_idx ON chat_messages (role); SELECT pg_sleep(1);",
		"waits for long": `DO $$ BEGIN
				WHILE NOT EXISTS (SELECT FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid WHERE a.application_name = 'long' AND l.relation = 'chat_messages'::regclass) LOOP
					PERFORM pg_stat_clear_snapshot(), pg_sleep(0.01);
				END LOOP;
			END $$;
			SET LOCAL lock_timeout = '5s';
			ALTER TABLE chat_messages ADD COLUMN more text NULL;`,
	} {
		t.Run(name, func(t *testing.T) {
			files := copied(t, "postgres")
			for file := range files {
				if file > "postgres/"+loadedTables+"~" && strings.HasSuffix(file, ".sql") {
					delete(files, file)
				}
			}
			const bad = "postgres/20990101000000_bad.sql"
			files[bad] = file(text)
			if blocked := migrateUnderLoad(t, template, files, []string{bad}); len(blocked[bad]) == 0 {
				t.Error("it was not found")
			}
		})
	}
}

// loadedDatabase returns the URL of a database with the tables of the first
// migrations, filled.
func loadedDatabase(t *testing.T, messages int) string {
	t.Helper()
	url := testenv.Postgres(t)
	store, err := sqlstore.Open(t.Context(), sqlstore.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	files := copied(t, "postgres")
	for name := range files {
		if name > "postgres/"+loadedTables+"~" && strings.HasSuffix(name, ".sql") {
			delete(files, name)
		}
	}
	hash(t, files, "postgres")
	if _, err := store.MigrateFrom(t.Context(), files); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil { // a template has no sessions
		t.Fatal(err)
	}
	conn := connect(t, url, "fill")
	defer conn.Close(context.Background())
	for _, sql := range []string{
		"SET session_replication_role = replica", // without triggers and references: they are right as they are
		"INSERT INTO chat_users (user_id, created_at) SELECT 'u' || g, now() FROM generate_series(0, 999) AS g",
		fmt.Sprintf(`INSERT INTO chat_conversations (user_id, id, last_message_at, created_at, updated_at)
			SELECT 'u' || g %% 1000, 'c' || g, now(), now(), now() FROM generate_series(0, %d) AS g`, max(1000, messages/40)-1),
		fmt.Sprintf(`INSERT INTO chat_messages (user_id, id, conversation_id, role, content, created_at)
			SELECT 'u' || g %% 1000, 'm' || g, 'c' || g %% 1000, CASE g %% 2 WHEN 0 THEN 'user' ELSE 'assistant' END, repeat('words ', 10) || g, now() - interval '30 days' + interval '1 second' * g
			FROM generate_series(0, %d) AS g`, messages-1),
		fmt.Sprintf(`INSERT INTO chat_runs (user_id, id, conversation_id, parent_id, kind, state, params, created_at, ended_at)
			SELECT 'u' || g %% 1000, 'm' || g, 'c' || g %% 1000, 'm', 'reply', 'completed', '{}', now(), now() FROM generate_series(1, %d, 4) AS g`, messages-1),
		fmt.Sprintf(`INSERT INTO audit_logs (user_id, id, action, resource, created_at, updated_at)
			SELECT 'u' || g %% 1000, 'a' || g, 'chat.message_sent', 'chat_message', now(), now() FROM generate_series(1, %d, 4) AS g`, messages-1),
		"ANALYZE",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("fill: %v", err)
		}
	}
	return url
}

// connect opens a session whose name the sampler can see.
func connect(t *testing.T, url, name string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["application_name"] = name
	conn, err := pgx.ConnectConfig(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// migrateUnderLoad applies files one by one to a copy of a database, and returns
// which statements of users waited for too long, by the file that was applied.
func migrateUnderLoad(t *testing.T, template string, files fstest.MapFS, later []string) map[string][]string {
	t.Helper()
	url := copyDatabase(t, template)
	store := open(t, sqlstore.Options{URL: url})
	p := startProbes(t, url)
	defer p.stop()
	given := fstest.MapFS{}
	for name, f := range files {
		if strings.HasSuffix(name, ".sql") && name < "postgres/"+loadedTables+"~" {
			given[name] = f
		}
	}
	for _, name := range later {
		allowed := time.Duration(float64(blockedFor) * min(8, max(1, float64(control(t, url))/float64(controlTakes)))).Round(time.Millisecond)
		p.begin(name, allowed)
		began := time.Now()
		given[name] = files[name]
		hash(t, given, "postgres")
		if _, err := store.MigrateFrom(t.Context(), given); err != nil {
			t.Fatal(err)
		}
		took := time.Since(began)
		p.settle() // statements that wait now count for it
		t.Logf("%s: %v, longest wait of a statement for a lock %v, %d waited for more than %s",
			name, took.Round(time.Millisecond), p.longest().Round(time.Millisecond), len(p.blockedBy(name)), allowed)
	}
	p.stop()
	for _, err := range p.failed {
		t.Error(err)
	}
	return p.blocked
}

// control measures what a transaction of a dozen statements takes that has nothing to
// wait for and no rows to read: the median of some.
func control(t *testing.T, url string) time.Duration {
	t.Helper()
	conn := connect(t, url, "control")
	defer conn.Close(context.Background())
	var took []time.Duration
	for range 5 {
		began := time.Now()
		statements := []string{"BEGIN", "CREATE TABLE control (a text NOT NULL, b text NOT NULL, PRIMARY KEY (a, b))"}
		for i := range 10 {
			statements = append(statements, fmt.Sprintf("CREATE INDEX control_%d ON control (b, a)", i))
		}
		for _, sql := range append(statements, "ROLLBACK") {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[2]
}

// copyDatabase makes a copy of a database that nobody uses.
func copyDatabase(t *testing.T, template string) string {
	t.Helper()
	config, err := pgx.ParseConfig(template)
	if err != nil {
		t.Fatal(err)
	}
	url := testenv.Postgres(t)
	into, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	server := strings.Replace(url, "/"+into.Database, "/postgres", 1)
	conn := connect(t, server, "copy")
	defer conn.Close(context.Background())
	for _, sql := range []string{
		"DROP DATABASE " + into.Database,
		"CREATE DATABASE " + into.Database + " TEMPLATE " + config.Database,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	return url
}

// probes are sessions that do what users do, without pause.
type probes struct {
	cancel  context.CancelFunc
	all     sync.WaitGroup
	mu      sync.Mutex
	file    string
	allowed time.Duration
	blocked map[string][]string
	done    int
	longWas time.Duration
	failed  []error
}

func startProbes(t *testing.T, url string) *probes {
	ctx, cancel := context.WithCancel(context.Background())
	p := &probes{cancel: cancel, blocked: map[string][]string{}, allowed: blockedFor}
	for i, statement := range []string{
		"SELECT content FROM chat_messages WHERE user_id = 'u7' ORDER BY created_at DESC LIMIT 20",
		"INSERT INTO chat_messages (user_id, id, conversation_id, role, content, created_at) VALUES ('u8', md5(random()::text || clock_timestamp()), 'c8', 'user', 'x', now())",
		"UPDATE chat_conversations SET last_message_at = now() WHERE user_id = 'u9' AND id = 'c9'",
		"UPDATE chat_users SET leaf_id = 'm' WHERE user_id = 'u10'",
		"INSERT INTO audit_logs (user_id, id, action, resource, created_at, updated_at) VALUES ('u11', md5(random()::text || clock_timestamp()), 'x', 'x', now(), now())",
		"UPDATE chat_runs SET owner = 'x' WHERE user_id = 'u13' AND id = 'm13'",
		"DELETE FROM chat_messages WHERE user_id = 'u8' AND id = (SELECT id FROM chat_messages WHERE user_id = 'u8' ORDER BY created_at DESC LIMIT 1)",
	} {
		conn := connect(t, url, "probe")
		p.all.Go(func() {
			defer conn.Close(context.Background())
			var timeout time.Duration
			for ctx.Err() == nil {
				if allowed := p.allowedNow(); allowed != timeout {
					timeout = allowed
					_, err := conn.Exec(ctx, fmt.Sprintf("SET lock_timeout = '%dms'", timeout.Milliseconds()))
					p.ended(ctx, "SET lock_timeout", err)
				}
				_, err := conn.Exec(ctx, statement)
				p.ended(ctx, fmt.Sprintf("probe %d: %s", i, statement), err)
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	// A transaction that writes, and stays open for longer than a migration waits.
	long := connect(t, url, "long")
	p.all.Go(func() {
		defer long.Close(context.Background())
		for ctx.Err() == nil {
			_, err := long.Exec(ctx, "BEGIN; UPDATE chat_messages SET content = content WHERE user_id = 'u12' AND id = 'm12'; UPDATE chat_users SET leaf_id = NULL WHERE user_id = 'u12'; SELECT pg_sleep(1.5); COMMIT")
			p.ended(ctx, "a long transaction", err)
			time.Sleep(600 * time.Millisecond)
		}
	})
	// What the lock table shows, beside what the probes meet.
	sampler := connect(t, url, "sampler")
	p.all.Go(func() {
		defer sampler.Close(context.Background())
		for ctx.Err() == nil {
			var longest float64
			err := sampler.QueryRow(ctx, `SELECT COALESCE(max(extract(epoch FROM clock_timestamp() - state_change)), 0)::float8
				FROM pg_stat_activity AS a WHERE application_name = 'probe' AND datname = current_database()
					AND EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = a.pid AND NOT l.granted)`).Scan(&longest)
			if err == nil {
				p.mu.Lock()
				p.longWas = max(p.longWas, time.Duration(longest*float64(time.Second)))
				p.mu.Unlock()
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	return p
}

// ended notes the end of a statement.
func (p *probes) ended(ctx context.Context, what string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	var pg *pgconn.PgError
	switch {
	case err == nil || ctx.Err() != nil:
	case errors.As(err, &pg) && pg.Code == "55P03":
		p.blocked[p.file] = append(p.blocked[p.file], what)
	default:
		p.failed = append(p.failed, fmt.Errorf("%s: %w", what, err))
	}
}

// begin says which file is applied now, and how long a statement may wait for it.
func (p *probes) begin(file string, allowed time.Duration) {
	p.mu.Lock()
	p.file, p.longWas, p.allowed = file, 0, allowed
	p.mu.Unlock()
	p.settle() // every probe has its timeout
}

func (p *probes) allowedNow() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.allowed
}

// settle waits until every probe has ended a few statements.
func (p *probes) settle() {
	count := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.done
	}
	for enough := count() + 50; count() < enough; {
		time.Sleep(5 * time.Millisecond)
	}
}

func (p *probes) longest() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.longWas
}

func (p *probes) blockedBy(file string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.blocked[file])
}

func (p *probes) stop() {
	p.cancel()
	p.all.Wait()
}
