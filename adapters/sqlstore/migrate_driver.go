package sqlstore

import (
	"context"
	"database/sql"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/schema"
)

// migrationDriver is as much of Atlas' drivers as applying files needs: it splits a
// file into statements and executes them. The drivers themselves also inspect, compare
// and plan schemas, and link the language in which those are described.
type migrationDriver struct {
	migrate.Driver // the rest, which the executor of files does not call
	db             schema.ExecQuerier
	scanner        migrate.ScannerOptions
}

// scanners split files as Atlas' own drivers do: the record holds checksums of the
// statements.
var scanners = map[string]migrate.ScannerOptions{
	"postgres": {MatchBegin: true, MatchBeginAtomic: true, MatchDollarQuote: true, EscapedStringExt: true},
	"sqlite":   {MatchBegin: true},
}

func (d migrationDriver) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return d.db.ExecContext(ctx, query, args...)
}

func (d migrationDriver) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return d.db.QueryContext(ctx, query, args...)
}

// CheckClean accepts every database: checkTables has examined this one.
func (migrationDriver) CheckClean(context.Context, *migrate.TableIdent) error { return nil }

// ScanStmts implements migrate.StmtScanner.
func (d migrationDriver) ScanStmts(text string) ([]*migrate.Stmt, error) {
	return (&migrate.Scanner{ScannerOptions: d.scanner}).Scan(text)
}
