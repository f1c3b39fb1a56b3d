package sqlstore

import (
	"archive/zip"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// backupSQLite copies the database into a file, checks the copy and archives it.
func (s *Store) backupSQLite(ctx context.Context, archive *zip.Writer, m *Manifest, opt BackupOptions) (err error) {
	ctx = context.WithValue(ctx, statementKey{}, "backup")
	if _, err := s.backupSchema(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeSQLite(opt.Scratch)) }()
	// Made here for its mode: SQLite fills an empty file.
	if err := createFile(opt.Scratch); err != nil {
		return err
	}
	if _, err := s.db.DB.ExecContext(ctx, "VACUUM INTO ?", opt.Scratch); err != nil {
		return translate(ctx, err)
	}
	if err := s.checkCopy(ctx, m, opt); err != nil {
		return err
	}
	file, err := os.Open(opt.Scratch)
	if err != nil {
		return err
	}
	defer file.Close()
	entry, err := archive.Create(sqliteEntry)
	if err != nil {
		return err
	}
	_, err = io.Copy(entry, file)
	return err
}

// checkCopy opens the copy of a database and fills in the manifest.
func (s *Store) checkCopy(ctx context.Context, m *Manifest, opt BackupOptions) (err error) {
	copied, err := Open(ctx, Options{URL: opt.Scratch, Now: s.opt.Now})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, copied.Close()) }()
	status, err := copied.MigrationStatus(ctx)
	if err != nil {
		return err
	}
	m.Schema = status.Current
	if err := copied.checkIntegrity(ctx); err != nil {
		return err
	}
	if m.Tables, err = copied.countTables(ctx, m.Schema); err != nil {
		return err
	}
	if opt.Check == nil {
		return nil
	}
	return opt.Check(ctx, copied)
}

// checkIntegrity has SQLite look for damage in the whole file.
func (s *Store) checkIntegrity(ctx context.Context) error {
	var verdict string
	if err := s.readers.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&verdict); err != nil {
		return translate(ctx, err)
	}
	if verdict != "ok" {
		return fmt.Errorf("the database file is damaged: %s", verdict)
	}
	var table, parent sql.NullString
	var row, key sql.NullInt64
	err := s.readers.QueryRowContext(ctx, "PRAGMA foreign_key_check").Scan(&table, &row, &parent, &key)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return translate(ctx, err)
	}
	return fmt.Errorf("the database file is damaged: a row of %s refers to a row of %s that does not exist", table.String, parent.String)
}

func (s *Store) countTables(ctx context.Context, schema string) (list []TableManifest, err error) {
	names, err := migratedTables("sqlite", schema)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		var exists bool
		err := s.readers.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?)", name).Scan(&exists)
		if err != nil {
			return nil, translate(ctx, err)
		}
		if !exists {
			continue
		}
		t := TableManifest{Name: name}
		if err := s.readers.QueryRowContext(ctx, "SELECT count(*) FROM "+name).Scan(&t.Rows); err != nil {
			return nil, translate(ctx, err)
		}
		list = append(list, t)
	}
	return list, nil
}

// RestoreSQLite makes the database file at path from a backup. The file appears
// when it is whole and checked. There may be none yet.
func RestoreSQLite(ctx context.Context, b *Backup, path string) (err error) {
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: there is %s", ErrOccupied, name)
		}
	}
	part := path + ".part"
	if err := removeSQLite(part); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeSQLite(part)) }()
	if err := extract(ctx, b, part); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := checkRestored(ctx, b, part); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := os.Link(part, path); err != nil { // refuses to replace a file, unlike a rename
		return fmt.Errorf("restore: %w", err)
	}
	return SyncDir(filepath.Dir(path))
}

func extract(ctx context.Context, b *Backup, path string) (err error) {
	entry, err := b.archive.Open(sqliteEntry)
	if err != nil {
		return err
	}
	defer entry.Close()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := io.Copy(contextWriter{ctx, file}, entry); err != nil {
		return err
	}
	return file.Sync()
}

func checkRestored(ctx context.Context, b *Backup, path string) (err error) {
	store, err := Open(ctx, Options{URL: path})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := store.checkIntegrity(ctx); err != nil {
		return err
	}
	counted, err := store.countTables(ctx, b.Manifest.Schema)
	if err != nil {
		return err
	}
	if len(counted) != len(b.Manifest.Tables) {
		return fmt.Errorf("%d tables instead of %d", len(counted), len(b.Manifest.Tables))
	}
	for i, t := range b.Manifest.Tables {
		if counted[i].Name != t.Name || counted[i].Rows != t.Rows {
			return fmt.Errorf("%s has %d rows instead of %d", t.Name, counted[i].Rows, t.Rows)
		}
	}
	return nil
}

func createFile(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return file.Close()
}

// removeSQLite removes a database file and what SQLite keeps beside it.
func removeSQLite(path string) error {
	for _, name := range []string{path, path + "-wal", path + "-shm", path + "-journal"} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// SyncDir makes new names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
