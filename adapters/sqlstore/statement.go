package sqlstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"
)

// statement is SQL whose arguments travel apart from its text: what an
// admission and an end are made of. The text is the same every time, so that
// Postgres keeps its plan, which costs more to make than to carry out, and any
// number of statements travel in one round trip. See send.
type statement struct {
	text string // with ? for each argument
	args []any
	// row is called for each row that the statement returns; nil: none is wanted.
	row func(scan func(dest ...any) error) error
}

// say makes a statement. An argument that is a statement, or bun.Safe, becomes
// part of the text; a text must not vary but by few of those.
func say(text string, args ...any) statement {
	for i, arg := range args {
		switch arg.(type) {
		case statement, schema.Safe:
			return spliced(text, args, i)
		}
	}
	return statement{text: text, args: args}
}

// spliced is say for arguments of which the first to become text is that at i.
func spliced(text string, args []any, i int) statement {
	var (
		b    strings.Builder
		rest = make([]any, 0, len(args)+4)
		at   = 0
	)
	for n, arg := range args {
		next := strings.IndexByte(text[at:], '?')
		if next < 0 {
			panic(fmt.Sprintf("sqlstore: argument %d of %q has no place", n, text))
		}
		b.WriteString(text[at : at+next])
		at += next + 1
		switch part := arg.(type) {
		case statement:
			b.WriteString(part.text)
			rest = append(rest, part.args...)
		case schema.Safe:
			b.WriteString(string(part))
		default:
			b.WriteByte('?')
			rest = append(rest, arg)
		}
	}
	b.WriteString(text[at:])
	return statement{text: b.String(), args: rest}
}

// into sets what becomes of each row.
func (q statement) into(row func(scan func(dest ...any) error) error) statement {
	q.row = row
	return q
}

// AppendQuery implements schema.QueryAppender: the arguments become text too.
func (q statement) AppendQuery(gen schema.QueryGen, b []byte) ([]byte, error) {
	return gen.AppendQuery(b, q.text, q.args...), nil
}

// numbered is the text as Postgres wants it, with $1 for the first argument.
func (q statement) numbered() string {
	if text, ok := numbering.Load(q.text); ok {
		return text.(string)
	}
	var b strings.Builder
	for i, part := range strings.Split(q.text, "?") {
		if i > 0 {
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(i))
		}
		b.WriteString(part)
	}
	numbering.Store(q.text, b.String())
	return b.String()
}

// numbering holds the few texts that there are.
var numbering sync.Map

// send carries out statements one after another; the first that fails keeps the
// rest from running. On a connection that reaches Postgres itself they are
// prepared once and make one round trip; behind a pooler, where the next
// transaction may have another session, and on SQLite, arguments become text,
// and those statements whose rows are not wanted travel together.
func (s *Store) send(ctx context.Context, tx bun.IDB, list ...statement) error {
	if t, ok := tx.(*textTx); ok && t.prepares {
		return s.pipeline(ctx, t.Conn, list)
	}
	gen := s.db.QueryGen()
	var pending []schema.QueryAppender
	flush := func() error {
		if len(pending) == 0 {
			return nil
		}
		err := batch(ctx, tx, gen, pending...)
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

func (q statement) query(ctx context.Context, tx bun.IDB, gen schema.QueryGen) error {
	found, err := tx.QueryContext(ctx, gen.FormatQuery(q.text, q.args...))
	if err != nil {
		return err
	}
	defer found.Close()
	for found.Next() {
		if err := q.row(found.Scan); err != nil {
			return err
		}
	}
	return found.Err()
}

// sendLast is send for the last statements of a transaction. On Postgres the
// COMMIT goes with them: it is reached only if none of them fails.
func (s *Store) sendLast(ctx context.Context, tx bun.IDB, list ...statement) error {
	t, ok := tx.(*textTx)
	if !ok {
		return s.send(ctx, tx, list...)
	}
	err := s.send(ctx, tx, append(list, commit)...)
	t.ended = err == nil
	return err
}

var commit = say("COMMIT")

// pipeline sends prepared statements. Hooks see them as one.
func (s *Store) pipeline(ctx context.Context, conn bun.Conn, list []statement) error {
	e := &bun.QueryEvent{DB: s.db, StartTime: time.Now(), Stash: map[any]any{statementsKey{}: list}}
	for _, hook := range s.opt.Hooks {
		ctx = hook.BeforeQuery(ctx, e) //nolint:fatcontext // each goes on from the last one's
	}
	e.Err = conn.Raw(func(driver any) error { return exchange(ctx, driver.(*stdlib.Conn).Conn(), list) })
	for i := len(s.opt.Hooks) - 1; i >= 0; i-- {
		s.opt.Hooks[i].AfterQuery(ctx, e)
	}
	return e.Err
}

// statementsKey is where the event of a pipeline keeps its statements.
type statementsKey struct{}

func exchange(ctx context.Context, conn *pgx.Conn, list []statement) error {
	var b pgx.Batch
	for _, q := range list {
		text := q.numbered()
		if _, err := conn.Prepare(ctx, text, text); err != nil { // a look into a map, but for the first time
			return err
		}
		b.Queue(text, q.args...)
	}
	results := conn.SendBatch(ctx, &b)
	defer results.Close()
	for _, q := range list {
		if q.row == nil {
			if _, err := results.Exec(); err != nil {
				return err
			}
			continue
		}
		found, err := results.Query()
		if err != nil {
			return err
		}
		for err == nil && found.Next() {
			err = q.row(found.Scan)
		}
		found.Close()
		if err == nil {
			err = found.Err()
		}
		if err != nil {
			return err
		}
	}
	return results.Close()
}
