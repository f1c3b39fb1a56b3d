package sqlstore_test

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"ariga.io/atlas/sql/migrate"
	"github.com/google/go-cmp/cmp"

	"parley/adapters/sqlstore"
	"parley/adapters/sqlstore/migrations"
	"parley/platform/testing/testenv"
)

var dialects = []string{"postgres", "sqlite"}

func TestMigrations_Names(t *testing.T) {
	name := regexp.MustCompile(`^(\d{14})_[a-z0-9_]+\.sql$`)
	seen := map[string][]string{}
	for _, dialect := range dialects {
		dir, err := migrate.NewLocalDir(filepath.Join("migrations", dialect))
		if err != nil {
			t.Fatal(err)
		}
		if err := migrate.Validate(dir); err != nil {
			t.Errorf("%s: %v; run: go run ./adapters/sqlstore/migrations/hash", dialect, err)
		}
		files, err := dir.Files()
		if err != nil {
			t.Fatal(err)
		}
		last := ""
		for _, f := range files {
			if !name.MatchString(f.Name()) {
				t.Errorf("%s/%s: want 14 digits, an underscore and a name in snake_case", dialect, f.Name())
			}
			if f.Version() <= last {
				t.Errorf("%s/%s: the version is not above %s", dialect, f.Name(), last)
			}
			last = f.Version()
			seen[dialect] = append(seen[dialect], f.Name())
			for _, finding := range lint(string(f.Bytes())) {
				t.Errorf("%s/%s: %s", dialect, f.Name(), finding)
			}
		}
		embedded, err := fs.Glob(migrations.FS, dialect+"/*.sql")
		if err != nil {
			t.Fatal(err)
		}
		if len(embedded) != len(files) {
			t.Errorf("%s: %d files, %d embedded", dialect, len(files), len(embedded))
		}
	}
	if diff := cmp.Diff(seen["postgres"], seen["sqlite"]); diff != "" {
		t.Errorf("the dialects have different migrations (-postgres +sqlite):\n%s", diff)
	}
}

func TestMigrations_Replay(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, store *sqlstore.Store) {
		status, err := store.MigrationStatus(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if status.Current == "" || len(status.Pending) > 0 || status.Ahead {
			t.Errorf("after migrating: %+v", status)
		}
		applied, err := store.Migrate(t.Context())
		if err != nil || len(applied) > 0 {
			t.Errorf("again: %v, %v", applied, err)
		}
	})
}

func TestMigrations_EmptyDatabase(t *testing.T) {
	for name, store := range empty(t) {
		t.Run(name, func(t *testing.T) {
			status, err := store.MigrationStatus(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			files, _ := fs.Glob(migrations.FS, store.Dialect()+"/*.sql")
			if status.Current != "" || len(status.Pending) != len(files) {
				t.Errorf("%+v, want %d pending", status, len(files))
			}
		})
	}
}

func TestMigrations_TamperedDirectory(t *testing.T) {
	for name, store := range empty(t) {
		t.Run(name, func(t *testing.T) {
			for what, change := range map[string]func(fstest.MapFS){
				"edited":  func(files fstest.MapFS) { files[first(files)].Data = append(files[first(files)].Data, ' ') },
				"added":   func(files fstest.MapFS) { files[store.Dialect()+"/20990101000000_x.sql"] = file("SELECT 1;") },
				"removed": func(files fstest.MapFS) { delete(files, first(files)) },
				"no sum":  func(files fstest.MapFS) { delete(files, store.Dialect()+"/atlas.sum") },
			} {
				files := copied(t, store.Dialect())
				change(files)
				if _, err := store.MigrateFrom(t.Context(), files); !errors.Is(err, migrate.ErrChecksumMismatch) && !errors.Is(err, migrate.ErrChecksumNotFound) {
					t.Errorf("%s: got %v, want a checksum error", what, err)
				}
			}
			if tables := inspect(t, store); len(tables) > 0 {
				t.Errorf("%d tables were made", len(tables))
			}
		})
	}
}

func TestMigrations_FailedFileLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, store := range empty(t) {
		t.Run(name, func(t *testing.T) {
			files := copied(t, store.Dialect())
			files[store.Dialect()+"/20990101000000_good.sql"] = file("CREATE TABLE good (id text NOT NULL);")
			files[store.Dialect()+"/20990102000000_bad.sql"] = file("CREATE TABLE half (id text NOT NULL);\n\nCREATE TABLE good (id text NOT NULL);")
			hash(t, files, store.Dialect())
			applied, err := store.MigrateFrom(t.Context(), files)
			if err == nil || len(applied) == 0 || applied[len(applied)-1] != "20990101000000_good.sql" {
				t.Errorf("applied %v, %v; want everything up to the good file, and an error", applied, err)
			}
			tables := inspect(t, store)
			if tables["good"] == nil || tables["half"] != nil {
				t.Errorf("good %v, half %v", tables["good"] != nil, tables["half"] != nil)
			}
			files[store.Dialect()+"/20990102000000_bad.sql"] = file("CREATE TABLE half (id text NOT NULL);")
			hash(t, files, store.Dialect())
			applied, err = store.MigrateFrom(t.Context(), files)
			if diff := cmp.Diff([]string{"20990102000000_bad.sql"}, applied); diff != "" || err != nil {
				t.Errorf("after the fix: %v %s", err, diff)
			}
			// The database is ahead of what the binary knows: a newer release runs beside it.
			status, err := store.MigrationStatus(t.Context())
			if err != nil || !status.Ahead || len(status.Pending) > 0 {
				t.Errorf("status %+v, %v", status, err)
			}
			if applied, err = store.Migrate(t.Context()); err != nil || len(applied) > 0 {
				t.Errorf("the older binary applied %v, %v", applied, err)
			}
		})
	}
}

func TestMigrations_RebuiltTableKeepsReferences(t *testing.T) {
	store := openSQLite(t)
	db := raw(store)
	for _, q := range []string{
		"INSERT INTO chat_users (user_id, created_at) VALUES ('u', '2026-01-01 00:00:00+00:00')",
		"INSERT INTO chat_messages (user_id, id, role, content, created_at) VALUES ('u', 'm', 'user', 'x', '2026-01-01 00:00:00+00:00')",
	} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	rebuild := "CREATE TABLE new_users (user_id text NOT NULL, leaf_id text NULL, session_version integer NOT NULL DEFAULT 0, created_at datetime NOT NULL, PRIMARY KEY (user_id));\n\n" +
		"INSERT INTO new_users SELECT user_id, leaf_id, session_version, created_at FROM chat_users%s;\n\nDROP TABLE chat_users;\n\nALTER TABLE new_users RENAME TO chat_users;"
	files := copied(t, "sqlite")
	files["sqlite/20990101000000_rebuild.sql"] = file(strings.Replace(rebuild, "%s", " WHERE false", 1))
	hash(t, files, "sqlite")
	if _, err := store.MigrateFrom(t.Context(), files); err == nil {
		t.Error("a migration that leaves messages without their user was accepted")
	}
	files["sqlite/20990101000000_rebuild.sql"] = file(strings.Replace(rebuild, "%s", "", 1))
	hash(t, files, "sqlite")
	if _, err := store.MigrateFrom(t.Context(), files); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := db.NewRaw("SELECT count(*) FROM chat_messages").Scan(t.Context(), &n); err != nil || n != 1 {
		t.Errorf("%d messages, %v", n, err)
	}
	if _, err := db.Exec("INSERT INTO chat_messages (user_id, id, role, content, created_at) VALUES ('nobody', 'm', 'user', 'x', '2026-01-01 00:00:00+00:00')"); err == nil {
		t.Error("references are not checked any more")
	}
}

func TestMigrations_OutsideTransaction(t *testing.T) {
	t.Parallel()
	store := open(t, sqlstore.Options{URL: testenv.Postgres(t)})
	files := copied(t, "postgres")
	const name = "20990101000000_index.sql"
	files["postgres/"+name] = file("-- atlas:txmode none\n\nCREATE INDEX CONCURRENTLY one_idx ON chat_messages (role);\n\nCREATE INDEX CONCURRENTLY two_idx ON chat_messages (nothing);")
	hash(t, files, "postgres")
	if _, err := store.MigrateFrom(t.Context(), files); err == nil {
		t.Fatal("the second statement cannot succeed")
	}
	var done, total int
	if err := raw(store).NewRaw("SELECT applied, total FROM atlas_schema_revisions.atlas_schema_revisions WHERE version = '20990101000000'").Scan(t.Context(), &done, &total); err != nil {
		t.Fatal(err)
	}
	if done != 1 || total != 2 {
		t.Errorf("recorded %d of %d statements, want 1 of 2", done, total)
	}
	files["postgres/"+name] = file("-- atlas:txmode none\n\nCREATE INDEX CONCURRENTLY one_idx ON chat_messages (role);\n\nCREATE INDEX CONCURRENTLY two_idx ON chat_messages (role);")
	hash(t, files, "postgres")
	applied, err := store.MigrateFrom(t.Context(), files)
	if diff := cmp.Diff([]string{name}, applied); diff != "" || err != nil {
		t.Errorf("after the fix: %v %s", err, diff)
	}
}

func TestMigrations_ManyInstancesAtOnce(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{"SQLite": filepath.Join(t.TempDir(), "parley.db"), "Postgres": testenv.Postgres(t)} {
		t.Run(name, func(t *testing.T) {
			var wg sync.WaitGroup
			var mu sync.Mutex
			var all []string
			for range 4 {
				store := open(t, sqlstore.Options{URL: url})
				wg.Go(func() {
					applied, err := store.Migrate(context.Background())
					if err != nil {
						t.Errorf("migrate: %v", err)
					}
					mu.Lock()
					defer mu.Unlock()
					all = append(all, applied...)
				})
			}
			wg.Wait()
			files, _ := fs.Glob(migrations.FS, strings.ToLower(name)+"/*.sql")
			if len(all) != len(files) {
				t.Errorf("applied %v", all)
			}
		})
	}
}

// TestMigrations_RevisionTable holds the table to what the Atlas CLI makes
// itself, so that either may go on where the other stopped.
func TestMigrations_RevisionTable(t *testing.T) {
	t.Parallel()
	var got []string
	err := raw(openPostgres(t)).NewRaw(`SELECT column_name || ' ' || data_type || ' ' || is_nullable || ' ' || COALESCE(column_default, '')
		FROM information_schema.columns WHERE table_schema = 'atlas_schema_revisions' AND table_name = 'atlas_schema_revisions'
		ORDER BY ordinal_position`).Scan(t.Context(), &got)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"version character varying NO ", "description character varying NO ",
		"type bigint NO 2", "applied bigint NO 0", "total bigint NO 0",
		"executed_at timestamp with time zone NO ", "execution_time bigint NO ",
		"error text YES ", "error_stmt text YES ", "hash character varying NO ", "partial_hashes jsonb YES ",
		"operator_version character varying NO ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// empty opens a store on a new database of each dialect.
func empty(t *testing.T) map[string]*sqlstore.Store {
	return map[string]*sqlstore.Store{
		"SQLite":   open(t, sqlstore.Options{URL: filepath.Join(t.TempDir(), "parley.db")}),
		"Postgres": open(t, sqlstore.Options{URL: testenv.Postgres(t)}),
	}
}

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

func copied(t *testing.T, dialect string) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	names, err := fs.Glob(migrations.FS, dialect+"/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: b}
	}
	return files
}

// first names the first migration.
func first(files fstest.MapFS) string {
	names, _ := fs.Glob(files, "*/*.sql")
	return slices.Min(names)
}

// hash writes atlas.sum anew.
func hash(t *testing.T, files fstest.MapFS, dialect string) {
	t.Helper()
	names, err := fs.Glob(files, dialect+"/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	dir := &migrate.MemDir{}
	var list []migrate.File
	for _, name := range names {
		list = append(list, migrate.NewLocalFile(filepath.Base(name), files[name].Data))
	}
	if err := dir.CopyFiles(list); err != nil {
		t.Fatal(err)
	}
	sum, err := fs.ReadFile(dir, migrate.HashFileName)
	if err != nil {
		t.Fatal(err)
	}
	files[dialect+"/"+migrate.HashFileName] = &fstest.MapFile{Data: sum}
}
