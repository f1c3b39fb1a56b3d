package sqlstore

import (
	"io/fs"
	"testing"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/postgres"
	"ariga.io/atlas/sql/sqlite"
	"github.com/google/go-cmp/cmp"

	"parley/adapters/sqlstore/migrations"
)

// TestMigrationDriver_Statements: a file is split as Atlas' own drivers split it, so
// that the tool understands the record of a file that was applied in part.
func TestMigrationDriver_Statements(t *testing.T) {
	for dialect, atlas := range map[string]migrate.StmtScanner{"postgres": (*postgres.Driver)(nil), "sqlite": (*sqlite.Driver)(nil)} {
		texts := []string{
			"CREATE TABLE a (b text DEFAULT ';'); -- c;\nSELECT 1;",
			"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN RETURN NEW; END $body$; SELECT 2;",
			"CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END; SELECT 3;",
			`SELECT E'it\'s; one'; SELECT 4;`,
			"CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; SELECT CASE WHEN 1 THEN 2 END; END; SELECT 5;",
			"DO $$ BEGIN PERFORM 1; END $$; SELECT 6;",
		}
		names, err := fs.Glob(migrations.FS, dialect+"/*.sql")
		if err != nil || len(names) == 0 {
			t.Fatalf("%d files, %v", len(names), err)
		}
		for _, name := range names {
			text, err := fs.ReadFile(migrations.FS, name)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, string(text))
		}
		for _, text := range texts {
			want, wantErr := atlas.ScanStmts(text)
			got, err := migrationDriver{scanner: scanners[dialect]}.ScanStmts(text)
			if diff := cmp.Diff(want, got); diff != "" || (err == nil) != (wantErr == nil) {
				t.Errorf("%s: %.60q: errors %v, %v (-Atlas +Parley):\n%s", dialect, text, wantErr, err, diff)
			}
		}
	}
}
