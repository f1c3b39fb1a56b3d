package sqlstore

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/migrations"
	"parley/ports"
)

// backupFormat is the version of the layout of backup files: a zip archive with
// the rows of each table as Postgres' COPY writes them (tables/NAME.copy) or
// the SQLite file (parley.db), and manifest.json as its last entry.
const backupFormat = 1

const (
	manifestEntry = "manifest.json"
	sqliteEntry   = "parley.db"
)

// Manifest says what a backup holds.
type Manifest struct {
	Format   int             `json:"format"`
	Release  string          `json:"release"`  // of Parley, which made it
	Database string          `json:"database"` // "postgres" or "sqlite"
	Schema   string          `json:"schema"`   // version of the newest applied migration
	MadeAt   time.Time       `json:"madeAt"`
	Tables   []TableManifest `json:"tables"` // in an order that foreign keys allow to fill them in
}

// TableManifest says what a backup holds of one table.
type TableManifest struct {
	Name    string   `json:"name"`
	Rows    int64    `json:"rows"`
	Columns []string `json:"columns,omitempty"` // of Postgres, in the order of its values
	Digest  string   `json:"digest,omitempty"`  // of Postgres, over all rows in any order
}

// Rows is the number of rows of all tables.
func (m Manifest) Rows() (n int64) {
	for _, t := range m.Tables {
		n += t.Rows
	}
	return n
}

// BackupOptions say what a backup holds beside the database.
type BackupOptions struct {
	Release string
	// Scratch is the path of a file that does not exist. The copy of a SQLite
	// database is made there, checked and removed. Postgres needs none.
	Scratch string
	// Files are further entries by name.
	Files map[string][]byte
	// Check looks at the audit log as the backup holds it. Its error ends the backup.
	Check func(context.Context, ports.Ledger) error
}

// Backup writes the database, as it stands at one moment, to out. Others may
// read and write meanwhile. Only ctx bounds its time.
func (s *Store) Backup(ctx context.Context, out io.Writer, opt BackupOptions) (Manifest, error) {
	m := Manifest{Format: backupFormat, Release: opt.Release, Database: s.dialect.name, MadeAt: s.opt.Now().UTC()}
	archive := zip.NewWriter(contextWriter{ctx, out})
	if err := archive.SetComment("Made by parley backup. Restore it with: parley restore FILE"); err != nil {
		return m, err
	}
	write := s.backupPostgres
	if s.dialect.name == "sqlite" {
		write = s.backupSQLite
	}
	if err := write(ctx, archive, &m, opt); err != nil {
		return m, err
	}
	for name, content := range opt.Files {
		entry, err := archive.Create(name)
		if err != nil {
			return m, err
		}
		if _, err := entry.Write(content); err != nil {
			return m, err
		}
	}
	entry, err := archive.Create(manifestEntry)
	if err != nil {
		return m, err
	}
	encoder := json.NewEncoder(entry)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(m); err != nil {
		return m, err
	}
	return m, archive.Close()
}

// Backup file errors.
var (
	// ErrNotBackup says that a file is no backup, or only the beginning of one.
	ErrNotBackup = errors.New("the file is not a complete backup made by parley backup")
	// ErrNewerBackup says that a newer release made the backup.
	ErrNewerBackup = errors.New("a newer release of Parley made this backup; restore it with that release")
)

// Backup is a backup file that is open for reading.
type Backup struct {
	Manifest Manifest
	archive  *zip.ReadCloser
}

// OpenBackup opens a backup file and reads its manifest.
func OpenBackup(path string) (*Backup, error) {
	archive, err := zip.OpenReader(path)
	var missing *fs.PathError
	if errors.As(err, &missing) {
		return nil, fmt.Errorf("open backup: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrNotBackup, err)
	}
	b := &Backup{archive: archive}
	if err := b.readManifest(); err != nil {
		archive.Close()
		return nil, err
	}
	return b, nil
}

func (b *Backup) readManifest() error {
	raw, err := b.File(manifestEntry)
	if err != nil {
		return fmt.Errorf("%w (%w)", ErrNotBackup, err)
	}
	var layout struct{ Format int }
	if err := json.Unmarshal(raw, &layout); err != nil || layout.Format < 1 {
		return ErrNotBackup
	}
	if layout.Format > backupFormat {
		return ErrNewerBackup
	}
	if err := json.Unmarshal(raw, &b.Manifest); err != nil {
		return fmt.Errorf("%w (%w)", ErrNotBackup, err)
	}
	known, err := latestMigration(b.Manifest.Database)
	if err != nil {
		return ErrNotBackup
	}
	if b.Manifest.Schema > known {
		return fmt.Errorf("%w (Parley %s with schema %s; this one knows schemas up to %s)",
			ErrNewerBackup, b.Manifest.Release, b.Manifest.Schema, known)
	}
	return nil
}

// Close closes the file.
func (b *Backup) Close() error { return b.archive.Close() }

// File returns a whole entry; fs.ErrNotExist if there is none of that name.
func (b *Backup) File(name string) ([]byte, error) {
	entry, err := b.archive.Open(name)
	if err != nil {
		return nil, err
	}
	defer entry.Close()
	return io.ReadAll(entry)
}

// Verify reads the whole backup and compares it with its manifest and its
// checksums.
func (b *Backup) Verify(ctx context.Context) error {
	for _, entry := range b.archive.File {
		if err := b.verifyEntry(ctx, entry); err != nil {
			return fmt.Errorf("the backup is damaged: %s: %w", entry.Name, err)
		}
	}
	if b.Manifest.Database == "sqlite" {
		if _, err := fs.Stat(b.archive, sqliteEntry); err != nil {
			return fmt.Errorf("the backup is damaged: %w", err)
		}
		return nil
	}
	for _, t := range b.Manifest.Tables {
		err := b.readTable(t, func(rows io.Reader) error {
			_, err := io.Copy(contextWriter{ctx, io.Discard}, rows)
			return err
		})
		if err != nil {
			return fmt.Errorf("the backup is damaged: %s: %w", t.Name, err)
		}
	}
	return nil
}

// verifyEntry reads an entry to its end, where the archive compares its checksum.
func (b *Backup) verifyEntry(ctx context.Context, entry *zip.File) error {
	r, err := entry.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(contextWriter{ctx, io.Discard}, r) //nolint:gosec // nothing is kept of what is decompressed
	return err
}

// readTable gives the rows of a table to use, and compares what was read with
// the manifest.
func (b *Backup) readTable(t TableManifest, use func(rows io.Reader) error) error {
	entry, err := b.archive.Open(tableEntry(t.Name))
	if err != nil {
		return err
	}
	defer entry.Close()
	var digest rowDigest
	if err := use(io.TeeReader(entry, &digest)); err != nil {
		return err
	}
	return digest.compare(t)
}

func tableEntry(name string) string { return "tables/" + name + ".copy" }

// rowDigest adds up a hash of each line that is written to it. It does not
// depend on the order of the lines, since tables have none.
type rowDigest struct {
	rows    int64
	sum     [4]uint64
	partial []byte // a line whose end is not here yet
}

// Write implements io.Writer.
func (d *rowDigest) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte{'\n'})
		if !whole {
			d.partial = append(d.partial, line...)
			break
		}
		if len(d.partial) > 0 {
			line = append(d.partial, line...)
			d.partial = d.partial[:0]
		}
		hash := sha256.Sum256(line)
		for i := range d.sum {
			d.sum[i] += binary.BigEndian.Uint64(hash[8*i:])
		}
		d.rows++
		rest = after
	}
	return len(p), nil
}

// String is the digest as the manifest has it.
func (d *rowDigest) String() string {
	var sum []byte
	for _, part := range d.sum {
		sum = binary.BigEndian.AppendUint64(sum, part)
	}
	return hex.EncodeToString(sum)
}

func (d *rowDigest) compare(t TableManifest) error {
	switch {
	case d.rows != t.Rows:
		return fmt.Errorf("%d rows instead of %d", d.rows, t.Rows)
	case d.String() != t.Digest || len(d.partial) > 0:
		return errors.New("rows differ from those that were backed up")
	}
	return nil
}

// latestMigration is the version of the newest migration in this binary.
func latestMigration(dialect string) (string, error) {
	files, err := fs.Glob(migrations.FS, dialect+"/*.sql")
	if err != nil || len(files) == 0 {
		return "", fmt.Errorf("no migrations of %q", dialect)
	}
	return migrationVersion.FindString(slices.Max(files)), nil
}

var (
	migrationVersion = regexp.MustCompile(`\d{14}`)
	createTable      = regexp.MustCompile(`(?im)^CREATE TABLE (?:IF NOT EXISTS )?"?([a-z_]+)"?`)
)

// migratedTables lists the tables that the migrations up to a version create,
// in that order, in which foreign keys allow to fill them. Some may be gone again.
func migratedTables(dialect, version string) (tables []string, err error) {
	files, err := fs.Glob(migrations.FS, dialect+"/*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	for _, name := range files {
		if migrationVersion.FindString(name) > version {
			break
		}
		text, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			return nil, err
		}
		for _, found := range createTable.FindAllSubmatch(text, -1) {
			if table := string(found[1]); !slices.Contains(tables, table) {
				tables = append(tables, table)
			}
		}
	}
	return tables, nil
}

// backupSchema returns the database's version of the schema, and refuses what
// this release cannot back up.
func (s *Store) backupSchema(ctx context.Context) (string, error) {
	status, err := s.MigrationStatus(ctx)
	switch {
	case err != nil:
		return "", err
	case status.Current == "":
		return "", errors.New("the database holds no tables of Parley: there is nothing to back up")
	case status.Ahead:
		return "", errors.New("a newer release of Parley has migrated this database; back it up with that release")
	}
	return status.Current, nil
}

// AnyUser returns the id of one user, "" if there is none.
func (s *Store) AnyUser(ctx context.Context) (user string, err error) {
	err = s.read(ctx, "any_user", allUsers, func(ctx context.Context, db bun.IDB) error {
		err := db.QueryRowContext(ctx, "SELECT user_id FROM chat_users LIMIT 1").Scan(&user)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	return user, err
}

// contextWriter stops when its context is done.
type contextWriter struct {
	ctx context.Context
	io.Writer
}

// Write implements io.Writer.
func (w contextWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.Writer.Write(p)
}
