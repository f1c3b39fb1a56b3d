package pipeline

import (
	"context"
	"database/sql/driver"
	"fmt"
)

// KeepPrepared is a connector of SQLite whose connections keep statements with
// arguments prepared: SQLite takes longer to parse and plan most statements than to
// execute them. Statements without arguments are not kept, since their texts may hold
// some.
func KeepPrepared(d driver.Driver, dsn string) driver.Connector { return keeper{d, dsn} }

type keeper struct {
	driver driver.Driver
	dsn    string
}

// Driver implements driver.Connector.
func (k keeper) Driver() driver.Driver { return k.driver }

// Connect implements driver.Connector.
func (k keeper) Connect(context.Context) (driver.Conn, error) {
	opened, err := k.driver.Open(k.dsn)
	if err != nil {
		return nil, err
	}
	conn, ok := opened.(sqliteConn)
	if !ok {
		_ = opened.Close()
		return nil, fmt.Errorf("pipeline: a %T cannot keep statements", opened)
	}
	return &keptConn{sqliteConn: conn, kept: map[string]sqliteStmt{}}, nil
}

// sqliteConn and sqliteStmt are what database/sql makes use of.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

type sqliteStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// keptConn is a connection. database/sql has one goroutine use it at a time.
type keptConn struct {
	sqliteConn
	kept map[string]sqliteStmt // by text; without those whose rows are being read
}

// maxKept bounds the statements of a connection: some texts grow with the number of
// their arguments.
const maxKept = 256

// ExecContext implements driver.ExecerContext.
func (c *keptConn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	if len(args) == 0 {
		return c.sqliteConn.ExecContext(ctx, text, nil)
	}
	s, err := c.take(ctx, text)
	if err != nil {
		return nil, err
	}
	defer c.keep(text, s)
	return s.ExecContext(ctx, args)
}

// QueryContext implements driver.QueryerContext.
func (c *keptConn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	if len(args) == 0 {
		return c.sqliteConn.QueryContext(ctx, text, nil)
	}
	s, err := c.take(ctx, text)
	if err != nil {
		return nil, err
	}
	found, err := s.QueryContext(ctx, args)
	if err != nil {
		c.keep(text, s)
		return nil, err
	}
	return &keptRows{Rows: found, conn: c, text: text, stmt: s}, nil
}

// take returns a prepared statement that nobody else uses until it is given to keep.
func (c *keptConn) take(ctx context.Context, text string) (sqliteStmt, error) {
	if s, ok := c.kept[text]; ok {
		delete(c.kept, text)
		return s, nil
	}
	made, err := c.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	s, ok := made.(sqliteStmt)
	if !ok {
		_ = made.Close()
		return nil, fmt.Errorf("pipeline: a %T cannot be kept", made)
	}
	return s, nil
}

func (c *keptConn) keep(text string, s sqliteStmt) {
	if _, again := c.kept[text]; again || len(c.kept) >= maxKept {
		_ = s.Close()
		return
	}
	c.kept[text] = s
}

// Close implements driver.Conn.
func (c *keptConn) Close() error {
	for _, s := range c.kept {
		_ = s.Close()
	}
	return c.sqliteConn.Close()
}

// keptRows are the rows of a kept statement, which nobody else can execute meanwhile.
type keptRows struct {
	driver.Rows
	conn *keptConn
	text string
	stmt sqliteStmt // nil: closed
}

// Close implements driver.Rows.
func (r *keptRows) Close() error {
	err := r.Rows.Close()
	if r.stmt != nil {
		r.conn.keep(r.text, r.stmt)
		r.stmt = nil
	}
	return err
}
