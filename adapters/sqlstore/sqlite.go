package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"modernc.org/sqlite"

	"parley/adapters/sqlstore/pipeline"
	"parley/adapters/sqlstore/rows"
)

func (s *Store) openSQLite(ctx context.Context) error {
	path := strings.TrimPrefix(s.opt.URL, "file:")
	if path == "" {
		return fmt.Errorf("open SQLite file: no path")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("open SQLite file: %w", err)
	}
	// SQLite gives its -wal and -shm files the mode of the database file.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open SQLite file: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("open SQLite file: %w", err)
	}
	// synchronous(FULL): commits survive a power cut, not only a crash of the
	// process. recursive_triggers: REPLACE fires delete triggers.
	dsn := (&url.URL{Scheme: "file", OmitHost: true, Path: path}).String() +
		"?_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)&_pragma=synchronous(FULL)&_pragma=recursive_triggers(1)"
	writer := sql.OpenDB(pipeline.KeepPrepared(&sqlite.Driver{}, dsn+"&_pragma=journal_mode(WAL)&_txlock=immediate"))
	writer.SetMaxOpenConns(1)
	reader := sql.OpenDB(pipeline.KeepPrepared(&sqlite.Driver{}, dsn+"&_pragma=query_only(1)"))
	reader.SetMaxOpenConns(s.opt.MaxConns)
	reader.SetMaxIdleConns(s.opt.MaxConns)
	s.file = path
	s.db = bun.NewDB(writer, sqlitedialect.New())
	s.readers = bun.NewDB(reader, sqlitedialect.New())
	s.dialect = dialect{
		name:     "sqlite",
		queues:   1,
		maxGroup: 8,
		elements: "SELECT value FROM json_each(?)",
		behind:   func(text, n string) string { return "CAST(substr(CAST(" + text + " AS BLOB), " + n + " + 1) AS TEXT)" },
		clock:    func(d time.Duration) any { return rows.Time(s.opt.Now().Add(d)) },
	}
	if err := writer.PingContext(ctx); err != nil {
		return fmt.Errorf("open SQLite file: %w", err)
	}
	return nil
}
