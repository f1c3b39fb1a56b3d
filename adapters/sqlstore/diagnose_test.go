package sqlstore_test

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/adapters/sqlstore"
)

var updateSchema = flag.Bool("update", false, "write the expected schema of PostgreSQL")

// TestSchema_Expected compares the embedded description of the schema with what the
// migrations make of an empty database.
func TestSchema_Expected(t *testing.T) {
	store := openPostgres(t)
	objects, err := store.SchemaObjects(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	made := sqlstore.FormatSchema(objects)
	const file = "schema_postgres.txt"
	if *updateSchema {
		if err := os.WriteFile(file, made, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(written, made) {
		t.Errorf("%s is not what the migrations make; run: make generate\n%s", file, cmp.Diff(string(written), string(made)))
	}
}

// A database that the migrations have made has no differences, all rights, the
// right record of migrations, and takes a turn, of which nothing stays.
func TestDiagnose_NothingToReport(t *testing.T) {
	each(t, func(t *testing.T, store *sqlstore.Store) {
		differences, err := store.SchemaDifferences(t.Context())
		if err != nil || len(differences) > 0 {
			t.Errorf("%v, %v", differences, err)
		}
		rights, err := store.MissingRights(t.Context())
		if err != nil || len(rights) > 0 {
			t.Errorf("%v, %v", rights, err)
		}
		problems, err := store.RevisionProblems(t.Context())
		if err != nil || len(problems) > 0 {
			t.Errorf("%v, %v", problems, err)
		}
		if err := store.CheckTurn(t.Context()); err != nil {
			t.Error(err)
		}
		var n int
		err = store.DB().QueryRow("SELECT (SELECT count(*) FROM chat_users) + (SELECT count(*) FROM audit_logs) + (SELECT count(*) FROM audit_unsealed)").Scan(&n)
		if err != nil || n != 0 {
			t.Errorf("%d rows stay, %v", n, err)
		}
	})
}
