package pipeline

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// sendBatch executes prepared statements in one round trip. What their rows are is
// known since they were prepared, so that Postgres need not say it again.
func sendBatch(ctx context.Context, conn *pgx.Conn, list []Stmt) error {
	var b pgconn.Batch
	longest := 0
	for _, q := range list {
		longest = max(longest, sizeOf(q.args))
	}
	e := encoder{types: conn.TypeMap(), buf: make([]byte, 0, longest)}
	for _, q := range list {
		text := q.positional()
		prepared, err := conn.Prepare(ctx, text, text) // a map lookup, except for the first time
		if err != nil {
			return err
		}
		if err := e.encode(prepared, q.args); err != nil {
			return err
		}
		b.ExecStatement(prepared, e.values, e.formats, e.results)
	}
	results := conn.PgConn().ExecBatch(ctx, &b)
	defer results.Close()
	for _, q := range list {
		if !results.NextResult() {
			if err := results.Close(); err != nil {
				return err
			}
			return errors.New("pipeline: a statement has no result")
		}
		if q.row == nil && q.rows == nil {
			if _, err := results.ResultReader().Close(); err != nil {
				return err
			}
			continue
		}
		if err := scanRows(e.types, results.ResultReader(), q); err != nil {
			return err
		}
	}
	return results.Close()
}

// scanRows gives the rows of a result to a statement.
func scanRows(types *pgtype.Map, result *pgconn.ResultReader, q Stmt) (err error) {
	found := pgx.RowsFromResultReader(types, result) //nolint:sqlclosecheck // closed below
	defer found.Close()
	scan := found.Scan
	for found.Next() {
		if q.rows != nil {
			err = q.rows(found)
		} else {
			err = q.row(scan)
		}
		if err != nil {
			return err
		}
	}
	return found.Err()
}

// encoder encodes arguments of prepared statements as pgx does, in memory that the
// statements of a batch share: those of a group are long, and each is copied into
// the batch at once.
type encoder struct {
	types   *pgtype.Map
	buf     []byte
	values  [][]byte
	formats []int16
	results []int16 // the formats of the columns; the batch keeps them
}

// encode sets values, formats and results to those of one statement.
func (e *encoder) encode(prepared *pgconn.StatementDescription, args []any) error {
	if len(args) != len(prepared.ParamOIDs) {
		return errors.New("pipeline: a statement has another number of arguments than of places for them")
	}
	e.buf, e.values, e.formats = e.buf[:0], e.values[:0], e.formats[:0]
	for i, arg := range args {
		if err := e.add(prepared.ParamOIDs[i], arg); err != nil {
			return err
		}
	}
	e.results = make([]int16, len(prepared.Fields))
	for i, f := range prepared.Fields {
		e.results[i] = e.types.FormatCodeForOID(f.DataTypeOID)
	}
	return nil
}

// add encodes an argument in the format of its type or, if it has a value for which
// that fails, in the other one.
func (e *encoder) add(oid uint32, arg any) error {
	format := e.types.FormatCodeForOID(oid)
	switch v := arg.(type) {
	case string, *string:
		format = pgx.TextFormatCode
	case Array:
		arg = []any(v)
	}
	encoded, err := e.types.Encode(oid, format, arg, e.buf)
	if err != nil {
		other := pgx.TextFormatCode + pgx.BinaryFormatCode - format
		again, failed := e.types.Encode(oid, other, arg, e.buf)
		if failed != nil {
			return err
		}
		encoded, format = again, other
	}
	var value []byte // NULL
	if encoded != nil {
		value, e.buf = encoded[len(e.buf):], encoded
	}
	e.values, e.formats = append(e.values, value), append(e.formats, format)
	return nil
}

// sizeOf is about what arguments take when they are encoded, in bytes.
func sizeOf(args []any) (size int) {
	const short = 16 // of a number or a time, and of what stands before each element
	for _, arg := range args {
		switch v := arg.(type) {
		case string:
			size += len(v)
		case Array:
			size += len(v)*short + sizeOf(v)
		default:
			size += short
		}
	}
	return size
}
