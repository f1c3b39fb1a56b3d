// Package pipeline executes SQL statements and transactions in few round trips.
// It knows no table.
package pipeline

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"
)

// Stmt is SQL whose arguments travel apart from its text. The text must be the
// same every time, so that Postgres keeps its plan, which costs more to make
// than to execute.
type Stmt struct {
	text string // with ? for each argument
	args []any
	// row is called for each row that the statement returns; nil: none is wanted.
	row func(scan func(dest ...any) error) error
	// rows is called instead of row, for a merged statement.
	rows func(found pgx.Rows) error
}

// New makes a statement. An argument that is a Stmt or a bun.Safe becomes part
// of the text; there must be few variants of those.
func New(text string, args ...any) Stmt {
	for i, arg := range args {
		switch arg.(type) {
		case Stmt, schema.Safe:
			return expand(text, args, i)
		}
	}
	return Stmt{text: text, args: args}
}

// Array is an argument that is an array of Postgres. Its elements are of one type,
// which the text names, or nil.
type Array []any

// AppendQuery implements schema.QueryAppender.
func (a Array) AppendQuery(gen schema.QueryGen, b []byte) ([]byte, error) {
	b = append(b, "ARRAY["...)
	for i, v := range a {
		if i > 0 {
			b = append(b, ',')
		}
		b = gen.AppendQuery(b, "?", v)
	}
	return append(b, ']'), nil
}

// expand is New for arguments of which the first to become text is the one at
// first.
func expand(text string, args []any, first int) Stmt {
	rest := append(make([]any, 0, len(args)+4), args[:first]...)
	key := expansion{outer: text}
	for n, arg := range args[first:] {
		var inner string
		switch part := arg.(type) {
		case Stmt:
			inner, rest = part.text, append(rest, part.args...)
		case schema.Safe:
			inner = string(part)
		default:
			rest = append(rest, arg)
			continue
		}
		if key.count < len(key.inner) {
			key.inner[key.count], key.at[key.count] = inner, first+n
		}
		key.count++
	}
	if key.count > len(key.inner) {
		return Stmt{text: expandText(text, args), args: rest}
	}
	whole, ok := expansions.get(key)
	if !ok {
		whole = expandText(text, args)
		expansions.put(key, whole)
	}
	return Stmt{text: whole, args: rest}
}

// expansion is what a text is expanded with: texts for the arguments at some places.
type expansion struct {
	outer string
	inner [3]string
	at    [3]int
	count int
}

// expansions caches expandText.
var expansions textCache[expansion]

// expandText puts the arguments that become text into a text.
func expandText(text string, args []any) string {
	var b strings.Builder
	at := 0
	for n, arg := range args {
		next := strings.IndexByte(text[at:], '?')
		if next < 0 {
			panic(fmt.Sprintf("pipeline: %q has no placeholder for argument %d", text, n))
		}
		b.WriteString(text[at : at+next])
		at += next + 1
		switch part := arg.(type) {
		case Stmt:
			b.WriteString(part.text)
		case schema.Safe:
			b.WriteString(string(part))
		default:
			b.WriteByte('?')
		}
	}
	b.WriteString(text[at:])
	return b.String()
}

// Text returns the text, with a question mark for each argument.
func (q Stmt) Text() string { return q.text }

// ScanRow sets what is called for each row that the statement returns.
func (q Stmt) ScanRow(row func(scan func(dest ...any) error) error) Stmt {
	q.row = row
	return q
}

// AppendQuery implements schema.QueryAppender: the arguments become text too.
func (q Stmt) AppendQuery(gen schema.QueryGen, b []byte) ([]byte, error) {
	return gen.AppendQuery(b, q.text, q.args...), nil
}

// positional is the text with $1 for the first argument, as Postgres reads it.
func (q Stmt) positional() string {
	if text, ok := positionalTexts.get(q.text); ok {
		return text
	}
	var b strings.Builder
	for i, part := range strings.Split(q.text, "?") {
		if i > 0 {
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(i))
		}
		b.WriteString(part)
	}
	positionalTexts.put(q.text, b.String())
	return b.String()
}

// positionalTexts caches positional by text.
var positionalTexts textCache[string]

// textCache keeps texts that are looked up all the time and put in hardly ever. A
// sync.Map would copy each key to the heap for a look.
type textCache[K comparable] struct {
	known atomic.Pointer[map[K]string]
	mu    sync.Mutex // held by the one who puts
}

func (c *textCache[K]) get(key K) (text string, ok bool) {
	if known := c.known.Load(); known != nil {
		text, ok = (*known)[key]
	}
	return text, ok
}

func (c *textCache[K]) put(key K, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := map[K]string{}
	if known := c.known.Load(); known != nil {
		maps.Copy(next, *known)
	}
	next[key] = text
	c.known.Store(&next)
}

// query executes one statement and scans its rows.
func (q Stmt) query(ctx context.Context, tx bun.IDB, gen schema.QueryGen) error {
	found, err := tx.QueryContext(ctx, gen.FormatQuery(q.text, q.args...))
	if err != nil {
		return err
	}
	return eachRow(found, q.row)
}

// eachRow gives the rows of a result to a function, and closes them.
func eachRow(found *sql.Rows, row func(scan func(dest ...any) error) error) error {
	defer found.Close()
	for found.Next() {
		if err := row(found.Scan); err != nil {
			return err
		}
	}
	return found.Err()
}

// sequence is statements to be executed one after another.
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
