package sqlstore_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/adapters/sqlstore"
	"parley/adapters/sqlstore/rows"
	"parley/domain/chat"
	"parley/platform/testing/testenv"
	"parley/ports"
)

// backedUp backs a store up and opens the file.
func backedUp(t *testing.T, store *sqlstore.Store, check func(context.Context, ports.Ledger) error) *sqlstore.Backup {
	t.Helper()
	path := filepath.Join(t.TempDir(), "parley.backup")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	opt := sqlstore.BackupOptions{Release: "v1", Scratch: path + ".db", Check: check}
	if _, err := store.Backup(t.Context(), f, opt); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := sqlstore.OpenBackup(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	if err := b.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// restored restores a backup into a new database. It does not migrate it.
func restored(t *testing.T, b *sqlstore.Backup) *sqlstore.Store {
	t.Helper()
	if b.Manifest.Database == "sqlite" {
		path := filepath.Join(t.TempDir(), "parley.db")
		if err := sqlstore.RestoreSQLite(t.Context(), b, path); err != nil {
			t.Fatal(err)
		}
		return open(t, sqlstore.Options{URL: path})
	}
	store := open(t, sqlstore.Options{URL: testenv.Postgres(t)})
	if err := store.Restore(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	return store
}

// TestBackup_HoldsEveryTable compares a backup with the rows and the migrations.
func TestBackup_HoldsEveryTable(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, store *sqlstore.Store) {
		var want []string
		for _, model := range rows.All {
			want = append(want, raw(store).Table(reflect.TypeOf(model).Elem()).Name)
		}
		b := backedUp(t, store, nil)
		var got []string
		for _, table := range b.Manifest.Tables {
			got = append(got, table.Name)
			if columns := len(inspect(t, store)[table.Name].Columns); b.Manifest.Database == "postgres" && len(table.Columns) != columns {
				t.Errorf("%s: %d columns of %d", table.Name, len(table.Columns), columns)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("tables (-rows +backup):\n%s", diff)
		}
	})
}

// TestBackup_OneMoment backs up while others write: what the backup holds is
// what the database held at one moment, its audit chain included.
func TestBackup_OneMoment(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, store *sqlstore.Store) {
		ctx, stop := context.WithCancel(t.Context())
		var writers sync.WaitGroup
		for w := range 4 {
			writers.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					id := fmt.Sprintf("%d-%d", w, i)
					storeTurn(t, store, "user-"+id, "c-"+id, chat.Completed, id, time.Now(), time.Millisecond)
				}
			})
		}
		defer func() { stop(); writers.Wait() }()
		for count(t, store, "chat_users") < 8 {
			time.Sleep(5 * time.Millisecond) // until they are at work
		}
		for range 3 {
			chained(t, store, 1000)
			links := 0
			b := backedUp(t, store, func(ctx context.Context, ledger ports.Ledger) error {
				chained(t, store, 1000) // after the moment
				return ledger.Inspect(ctx, func(e ports.InspectionItem) error {
					if e.Link != nil {
						links++
					}
					return nil
				})
			})
			got := restored(t, b)
			counts := countRows(t, got)
			if counts["audit_chain"] != int64(links) {
				t.Errorf("%d links were checked, the backup holds %d", links, counts["audit_chain"])
			}
			// One turn: a user, a conversation, a run, an entry, and one or two messages.
			if n := counts["chat_users"]; counts["chat_conversations"] != n || counts["chat_runs"] != n || counts["audit_logs"] != n ||
				counts["chat_messages"] < n || counts["chat_messages"] > 2*n {
				t.Errorf("not one moment: %v", counts)
			}
			chained(t, got, 1000) // numbers go on behind those that are there
			storeTurn(t, got, "new", "", chat.Completed, "new", time.Now(), time.Millisecond)
			chained(t, got, 1000)
		}
	})
}

func count(t *testing.T, store *sqlstore.Store, table string) (n int64) {
	t.Helper()
	if err := store.DB().QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestRestore_OlderSchema restores each schema that was ever released, and
// migrates it to this release.
func TestRestore_OlderSchema(t *testing.T) {
	t.Parallel()
	for name, older := range empty(t) {
		t.Run(name, func(t *testing.T) {
			files := copied(t, older.Dialect())
			names, err := fs.Glob(files, older.Dialect()+"/*.sql")
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(names)
			latest := filepath.Base(names[len(names)-1])[:14]
			for i := 1; i < len(names); i++ {
				subset := copied(t, older.Dialect())
				for _, later := range names[i:] {
					delete(subset, later)
				}
				hash(t, subset, older.Dialect())
				if _, err := older.MigrateFrom(t.Context(), subset); err != nil {
					t.Fatal(err)
				}
				if i == 1 {
					if _, err := older.DB().Exec("INSERT INTO chat_users (user_id, created_at) VALUES ('ann', '2026-01-01 00:00:00+00:00')"); err != nil {
						t.Fatal(err)
					}
				}
				b := backedUp(t, older, nil)
				if want := filepath.Base(names[i-1])[:14]; b.Manifest.Schema != want {
					t.Errorf("schema %s, want %s", b.Manifest.Schema, want)
				}
				got := restored(t, b)
				if _, err := got.Migrate(t.Context()); err != nil {
					t.Fatalf("%s: %v", names[i-1], err)
				}
				if status, err := got.MigrationStatus(t.Context()); err != nil || status.Current != latest {
					t.Errorf("%s: %+v, %v", names[i-1], status, err)
				}
				if users := count(t, got, "chat_users"); users != 1 {
					t.Errorf("%d users", users)
				}
			}
		})
	}
}

func TestBackup_NewerRelease(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, store *sqlstore.Store) {
		b := backedUp(t, store, nil)
		for what, change := range map[string]func(*sqlstore.Manifest){
			"schema": func(m *sqlstore.Manifest) { m.Schema = "20990101000000" },
			"format": func(m *sqlstore.Manifest) { m.Format = 2 },
		} {
			m := b.Manifest
			change(&m)
			path := filepath.Join(t.TempDir(), "newer")
			if err := os.WriteFile(path, manifestOnly(t, m), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := sqlstore.OpenBackup(path); !errors.Is(err, sqlstore.ErrNewerBackup) {
				t.Errorf("%s: %v", what, err)
			}
		}
		table := revisionTable(store)
		_, err := store.DB().Exec("INSERT INTO " + table + " (version, description, type, applied, total, executed_at, execution_time, hash, operator_version) " +
			"SELECT '20990101000000', description, type, applied, total, executed_at, execution_time, hash, operator_version FROM " + table +
			" WHERE version = '" + b.Manifest.Schema + "'")
		if err != nil {
			t.Fatal(err)
		}
		_, err = store.Backup(t.Context(), &bytes.Buffer{}, sqlstore.BackupOptions{Scratch: filepath.Join(t.TempDir(), "copy")})
		if err == nil || !strings.Contains(err.Error(), "newer release") {
			t.Errorf("a database of a newer release: %v", err)
		}
	})
}

func revisionTable(store *sqlstore.Store) string {
	if store.Dialect() == "postgres" {
		return "atlas_schema_revisions.atlas_schema_revisions"
	}
	return "atlas_schema_revisions"
}

func manifestOnly(t *testing.T, m sqlstore.Manifest) []byte {
	t.Helper()
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	entry, err := archive.Create("manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(json.NewEncoder(entry).Encode(m), archive.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestBackup_Roles backs up as the owner and as the application's role; a role
// that may not read everything is told so.
func TestBackup_Roles(t *testing.T) {
	t.Parallel()
	owner, ownerURL, appURL := deployed(t)
	storeTurn(t, owner, "ann", "c1", chat.Completed, "1", time.Now(), time.Second)
	chained(t, owner, 10)
	for name, url := range map[string]string{"Owner": ownerURL, "ApplicationRole": appURL} {
		for _, rls := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/RLS=%v", name, rls), func(t *testing.T) {
				store := open(t, sqlstore.Options{URL: url, RowSecurity: rls})
				if err := store.CheckRowSecurity(t.Context()); err != nil {
					t.Fatal(err)
				}
				got := restored(t, backedUp(t, store, nil))
				if diff := cmp.Diff(countRows(t, owner), countRows(t, got)); diff != "" {
					t.Errorf("(-before +restored):\n%s", diff)
				}
			})
		}
	}
	t.Run("MayNotRead", func(t *testing.T) {
		var role string
		store := open(t, sqlstore.Options{URL: appURL})
		if err := store.DB().QueryRow("SELECT current_user").Scan(&role); err != nil {
			t.Fatal(err)
		}
		if _, err := owner.DB().Exec("REVOKE SELECT ON chat_usage FROM " + role); err != nil {
			t.Fatal(err)
		}
		_, err := store.Backup(t.Context(), &bytes.Buffer{}, sqlstore.BackupOptions{})
		if err == nil || !strings.Contains(err.Error(), "back up as the owner") {
			t.Errorf("got %v", err)
		}
		if err := store.Restore(t.Context(), backedUp(t, owner, nil)); !errors.Is(err, sqlstore.ErrOccupied) {
			t.Errorf("restore over it: %v", err)
		}
	})
}

// TestRestore_FailureLeavesNothing ends a restore at its last step.
func TestRestore_FailureLeavesNothing(t *testing.T) {
	t.Parallel()
	source := openPostgres(t)
	storeTurn(t, source, "ann", "c1", chat.Completed, "1", time.Now(), time.Second)
	b := backedUp(t, source, nil)
	last := &b.Manifest.Tables[len(b.Manifest.Tables)-1]
	last.Rows++
	store := open(t, sqlstore.Options{URL: testenv.Postgres(t)})
	if err := store.Restore(t.Context(), b); err == nil || !strings.Contains(err.Error(), "rows instead of") {
		t.Fatalf("got %v", err)
	}
	if tables := inspect(t, store); len(tables) > 0 {
		t.Errorf("%d tables are left", len(tables))
	}
	last.Rows--
	if err := store.Restore(t.Context(), b); err != nil {
		t.Errorf("again: %v", err)
	}
}
