package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/postgres"
	"ariga.io/atlas/sql/schema"
	"ariga.io/atlas/sql/sqlite"

	"parley/adapters/sqlstore/migrations"
)

// migrationLock is the name that the Atlas CLI locks as well, so that the two
// never migrate at once.
const migrationLock = "atlas_migrate_execute"

// operator stands in the revision table as who migrated.
const operator = "Parley"

// Status is how a database stands to the migrations in this binary.
type Status struct {
	Current string   // the version of the newest applied migration, "" when none is
	Pending []string // file names, in order
	Ahead   bool     // the database has migrations that this binary does not know: a newer release runs beside it
}

// Migrate applies what is pending, one transaction a file (none for files
// that say "-- atlas:txmode none"), and returns the names of the files it
// applied. Instances that start together do not disturb each other. It
// refuses a directory whose atlas.sum does not match.
func (s *Store) Migrate(ctx context.Context) ([]string, error) {
	applied, err := s.migrate(ctx, migrations.FS)
	if err == nil && s.fence {
		err = s.enableRowSecurity(ctx)
	}
	return applied, err
}

func (s *Store) migrate(ctx context.Context, files fs.FS) (applied []string, err error) {
	dir, err := s.migrationDir(files)
	if err != nil {
		return nil, err
	}
	conn, err := s.db.DB.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", translate(ctx, err))
	}
	defer conn.Close()
	if s.dialect.name == "sqlite" {
		// Rebuilding a table drops it for a moment; rows that refer to it must
		// stay. The step checks the references before it commits.
		if _, err := conn.ExecContext(ctx, "PRAGMA foreign_keys = off"); err != nil {
			return nil, fmt.Errorf("migrate: %w", err)
		}
		defer conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA foreign_keys = on") //nolint:errcheck // the connection serves on
	}
	for {
		name, err := s.migrateStep(ctx, conn, dir)
		if err != nil {
			return applied, fmt.Errorf("migrate: %w", err)
		}
		if name == "" {
			return applied, nil
		}
		applied = append(applied, name)
	}
}

// migrateStep applies the first pending file and returns its name, "" when
// nothing is pending.
func (s *Store) migrateStep(ctx context.Context, conn *sql.Conn, dir migrate.Dir) (string, error) {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return "", err
	}
	defer tx.Rollback() //nolint:errcheck // no-op after commit
	if s.dialect.name == "postgres" {
		// SQLite's transaction has the write lock already. Within the
		// transaction, so that it holds behind PgBouncer too.
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", lockID()); err != nil {
			return "", err
		}
		// A migration that waits for a lock makes everybody behind it wait.
		if _, err := tx.ExecContext(ctx, "SET LOCAL lock_timeout = '5s'"); err != nil {
			return "", err
		}
		// It may look after the rows of all users, whatever the role's settings.
		if _, err := tx.ExecContext(ctx, everybodys); err != nil {
			return "", err
		}
	}
	if err := s.createRevisions(ctx, tx); err != nil {
		return "", err
	}
	ex, err := s.executor(tx, dir)
	if err != nil {
		return "", err
	}
	pending, err := ex.Pending(ctx)
	if errors.Is(err, migrate.ErrNoPendingFiles) {
		return "", tx.Commit()
	}
	if err != nil {
		return "", err
	}
	file := pending[0]
	if outsideTx(file) {
		if err := tx.Commit(); err != nil { // keeps the revision table
			return "", err
		}
		return file.Name(), s.migrateOutsideTx(ctx, conn, dir, file)
	}
	if err := ex.Execute(ctx, file); err != nil {
		return "", err
	}
	if s.dialect.name == "sqlite" {
		if err := checkReferences(ctx, tx); err != nil {
			return "", fmt.Errorf("%s: %w", file.Name(), err)
		}
	}
	return file.Name(), tx.Commit()
}

// migrateOutsideTx runs a file whose statements cannot run in a transaction
// (CREATE INDEX CONCURRENTLY). What of it succeeded is on record, so that a
// second run goes on behind it.
func (s *Store) migrateOutsideTx(ctx context.Context, conn *sql.Conn, dir migrate.Dir, file migrate.File) error {
	if s.dialect.name == "postgres" {
		if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", lockID()); err != nil {
			return err
		}
		defer conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", lockID()) //nolint:errcheck // ends with the session
	}
	ex, err := s.executor(conn, dir)
	if err != nil {
		return err
	}
	pending, err := ex.Pending(ctx)
	switch {
	case errors.Is(err, migrate.ErrNoPendingFiles):
		return nil // somebody else was faster
	case err != nil:
		return err
	case pending[0].Name() != file.Name():
		return nil
	}
	return ex.Execute(ctx, file)
}

// MigrationStatus compares the database with the migrations in this binary.
// It changes nothing.
func (s *Store) MigrationStatus(ctx context.Context) (Status, error) {
	dir, err := s.migrationDir(migrations.FS)
	if err != nil {
		return Status{}, err
	}
	files, err := dir.Files()
	if err != nil {
		return Status{}, fmt.Errorf("read migrations: %w", err)
	}
	conn, err := s.acquire(ctx, s.db)
	if err != nil {
		return Status{}, translate(ctx, err)
	}
	defer conn.Close()
	var status Status
	exists, err := s.hasRevisions(ctx, conn.Conn)
	if err != nil {
		return Status{}, translate(ctx, err)
	}
	if !exists {
		for _, f := range files {
			status.Pending = append(status.Pending, f.Name())
		}
		return status, nil
	}
	history := revisions{db: conn.Conn, table: s.revisionTable()}
	done, err := history.ReadRevisions(ctx)
	if err != nil {
		return Status{}, translate(ctx, err)
	}
	for _, r := range done {
		if r.Applied == r.Total {
			status.Current = r.Version
		}
	}
	if n := len(files); n > 0 && status.Current > files[n-1].Version() {
		status.Ahead = true
	}
	ex, err := s.executor(conn.Conn, dir)
	if err != nil {
		return Status{}, translate(ctx, err)
	}
	pending, err := ex.Pending(ctx)
	if err != nil && !errors.Is(err, migrate.ErrNoPendingFiles) {
		return Status{}, fmt.Errorf("migration status: %w", err)
	}
	for _, f := range pending {
		status.Pending = append(status.Pending, f.Name())
	}
	return status, nil
}

// migrationDir reads this dialect's files and refuses them if they are not
// what atlas.sum says.
func (s *Store) migrationDir(files fs.FS) (migrate.Dir, error) {
	dir := &migrate.MemDir{}
	entries, err := fs.ReadDir(files, s.dialect.name)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	for _, e := range entries {
		b, err := fs.ReadFile(files, s.dialect.name+"/"+e.Name())
		if err != nil {
			return nil, fmt.Errorf("read migrations: %w", err)
		}
		if err := dir.WriteFile(e.Name(), b); err != nil {
			return nil, fmt.Errorf("read migrations: %w", err)
		}
	}
	if err := migrate.Validate(dir); err != nil {
		return nil, fmt.Errorf("check migrations of %s: %w", s.dialect.name, err)
	}
	return dir, nil
}

func (s *Store) executor(db schema.ExecQuerier, dir migrate.Dir) (*migrate.Executor, error) {
	open := postgres.Open
	if s.dialect.name == "sqlite" {
		open = sqlite.Open
	}
	drv, err := open(db)
	if err != nil {
		return nil, err
	}
	return migrate.NewExecutor(drv, dir, revisions{db: db, table: s.revisionTable()},
		migrate.WithAllowDirty(true), // Parley may live beside the web app's own tables
		migrate.WithOperatorVersion(operator))
}

func outsideTx(f migrate.File) bool {
	lf, ok := f.(*migrate.LocalFile)
	if !ok {
		return false
	}
	for _, mode := range lf.Directive("txmode") {
		if mode == "none" {
			return true
		}
	}
	return false
}

func lockID() int64 {
	h := fnv.New32()
	h.Write([]byte(migrationLock))
	return int64(h.Sum32())
}

// checkReferences fails when a row refers to one that is not there.
func checkReferences(ctx context.Context, tx *sql.Tx) error {
	found, err := tx.QueryContext(ctx, "PRAGMA foreign_key_check")
	if err != nil {
		return err
	}
	defer found.Close()
	if found.Next() {
		return errors.New("rows refer to rows that do not exist")
	}
	return found.Err()
}
