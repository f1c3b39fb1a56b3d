// Package prisma reads the tables in which a Next.js backend with Prisma kept its
// chat: chat_conversations and chat_messages. It reads in pages, each in a short
// read-only transaction of its own, so that it neither changes the database nor
// keeps its writers or VACUUM waiting.
//
// Names of columns may be those of Prisma's models (userId) or mapped ones
// (user_id). Ids may be of any type that has an order: text, uuid, integers.
package prisma

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The tables, as the models of the backend are mapped.
const (
	conversationTable = "chat_conversations"
	messageTable      = "chat_messages"
)

// Source is the database of the backend. It has one connection and is for one
// goroutine.
type Source struct {
	conn          *pgx.Conn
	conversations table
	messages      table
}

// LayoutError says that the tables are not as they must be. It is safe to show.
type LayoutError struct{ What string }

func (e *LayoutError) Error() string { return e.What }

// Open connects and finds the tables in the first of the schemas that has them;
// without schemas, in "public", as Prisma does.
func Open(ctx context.Context, url string, schemas []string) (*Source, error) {
	config, err := pgx.ParseConfig(url) // its errors hide the password
	if err != nil {
		return nil, fmt.Errorf("read the URL: %w", err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // works behind any PgBouncer
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 10 * time.Second
	}
	// The database may have other defaults. PgBouncer accepts these parameters.
	for name, value := range map[string]string{
		"timezone": "UTC", "datestyle": "ISO, MDY", "client_encoding": "UTF8", "standard_conforming_strings": "on",
	} {
		config.RuntimeParams[name] = value
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	s := &Source{conn: conn}
	if len(schemas) == 0 {
		schemas = []string{"public"}
	}
	if err := s.readLayout(ctx, schemas); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close closes the connection.
func (s *Source) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.conn.Close(ctx)
}

// table is what a table of the source looks like.
type table struct {
	name    string            // with its schema, quoted
	columns map[string]column // by name in lower case without underscores
}

type column struct {
	name    string // quoted
	typ     string
	notNull bool
}

// readLayout reads which columns the tables have.
func (s *Source) readLayout(ctx context.Context, schemas []string) error {
	return s.inTx(ctx, func(tx pgx.Tx) error {
		var schema string
		err := tx.QueryRow(ctx, `SELECT n.nspname FROM unnest($1::text[]) WITH ORDINALITY AS p (name, at)
			JOIN pg_namespace AS n ON n.nspname = p.name
			WHERE (SELECT count(*) FROM pg_class AS c WHERE c.relnamespace = n.oid AND c.relname = ANY ($2::text[]) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')) = 2
			ORDER BY p.at LIMIT 1`, schemas, []string{conversationTable, messageTable}).Scan(&schema)
		if errors.Is(err, pgx.ErrNoRows) {
			return &LayoutError{fmt.Sprintf("the source has no tables %s and %s in the schema %s; name their schema with schema= in the URL",
				conversationTable, messageTable, strings.Join(schemas, " or "))}
		}
		if err != nil {
			return err
		}
		if s.conversations, err = readTable(ctx, tx, schema, conversationTable); err != nil {
			return err
		}
		if s.messages, err = readTable(ctx, tx, schema, messageTable); err != nil {
			return err
		}
		if _, ours := s.messages.columns["parentid"]; ours {
			return &LayoutError{fmt.Sprintf("the tables in the schema %s are Parley's own, not those of the backend to import from; name the schema of that one with schema= in the URL", schema)}
		}
		return errors.Join(
			s.conversations.require(conversationTable, "id", "userId", "createdAt"),
			s.messages.require(messageTable, "id", "userId", "conversationId", "role", "content", "createdAt"))
	})
}

func readTable(ctx context.Context, tx pgx.Tx, schema, name string) (table, error) {
	t := table{name: pgx.Identifier{schema, name}.Sanitize(), columns: map[string]column{}}
	found, err := tx.Query(ctx, `SELECT a.attname, format_type(a.atttypid, NULL), a.attnotnull FROM pg_attribute AS a
		JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped`, schema, name)
	if err != nil {
		return t, err
	}
	for found.Next() {
		var c column
		if err := found.Scan(&c.name, &c.typ, &c.notNull); err != nil {
			return t, err
		}
		key := plainName(c.name)
		c.name = pgx.Identifier{c.name}.Sanitize()
		t.columns[key] = c
	}
	return t, found.Err()
}

func plainName(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "")) }

// require returns an error that names what the table lacks.
func (t table) require(name string, columns ...string) error {
	for _, c := range columns {
		found, ok := t.columns[plainName(c)]
		if !ok {
			return &LayoutError{fmt.Sprintf("the source's table %s has no column %s", name, c)}
		}
		if c == "createdAt" && !strings.HasPrefix(found.typ, "timestamp") {
			return &LayoutError{fmt.Sprintf("the source's column %s.%s is %s and must be a timestamp", name, c, found.typ)}
		}
	}
	return nil
}

// column is the name of a column behind an alias; NULL if the table has none.
func (t table) column(alias, name string) string {
	c, ok := t.columns[plainName(name)]
	if !ok {
		return "NULL"
	}
	return alias + "." + c.name
}

// text is a column as text, "" for NULL.
func (t table) text(alias, name string) string {
	return "COALESCE(" + t.column(alias, name) + "::text, '')"
}

// micros is a column of a time as microseconds since 1970, NULL if it is infinite.
// Prisma stores UTC in columns without a zone, and such times are read as UTC
// whatever the zone of the session.
func (t table) micros(alias, name string) string {
	c, ok := t.columns[plainName(name)]
	if !ok || !strings.HasPrefix(c.typ, "timestamp") {
		return "NULL::bigint"
	}
	at := alias + "." + c.name
	return "CASE WHEN isfinite(" + at + ") THEN round(extract(epoch FROM " + at + ") * 1000000)::bigint END"
}

// equal compares columns of two tables, as text if their types differ.
func equal(a table, aliasA, nameA string, b table, aliasB, nameB string) string {
	x, y := a.columns[plainName(nameA)], b.columns[plainName(nameB)]
	if x.typ == y.typ {
		return aliasA + "." + x.name + " = " + aliasB + "." + y.name
	}
	return aliasA + "." + x.name + "::text = " + aliasB + "." + y.name + "::text"
}

// isDeleted is whether a row is marked as deleted, with a time or a flag.
func (t table) isDeleted(alias string) string {
	for _, name := range []string{"deletedAt", "isDeleted", "deleted"} {
		c, ok := t.columns[plainName(name)]
		switch {
		case !ok:
		case c.typ == "boolean":
			return "COALESCE(" + alias + "." + c.name + ", false)"
		case strings.HasPrefix(c.typ, "timestamp"):
			return "(" + alias + "." + c.name + " IS NOT NULL)"
		}
	}
	return "false"
}

// sortKey is an expression by which rows are sorted, and the type of its values.
type sortKey struct{ value, typ string }

// sortKey sorts by a column. One that may be NULL is sorted as something that is
// not: a row with NULL is neither before nor behind any position, and would be
// missed.
func (t table) sortKey(alias, name string) sortKey {
	c := t.columns[plainName(name)]
	value := alias + "." + c.name
	switch {
	case c.notNull:
		return sortKey{value, c.typ}
	case strings.HasPrefix(c.typ, "timestamp"):
		return sortKey{"COALESCE(" + value + ", '-infinity')", c.typ}
	}
	return sortKey{"COALESCE(" + value + "::text, '')", "text"}
}

// keyset is by what rows are sorted and read page by page.
type keyset []sortKey

func (t table) keyset(alias string, names ...string) (k keyset) {
	for _, name := range names {
		k = append(k, t.sortKey(alias, name))
	}
	return k
}

// order is the list of columns to sort by.
func (k keyset) order() string {
	values := make([]string, len(k))
	for i, key := range k {
		values[i] = key.value
	}
	return strings.Join(values, ", ")
}

// position lists the keys as text, for the position of the last row.
func (k keyset) position() string {
	values := make([]string, len(k))
	for i, key := range k {
		values[i] = "(" + key.value + ")::text"
	}
	return strings.Join(values, ", ")
}

// behind is the condition of rows behind a position, whose values are the
// statement's first parameters; true for none.
func (k keyset) behind(position []string) string {
	if position == nil {
		return "true"
	}
	values := make([]string, len(k))
	for i, key := range k {
		values[i] = fmt.Sprintf("$%d::text::%s", i+1, key.typ)
	}
	return "(" + k.order() + ") > (" + strings.Join(values, ", ") + ")"
}

// inTx runs fn in a read-only transaction.
func (s *Source) inTx(ctx context.Context, fn func(pgx.Tx) error) error {
	tx, err := s.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return plainError(err)
	}
	if err := fn(tx); err != nil {
		_ = tx.Rollback(ctx)
		return plainError(err)
	}
	return plainError(tx.Commit(ctx))
}

// plainError leaves out what an error of the server may quote of a row.
func plainError(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	if strings.HasPrefix(pg.Code, "22") { // data exceptions quote the value
		return fmt.Errorf("the source's database refused to convert a value (SQLSTATE %s)", pg.Code)
	}
	return &pgconn.PgError{Severity: pg.Severity, Code: pg.Code, Message: pg.Message}
}
