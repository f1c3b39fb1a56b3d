package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"math/rand/v2"
	"sync/atomic"
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
func (s *Store) write(ctx context.Context, name string, who rlsScope, fn func(ctx context.Context, tx bun.IDB) error) error {
	return s.change(ctx, name, true, who, nothing, fn)
}

// writeOnto is write for a transaction that always begins with the same
// statements: they travel with its beginning, and fn finds what they gave.
// opening and fn may run more than once.
func (s *Store) writeOnto(ctx context.Context, name string, who rlsScope, opening func() []statement, fn func(ctx context.Context, tx bun.IDB) error) error {
	return s.change(ctx, name, true, who, opening, fn)
}

func nothing() []statement { return nil }

func (s *Store) change(ctx context.Context, name string, within bool, who rlsScope, opening func() []statement, fn func(ctx context.Context, tx bun.IDB) error) error {
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
		if err = s.try(ctx, s.db, within, who, opening, fn); err == nil || !retryable(ctx, err) || readOnly(err) && try > 0 {
			break
		}
	}
	return translate(ctx, err)
}

// writeOwned is write for a single statement that changes many runs of one
// owner. They go one after another: two of them at once would lock the same
// rows in different orders. A statement is a transaction by itself, unless
// row-level security wants to be told whose.
func (s *Store) writeOwned(ctx context.Context, name string, who rlsScope, fn func(ctx context.Context, tx bun.IDB) error) error {
	select {
	case s.owned <- struct{}{}:
		defer func() { <-s.owned }()
		return s.change(ctx, name, s.rls, who, nothing, fn)
	case <-ctx.Done():
		return translate(ctx, ctx.Err())
	}
}

// read runs fn, which only reads, on one connection. It needs no transaction,
// unless row-level security does.
func (s *Store) read(ctx context.Context, name string, who rlsScope, fn func(ctx context.Context, db bun.IDB) error) error {
	ctx, cancel := s.begin(ctx, name)
	defer cancel()
	var err error
	for range retries {
		if err = s.try(ctx, s.readers, s.rls, who, nothing, fn); err == nil || ctx.Err() != nil || fault.As(err) != nil || !lostConnection(err) {
			break // a read can be repeated on another connection
		}
	}
	return translate(ctx, err)
}

// try runs fn on a connection, in a transaction or without one.
func (s *Store) try(ctx context.Context, db *bun.DB, within bool, who rlsScope, opening func() []statement, fn func(ctx context.Context, tx bun.IDB) error) (err error) {
	conn, err := s.acquire(ctx, db)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer func() {
		s.noteTrouble(err)
		if err == nil || fault.As(err) != nil { // a fault is a decision about what the database answered
			s.answers.add()
		}
	}()
	if s.dialect.name == "postgres" {
		tx := &textTx{Conn: conn, session: s.session(conn)}
		if !within && !tx.wraps {
			return fn(ctx, tx)
		}
		return s.inText(ctx, tx, who, opening, fn)
	}
	if !within {
		return fn(ctx, conn)
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return errBegin{err}
	}
	defer tx.Rollback() //nolint:errcheck // no-op after commit; else the first error matters
	if err := s.send(ctx, tx, opening()...); err != nil {
		return err
	}
	if err := fn(ctx, tx); err != nil {
		return err
	}
	return tx.Commit()
}

// textTx is a transaction whose beginning and end are statements like others,
// so that they can travel with others; or, for what needs no transaction, the
// connection alone.
type textTx struct {
	bun.Conn
	session
	locked bool // the user's row, from the beginning
	ended  bool
}

// locked reports whether a transaction began with a lock on its user.
func locked(tx bun.IDB) bool {
	t, ok := tx.(*textTx)
	return ok && t.locked
}

// start begins the transaction. What goes wrong here has changed nothing.
func (s *Store) start(ctx context.Context, tx *textTx, who rlsScope, opening []statement) error {
	list := make([]statement, 0, len(opening)+4)
	list = append(append(list, say("BEGIN")), tx.prelude...)
	if s.rls {
		list = append(list, who.statements()...)
	}
	if who.lock { // lockUser's row, which may not be there yet
		list = append(list, say("SELECT 1 FROM chat_users WHERE user_id = ?"+s.dialect.lockRow, who.user).
			into(func(func(...any) error) error { tx.locked = true; return nil }))
	}
	if tx.prepares {
		return s.send(ctx, tx, append(list, opening...)...)
	}
	text, err := sequence[statement](list).AppendQuery(s.db.QueryGen(), nil)
	if err != nil {
		return err
	}
	begun, err := tx.ExecContext(ctx, string(text))
	if err != nil {
		return err
	}
	if who.lock {
		n, err := begun.RowsAffected() // by the last statement: the rows that it locked
		tx.locked = err == nil && n == 1
	}
	return s.send(ctx, tx, opening...)
}

func (s *Store) inText(ctx context.Context, tx *textTx, who rlsScope, opening func() []statement, fn func(ctx context.Context, tx bun.IDB) error) (err error) {
	defer func() {
		if p := recover(); p != nil { // nobody else may get a connection in mid-transaction
			tx.abandon(ctx)
			panic(p)
		}
	}()
	if err = s.start(ctx, tx, who, opening()); err != nil {
		tx.abandon(ctx)
		return errBegin{err}
	}
	err = fn(ctx, tx)
	if err == nil && !tx.ended {
		_, err = tx.ExecContext(ctx, "COMMIT")
		tx.ended = err == nil
	}
	if err != nil {
		tx.abandon(ctx)
	}
	return err
}

// abandon ends a transaction that failed. A connection that cannot be told so
// is closed, which tells the server: nobody else may get it, nor wait for its
// locks.
func (tx *textTx) abandon(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, err := tx.ExecContext(ctx, "ROLLBACK"); err != nil {
		tx.Raw(func(any) error { return driver.ErrBadConn }) //nolint:errcheck // that is the error
	}
}

func (s *Store) begin(ctx context.Context, name string) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithValue(ctx, statementKey{}, name), s.opt.Timeout)
}

// acquire takes a connection from the pool, or gives up after AcquireTimeout:
// as Overloaded if all connections are in use and the database has answered
// other calls meanwhile, else as Unavailable.
func (s *Store) acquire(ctx context.Context, db *bun.DB) (bun.Conn, error) {
	began := time.Now()
	wait, cancel := context.WithTimeout(ctx, s.opt.AcquireTimeout)
	defer cancel()
	conn, err := db.Conn(wait)
	if err != nil && wait.Err() != nil && !errors.Is(ctx.Err(), context.Canceled) {
		if stats := db.Stats(); stats.InUse >= stats.MaxOpenConnections && s.answers.since(began) {
			return conn, fault.Wrap(err, fault.Overloaded, "The server is busy; please try again").After(time.Second)
		}
		return conn, unavailable(err)
	}
	if err != nil {
		return conn, errBegin{err}
	}
	return conn, nil
}

// answers remembers when the database last answered a call.
type answers struct{ last atomic.Int64 }

func (a *answers) add() { a.last.Store(time.Now().UnixNano()) }

func (a *answers) since(t time.Time) bool { return a.last.Load() >= t.UnixNano() }

// batch sends statements in one round trip. Arguments are part of the text, so
// both drivers take them as one simple query; the first that fails fails all.
func batch(ctx context.Context, tx bun.IDB, gen schema.QueryGen, statements ...schema.QueryAppender) error {
	text, err := sequence[schema.QueryAppender](statements).AppendQuery(gen, nil)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, string(text))
	return err
}

// lastBatch is batch for the last statements of a transaction. On Postgres the
// COMMIT goes with them: it is reached only if none of them fails.
func lastBatch(ctx context.Context, tx bun.IDB, gen schema.QueryGen, statements ...schema.QueryAppender) error {
	text, ok := tx.(*textTx)
	if !ok {
		return batch(ctx, tx, gen, statements...)
	}
	err := batch(ctx, tx, gen, append(statements, bun.SafeQuery("COMMIT"))...)
	text.ended = err == nil
	return err
}

// sequence is statements to be run one after another.
type sequence[Q schema.QueryAppender] []Q

// AppendQuery implements schema.QueryAppender.
func (q sequence[Q]) AppendQuery(gen schema.QueryGen, b []byte) ([]byte, error) {
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
