package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/pipeline"
	"parley/domain/fault"
)

type statementKey struct{}

// StatementName returns the name of the store's call that a context belongs
// to, such as "admit"; "" outside of one. Query hooks name spans and metrics by it.
func StatementName(ctx context.Context) string {
	name, _ := ctx.Value(statementKey{}).(string)
	return name
}

// StatementTexts returns the statements, without arguments, of a query event that is
// several statements in one round trip; nil for a single one.
func StatementTexts(e *bun.QueryEvent) []string { return pipeline.Texts(e) }

// retries bounds how often a transaction is begun anew after a conflict with
// another one, or on a connection that turns out to be dead.
const retries = 4

// write runs fn in a transaction. fn may run more than once.
func (s *Store) write(ctx context.Context, name string, who rlsScope, fn func(ctx context.Context, tx bun.IDB) error) error {
	return s.withRetry(ctx, name, true, who, nil, fn)
}

// writeWithPrelude is write for a transaction that always begins with the same
// statements: they travel with its BEGIN, and fn finds their rows scanned.
// prelude and fn may run more than once.
func (s *Store) writeWithPrelude(ctx context.Context, name string, who rlsScope, prelude func() [][]pipeline.Stmt, fn func(ctx context.Context, tx bun.IDB) error) error {
	return s.withRetry(ctx, name, true, who, prelude, fn)
}

// withRetry calls runOnce, again after a conflict or on another connection.
func (s *Store) withRetry(ctx context.Context, name string, inTx bool, who rlsScope, prelude func() [][]pipeline.Stmt, fn func(ctx context.Context, tx bun.IDB) error) error {
	ctx, cancel := s.begin(ctx, name)
	defer cancel()
	var err error
	for try := range retries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return translate(ctx, err)
			case <-time.After(rand.N(time.Duration(try) * 20 * time.Millisecond)):
			}
		}
		if err = s.runOnce(ctx, s.db, inTx, who, prelude, fn); err == nil || !retryable(ctx, err) || readOnly(err) && try > 0 {
			break
		}
	}
	return translate(ctx, err)
}

// writeSerialized is write for a single statement that changes many runs of one
// owner. Such statements are executed one after another: two at once would lock
// the same rows in different orders. A statement is a transaction by itself,
// unless row-level security needs a scope.
func (s *Store) writeSerialized(ctx context.Context, name string, who rlsScope, fn func(ctx context.Context, tx bun.IDB) error) error {
	select {
	case s.owned <- struct{}{}:
		defer func() { <-s.owned }()
		return s.withRetry(ctx, name, s.rls, who, nil, fn)
	case <-ctx.Done():
		return translate(ctx, ctx.Err())
	}
}

// read runs fn, which only reads, on one connection to the primary. It needs no
// transaction, unless row-level security does. readReplicated may read a replica.
func (s *Store) read(ctx context.Context, name string, who rlsScope, fn func(ctx context.Context, db bun.IDB) error) error {
	return s.readWithin(ctx, name, s.opt.Timeout, who, fn)
}

// readFunc is read or readReplicated.
type readFunc func(ctx context.Context, name string, who rlsScope, fn func(ctx context.Context, db bun.IDB) error) error

// readWithin is read with another timeout; 0: none.
func (s *Store) readWithin(ctx context.Context, name string, timeout time.Duration, who rlsScope, fn func(ctx context.Context, db bun.IDB) error) error {
	ctx, cancel := withTimeout(context.WithValue(ctx, statementKey{}, name), timeout)
	defer cancel()
	var err error
	for range retries {
		if err = s.runOnce(ctx, s.readers, s.rls, who, nil, fn); err == nil || ctx.Err() != nil || fault.As(err) != nil || !lostConnection(err) {
			break // a read can be repeated on another connection
		}
	}
	return translate(ctx, err)
}

// runOnce runs fn on a connection, in a transaction or without one.
func (s *Store) runOnce(ctx context.Context, db *bun.DB, inTx bool, who rlsScope, prelude func() [][]pipeline.Stmt, fn func(ctx context.Context, tx bun.IDB) error) (err error) {
	began := time.Now()
	conn, err := s.acquire(ctx, db)
	if err != nil {
		if s.opt.NotConnected != nil {
			s.opt.NotConnected(ctx, time.Since(began), err)
		}
		return err
	}
	defer conn.Close()
	defer func() { s.noteTrouble(err) }()
	begin := pipeline.Begin{Prelude: prelude}
	if s.dialect.name == "sqlite" {
		if inTx {
			return s.pipe.RunPlain(ctx, conn, begin, fn)
		}
		return fn(ctx, conn)
	}
	session := s.session(conn)
	if !inTx && !session.NeedsTx {
		return s.pipe.RunWithoutTx(ctx, conn, session.Session, fn)
	}
	if s.rls {
		begin.Scope = who.statements()
	}
	if who.lock { // lockUser's row, which may not exist yet
		lock := stmt("SELECT 1 FROM chat_users WHERE user_id = ?"+s.dialect.lockRow, who.user)
		begin.Lock = &lock
	}
	return s.pipe.RunPipelined(ctx, conn, session.Session, begin, fn)
}

// stmt makes a statement.
func stmt(text string, args ...any) pipeline.Stmt { return pipeline.New(text, args...) }

func (s *Store) begin(ctx context.Context, name string) (context.Context, context.CancelFunc) {
	return withTimeout(context.WithValue(ctx, statementKey{}, name), s.opt.Timeout)
}

// withTimeout is context.WithTimeout; 0: none.
func withTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, timeout)
}

// acquire takes a connection from the pool, or gives up after AcquireTimeout:
// as Overloaded if all connections are in use and the database has answered
// statements of others meanwhile, else as Unavailable.
func (s *Store) acquire(ctx context.Context, db *bun.DB) (bun.Conn, error) {
	began := time.Now()
	wait, cancel := context.WithTimeout(ctx, s.opt.AcquireTimeout)
	defer cancel()
	conn, err := db.Conn(wait)
	if err != nil && wait.Err() != nil && !errors.Is(ctx.Err(), context.Canceled) {
		// Not those in use: one that goes from a call to the next is in use by none.
		if stats := db.Stats(); stats.OpenConnections >= stats.MaxOpenConnections && s.answers.since(began) {
			return conn, overloaded(err)
		}
		return conn, unavailable(err)
	}
	if err != nil {
		return conn, pipeline.TxNotStartedError{Err: err}
	}
	return conn, nil
}

// answers remembers when the database last answered a statement. It is a bun.QueryHook.
type answers struct{ last atomic.Int64 }

func (a *answers) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context { return ctx }

func (a *answers) AfterQuery(_ context.Context, e *bun.QueryEvent) {
	if e.Err == nil || errors.Is(e.Err, sql.ErrNoRows) {
		a.last.Store(time.Now().UnixNano())
	}
}

func (a *answers) since(t time.Time) bool { return a.last.Load() >= t.UnixNano() }

// mapNoRows turns sql.ErrNoRows into a fault.
func mapNoRows(err error, missing *fault.Error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return missing
	}
	return err
}
