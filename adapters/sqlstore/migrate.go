package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/schema"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"parley/adapters/sqlstore/migrations"
	"parley/adapters/sqlstore/pipeline"
)

// migrationLock is the name of the advisory lock, which the Atlas CLI takes as
// well, so that the two never migrate at once.
const migrationLock = "atlas_migrate_execute"

// operator is recorded in the revision table as the program that migrated.
const operator = "Parley"

// Status compares a database with the migrations of this binary.
type Status struct {
	Current string   // the version of the newest applied migration, "" when none is
	Pending []string // file names, in order
	Ahead   bool     // a newer release has migrated the database
}

// Migrate applies pending migrations, each file in a transaction of its own, or
// in none with "-- atlas:txmode none", and returns the names of the files that it
// applied. Several instances may call it at the same time. It
// refuses a directory whose atlas.sum does not match, and a schema that holds
// tables of another program.
func (s *Store) Migrate(ctx context.Context) ([]string, error) {
	applied, err := s.migrate(ctx, migrations.FS)
	if err == nil && s.rls {
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
		return nil, translate(ctx, pipeline.TxNotStartedError{Err: err})
	}
	defer conn.Close()
	if s.dialect.name == "sqlite" {
		// Rebuilding a table drops it; rows that refer to it must stay. The step
		// checks the references before it commits.
		if _, err := conn.ExecContext(ctx, "PRAGMA foreign_keys = off"); err != nil {
			return nil, fmt.Errorf("migrate: %w", err)
		}
		defer conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA foreign_keys = on") //nolint:errcheck // the next write would fail
	}
	for {
		var name string
		err := s.whileLocked(ctx, func() (err error) {
			name, err = s.migrateStep(ctx, conn, dir)
			return err
		})
		if err != nil {
			return applied, migrationError(name, err)
		}
		if name == "" {
			return applied, nil
		}
		applied = append(applied, name)
	}
}

// While a statement of a migration waits for a lock, every later statement on the
// table waits behind it. So it waits for migrationLockTimeout only, and the file is
// begun anew after a pause in which the others go on, for migrationLockWait.
const (
	migrationLockTimeout = "50ms"
	migrationPause       = 400 * time.Millisecond
	migrationLockWait    = time.Minute
)

// lockNotAvailable is the SQLSTATE of a statement that has waited for a lock for
// longer than lock_timeout.
const lockNotAvailable = "55P03"

// whileLocked calls try again as long as others hold a lock that it needs.
func (s *Store) whileLocked(ctx context.Context, try func() error) error {
	for until := time.Now().Add(migrationLockWait); ; {
		err := try()
		if s.dialect.name != "postgres" || sqlState(err) != lockNotAvailable || time.Now().After(until) {
			return err
		}
		select {
		case <-time.After(migrationPause/2 + rand.N(migrationPause)):
		case <-ctx.Done():
			return err
		}
	}
}

// migrateStep applies the first pending file and returns its name, "" when
// nothing is pending. With an error the name is that of the file that failed,
// "" when it was none.
func (s *Store) migrateStep(ctx context.Context, conn *sql.Conn, dir migrate.Dir) (string, error) {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return "", err
	}
	defer tx.Rollback() //nolint:errcheck // no-op after commit
	if s.dialect.name == "postgres" {
		if err := s.beginMigration(ctx, conn, tx); err != nil {
			return "", err
		}
	}
	table, err := s.createRevisions(ctx, tx)
	if err != nil {
		return "", err
	}
	ex, err := s.executor(tx, dir, table)
	if err != nil {
		return "", err
	}
	if err := s.checkTables(ctx, tx, dir, table); err != nil {
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
		return file.Name(), s.migrateOutsideTx(ctx, conn, dir, table, file)
	}
	if err := ex.Execute(ctx, file); err != nil {
		return file.Name(), err
	}
	if s.dialect.name == "sqlite" {
		if err := checkReferences(ctx, tx); err != nil {
			return file.Name(), err
		}
	}
	return file.Name(), tx.Commit()
}

// beginMigration prepares a transaction of Postgres for a migration. SQLite's
// holds the write lock already.
func (s *Store) beginMigration(ctx context.Context, conn *sql.Conn, tx *sql.Tx) error {
	// The lock is the transaction's, so that it holds behind PgBouncer too. The
	// migration may read the rows of all users, whatever the role's settings.
	_, err := tx.ExecContext(ctx, s.preludeOf(conn)+"SELECT pg_advisory_xact_lock("+strconv.FormatInt(lockID(), 10)+"); "+
		"SET LOCAL lock_timeout = '"+migrationLockTimeout+"'; "+setAllUsers)
	if err != nil {
		return err
	}
	return s.createSearchPath(ctx, tx)
}

// createSearchPath creates the first schema of the search path, if it is
// missing. Only a role that creates it needs the right to.
func (s *Store) createSearchPath(ctx context.Context, tx *sql.Tx) error {
	if len(s.opt.SearchPath) == 0 {
		return nil
	}
	var exists bool
	schema := s.opt.SearchPath[0]
	if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema).Scan(&exists); err != nil || exists {
		return err
	}
	_, err := tx.ExecContext(ctx, "CREATE SCHEMA "+pgx.Identifier{schema}.Sanitize())
	return err
}

// preludeOf returns the statements, each ended, that a transaction on a
// connection begins with. There are none on SQLite and on connections that
// reach Postgres itself.
func (s *Store) preludeOf(conn *sql.Conn) string {
	var text strings.Builder
	conn.Raw(func(driver any) error { //nolint:errcheck // then there is no prelude
		if pg, ok := driver.(*stdlib.Conn); ok {
			if known := sessionOf(pg.Conn()); known != nil {
				for _, set := range known.Settings {
					text.WriteString(set.Text() + "; ")
				}
			}
		}
		return nil
	})
	return text.String()
}

// migrateOutsideTx applies a file whose statements cannot run in a transaction
// (CREATE INDEX CONCURRENTLY). Each statement is recorded, so that a second attempt
// continues after the last success.
func (s *Store) migrateOutsideTx(ctx context.Context, conn *sql.Conn, dir migrate.Dir, table string, file migrate.File) error {
	if s.dialect.name == "postgres" {
		if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", lockID()); err != nil {
			return err
		}
		defer conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", lockID()) //nolint:errcheck // ends with the session
	}
	ex, err := s.executor(conn, dir, table)
	if err != nil {
		return err
	}
	pending, err := ex.Pending(ctx)
	switch {
	case errors.Is(err, migrate.ErrNoPendingFiles):
		return nil // another instance applied it
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
	tx, err := conn.Conn.BeginTx(ctx, nil)
	if err != nil {
		return Status{}, translate(ctx, err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was changed
	if prelude := s.preludeOf(conn.Conn); prelude != "" {
		if _, err := tx.ExecContext(ctx, prelude); err != nil {
			return Status{}, translate(ctx, err)
		}
	}
	table, exists, err := s.revisionTable(ctx, tx)
	if err != nil {
		return Status{}, translate(ctx, err)
	}
	if err := s.checkTables(ctx, tx, dir, existing(table, exists)); err != nil {
		return Status{}, translate(ctx, err)
	}
	var status Status
	if !exists {
		for _, f := range files {
			status.Pending = append(status.Pending, f.Name())
		}
		return status, nil
	}
	done, err := revisions{db: tx, table: table}.ReadRevisions(ctx)
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
	ex, err := s.executor(tx, dir, table)
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

func existing(table string, exists bool) string {
	if exists {
		return table
	}
	return ""
}

// migrationDir reads the files of this dialect. It refuses them if they do not
// match atlas.sum.
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

func (s *Store) executor(db schema.ExecQuerier, dir migrate.Dir, table string) (*migrate.Executor, error) {
	if s.dialect.name == "postgres" {
		db = partitionAware{db}
	}
	drv := migrationDriver{db: db, scanner: scanners[s.dialect.name]}
	return migrate.NewExecutor(drv, dir, revisions{db: db, table: table},
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
