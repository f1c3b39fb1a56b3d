package pipeline

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/uptrace/bun"
)

// Session is what a connection to Postgres allows.
type Session struct {
	Prepares bool // statements prepared on it stay
	// Settings begin every transaction behind a pooler, where each transaction may
	// have another session of the server.
	Settings []Stmt
	// NeedsTx: single statements need a transaction too, for the settings.
	NeedsTx bool
}

// Begin is what goes to the database together with BEGIN.
type Begin struct {
	Scope []Stmt // sets what the transaction may see
	// Lock selects a row to lock, if it exists. Locked tells whether it does.
	Lock *Stmt
	// Prelude returns further statements, whose rows the transaction's function
	// finds scanned: lists as ExecMerged takes them.
	Prelude func() [][]Stmt
}

func (b Begin) prelude() [][]Stmt {
	if b.Prelude == nil {
		return nil
	}
	return b.Prelude()
}

// TxNotStartedError is an error from before a transaction's function was called.
// Nothing was changed.
type TxNotStartedError struct{ Err error }

func (e TxNotStartedError) Error() string { return e.Err.Error() }

func (e TxNotStartedError) Unwrap() error { return e.Err }

// pipelineTx is a transaction of Postgres whose BEGIN and COMMIT are statements
// like others, so that they can travel with others; or the connection alone.
type pipelineTx struct {
	bun.Conn
	Session
	pipe   *Pipeline // of the connection
	locked bool      // Begin.Lock has found a row
	ended  bool
}

// Locked reports whether the row of Begin.Lock existed and is locked.
func Locked(tx bun.IDB) bool {
	t, ok := tx.(*pipelineTx)
	return ok && t.locked
}

// Prepares reports whether Exec prepares statements on this connection or
// transaction.
func Prepares(tx bun.IDB) bool {
	t, ok := tx.(*pipelineTx)
	return ok && t.Prepares
}

// RunWithoutTx calls fn with a connection to Postgres and no transaction.
func (p *Pipeline) RunWithoutTx(ctx context.Context, conn bun.Conn, session Session, fn func(ctx context.Context, db bun.IDB) error) error {
	return fn(ctx, &pipelineTx{Conn: conn, Session: session, pipe: p})
}

// RunPipelined calls fn in a transaction of Postgres.
func (p *Pipeline) RunPipelined(ctx context.Context, conn bun.Conn, session Session, begin Begin, fn func(ctx context.Context, tx bun.IDB) error) (err error) {
	tx := &pipelineTx{Conn: conn, Session: session, pipe: p}
	defer func() {
		if r := recover(); r != nil { // the pool must not hand out a connection in a transaction
			tx.rollback(ctx)
			panic(r)
		}
	}()
	if err = p.begin(ctx, tx, begin); err != nil {
		tx.rollback(ctx)
		return TxNotStartedError{err}
	}
	err = fn(ctx, tx)
	if err == nil && !tx.ended {
		_, err = tx.ExecContext(ctx, "COMMIT")
		tx.ended = err == nil
	}
	if err != nil {
		tx.rollback(ctx)
	}
	return err
}

// RunPlain calls fn in a transaction of the driver's. Begin's scope and lock are
// for Postgres.
func (p *Pipeline) RunPlain(ctx context.Context, conn bun.Conn, begin Begin, fn func(ctx context.Context, tx bun.IDB) error) error {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return TxNotStartedError{err}
	}
	defer tx.Rollback() //nolint:errcheck // no-op after commit; else the first error matters
	if err := p.ExecMerged(ctx, tx, begin.prelude()...); err != nil {
		return err
	}
	if err := fn(ctx, tx); err != nil {
		return err
	}
	return tx.Commit()
}

func (p *Pipeline) begin(ctx context.Context, tx *pipelineTx, begin Begin) error {
	prelude := begin.prelude()
	list := make([]Stmt, 0, len(tx.Settings)+len(begin.Scope)+2)
	list = append(append(append(list, New("BEGIN")), tx.Settings...), begin.Scope...)
	if begin.Lock != nil {
		list = append(list, begin.Lock.ScanRow(func(func(...any) error) error { tx.locked = true; return nil }))
	}
	if tx.Prepares {
		return p.execMerged(ctx, tx, list, prelude, nil)
	}
	text, err := sequence[Stmt](list).AppendQuery(p.DB.QueryGen(), nil)
	if err != nil {
		return err
	}
	begun, err := tx.ExecContext(ctx, string(text))
	if err != nil {
		return err
	}
	if begin.Lock != nil {
		n, err := begun.RowsAffected() // by the last statement: the rows that it locked
		tx.locked = err == nil && n == 1
	}
	return p.ExecMerged(ctx, tx, prelude...)
}

// rollback ends a transaction that failed. A connection on which that is not
// possible is closed, so that the server releases its locks and the pool does
// not hand it out.
func (tx *pipelineTx) rollback(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, err := tx.ExecContext(ctx, "ROLLBACK"); err != nil {
		tx.Raw(func(any) error { return driver.ErrBadConn }) //nolint:errcheck // that is the error
	}
}
