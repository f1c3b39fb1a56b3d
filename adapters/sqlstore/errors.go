package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"parley/adapters/sqlstore/pipeline"
	"parley/domain/fault"
)

// translate turns a database error into a fault. Its cause holds codes and names
// only: a message of the server may quote a value, and values may be message text.
func translate(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if f := fault.As(err); f != nil {
		return err
	}
	cause := redact(err)
	var setup *SetupError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fault.Wrap(cause, fault.Canceled, "The request was cancelled")
	case errors.As(cause, &setup) && !setup.statement:
		return unavailable(cause)
	case diskFull(err):
		return fault.Wrap(fmt.Errorf("%w: %w", ErrDiskFull, cause), fault.Unavailable, diskFullMessage).After(10 * time.Second)
	case ctx.Err() != nil, lostConnection(err):
		return unavailable(cause)
	}
	code := sqlState(err)
	switch {
	case code == uniqueViolation:
		return fault.Wrap(cause, fault.Conflict, "This already exists")
	case code == "22021", code == "22P05":
		return fault.Wrap(cause, fault.Invalid, "Text must be valid Unicode without control characters")
	case transient(code):
		return unavailable(cause)
	case code == "26000", code == "42P05":
		cause = fmt.Errorf("%w: the connection leads through a pooler that loses prepared statements; set DB_EXEC_MODE=exec", cause)
	}
	return fault.Wrap(cause, fault.Internal, "The database refused a statement")
}

func unavailable(cause error) *fault.Error {
	return fault.Wrap(redact(cause), fault.Unavailable, "The database is not available at the moment").After(time.Second)
}

func overloaded(cause error) *fault.Error {
	return fault.Wrap(redact(cause), fault.Overloaded, "The server is busy; please try again").After(time.Second)
}

// uniqueViolation is the SQLSTATE of a row whose key exists already.
const uniqueViolation = "23505"

// liveKey is the unique index on the live run of a conversation.
const liveKey = "chat_runs_live_key"

// retryable reports whether a transaction that failed with err may succeed when it
// is run again.
func retryable(ctx context.Context, err error) bool {
	if ctx.Err() != nil || setupError(err) != nil {
		return false
	}
	if readOnly(err) {
		return true // another connection may lead to the new primary
	}
	switch sqlState(err) {
	case "40001", "40P01": // serialization failure, deadlock
		return true
	case uniqueViolation: // another run of the conversation began meanwhile
		var pg *pgconn.PgError
		return errors.As(err, &pg) && pg.ConstraintName == liveKey
	}
	var begin pipeline.TxNotStartedError
	return errors.As(err, &begin) && lostConnection(err)
}

// transient reports whether a SQLSTATE means that the server cannot serve at the
// moment: out of resources (53), shutting down or restarting (57P), connection
// errors (08), read-only after a failover (25006), idle in a transaction for too
// long (25P03), locks (55P03, 40), I/O errors (58).
func transient(code string) bool {
	if code == "25006" || code == "25P03" || code == "55P03" || code == "57014" {
		return true
	}
	for _, class := range []string{"08", "40", "53", "57P", "58"} {
		if strings.HasPrefix(code, class) {
			return true
		}
	}
	return false
}

// sqlState returns the SQLSTATE of an error, or the equivalent of SQLite's code;
// "" if it has none.
func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	var known redactedError
	if errors.As(err, &known) {
		return known.code
	}
	var lite *sqlite.Error
	if !errors.As(err, &lite) {
		return ""
	}
	switch code := lite.Code(); {
	case code == sqlite3.SQLITE_CONSTRAINT_UNIQUE, code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return uniqueViolation
	case code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return "23503"
	case code&0xff == sqlite3.SQLITE_BUSY, code&0xff == sqlite3.SQLITE_LOCKED:
		return "55P03"
	case code&0xff == sqlite3.SQLITE_FULL:
		return "53100"
	case code&0xff == sqlite3.SQLITE_IOERR, code&0xff == sqlite3.SQLITE_CANTOPEN:
		return "58030"
	case code&0xff == sqlite3.SQLITE_READONLY:
		return "25006"
	case code&0xff == sqlite3.SQLITE_INTERRUPT:
		return "57014"
	}
	return ""
}

// lostConnection reports whether an error means that there is no connection, or
// none any more. Whether a statement was executed is then unknown.
func lostConnection(err error) bool {
	var (
		connect *pgconn.ConnectError
		network net.Error
	)
	if code := sqlState(err); strings.HasPrefix(code, "57P") || code == "25P03" {
		return true
	}
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err)
}

// redact returns an error without values. sqlState still returns its code.
func redact(err error) error {
	if setup := setupError(err); setup != nil {
		return setup
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		if transient(pg.Code) {
			return redactedError{pg.Code, fmt.Sprintf("SQLSTATE %s: %s", pg.Code, pg.Message)}
		}
		return redactedError{pg.Code, fmt.Sprintf("SQLSTATE %s (table %q, constraint %q)", pg.Code, pg.TableName, pg.ConstraintName)}
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		return redactedError{sqlState(err), fmt.Sprintf("SQLite code %d", lite.Code())}
	}
	return err
}

// redactedError is a database's error without its text.
type redactedError struct{ code, text string }

func (e redactedError) Error() string { return e.text }
