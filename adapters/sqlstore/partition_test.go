package sqlstore_test

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/uptrace/bun"

	"parley/adapters/sqlstore"
	"parley/domain/chat"
	"parley/platform/testing/testdb"
	"parley/ports/portstest"
)

// TestPartitioned holds the store to the contract on a schema that
// deploy/scale/partition.sql has divided.
func TestPartitioned(t *testing.T) {
	t.Parallel()
	portstest.Store(t, func(t testing.TB) portstest.StoreBundle {
		return bundle(migrated(t, sqlstore.Options{URL: testdb.Partitioned(t)}))
	})
}

// partition executes the script and returns what it reports.
func partition(t testing.TB, url string, variables ...string) string {
	t.Helper()
	out, err := testdb.Partition(t, url, variables...).CombinedOutput()
	if err != nil {
		t.Fatalf("partition.sql %v: %v\n%s", variables, err, out)
	}
	return string(out)
}

// schemas lists the schemas beside those of PostgreSQL and the record of migrations.
func schemas(t testing.TB, store *sqlstore.Store) string {
	t.Helper()
	var list string
	err := store.DB().QueryRow(`SELECT string_agg(nspname, ' ' ORDER BY nspname) FROM pg_namespace
		WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'atlas_schema_revisions')`).Scan(&list)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// rightsOf describes who may do what with the tables, and which policies are enabled.
func rightsOf(t *testing.T, store *sqlstore.Store) []string {
	t.Helper()
	found, err := store.DB().Query(`SELECT c.relname, c.relowner::regrole, c.relrowsecurity, c.relforcerowsecurity,
			(SELECT array_agg(a::text ORDER BY a::text) FROM unnest(c.relacl) AS a),
			(SELECT array_agg(k.attname || ' ' || k.attacl::text ORDER BY k.attnum) FROM pg_attribute AS k WHERE k.attrelid = c.oid AND k.attacl IS NOT NULL)
		FROM pg_class AS c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, row := range table(t, found, nil) {
		list = append(list, strings.Join(row, " "))
	}
	return list
}

// A divided schema has what the migrations make and the same rights, also of roles
// and policies that were there before; it can be divided again, and be as it was.
func TestPartition_KeepsTheSchema(t *testing.T) {
	t.Parallel()
	url := testdb.Postgres(t)
	store := open(t, sqlstore.Options{URL: url})
	_, role := appRole(t, store)
	execAll(t, store, "SELECT chat_enable_row_security()", "GRANT SELECT (id) ON chat_messages TO PUBLIC", "GRANT SELECT ON chat_runs TO "+role+" WITH GRANT OPTION")
	rights := rightsOf(t, store)
	want, err := store.SchemaObjects(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"4", "7", "0"} {
		partition(t, url, "partitions="+n)
		differences, err := store.SchemaDifferences(t.Context())
		if err != nil || len(differences) > 0 {
			t.Errorf("%s partitions: %v, %v", n, differences, err)
		}
		missing, err := store.MissingRights(t.Context())
		if err != nil || len(missing) > 0 {
			t.Errorf("%s partitions: %v, %v", n, missing, err)
		}
		if diff := cmp.Diff(rights, rightsOf(t, store)); diff != "" {
			t.Errorf("%s partitions: rights (-before +after):\n%s", n, diff)
		}
		if err := store.CheckTurn(t.Context()); err != nil {
			t.Errorf("%s partitions: %v", n, err)
		}
		if again := partition(t, url, "partitions="+n); !strings.Contains(again, "nothing is to be done") {
			t.Errorf("%s partitions, again: %s", n, again)
		}
		wantSchemas := "public public_partitions"
		if n == "0" {
			wantSchemas = "public"
		}
		if got := schemas(t, store); got != wantSchemas {
			t.Errorf("%s partitions: schemas %s", n, got)
		}
		var off int
		if err := store.DB().QueryRow("SELECT count(*) FROM pg_class WHERE reloptions::text LIKE '%autovacuum_enabled%'").Scan(&off); err != nil || off > 0 {
			t.Errorf("%s partitions: autovacuum is disabled for %d tables, %v", n, off, err)
		}
	}
	got, err := store.SchemaObjects(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]sqlstore.SchemaObject{want, got} {
		for i := range list {
			if list[i].Kind == "trigger" { // parentheses
				list[i].Definition = strings.NewReplacer("(", "", ")", "").Replace(list[i].Definition)
			}
		}
	}
	if diff := cmp.Diff(string(sqlstore.FormatSchema(want)), string(sqlstore.FormatSchema(got))); diff != "" {
		t.Errorf("ordinary tables again (-before +after):\n%s", diff)
	}
}

// A move that has begun can be abandoned; one to another number, and tables whose
// definition has changed, are refused.
func TestPartition_Abandoned(t *testing.T) {
	t.Parallel()
	url := testdb.Postgres(t)
	store := open(t, sqlstore.Options{URL: url})
	want, err := store.SchemaObjects(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		do        string
		variables []string
		want      string
	}{
		"another number":     {"", []string{"partitions=8"}, "a move to 2 partitions has begun"},
		"changed definition": {"ALTER TABLE chat_runs ADD COLUMN more text NULL", []string{"partitions=2"}, "the definition of chat_runs has changed"},
		"new index":          {"CREATE INDEX more_idx ON chat_messages (role)", []string{"partitions=2"}, "the definition of chat_messages has changed"},
		"truncation":         {"", nil, ""},
	} {
		t.Run(what, func(t *testing.T) {
			partition(t, url, "partitions=2", "stop=verified")
			if c.do != "" {
				execAll(t, store, c.do)
			}
			if c.variables == nil {
				if _, err := store.DB().Exec("TRUNCATE chat_runs"); err == nil || !strings.Contains(err.Error(), "is being moved") {
					t.Errorf("truncated: %v", err)
				}
			} else if out, err := testdb.Partition(t, url, c.variables...).CombinedOutput(); err == nil || !strings.Contains(string(out), c.want) {
				t.Errorf("%v\n%s", err, out)
			}
			partition(t, url, "abandon=1")
			partition(t, url, "abandon=1") // there is nothing left
			execAll(t, store, "ALTER TABLE chat_runs DROP COLUMN IF EXISTS more", "DROP INDEX IF EXISTS more_idx")
			got, err := store.SchemaObjects(t.Context())
			if err != nil || !bytes.Equal(sqlstore.FormatSchema(want), sqlstore.FormatSchema(got)) {
				t.Errorf("%v, (-before +after):\n%s", err, cmp.Diff(string(sqlstore.FormatSchema(want)), string(sqlstore.FormatSchema(got))))
			}
			if got := schemas(t, store); got != "public" {
				t.Errorf("schemas %s", got)
			}
		})
	}
}

// What is wrong with one partition is found.
func TestPartition_Sabotaged(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct{ sql, want string }{
		"partition":  {"ALTER TABLE chat_messages DETACH PARTITION public_partitions.chat_messages_4_2", "partition chat_messages.2 of 4 is missing"},
		"partitions": {"DROP TABLE public_partitions.audit_logs_4_0, public_partitions.audit_logs_4_1, public_partitions.audit_logs_4_2, public_partitions.audit_logs_4_3", "table audit_logs differs"},
		"index": {"DROP INDEX chat_messages_user_idx; CREATE INDEX chat_messages_user_idx ON ONLY chat_messages (user_id, created_at); " +
			"CREATE INDEX a ON public_partitions.chat_messages_4_1 (user_id, created_at); ALTER INDEX chat_messages_user_idx ATTACH PARTITION public_partitions.a",
			"index chat_messages.chat_messages_user_idx differs; index public_partitions.chat_messages_4_0.chat_messages_user_idx is missing; " +
				"index public_partitions.chat_messages_4_2.chat_messages_user_idx is missing; index public_partitions.chat_messages_4_3.chat_messages_user_idx is missing"},
		"row trigger":       {"ALTER TABLE public_partitions.audit_logs_4_3 DISABLE TRIGGER audit_logs_complete", "trigger public_partitions.audit_logs_4_3.audit_logs_complete differs"},
		"statement trigger": {"DROP TRIGGER audit_logs_truncate ON public_partitions.audit_logs_4_1", "trigger public_partitions.audit_logs_4_1.audit_logs_truncate is missing"},
		"column":            {"ALTER TABLE public_partitions.chat_runs_4_1 ALTER COLUMN attempt DROP DEFAULT", "column public_partitions.chat_runs_4_1.attempt differs"},
		"constraint":        {"ALTER TABLE public_partitions.chat_runs_4_1 ADD CONSTRAINT more CHECK (attempt < 9)", "constraint public_partitions.chat_runs_4_1.more is not of any migration"},
		"not logged":        {"ALTER TABLE public_partitions.chat_runs_4_1 SET UNLOGGED", "table public_partitions.chat_runs_4_1 differs"},
	} {
		t.Run(what, func(t *testing.T) {
			store := open(t, sqlstore.Options{URL: testdb.Partitioned(t)})
			execAll(t, store, c.sql)
			differences, err := store.SchemaDifferences(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range differences {
				got = append(got, d.String())
			}
			slices.Sort(got)
			if text := strings.Join(got, "; "); text != c.want {
				t.Errorf("%s\nwant %s", text, c.want)
			}
		})
	}
}

// The guards of the audit log are those of each partition, too.
func TestPartition_KeepsTheGuards(t *testing.T) {
	t.Parallel()
	store := open(t, sqlstore.Options{URL: testdb.Partitioned(t)})
	if err := store.Record(t.Context(), entry("a1")); err != nil {
		t.Fatal(err)
	}
	var partition string
	if err := store.DB().QueryRow("SELECT tableoid::regclass FROM audit_logs").Scan(&partition); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"audit_logs", partition} {
		for _, statement := range []string{"UPDATE " + table + " SET action = 'x'", "DELETE FROM " + table, "TRUNCATE " + table} {
			if _, err := store.DB().Exec(statement); err == nil || !strings.Contains(err.Error(), "is append-only") {
				t.Errorf("%s: %v", statement, err)
			}
		}
		_, err := store.DB().Exec("INSERT INTO " + table + " SELECT user_id, md5(random()::text), action, resource, resource_id, metadata, ip_address, user_agent, status, error_message, created_at, updated_at FROM " + table)
		if err != nil {
			t.Fatal(err)
		}
	}
	var entries, queued int
	err := store.DB().QueryRow("SELECT (SELECT count(*) FROM audit_logs), (SELECT count(*) FROM audit_unsealed)").Scan(&entries, &queued)
	if err != nil || entries != 4 || queued != 4 {
		t.Errorf("%d entries, %d of them wait for their seal, %v", entries, queued, err)
	}
}

// A backup of a divided schema has all rows, and is restored into ordinary tables.
func TestPartition_Backup(t *testing.T) {
	t.Parallel()
	store := open(t, sqlstore.Options{URL: testdb.Partitioned(t)})
	for _, user := range []string{"ann", "bob", "cid", "dan", "eve"} {
		storeTurn(t, store, user, "c-"+user, chat.Completed, "of "+user, time.Now(), time.Millisecond)
	}
	chained(t, store, 1000)
	back := restored(t, backedUp(t, store, nil))
	for _, table := range []string{"chat_messages", "chat_runs", "audit_logs", "audit_chain"} {
		if got, want := count(t, back, table), count(t, store, table); got != want || want < 5 {
			t.Errorf("%s: %d rows of %d", table, got, want)
		}
	}
	if differences, err := back.SchemaDifferences(t.Context()); err != nil || len(differences) > 0 {
		t.Errorf("%v, %v", differences, err)
	}
}

// readEveryPartition are the methods whose statements ask for the rows of all or of
// several users.
var readEveryPartition = map[string]string{
	"heartbeat":    "the runs of an instance",
	"release":      "the runs of an instance",
	"claim":        "the runs that no instance works on",
	"import":       "rows of several users",
	"import_count": "rows of several users",
}

// waitingRuns begins the statement that counts the runs of all users that wait.
const waitingRuns = "SELECT count(*) FROM (SELECT 1 FROM chat_runs WHERE ended_at IS NULL AND owner IS NULL"

// A statement of one user reads and writes one partition of each table.
func TestPartition_StatementsArePruned(t *testing.T) {
	t.Parallel()
	w := &watcher{seen: map[string]string{}}
	store := migrated(t, sqlstore.Options{URL: testdb.Partitioned(t), Hooks: []bun.QueryHook{w}})
	useAll(t, store)
	named := regexp.MustCompile(`(chat_messages|chat_runs|audit_logs)_4_\d`)
	for statement, by := range w.seen {
		switch verb, _, _ := strings.Cut(statement, " "); verb {
		case "SELECT", "UPDATE", "WITH", "DELETE":
		default:
			continue
		}
		plan := explained(t, store, statement, by == "checkpoint")
		partitions := map[string]map[string]bool{}
		for _, m := range named.FindAllStringSubmatch(plan, -1) {
			if partitions[m[1]] == nil {
				partitions[m[1]] = map[string]bool{}
			}
			partitions[m[1]][m[0]] = true
		}
		for table, list := range partitions {
			if len(list) > 1 && readEveryPartition[by] == "" && !strings.HasPrefix(statement, waitingRuns) {
				t.Errorf("%s reads %d partitions of %s:\n%s\n%s", by, len(list), table, statement, plan)
			}
		}
	}
}

// explained returns the plan of a statement. Rows that are arguments are looked for in
// one partition each when it is executed: a plan of what was executed, as the store has
// it planned and taken back, does without the partitions that were not.
func explained(t *testing.T, store *sqlstore.Store, statement string, executed bool) (plan string) {
	t.Helper()
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	verb := "EXPLAIN "
	if executed {
		verb = "EXPLAIN (ANALYZE) "
		if _, err := tx.Exec("SELECT " + sqlstore.KeyedPlans); err != nil {
			t.Fatal(err)
		}
	}
	found, err := tx.QueryContext(t.Context(), verb+statement)
	if err != nil {
		t.Fatalf("explain: %v\n%s", err, statement)
	}
	for _, row := range table(t, found, nil) {
		if line := row[len(row)-1]; !strings.Contains(line, "never executed") {
			plan += line + "\n"
		}
	}
	return plan
}

// A later migration that creates or drops an index CONCURRENTLY, which PostgreSQL
// refuses on a divided table, does so on each partition, and continues after a failure.
func TestPartition_LaterMigrations(t *testing.T) {
	t.Parallel()
	const concurrent = "-- atlas:txmode none\n\n"
	steps := map[string]string{
		"20990101000000_column.sql":  "ALTER TABLE chat_messages ADD COLUMN more text NULL;",
		"20990101000100_index.sql":   concurrent + "CREATE INDEX CONCURRENTLY chat_messages_more_idx ON chat_messages (user_id, more) WHERE more IS NOT NULL;\n\nCREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS chat_runs_more_key ON chat_runs (user_id, id, kind);",
		"20990101000200_dropped.sql": concurrent + "DROP INDEX CONCURRENTLY chat_runs_more_key;",
		"20990101000300_other.sql":   concurrent + "CREATE INDEX CONCURRENTLY chat_usage_more_idx ON chat_usage (user_id, tokens);\n\nDROP INDEX CONCURRENTLY chat_usage_more_idx;",
	}
	for name, url := range map[string]string{"Divided": testdb.Partitioned(t), "Ordinary": testdb.Postgres(t)} {
		t.Run(name, func(t *testing.T) {
			store := open(t, sqlstore.Options{URL: url})
			files := copied(t, "postgres")
			apply := func(step string) error {
				files["postgres/"+step] = file(steps[step])
				hash(t, files, "postgres")
				return second(store.MigrateFrom(t.Context(), files))
			}
			if err := apply("20990101000000_column.sql"); err != nil {
				t.Fatal(err)
			}
			if name == "Divided" { // an attempt fails at the second partition, and leaves a table behind that has the name
				execAll(t, store, "CREATE TABLE public_partitions.chat_messages_more_idx_4_1 (id int)")
				if err := apply("20990101000100_index.sql"); err == nil {
					t.Fatal("it was applied")
				}
				execAll(t, store, "DROP TABLE public_partitions.chat_messages_more_idx_4_1")
			}
			for _, step := range []string{"20990101000100_index.sql", "20990101000200_dropped.sql", "20990101000300_other.sql"} {
				if err := apply(step); err != nil {
					t.Fatalf("%s: %v", step, err)
				}
			}
			differences, err := store.SchemaDifferences(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range differences {
				if !d.Harmless() {
					t.Errorf("%s: %s", d, d.Definition)
				}
				got = append(got, d.Kind+" "+d.Name)
			}
			want := []string{"column more", "index chat_messages_more_idx"}
			if name == "Divided" {
				want = append(slices.Repeat(want[:1], 1+testdb.Partitions), slices.Repeat(want[1:], 1+testdb.Partitions)...)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("what is there beside the migrations of this release (-want +got):\n%s", diff)
			}
			status, err := store.MigrationStatus(t.Context())
			if err != nil || len(status.Pending) > 0 || !status.Ahead {
				t.Errorf("%+v, %v", status, err)
			}
		})
	}
}

// While a move goes on, the schema has more than the migrations make, which harms
// nobody.
func TestPartition_MoveIsHarmless(t *testing.T) {
	t.Parallel()
	url := testdb.Postgres(t)
	store := open(t, sqlstore.Options{URL: url})
	partition(t, url, "partitions=2", "stop=verified")
	differences, err := store.SchemaDifferences(t.Context())
	if err != nil || len(differences) == 0 {
		t.Fatalf("%v, %v", differences, err)
	}
	for _, d := range differences {
		if !d.Moving() || !d.Harmless() {
			t.Errorf("%s: %s", d, d.Definition)
		}
	}
	if applied, err := store.Migrate(t.Context()); err != nil || len(applied) > 0 {
		t.Errorf("%v, %v", applied, err)
	}
}
