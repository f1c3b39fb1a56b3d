package sqlstore_test

import (
	"context"
	"path/filepath"
	"testing"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/postgres"
	_ "ariga.io/atlas/sql/postgres/postgrescheck" // registers Atlas' analyzers
	"ariga.io/atlas/sql/schema"
	"ariga.io/atlas/sql/sqlcheck"
	"ariga.io/atlas/sql/sqlclient"

	"parley/adapters/sqlstore"
	"parley/platform/testing/testenv"
)

// atlas is Atlas' driver on an empty database, as the tool opens a dev database.
func atlas(t *testing.T) (*sqlclient.Client, migrate.Dir) {
	t.Helper()
	store := open(t, sqlstore.Options{URL: testenv.Postgres(t)})
	driver, err := postgres.Open(store.DB())
	if err != nil {
		t.Fatal(err)
	}
	dir, err := migrate.NewLocalDir(filepath.Join("migrations", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	return &sqlclient.Client{Name: postgres.DriverName, DB: store.DB(), Driver: driver}, dir
}

// replay has Atlas apply the directory to a dev database, as atlas migrate validate
// and atlas schema diff do, and returns the schema that it makes.
func replay(t *testing.T, dev *sqlclient.Client, dir migrate.Dir) *schema.Realm {
	t.Helper()
	ex, err := migrate.NewExecutor(dev.Driver, dir, migrate.NopRevisionReadWriter{})
	if err != nil {
		t.Fatal(err)
	}
	realm, err := ex.Replay(t.Context(), migrate.RealmConn(dev.Driver, nil))
	if err != nil {
		t.Fatalf("replay: %v", err)
	}
	return realm
}

// Atlas can replay the directory on one dev database as often as it likes.
func TestMigrations_AtlasReplaysTwice(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	dev, dir := atlas(t)
	first := replay(t, dev, dir)
	changes, err := dev.RealmDiff(first, replay(t, dev, dir))
	if err != nil || len(changes) > 0 {
		t.Errorf("the second replay makes another schema: %v, %v", changes, err)
	}
}

// What parley migrate up makes is what Atlas makes of the same directory: atlas
// schema diff is empty, but for the record of the migrations.
func TestMigrations_AtlasSchemaDiffIsEmpty(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	dev, dir := atlas(t)
	desired := replay(t, dev, dir)
	migratedStore := migrated(t, sqlstore.Options{URL: testenv.Postgres(t)})
	driver, err := postgres.Open(migratedStore.DB())
	if err != nil {
		t.Fatal(err)
	}
	made, err := driver.InspectRealm(t.Context(), &schema.InspectRealmOption{Exclude: []string{"atlas_schema_revisions"}})
	if err != nil {
		t.Fatal(err)
	}
	changes, err := driver.RealmDiff(made, desired)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		t.Errorf("%T: %+v", c, c)
	}
	// The comparison sees what is missing.
	if _, err := migratedStore.DB().ExecContext(t.Context(), "DROP INDEX chat_messages_user_idx"); err != nil {
		t.Fatal(err)
	}
	if made, err = driver.InspectRealm(t.Context(), &schema.InspectRealmOption{Exclude: []string{"atlas_schema_revisions"}}); err != nil {
		t.Fatal(err)
	}
	if changes, err = driver.RealmDiff(made, desired); err != nil || len(changes) != 1 {
		t.Errorf("without an index: %v, %v", changes, err)
	}
}

// analyze applies a file to a database, statement by statement, and returns what
// Atlas' analyzers find dangerous in it.
func analyze(t *testing.T, dev *sqlclient.Client, file migrate.File) (found []string) {
	t.Helper()
	statements, err := file.StmtDecls()
	if err != nil {
		t.Fatal(err)
	}
	inspect := func() *schema.Realm {
		realm, err := dev.InspectRealm(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return realm
	}
	before := inspect()
	pass := &sqlcheck.Pass{Dev: dev, File: &sqlcheck.File{File: file, From: before}}
	for _, s := range statements {
		if _, err := dev.DB.ExecContext(t.Context(), s.Text); err != nil {
			t.Fatalf("%s: %v", file.Name(), err)
		}
		after := inspect()
		changes, err := dev.RealmDiff(before, after)
		if err != nil {
			t.Fatal(err)
		}
		pass.File.Changes = append(pass.File.Changes, &sqlcheck.Change{Changes: changes, Stmt: s})
		before = after
	}
	pass.File.To = before
	if pass.File.Sum, err = dev.RealmDiff(pass.File.From, pass.File.To); err != nil {
		t.Fatal(err)
	}
	pass.Reporter = reporter(func(r sqlcheck.Report) {
		for _, d := range r.Diagnostics {
			found = append(found, d.Code+": "+d.Text)
		}
	})
	analyzers, err := sqlcheck.AnalyzerFor(postgres.DriverName, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := sqlcheck.Analyzers(analyzers).Analyze(context.Background(), pass); err != nil {
		found = append(found, err.Error())
	}
	return found
}

type reporter func(sqlcheck.Report)

// WriteReport implements sqlcheck.ReportWriter.
func (r reporter) WriteReport(report sqlcheck.Report) { r(report) }

// Atlas' own analyzers, which atlas migrate lint runs, find nothing: no data is
// destroyed, nothing depends on it, and no older release is broken.
func TestMigrations_AtlasLint(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	dev, dir := atlas(t)
	files, err := dir.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		for _, finding := range analyze(t, dev, file) {
			t.Errorf("%s: %s", file.Name(), finding)
		}
	}
	bad := migrate.NewLocalFile("20990101000000_bad.sql", []byte("ALTER TABLE chat_usage DROP COLUMN replies;\nALTER TABLE chat_usage RENAME TO chat_used;\nCREATE UNIQUE INDEX bad_key ON chat_messages (content);"))
	if found := analyze(t, dev, bad); len(found) < 3 {
		t.Errorf("of a file that drops, renames and depends on data, only this was found: %q", found)
	}
}
