// Package sqlstore keeps conversations, messages, runs and the audit in SQL:
// Postgres for many instances, SQLite for one. It is one store with two
// dialects. What differs between them stands in dialect.go (and in the two
// migration directories); everything else is written once, in SQL that both
// understand, and held by one contract suite.
//
// Each port method is one transaction and says the user in every statement.
// Nothing here waits for a provider, so a connection is never held for longer
// than a few statements. Arguments are written into the statement's text by
// Bun, which lets several statements travel in one round trip (see batch).
package sqlstore

import (
	"context"
	"database/sql"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"parley/ports"
)

// Options configure a store. Only URL is required.
type Options struct {
	// URL is postgres://... or postgresql://..., else the path of a SQLite file.
	URL string
	// ExecMode is pgx's default_query_exec_mode, for statements that Bun builds:
	// it writes arguments into their text, so a statement cache would never hit.
	// The default, "auto", sends them as "exec" does, in one round trip, and the
	// statements of a turn prepared, on connections that reach Postgres itself.
	// "exec" prepares nothing, as it must be behind PgBouncer; auto sees that too.
	ExecMode string
	// SearchPath names the schemas of Postgres in which tables are looked up.
	// Migrate creates the first one, and all tables in it. Empty: the server's
	// default.
	SearchPath []string
	// MaxConns bounds the pool; default 12. A URL's pool_max_conns is ignored.
	MaxConns int
	// AcquireTimeout bounds the wait for a connection; default 1s.
	AcquireTimeout time.Duration
	// Timeout bounds one call of a port method, the wait included; default 2s.
	Timeout time.Duration
	// RowSecurity has Postgres restrict every transaction to the rows of the
	// user that it is for; see CheckRowSecurity. SQLite has no such thing.
	RowSecurity bool
	// Now is the clock of leases on SQLite, which has one process; Postgres
	// uses its own. Default time.Now.
	Now ports.Clock
	// Hooks see every statement. StatementName tells them whose it is.
	Hooks []bun.QueryHook
}

// Store is the database. It is safe for concurrent use.
type Store struct {
	opt     Options
	dialect dialect
	db      *bun.DB // writes; on Postgres, reads as well
	readers *bun.DB // reads; the same as db on Postgres
	owned   chan struct{}
	answers answers
	rls     bool // row-level security is on

	userHash func(user string) string // of erased users; see SetUserHash

	settings   []setting              // of every session of Postgres
	generation atomic.Int64           // of the sessions; older ones are replaced
	overridden atomic.Pointer[string] // names of settings with other defaults, between commas
	file       string                 // of SQLite
	diskFull   atomic.Bool            // the last statement that needed room found none
}

var (
	_ ports.Runs     = (*Store)(nil)
	_ ports.History  = (*Store)(nil)
	_ ports.Audit    = (*Store)(nil)
	_ ports.Accounts = (*Store)(nil)
	_ ports.Health   = (*Store)(nil)
)

// Open prepares a store. A SQLite file is created (mode 0600) if there is
// none; Postgres is not asked for anything yet, so that a database that is
// away delays nothing. Call Migrate before the first use.
func Open(ctx context.Context, opt Options) (*Store, error) {
	if opt.ExecMode == "" {
		opt.ExecMode = "auto"
	}
	if opt.MaxConns <= 0 {
		opt.MaxConns = 12
	}
	if opt.AcquireTimeout <= 0 {
		opt.AcquireTimeout = time.Second
	}
	if opt.Timeout <= 0 {
		opt.Timeout = 2 * time.Second
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	s := &Store{opt: opt, owned: make(chan struct{}, 1)}
	var err error
	if isPostgres(opt.URL) {
		err = s.openPostgres()
	} else {
		err = s.openSQLite(ctx)
	}
	if err != nil {
		return nil, err
	}
	s.rls = opt.RowSecurity && s.dialect.name == "postgres"
	for _, hook := range opt.Hooks {
		s.db = s.db.WithQueryHook(hook)
		if s.readers != nil {
			s.readers = s.readers.WithQueryHook(hook)
		}
	}
	if s.readers == nil {
		s.readers = s.db
	}
	return s, nil
}

// Close closes all connections. Calls under way fail.
func (s *Store) Close() error {
	err := s.readers.Close()
	if s.db != s.readers {
		if e := s.db.Close(); err == nil {
			err = e
		}
	}
	return err
}

// DB is the pool, for collectors of statistics.
func (s *Store) DB() *sql.DB { return s.db.DB }

// Dialect names the database: "postgres" or "sqlite".
func (s *Store) Dialect() string { return s.dialect.name }
