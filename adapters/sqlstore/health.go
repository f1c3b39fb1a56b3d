package sqlstore

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/uptrace/bun"

	"parley/domain/fault"
)

// ErrDiskFull and ErrReadOnly are wrapped by the errors of CheckWritable while the
// database answers but refuses writes.
var (
	ErrDiskFull = errors.New("disk full")
	ErrReadOnly = errors.New("read-only")
)

// Ping returns an error unless the database answers within 2 s. It returns nil
// when all connections are in use by calls that the database answers.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	err := s.read(ctx, "ping", allUsers, func(ctx context.Context, db bun.IDB) error {
		var answer int
		return db.QueryRowContext(ctx, "SELECT 1").Scan(&answer)
	})
	if fault.Is(err, fault.Overloaded) {
		return nil
	}
	return err
}

// CheckWritable returns an error unless the database accepts writes. It tries one
// that is rolled back: of no row, or of probeSize bytes after a write has failed
// because the disk was full.
func (s *Store) CheckWritable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	full := s.diskFull.Load()
	var err error
	if s.dialect.name == "sqlite" {
		err = s.checkFile(ctx, full)
	} else {
		err = s.writeNothing(ctx, full)
	}
	if full && err == nil {
		s.diskFull.Store(false)
	}
	switch {
	case fault.Is(err, fault.Overloaded): // all connections are in use and answered
		return nil
	case errors.Is(err, ErrDiskFull), errors.Is(err, ErrReadOnly):
		return err
	case diskFull(err), s.diskFull.Load():
		return fault.Wrap(ErrDiskFull, fault.Unavailable, diskFullMessage)
	case readOnly(err):
		return fault.Wrap(ErrReadOnly, fault.Unavailable, readOnlyMessage)
	}
	return err
}

// probeSize exceeds the free space of the pages in use.
const probeSize = 128 << 10

// errUndo rolls a transaction back.
var errUndo = errors.New("rolled back")

// writeNothing updates no row or, if large, inserts one of probeSize bytes, and
// rolls back.
func (s *Store) writeNothing(ctx context.Context, large bool) error {
	err := s.write(ctx, "check_writable", allUsers, func(ctx context.Context, tx bun.IDB) error {
		statement := stmt("UPDATE chat_users SET session_version = session_version WHERE false")
		if large {
			filling := make([]byte, probeSize)
			rand.Read(filling)
			statement = stmt("INSERT INTO chat_users (user_id, leaf_id, created_at) VALUES (?, ?, ?)",
				"parley-check-"+rand.Text(), base64.StdEncoding.EncodeToString(filling), time.Now())
		}
		if err := s.pipe.Exec(ctx, tx, statement); err != nil {
			return err
		}
		return errUndo
	})
	if errors.Is(err, errUndo) {
		return nil
	}
	return err
}

// checkFile checks SQLite's file and the free space of its disk. It does not wait
// for the writer, unless the disk was full.
func (s *Store) checkFile(ctx context.Context, full bool) error {
	if err := s.Ping(ctx); err != nil {
		return err
	}
	f, err := os.OpenFile(s.file, os.O_RDWR, 0)
	if errors.Is(err, syscall.EROFS) || errors.Is(err, os.ErrPermission) {
		return fault.Wrap(ErrReadOnly, fault.Unavailable, readOnlyMessage)
	}
	if err != nil {
		return unavailable(err)
	}
	f.Close()
	var disk syscall.Statfs_t
	if err := syscall.Statfs(s.file, &disk); err == nil && disk.Bavail*uint64(disk.Bsize) < probeSize {
		return fault.Wrap(ErrDiskFull, fault.Unavailable, diskFullMessage)
	}
	if !full {
		return nil
	}
	if err := s.fillDisk(); err != nil {
		return err
	}
	return s.writeNothing(ctx, true)
}

// fillDisk writes a file of probeSize bytes beside the database, and removes it.
func (s *Store) fillDisk() error {
	f, err := os.CreateTemp(filepath.Dir(s.file), ".parley-check-*")
	if err != nil {
		return fmt.Errorf("check disk: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err = f.Write(make([]byte, probeSize)); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("check disk: %w", err)
	}
	return nil
}

// noteTrouble records errors of a call that concern all calls.
func (s *Store) noteTrouble(err error) {
	switch {
	case readOnly(err):
		s.discardSessions()
	case diskFull(err):
		s.diskFull.Store(true)
	}
}

const readOnlyMessage = "The database is read-only at the moment"

const diskFullMessage = "The server's disk is full; nothing can be saved at the moment"

func diskFull(err error) bool {
	return sqlState(err) == "53100" || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, ErrDiskFull)
}
