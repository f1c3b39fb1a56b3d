package sqlstore_test

import (
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"parley/adapters/sqlstore"
	"parley/domain/chat"
	"parley/platform/testing/testenv"
)

// appsTables are those of a backend that Parley replaces, as Prisma makes them.
var appsTables = []string{
	`CREATE TABLE audit_logs (id TEXT PRIMARY KEY, "userId" TEXT, action TEXT NOT NULL, "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP)`,
	`CREATE TABLE chat_conversations (id TEXT PRIMARY KEY, "userId" TEXT NOT NULL, title TEXT)`,
	`CREATE TABLE chat_messages (id TEXT PRIMARY KEY, "conversationId" TEXT, "userId" TEXT NOT NULL, content TEXT NOT NULL)`,
	`INSERT INTO chat_messages VALUES ('m', NULL, 'u', 'hello')`,
}

// Tables of another program are found before anything runs, and a schema of
// Parley's own stands beside them.
func TestMigrations_TablesOfAnotherProgram(t *testing.T) {
	t.Parallel()
	for name, tables := range map[string][]string{"All": appsTables, "AuditLogsOnly": appsTables[:1], "View": {"CREATE VIEW chat_messages AS SELECT 1 AS id"}} {
		for dialect, url := range map[string]string{"Postgres": testenv.Postgres(t), "SQLite": filepath.Join(t.TempDir(), "parley.db")} {
			t.Run(name+"/"+dialect, func(t *testing.T) {
				store := open(t, sqlstore.Options{URL: url})
				execAll(t, store, tables...)
				before := len(inspect(t, store))
				for what, err := range map[string]error{"migrate": second(store.Migrate(t.Context())), "status": second(store.MigrationStatus(t.Context()))} {
					setup := sqlstore.Explain(err)
					if setup == nil || !strings.Contains(setup.Sentence("DATABASE_URL"), "already holds tables that Parley did not make: ") ||
						!strings.Contains(setup.Sentence("DATABASE_URL"), "schema=parley to the parameters of DATABASE_URL") {
						t.Errorf("%s: %v", what, err)
					}
				}
				if after := len(inspect(t, store)); after != before {
					t.Errorf("%d tables became %d", before, after)
				}
				if dialect == "SQLite" {
					return
				}
				beside := migrated(t, sqlstore.Options{URL: url, SearchPath: []string{"Parley's"}})
				if _, err := beside.Admit(t.Context(), sending("ann", "hi"), chat.Admit); err != nil {
					t.Errorf("beside them: %v", err)
				}
				status, err := beside.MigrationStatus(t.Context())
				if err != nil || len(status.Pending) > 0 || status.Current == "" {
					t.Errorf("status %+v, %v", status, err)
				}
				if err := second(store.MigrationStatus(t.Context())); sqlstore.Explain(err) == nil {
					t.Errorf("the other schema: %v", err)
				}
			})
		}
	}
}

// Several Parleys share a database, each in its schema, also behind a pooler.
func TestMigrations_SchemasSideBySide(t *testing.T) {
	t.Parallel()
	plain := testenv.Postgres(t)
	pooled := bouncer(t, plain)(plain)
	for _, opt := range []sqlstore.Options{
		{URL: plain}, {URL: plain, SearchPath: []string{"one"}}, {URL: pooled, SearchPath: []string{"two"}}, {URL: plain, SearchPath: []string{"three"}},
	} {
		store := migrated(t, opt)
		list, err := store.Recent(t.Context(), "ann", time.Time{})
		if err != nil || len(list) > 0 {
			t.Errorf("%v sees %d conversations of others, %v", opt.SearchPath, len(list), err)
		}
		a := sending("ann", "hi")
		a.Run.ConversationID, a.CreateConversation = "conv", true
		if _, err := store.Admit(t.Context(), a, chat.Admit); err != nil {
			t.Errorf("%v: %v", opt.SearchPath, err)
		}
		if list, err := store.Recent(t.Context(), "ann", time.Time{}); err != nil || len(list) != 1 {
			t.Errorf("%v: %d conversations, %v", opt.SearchPath, len(list), err)
		}
	}
	// Naming the schema public is naming what is there.
	if applied, err := open(t, sqlstore.Options{URL: plain, SearchPath: []string{"public"}}).Migrate(t.Context()); err != nil || len(applied) > 0 {
		t.Errorf("applied %v, %v", applied, err)
	}
}

// A schema that the role's settings name is kept to.
func TestMigrations_SearchPathOfTheRole(t *testing.T) {
	plain := testenv.Postgres(t)
	admin := open(t, sqlstore.Options{URL: plain})
	name := databaseName(t, plain)
	execAll(t, admin, "CREATE SCHEMA apart", "ALTER DATABASE "+name+" SET search_path = apart, public")
	execAll(t, admin, appsTables...)
	store := migrated(t, sqlstore.Options{URL: plain})
	if _, err := store.Admit(t.Context(), sending("ann", "hi"), chat.Admit); err != nil {
		t.Fatal(err)
	}
	var there string
	err := raw(store).QueryRow("SELECT string_agg(DISTINCT schemaname, ',') FROM pg_tables WHERE tablename IN ('chat_runs', 'atlas_schema_revisions')").Scan(&there)
	if err != nil || there != "apart" {
		t.Errorf("the tables stand in %s, %v", there, err)
	}
	execAll(t, admin, "ALTER DATABASE "+name+" SET search_path = nowhere")
	setup := sqlstore.Explain(second(open(t, sqlstore.Options{URL: plain}).MigrationStatus(t.Context())))
	if setup == nil || !strings.Contains(setup.Error(), "search_path") {
		t.Errorf("%v", setup)
	}
}

// A schema that was restored in part is told from an empty and from a full one.
func TestMigrations_RestoredInPart(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		statements []string
		want       string
	}{
		"TableMissing":   {[]string{"DROP TABLE chat_api_keys"}, "restored in part: it lacks the tables chat_api_keys"},
		"RecordMissing":  {[]string{"DROP SCHEMA atlas_schema_revisions CASCADE"}, "without the record of its migrations"},
		"RecordEmpty":    {[]string{"DELETE FROM atlas_schema_revisions.atlas_schema_revisions"}, "without the record of its migrations"},
		"OthersRecord":   {[]string{"DELETE FROM atlas_schema_revisions.atlas_schema_revisions WHERE version < '20261127000100'"}, "holds the migrations of another program"},
		"OnlyTheRecord":  {[]string{"DROP SCHEMA public CASCADE", "CREATE SCHEMA public"}, "restored in part: it lacks the tables"},
		"EmptySchemaToo": {[]string{"DROP SCHEMA public CASCADE", "CREATE SCHEMA public", "DROP SCHEMA atlas_schema_revisions CASCADE"}, ""},
	} {
		t.Run(what, func(t *testing.T) {
			store := openPostgres(t)
			execAll(t, store, c.statements...)
			for what, err := range map[string]error{"status": second(store.MigrationStatus(t.Context())), "migrate": second(store.Migrate(t.Context()))} {
				setup := sqlstore.Explain(err)
				if c.want == "" && err != nil || c.want != "" && (setup == nil || !strings.Contains(setup.Error(), c.want)) {
					t.Errorf("%s: %v, want %q", what, err, c.want)
				}
			}
		})
	}
}

// Revisions that another program keeps in the same place are not taken for our own.
func TestMigrations_RevisionsOfAnotherProgram(t *testing.T) {
	store := open(t, sqlstore.Options{URL: testenv.Postgres(t)})
	files := fstest.MapFS{"postgres/20200101000000_app.sql": file("CREATE TABLE invoices (id text NOT NULL);")}
	hash(t, files, "postgres")
	if _, err := store.MigrateFrom(t.Context(), files); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"status": second(store.MigrationStatus(t.Context())), "migrate": second(store.Migrate(t.Context()))} {
		if setup := sqlstore.Explain(err); setup == nil || !strings.Contains(setup.Error(), "another program") || !strings.Contains(setup.Error(), "schema=parley") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What keeps a migration from being applied is said once, with what to do.
func TestMigrations_FailureIsOneSentence(t *testing.T) {
	t.Parallel()
	plain := testenv.Postgres(t)
	super := migrated(t, sqlstore.Options{URL: plain})
	role := databaseName(t, plain) + "_app"
	execAll(t, super, "CREATE ROLE "+role+" LOGIN", "GRANT USAGE ON SCHEMA atlas_schema_revisions TO "+role,
		"GRANT SELECT, INSERT, UPDATE ON atlas_schema_revisions.atlas_schema_revisions TO "+role)
	t.Cleanup(func() { execAll(t, super, "DROP OWNED BY "+role, "DROP ROLE "+role) })
	const name = "20990101000000_more.sql"
	more := func(text string) fstest.MapFS {
		files := copied(t, "postgres")
		files["postgres/"+name] = file(text)
		hash(t, files, "postgres")
		return files
	}
	app := changed(t, plain, func(u *url.URL) { u.User = url.User(role) })
	execAll(t, super, "CREATE TABLE held (id int)", "INSERT INTO held VALUES (1), (1)")
	for what, c := range map[string]struct{ url, text, want string }{
		"Grants":  {app, "CREATE TABLE more (id text NOT NULL);", "migration " + name + " was not applied: The database role lacks a right (SQLSTATE 42501: permission denied for schema public); run it as the owner"},
		"Owner":   {app, "ALTER TABLE chat_users ADD COLUMN more text NULL;", "must be owner of table chat_users); run it as the owner"},
		"Unique":  {plain, "CREATE UNIQUE INDEX held_key ON held (id);", "migration " + name + ` was not applied: could not create unique index "held_key" (SQLSTATE 23505)`},
		"Lock":    {plain, "ALTER TABLE chat_users ADD COLUMN more text NULL;", "migration " + name + " was not applied: another session holds a lock that it needs; run it again"},
		"Outside": {plain, "-- atlas:txmode none\n\nCREATE INDEX CONCURRENTLY more_idx ON chat_messages (nothing);", "migration " + name + ` was not applied: column "nothing" does not exist (SQLSTATE 42703)`},
	} {
		t.Run(what, func(t *testing.T) {
			if what == "Lock" {
				tx, err := super.DB().Begin()
				if err != nil {
					t.Fatal(err)
				}
				defer tx.Rollback()
				if _, err := tx.Exec("SET LOCAL idle_in_transaction_session_timeout = 0; LOCK TABLE chat_users"); err != nil {
					t.Fatal(err)
				}
			}
			_, err := open(t, sqlstore.Options{URL: c.url}).MigrateFrom(t.Context(), more(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Count(err.Error(), "SQLSTATE") > 1 || strings.ContainsAny(err.Error(), "\n") {
				t.Errorf("%v\nwant %s", err, c.want)
			}
		})
	}
}
