package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"regexp"
	"strings"

	"ariga.io/atlas/sql/schema"
	"github.com/jackc/pgx/v5"
)

// partitionAware executes migrations on PostgreSQL, where tables may be divided into
// partitions (deploy/scale/partition.sql). An index cannot be created or dropped
// CONCURRENTLY on such a table; it is created so on each partition instead.
type partitionAware struct{ schema.ExecQuerier }

var (
	createConcurrently = regexp.MustCompile(`(?is)^\s*CREATE\s+(UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(IF\s+NOT\s+EXISTS\s+)?"?(\w+)"?\s+ON\s+"?(\w+)"?\s*(.*?);?\s*$`)
	dropConcurrently   = regexp.MustCompile(`(?is)^\s*DROP\s+INDEX\s+CONCURRENTLY\s+(?:IF\s+EXISTS\s+)?"?(\w+)"?\s*;?\s*$`)
)

// withLockTimeout begins statements that lock a table for a moment. Then the migration
// is begun anew, behind those that it would have kept waiting.
const withLockTimeout = "SET LOCAL lock_timeout = '" + migrationLockTimeout + "'; "

// ExecContext implements schema.ExecQuerier.
func (p partitionAware) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if m := createConcurrently.FindStringSubmatch(query); m != nil {
		partitions, err := p.partitions(ctx, m[4])
		if err != nil {
			return nil, err
		}
		if len(partitions) > 0 {
			index := dividedIndex{unique: m[1], name: m[3], table: m[4], definition: m[5], ifNotExists: m[2] != ""}
			return nil, index.create(ctx, p.ExecQuerier, partitions)
		}
	}
	if m := dropConcurrently.FindStringSubmatch(query); m != nil {
		divided, err := p.exists(ctx, "SELECT FROM pg_class WHERE oid = to_regclass($1) AND relkind = 'I'", pgx.Identifier{m[1]}.Sanitize())
		if err != nil {
			return nil, err
		}
		if divided {
			return p.ExecQuerier.ExecContext(ctx, withLockTimeout+"DROP INDEX "+pgx.Identifier{m[1]}.Sanitize())
		}
	}
	return p.ExecQuerier.ExecContext(ctx, query, args...)
}

// partition is a table that holds a part of the rows of another one.
type partition struct{ schema, name string }

func (p partitionAware) partitions(ctx context.Context, table string) (list []partition, err error) {
	found, err := p.QueryContext(ctx, `SELECT n.nspname, c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
		WHERE i.inhparent = to_regclass($1) ORDER BY 2`, pgx.Identifier{table}.Sanitize())
	if err != nil {
		return nil, err
	}
	defer found.Close()
	for found.Next() {
		var one partition
		if err := found.Scan(&one.schema, &one.name); err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, found.Err()
}

func (p partitionAware) exists(ctx context.Context, query string, args ...any) (bool, error) {
	found, err := p.QueryContext(ctx, query, args...)
	if err != nil {
		return false, err
	}
	defer found.Close()
	return found.Next(), found.Err()
}

// dividedIndex is an index of a table with partitions.
type dividedIndex struct {
	unique, name, table, definition string
	ifNotExists                     bool
}

// create creates the index, invalid, and then one on each partition that lacks it. The
// last of them makes it valid. After a failure it continues.
func (i dividedIndex) create(ctx context.Context, db schema.ExecQuerier, partitions []partition) error {
	p, name := partitionAware{db}, pgx.Identifier{i.name}.Sanitize()
	valid, err := p.exists(ctx, "SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND indisvalid", name)
	switch {
	case err != nil:
		return err
	case valid && i.ifNotExists:
		return nil
	case valid:
		return errors.New("the index " + i.name + " already exists")
	}
	statement := withLockTimeout + "CREATE " + i.unique + "INDEX IF NOT EXISTS " + name + " ON ONLY " + pgx.Identifier{i.table}.Sanitize() + " " + i.definition
	if _, err := db.ExecContext(ctx, statement); err != nil {
		return err
	}
	for _, of := range partitions {
		table := pgx.Identifier{of.schema, of.name}.Sanitize()
		attached, err := p.exists(ctx, `SELECT FROM pg_inherits AS h JOIN pg_index AS x ON x.indexrelid = h.inhrelid
			WHERE h.inhparent = to_regclass($1) AND x.indrelid = to_regclass($2)`, name, table)
		if err != nil {
			return err
		}
		if attached {
			continue
		}
		suffix := strings.TrimPrefix(of.name, i.table)
		own := pgx.Identifier{i.name[:min(len(i.name), 63-len(suffix))] + suffix}.Sanitize()
		qualified := pgx.Identifier{of.schema}.Sanitize() + "." + own
		for _, statement := range []string{
			"DROP INDEX CONCURRENTLY IF EXISTS " + qualified, // of an attempt that failed
			"CREATE " + i.unique + "INDEX CONCURRENTLY " + own + " ON " + table + " " + i.definition,
			withLockTimeout + "ALTER INDEX " + name + " ATTACH PARTITION " + qualified,
		} {
			if _, err := db.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
	}
	return nil
}
