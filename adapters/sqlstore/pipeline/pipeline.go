package pipeline

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"
)

// Pipeline executes statements on the connections and transactions of one
// database, and of its replicas, whose transactions have hooks of their own.
type Pipeline struct {
	DB    *bun.DB
	Hooks []bun.QueryHook // see each batch of prepared statements as one query
}

// Exec executes statements one after another; the first that fails keeps the
// rest from being executed. On a connection that reaches Postgres itself they
// are prepared once and make one round trip, and on SQLite they are prepared once.
// Behind a pooler, where the next transaction may have another session, arguments
// become text, and those statements whose rows are not wanted travel together.
func (p *Pipeline) Exec(ctx context.Context, tx bun.IDB, list ...Stmt) error {
	switch t := tx.(type) {
	case *pipelineTx:
		if t.Prepares {
			return t.pipe.execPrepared(ctx, t.Conn, [][]Stmt{list}, nil)
		}
	case bun.Tx:
		return p.execBound(ctx, t.Tx, list)
	case bun.Conn:
		return p.execBound(ctx, t.Conn, list)
	}
	gen := p.DB.QueryGen()
	var pending []schema.QueryAppender
	flush := func() error {
		if len(pending) == 0 {
			return nil
		}
		err := p.ExecText(ctx, tx, pending...)
		pending = pending[:0]
		return err
	}
	for _, q := range list {
		if q.row == nil {
			pending = append(pending, q)
			continue
		}
		if err := flush(); err != nil {
			return err
		}
		if err := q.query(ctx, tx, gen); err != nil {
			return err
		}
	}
	return flush()
}

// ExecAndCommit is Exec for the last statements of a transaction. On Postgres
// the COMMIT goes with them: it is reached only if none of them fails.
func (p *Pipeline) ExecAndCommit(ctx context.Context, tx bun.IDB, list ...Stmt) error {
	t, ok := tx.(*pipelineTx)
	if !ok {
		return p.Exec(ctx, tx, list...)
	}
	err := p.Exec(ctx, tx, append(list, commit)...)
	t.ended = err == nil
	return err
}

var commit = New("COMMIT")

// ExecText executes statements of any kind in one round trip. Arguments are part
// of the text, so both drivers take them as one simple query; the first that
// fails fails all.
func (p *Pipeline) ExecText(ctx context.Context, tx bun.IDB, list ...schema.QueryAppender) error {
	text, err := sequence[schema.QueryAppender](list).AppendQuery(p.DB.QueryGen(), nil)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, string(text))
	return err
}

// ExecTextAndCommit is ExecText for the last statements of a transaction, as
// ExecAndCommit is.
func (p *Pipeline) ExecTextAndCommit(ctx context.Context, tx bun.IDB, list ...schema.QueryAppender) error {
	t, ok := tx.(*pipelineTx)
	if !ok {
		return p.ExecText(ctx, tx, list...)
	}
	err := p.ExecText(ctx, tx, append(list, commit)...)
	t.ended = err == nil
	return err
}

// execPrepared executes lists of prepared statements, merged by merge unless that is
// nil.
func (p *Pipeline) execPrepared(ctx context.Context, conn bun.Conn, lists [][]Stmt, merge func(context.Context, *pgx.Conn) ([]Stmt, error)) error {
	return p.observed(ctx, lists, func(ctx context.Context) error {
		return conn.Raw(func(driver any) (err error) {
			conn := driver.(*stdlib.Conn).Conn()
			if merge == nil {
				return sendBatch(ctx, conn, slices.Concat(lists...))
			}
			merged, err := merge(ctx, conn)
			if err != nil {
				return err
			}
			return sendBatch(ctx, conn, merged)
		})
	})
}

// boundDB is a connection or a transaction of SQLite.
type boundDB interface {
	ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
}

// execBound executes statements on SQLite, which KeepPrepared has prepared.
func (p *Pipeline) execBound(ctx context.Context, db boundDB, list []Stmt) error {
	return p.observed(ctx, [][]Stmt{list}, func(ctx context.Context) error {
		for _, q := range list {
			text, args := p.bind(q)
			if q.row == nil {
				if _, err := db.ExecContext(ctx, text, args...); err != nil {
					return err
				}
				continue
			}
			found, err := db.QueryContext(ctx, text, args...)
			if err != nil {
				return err
			}
			if err := eachRow(found, q.row); err != nil {
				return err
			}
		}
		return nil
	})
}

// bind returns the arguments of a statement as SQLite keeps them: a time is the text
// that Bun writes. If one of them is SQL, all become text.
func (p *Pipeline) bind(q Stmt) (text string, args []any) {
	args = make([]any, len(q.args))
	for i, arg := range q.args {
		switch v := arg.(type) {
		case schema.QueryAppender:
			return p.DB.QueryGen().FormatQuery(q.text, q.args...), nil
		case time.Time:
			args[i] = strings.Trim(string(p.DB.Dialect().AppendTime(nil, v)), "'")
		default:
			args[i] = v
		}
	}
	return q.text, args
}

// observed has the hooks see lists of statements that run executes as one query.
func (p *Pipeline) observed(ctx context.Context, lists [][]Stmt, run func(ctx context.Context) error) error {
	e := &bun.QueryEvent{DB: p.DB, StartTime: time.Now(), Stash: map[any]any{stmtsKey{}: lists}}
	for _, hook := range p.Hooks {
		ctx = hook.BeforeQuery(ctx, e) //nolint:fatcontext // each goes on from the last one's
	}
	e.Err = run(ctx)
	for i := len(p.Hooks) - 1; i >= 0; i-- {
		p.Hooks[i].AfterQuery(ctx, e)
	}
	return e.Err
}

// stmtsKey is the key of the statements of a batch in its query event.
type stmtsKey struct{}

// Statements returns the statements of a query event that is a batch, with
// arguments as text. ok is false for a single query.
func Statements(e *bun.QueryEvent) (list []string, ok bool) {
	sent, ok := e.Stash[stmtsKey{}].([][]Stmt)
	for _, q := range slices.Concat(sent...) {
		list = append(list, e.DB.QueryGen().FormatQuery(q.text, q.args...))
	}
	return list, ok
}

// Texts returns the statements of a query event that is a batch, without their
// arguments; nil for a single query.
func Texts(e *bun.QueryEvent) []string {
	sent, _ := e.Stash[stmtsKey{}].([][]Stmt)
	var list []string
	for _, q := range slices.Concat(sent...) {
		list = append(list, q.text)
	}
	return list
}
