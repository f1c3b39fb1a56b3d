// Package sqlstore stores conversations, messages, runs and the audit log in SQL:
// Postgres for many instances, SQLite for one. It is one store with two
// dialects. dialect.go, postgres.go, sqlite.go and the two migration directories
// hold what differs between them. Everything else is SQL that both understand,
// tested by one contract suite.
//
// Each port method is one transaction, and every statement names the user. No
// method waits for a provider, so that a connection is held for a few statements
// only.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/pipeline"
	"parley/ports"
)

// Options configure a store. Only URL is required.
type Options struct {
	// URL is postgres://... or postgresql://..., else the path of a SQLite file.
	URL string
	// ExecMode is pgx's default_query_exec_mode for statements that Bun builds. Bun
	// writes arguments into their text, so that a statement cache would never hit.
	// "auto", the default, sends them as "exec" does, in one round trip, and
	// prepares the statements of a turn on connections to Postgres itself. "exec"
	// prepares nothing, as PgBouncer requires; auto detects a pooler, too.
	ExecMode string
	// SearchPath names the schemas of Postgres in which tables are looked up.
	// Migrate creates the first one, and all tables in it. Empty: the server's
	// default.
	SearchPath []string
	// MaxConns bounds the pool; default 12.
	MaxConns int
	// AcquireTimeout bounds the wait for a connection, and opening one; default 800 ms.
	AcquireTimeout time.Duration
	// Timeout bounds one call of a port method, including that wait; default 2s.
	Timeout time.Duration
	// RowSecurity has Postgres restrict every transaction to the rows of the
	// user that it is for; see CheckRowSecurity. SQLite has no such thing.
	RowSecurity bool
	// Ungrouped has every admission and every end of a run be a transaction of its
	// own. By default, those that come while the database is busy share one.
	Ungrouped bool
	// Replicas answer reads on which no decision depends (docs/adr/0071).
	Replicas []Replica
	// ReplicaMaxLag is how long a read waits for a replica to replay what was committed
	// before the read began, until the primary is read instead; default 100 ms.
	ReplicaMaxLag time.Duration
	// Webhooks has the ends of runs add events to the outbox.
	Webhooks bool
	// Now is the clock of leases on SQLite; on Postgres it is the server's.
	// Default time.Now.
	Now ports.Clock
	// Hooks are called for every statement. StatementName returns the method that
	// it belongs to.
	Hooks []bun.QueryHook
	// NotConnected, if set, is called when a call got no connection: all were in use,
	// or a new one failed. No hook sees such a call.
	NotConnected func(ctx context.Context, took time.Duration, err error)
}

// Store is the database. It is safe for concurrent use.
type Store struct {
	opt      Options
	dialect  dialect
	pipe     *pipeline.Pipeline
	db       *bun.DB   // writes; on Postgres, reads of the primary as well
	readers  *bun.DB   // reads; the same as db on Postgres
	monitor  *bun.DB   // one connection of Postgres for Locks and Queue; the same as readers on SQLite
	replicas *replicas // nil: there are none
	owned    chan struct{}
	answers  answers
	tails    tails
	turns    []turnQueue

	searchDue chan string // users whose search index may lack a segment
	rls       bool        // row-level security is on

	userHash func(user string) string // of erased users; see SetUserHash

	settings   []setting              // of every session of Postgres
	generation atomic.Int64           // of the sessions; older ones are replaced
	pooled     atomic.Bool            // the newest session prepares no statements
	pooler     atomic.Bool            // the newest session leads to a pooler
	overridden atomic.Pointer[string] // names of settings with other defaults, between commas
	file       string                 // of SQLite
	diskFull   atomic.Bool            // the last statement that needed room found none
}

var (
	_ ports.Runs     = (*Store)(nil)
	_ ports.History  = (*Store)(nil)
	_ ports.Audit    = (*Store)(nil)
	_ ports.Accounts = (*Store)(nil)
	_ ports.Outbox   = (*Store)(nil)
	_ ports.EventLog = (*Store)(nil)
)

// Open opens a store. A SQLite file is created, with mode 0600, if it does not
// exist. Postgres is not waited for, so that a server that is down causes no
// delay. Call Migrate before the first use.
func Open(ctx context.Context, opt Options) (*Store, error) {
	if opt.ExecMode == "" {
		opt.ExecMode = "auto"
	}
	if opt.MaxConns <= 0 {
		opt.MaxConns = 12
	}
	if opt.AcquireTimeout <= 0 {
		opt.AcquireTimeout = 800 * time.Millisecond // so that the refusal comes within a second
	}
	if opt.Timeout <= 0 {
		opt.Timeout = 2 * time.Second
	}
	if opt.ReplicaMaxLag <= 0 {
		opt.ReplicaMaxLag = 100 * time.Millisecond
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	s := &Store{opt: opt, owned: make(chan struct{}, 1), searchDue: make(chan string, 64)}
	var err error
	if isPostgres(opt.URL) {
		err = s.openPostgres()
	} else {
		err = s.openSQLite(ctx)
	}
	if err != nil {
		return nil, err
	}
	s.turns = make([]turnQueue, s.dialect.queues)
	s.rls = opt.RowSecurity && s.dialect.name == "postgres"
	hooks := append(slices.Clone(opt.Hooks), &s.answers)
	for _, db := range []**bun.DB{&s.db, &s.readers, &s.monitor} {
		if *db != nil {
			*db = withHooks(*db, hooks)
		}
	}
	s.pipe = &pipeline.Pipeline{DB: s.db, Hooks: hooks}
	if s.readers == nil {
		s.readers = s.db
	}
	if s.monitor == nil {
		s.monitor = s.readers
	}
	if err := s.openReplicas(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// withHooks has hooks see the statements of a pool.
func withHooks(db *bun.DB, hooks []bun.QueryHook) *bun.DB {
	for _, hook := range hooks {
		db = db.WithQueryHook(hook)
	}
	return db
}

// Close closes all connections. Concurrent calls fail.
func (s *Store) Close() error {
	err := s.readers.Close()
	for _, other := range []*bun.DB{s.db, s.monitor} {
		if other != s.readers {
			err = errors.Join(err, other.Close())
		}
	}
	if s.replicas != nil {
		err = errors.Join(err, s.replicas.close())
	}
	return err
}

// DB returns the connection pool, for its statistics.
func (s *Store) DB() *sql.DB { return s.db.DB }

// Dialect returns "postgres" or "sqlite".
func (s *Store) Dialect() string { return s.dialect.name }
