package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	_ "modernc.org/sqlite" // registers the driver "sqlite"

	"parley/adapters/sqlstore/rows"
)

// dialect is what differs between the databases.
type dialect struct {
	name string
	// lockRow ends a SELECT whose rows nobody else may change before commit.
	// Weaker than FOR UPDATE, so that inserts that refer to the row go on.
	// SQLite has one writer: there is nothing to lock.
	lockRow string
	// skipLocked does the same and passes over rows that others hold.
	skipLocked string
	// elements selects the elements of a JSON array of text.
	elements string
	// clock is the time d from now by the clock that leases go by.
	clock func(d time.Duration) any
}

func isPostgres(url string) bool {
	return strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
}

func (s *Store) openPostgres() error {
	config, err := pgx.ParseConfig(s.opt.URL) // its errors hide the password
	if err != nil {
		return fmt.Errorf("read database URL: %w", err)
	}
	auto := s.opt.ExecMode == "auto"
	mode, ok := execModes[s.opt.ExecMode]
	if !ok {
		return fmt.Errorf("read database URL: unknown exec mode %q", s.opt.ExecMode)
	}
	config.DefaultQueryExecMode = mode
	config.ConnectTimeout = s.opt.AcquireTimeout
	// Bun quotes text by the standard's rule; a server that is set to read
	// backslashes in it must not.
	config.RuntimeParams["standard_conforming_strings"] = "on"
	config.RuntimeParams["timezone"] = "UTC"
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "parley"
	}
	db := stdlib.OpenDB(*config, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		// A pooler in between gives clients a number of its own for the session
		// that they seem to have.
		var backend uint32
		err := conn.QueryRow(ctx, "SELECT pg_backend_pid(), set_config('idle_in_transaction_session_timeout', '"+
			strconv.FormatInt(idleInTransaction.Milliseconds(), 10)+"', false)").Scan(&backend, nil)
		conn.PgConn().CustomData()[directKey] = auto && backend == conn.PgConn().PID()
		return err
	}))
	db.SetMaxOpenConns(s.opt.MaxConns)
	db.SetMaxIdleConns(s.opt.MaxConns)
	db.SetConnMaxIdleTime(5 * time.Minute)
	db.SetConnMaxLifetime(time.Hour) // a failover or a new password is noticed
	s.db = bun.NewDB(db, pgdialect.New())
	s.dialect = dialect{
		name:       "postgres",
		lockRow:    " FOR NO KEY UPDATE",
		skipLocked: " FOR UPDATE SKIP LOCKED",
		elements:   "SELECT jsonb_array_elements_text(?)",
		clock: func(d time.Duration) any {
			return bun.Safe("clock_timestamp() + interval '" + strconv.FormatInt(d.Microseconds(), 10) + " microseconds'")
		},
	}
	return nil
}

// idleInTransaction ends the session of an instance that froze, or lost its
// way, in the middle of a transaction. Its locks would otherwise keep everyone
// else from the runs that it held for as long as it is frozen, leases or not.
// It is set by a statement, since PgBouncer refuses it at start-up.
const idleInTransaction = 5 * time.Second

// directKey is where a connection remembers that statements prepared on it
// stay.
const directKey = "parley.direct"

// direct reports whether a connection reaches Postgres itself.
func (s *Store) direct(conn bun.Conn) (yes bool) {
	conn.Raw(func(driver any) error { //nolint:errcheck // it says no
		yes, _ = driver.(*stdlib.Conn).Conn().PgConn().CustomData()[directKey].(bool)
		return nil
	})
	return yes
}

var execModes = map[string]pgx.QueryExecMode{
	"auto":            pgx.QueryExecModeExec,
	"exec":            pgx.QueryExecModeExec,
	"simple_protocol": pgx.QueryExecModeSimpleProtocol,
	"cache_describe":  pgx.QueryExecModeCacheDescribe,
	"describe_exec":   pgx.QueryExecModeDescribeExec,
	"cache_statement": pgx.QueryExecModeCacheStatement,
}

func (s *Store) openSQLite(ctx context.Context) error {
	path := strings.TrimPrefix(s.opt.URL, "file:")
	if path == "" {
		return fmt.Errorf("open SQLite file: no path")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("open SQLite file: %w", err)
	}
	// SQLite gives its -wal and -shm files the mode of the database.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open SQLite file: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("open SQLite file: %w", err)
	}
	// FULL: what is committed survives the loss of power, not only of the process.
	// Recursive triggers: a row that is replaced counts as deleted.
	dsn := (&url.URL{Scheme: "file", OmitHost: true, Path: path}).String() +
		"?_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)&_pragma=synchronous(FULL)&_pragma=recursive_triggers(1)"
	writer, err := sql.Open("sqlite", dsn+"&_pragma=journal_mode(WAL)&_txlock=immediate")
	if err != nil {
		return fmt.Errorf("open SQLite file: %w", err)
	}
	writer.SetMaxOpenConns(1)
	reader, err := sql.Open("sqlite", dsn+"&_pragma=query_only(1)")
	if err != nil {
		return fmt.Errorf("open SQLite file: %w", err)
	}
	reader.SetMaxOpenConns(s.opt.MaxConns)
	reader.SetMaxIdleConns(s.opt.MaxConns)
	s.db = bun.NewDB(writer, sqlitedialect.New())
	s.readers = bun.NewDB(reader, sqlitedialect.New())
	s.dialect = dialect{
		name:     "sqlite",
		elements: "SELECT value FROM json_each(?)",
		clock:    func(d time.Duration) any { return rows.Time(s.opt.Now().Add(d)) },
	}
	if err := writer.PingContext(ctx); err != nil {
		return fmt.Errorf("open SQLite file: %w", err)
	}
	return nil
}
