package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"

	"parley/domain/fault"
)

type statementKey struct{}

// StatementName returns the name of the store's call that a context belongs
// to, such as "admit"; "" outside of one. Query hooks name spans and metrics by it.
func StatementName(ctx context.Context) string {
	name, _ := ctx.Value(statementKey{}).(string)
	return name
}

// retries bounds how often a transaction is begun anew after a conflict with
// another one, or on a connection that turns out to be dead.
const retries = 4

// errBegin marks errors from before the first statement: nothing was done.
type errBegin struct{ error }

func (e errBegin) Unwrap() error { return e.error }

// write runs fn in a transaction. fn may run more than once.
func (s *Store) write(ctx context.Context, name string, fn func(ctx context.Context, tx bun.Tx) error) error {
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
		if err = s.tryWrite(ctx, fn); err == nil || !retryable(ctx, err) {
			break
		}
	}
	return translate(ctx, err)
}

// writeOwned is write for statements that change many runs of one owner. They
// go one after another: two of them at once would lock the same rows in
// different orders.
func (s *Store) writeOwned(ctx context.Context, name string, fn func(ctx context.Context, tx bun.Tx) error) error {
	select {
	case s.owned <- struct{}{}:
		defer func() { <-s.owned }()
		return s.write(ctx, name, fn)
	case <-ctx.Done():
		return translate(ctx, ctx.Err())
	}
}

func (s *Store) tryWrite(ctx context.Context, fn func(ctx context.Context, tx bun.Tx) error) error {
	conn, err := s.acquire(ctx, s.db)
	if err != nil {
		return err
	}
	defer conn.Close()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return errBegin{err}
	}
	defer tx.Rollback() //nolint:errcheck // no-op after commit; else the first error matters
	if err := fn(ctx, tx); err != nil {
		return err
	}
	return tx.Commit()
}

// read runs fn, which only reads, on one connection without a transaction.
func (s *Store) read(ctx context.Context, name string, fn func(ctx context.Context, db bun.IDB) error) error {
	ctx, cancel := s.begin(ctx, name)
	defer cancel()
	var err error
	for range retries {
		if err = s.tryRead(ctx, fn); err == nil || ctx.Err() != nil || !lostConnection(err) {
			break // a read can be repeated on another connection
		}
	}
	return translate(ctx, err)
}

func (s *Store) tryRead(ctx context.Context, fn func(ctx context.Context, db bun.IDB) error) error {
	conn, err := s.acquire(ctx, s.readers)
	if err != nil {
		return err
	}
	defer conn.Close()
	return fn(ctx, conn)
}

func (s *Store) begin(ctx context.Context, name string) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithValue(ctx, statementKey{}, name), s.opt.Timeout)
}

// acquire takes a connection from the pool, or gives up after AcquireTimeout.
func (s *Store) acquire(ctx context.Context, db *bun.DB) (bun.Conn, error) {
	wait, cancel := context.WithTimeout(ctx, s.opt.AcquireTimeout)
	defer cancel()
	conn, err := db.Conn(wait)
	if err != nil && ctx.Err() == nil && wait.Err() != nil {
		return conn, unavailable(err)
	}
	if err != nil {
		return conn, errBegin{err}
	}
	return conn, nil
}

// batch sends statements in one round trip. Arguments are part of the text, so
// both drivers take them as one simple query; the first that fails fails all.
func batch(ctx context.Context, tx bun.Tx, gen schema.QueryGen, statements ...schema.QueryAppender) error {
	text, err := sequence(statements).AppendQuery(gen, nil)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, string(text))
	return err
}

// sequence is statements to be run one after another.
type sequence []schema.QueryAppender

// AppendQuery implements schema.QueryAppender.
func (q sequence) AppendQuery(gen schema.QueryGen, b []byte) ([]byte, error) {
	var err error
	for i, statement := range q {
		if i > 0 {
			b = append(b, ";\n"...)
		}
		if b, err = statement.AppendQuery(gen, b); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// one turns sql.ErrNoRows into the fault that stands for it.
func one(err error, missing *fault.Error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return missing
	}
	return err
}

func noConversation() *fault.Error {
	return fault.New(fault.NotFound, "Conversation not found or access denied")
}

func noMessage() *fault.Error {
	return fault.New(fault.NotFound, "Message not found or access denied")
}
