package sqlstore

import (
	"archive/zip"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/migrations"
	"parley/ports"
)

// copySettings make COPY write the same text for the same row, whatever the
// settings of server, database and role, and let a long transaction be.
const copySettings = "SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'; SET LOCAL timezone = 'UTC'; " +
	"SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 3; SET LOCAL client_encoding = 'UTF8'; " +
	"SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL lock_timeout = '10s'; " + setAllUsers

// backupPostgres copies every table in one read-only transaction.
func (s *Store) backupPostgres(ctx context.Context, archive *zip.Writer, m *Manifest, opt BackupOptions) error {
	ctx = context.WithValue(ctx, statementKey{}, "backup")
	schema, err := s.backupSchema(ctx)
	if err != nil {
		return err
	}
	conn, err := s.acquire(ctx, s.db)
	if err != nil {
		return translate(ctx, err)
	}
	defer conn.Close()
	known, err := migratedTables("postgres", schema)
	if err != nil {
		return err
	}
	var tables []string
	err = s.read(ctx, "backup", allUsers, func(ctx context.Context, db bun.IDB) (err error) {
		tables, err = existingTables(ctx, db, known)
		return err
	})
	if err != nil {
		return err
	}
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return translate(ctx, err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	// The locks come before the first query, which fixes what is seen: so no
	// migration is half seen.
	if _, err := tx.ExecContext(ctx, s.preludeOf(conn.Conn)+copySettings+"; LOCK TABLE "+strings.Join(tables, ", ")+" IN ACCESS SHARE MODE"); err != nil {
		return backupError(ctx, err)
	}
	if m.Schema, err = s.schemaIn(ctx, tx); err != nil {
		return backupError(ctx, err)
	}
	if m.Schema != schema {
		return errors.New("the database was migrated just now; run parley backup again")
	}
	for _, name := range tables {
		t, err := s.backupTable(ctx, conn, tx, archive, name)
		if err != nil {
			return backupError(ctx, fmt.Errorf("%s: %w", name, err))
		}
		m.Tables = append(m.Tables, t)
	}
	if opt.Check == nil {
		return nil
	}
	return opt.Check(ctx, snapshotLedger{Store: s, tx: tx})
}

// backupTable copies a table into an entry, and counts its rows a second time.
func (s *Store) backupTable(ctx context.Context, conn bun.Conn, tx bun.Tx, archive *zip.Writer, name string) (TableManifest, error) {
	t := TableManifest{Name: name}
	columns, err := columnsOf(ctx, tx, name)
	if err != nil {
		return t, err
	}
	t.Columns = columns
	entry, err := archive.Create(tableEntry(name))
	if err != nil {
		return t, err
	}
	var digest rowDigest
	if err := copyOut(ctx, conn, io.MultiWriter(entry, &digest), t); err != nil {
		return t, err
	}
	t.Rows, t.Digest = digest.rows, digest.String()
	var counted int64
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM "+name).Scan(&counted); err != nil {
		return t, err
	}
	if counted != t.Rows {
		return t, fmt.Errorf("%d rows were copied, the table has %d", t.Rows, counted)
	}
	return t, nil
}

// snapshotLedger reads the chain and the log in the transaction of a backup.
type snapshotLedger struct {
	*Store
	tx bun.Tx
}

// Inspect implements ports.Ledger.
func (l snapshotLedger) Inspect(ctx context.Context, visit func(ports.InspectionItem) error) error {
	return l.inspect(ctx, l.tx, visit)
}

// Restore fills an empty Postgres database from a backup, in one transaction:
// it creates the tables as they were, copies the rows, and reads them back to
// compare them. Migrate brings the tables up to date afterwards.
func (s *Store) Restore(ctx context.Context, b *Backup) error {
	ctx = context.WithValue(ctx, statementKey{}, "restore")
	conn, err := s.acquire(ctx, s.db)
	if err != nil {
		return translate(ctx, err)
	}
	defer conn.Close()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return translate(ctx, err)
	}
	defer tx.Rollback() //nolint:errcheck // no-op after commit
	if _, err := tx.ExecContext(ctx, s.preludeOf(conn.Conn)+copySettings); err != nil {
		return restoreError(ctx, err)
	}
	if err := s.createSearchPath(ctx, tx.Tx); err != nil {
		return restoreError(ctx, err)
	}
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(?)", lockID()); err != nil {
		return restoreError(ctx, err)
	}
	if err := s.refuseOccupied(ctx, tx); err != nil {
		return restoreError(ctx, err)
	}
	if err := s.createSchema(ctx, tx.Tx, b.Manifest.Schema); err != nil {
		return restoreError(ctx, err)
	}
	if err := s.fillTables(ctx, conn, tx, b); err != nil {
		return restoreError(ctx, err)
	}
	return restoreError(ctx, tx.Commit())
}

// refuseOccupied refuses a database that holds tables of Parley.
func (s *Store) refuseOccupied(ctx context.Context, tx bun.Tx) error {
	known, err := migratedTables("postgres", "99999999999999")
	if err != nil {
		return err
	}
	tables, err := existingTables(ctx, tx, known)
	if err != nil {
		return err
	}
	record, revised, err := s.revisionTable(ctx, tx.Tx)
	if err != nil {
		return err
	}
	if revised && len(tables) == 0 {
		var n int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM "+record).Scan(&n); err != nil {
			return err
		}
		revised = n > 0
	}
	if len(tables) == 0 && !revised {
		return nil
	}
	var sessions int
	err = tx.QueryRowContext(ctx, `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = 'parley' AND pid <> pg_backend_pid()`).Scan(&sessions)
	if err != nil {
		return err
	}
	live := ""
	if sessions > 0 {
		live = ", and Parley is connected to it"
	}
	return fmt.Errorf("%w: it has tables of Parley%s", ErrOccupied, live)
}

// ErrOccupied says that a database cannot be restored into.
var ErrOccupied = errors.New("the database is not empty")

// createSchema applies the migrations up to a version.
func (s *Store) createSchema(ctx context.Context, tx *sql.Tx, version string) error {
	dir, err := s.migrationDir(migrations.FS)
	if err != nil {
		return err
	}
	table, err := s.createRevisions(ctx, tx)
	if err != nil {
		return err
	}
	executor, err := s.executor(tx, dir, table)
	if err != nil {
		return err
	}
	return executor.ExecuteTo(ctx, version)
}

// fillTables copies the rows in, without triggers and policies, and out again.
func (s *Store) fillTables(ctx context.Context, conn bun.Conn, tx bun.Tx, b *Backup) error {
	known, err := migratedTables("postgres", b.Manifest.Schema)
	if err != nil {
		return err
	}
	existing, err := existingTables(ctx, tx, known)
	if err != nil {
		return err
	}
	var names []string
	for _, t := range b.Manifest.Tables {
		names = append(names, t.Name)
	}
	if missing := difference(existing, names); len(missing) > 0 || len(names) != len(existing) {
		return fmt.Errorf("the backup has other tables than schema %s: %w", b.Manifest.Schema, ErrNotBackup)
	}
	var protected []string
	err = tx.NewRaw("SELECT relname FROM pg_class WHERE relrowsecurity AND pg_table_is_visible(oid) AND relname IN (?)", bun.List(names)).Scan(ctx, &protected)
	if err != nil {
		return err
	}
	// COPY does not write into tables with policies, and triggers would queue
	// what the backup has in the queue. A migration may have inserted rows.
	before, after := alterEach(names, "DISABLE TRIGGER USER"), alterEach(names, "ENABLE TRIGGER USER")
	before += alterEach(protected, "DISABLE ROW LEVEL SECURITY") + "TRUNCATE " + strings.Join(names, ", ")
	after += alterEach(protected, "ENABLE ROW LEVEL SECURITY")
	if _, err := tx.ExecContext(ctx, before); err != nil {
		return err
	}
	for _, t := range b.Manifest.Tables {
		if err := b.readTable(t, func(rows io.Reader) error { return copyIn(ctx, conn, rows, t) }); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		if err := restartIdentities(ctx, tx, t.Name); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
	}
	for _, t := range b.Manifest.Tables {
		var digest rowDigest
		if err := copyOut(ctx, conn, &digest, t); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		if err := digest.compare(t); err != nil {
			return fmt.Errorf("%s: read back: %w", t.Name, err)
		}
	}
	_, err = tx.ExecContext(ctx, after)
	return err
}

func alterEach(tables []string, what string) string {
	var text strings.Builder
	for _, name := range tables {
		fmt.Fprintf(&text, "ALTER TABLE %s %s; ", name, what)
	}
	return text.String()
}

func difference(from, without []string) (rest []string) {
	for _, name := range from {
		if !slices.Contains(without, name) {
			rest = append(rest, name)
		}
	}
	return rest
}

// restartIdentities lets generated numbers continue behind those of the rows.
func restartIdentities(ctx context.Context, tx bun.Tx, table string) error {
	var columns []string
	err := tx.NewRaw("SELECT attname FROM pg_attribute WHERE attrelid = ?::regclass AND attidentity <> ''", table).Scan(ctx, &columns)
	for _, column := range columns {
		if err == nil {
			_, err = tx.NewRaw("SELECT setval(pg_get_serial_sequence(?0, ?1), max(?2)) FROM ?3 HAVING max(?2) IS NOT NULL",
				table, column, bun.Ident(column), bun.Ident(table)).Exec(ctx)
		}
	}
	return err
}

// existingTables returns those of the names that are tables, in their order.
func existingTables(ctx context.Context, db bun.IDB, names []string) ([]string, error) {
	var found []string
	err := db.NewRaw("SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND pg_table_is_visible(oid) AND relname IN (?)",
		bun.List(names)).Scan(ctx, &found)
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !slices.Contains(found, name) }), err
}

func columnsOf(ctx context.Context, tx bun.Tx, table string) (columns []string, err error) {
	err = tx.NewRaw(`SELECT attname FROM pg_attribute
		WHERE attrelid = ?::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum`, table).Scan(ctx, &columns)
	return columns, err
}

// schemaIn is the version of the newest migration as a transaction sees it.
func (s *Store) schemaIn(ctx context.Context, tx bun.Tx) (version string, err error) {
	table, _, err := s.revisionTable(ctx, tx.Tx)
	if err != nil {
		return "", err
	}
	done, err := revisions{db: tx.Tx, table: table}.ReadRevisions(ctx)
	for _, r := range done {
		if r.Applied == r.Total {
			version = r.Version
		}
	}
	return version, err
}

func quotedColumns(t TableManifest) string {
	var quoted []string
	for _, column := range t.Columns {
		quoted = append(quoted, pgx.Identifier{column}.Sanitize())
	}
	return strings.Join(quoted, ", ")
}

// copyOut writes the rows of a table, one a line, in the transaction of conn. COPY
// reads a table that is divided into partitions through a query only.
func copyOut(ctx context.Context, conn bun.Conn, w io.Writer, t TableManifest) error {
	return conn.Raw(func(driver any) error {
		_, err := driver.(*stdlib.Conn).Conn().PgConn().CopyTo(ctx, w, "COPY (SELECT "+quotedColumns(t)+" FROM "+pgx.Identifier{t.Name}.Sanitize()+") TO STDOUT")
		return err
	})
}

// copyIn inserts rows into a table in the transaction of conn.
func copyIn(ctx context.Context, conn bun.Conn, r io.Reader, t TableManifest) error {
	return conn.Raw(func(driver any) error {
		_, err := driver.(*stdlib.Conn).Conn().PgConn().CopyFrom(ctx, r, "COPY "+pgx.Identifier{t.Name}.Sanitize()+" ("+quotedColumns(t)+") FROM STDIN")
		return err
	})
}

func backupError(ctx context.Context, err error) error {
	switch sqlState(err) {
	case "42501":
		return fmt.Errorf("this database role may not read every table of Parley; back up as the owner of the tables, "+
			"or run deploy/postgres/roles.sql again as the owner (%w)", redact(err))
	case "55P03":
		return fmt.Errorf("a table is locked, perhaps by a migration; run parley backup again when it is done (%w)", redact(err))
	}
	return databaseError(ctx, err)
}

func restoreError(ctx context.Context, err error) error {
	if sqlState(err) == "42501" {
		return fmt.Errorf("this database role may not create tables; restore as the owner of the new database (%w)", redact(err))
	}
	return databaseError(ctx, err)
}

// databaseError is translate for errors that may come from files as well.
func databaseError(ctx context.Context, err error) error {
	if err == nil || sqlState(err) == "" && !lostConnection(err) && ctx.Err() == nil {
		return err
	}
	return translate(ctx, err)
}
