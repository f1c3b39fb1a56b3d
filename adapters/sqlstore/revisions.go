package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/schema"
	"github.com/jackc/pgx/v5"
)

// revisions is the table of applied migrations, with the columns that the Atlas
// CLI gives it, so that either may continue where the other stopped.
type revisions struct {
	db    schema.ExecQuerier
	table string
}

const revisionName = "atlas_schema_revisions"

// cloudIdentifier is a row that the CLI may put among the revisions.
const cloudIdentifier = ".atlas_cloud_identifier"

// revisionTable names the table of revisions and reports whether it exists. As
// with the Atlas CLI it is in a schema of its own or, if Parley's tables are
// not in the schema public, beside them, so that a database may hold
// several.
func (s *Store) revisionTable(ctx context.Context, db schema.ExecQuerier) (table string, exists bool, err error) {
	if s.dialect.name == "sqlite" {
		err = queryRow(ctx, db, "SELECT count(*) > 0 FROM sqlite_master WHERE type = 'table' AND name = '"+revisionName+"'", &exists)
		return `"` + revisionName + `"`, exists, err
	}
	var (
		current                   string
		beside, apart, hasParleys bool
	)
	err = queryRow(ctx, db, `SELECT coalesce(current_schema(), ''),
		EXISTS (SELECT FROM pg_tables WHERE schemaname = current_schema() AND tablename = '`+revisionName+`'),
		EXISTS (SELECT FROM pg_tables WHERE schemaname = '`+revisionName+`' AND tablename = '`+revisionName+`'),
		EXISTS (SELECT FROM pg_class WHERE relname = 'chat_users' AND pg_table_is_visible(oid))`, &current, &beside, &apart, &hasParleys)
	switch ownSchema := current != "public" && current != ""; {
	case err != nil:
		return "", false, err
	case beside, ownSchema && !(apart && hasParleys):
		return pgx.Identifier{current, revisionName}.Sanitize(), beside, nil
	case current == "" && len(s.opt.SearchPath) > 0: // Migrate creates it
		return pgx.Identifier{s.opt.SearchPath[0], revisionName}.Sanitize(), false, nil
	case current == "":
		return "", false, &SetupError{What: "The search_path of the database role names no schema that exists", Fix: "add schema=... to %s"}
	}
	return pgx.Identifier{revisionName, revisionName}.Sanitize(), apart, nil
}

func queryRow(ctx context.Context, db schema.ExecQuerier, query string, dest ...any) error {
	found, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer found.Close()
	if found.Next() {
		if err := found.Scan(dest...); err != nil {
			return err
		}
	}
	return found.Err()
}

// createRevisions makes the table of revisions unless it exists, and returns
// its name.
func (s *Store) createRevisions(ctx context.Context, db schema.ExecQuerier) (string, error) {
	table, exists, err := s.revisionTable(ctx, db)
	if err != nil || exists {
		return table, err
	}
	text, number, at, json := "character varying", "bigint", "timestamptz", "jsonb"
	if s.dialect.name == "sqlite" {
		text, number, at, json = "text", "integer", "datetime", "json"
	} else if strings.HasPrefix(table, `"`+revisionName+`".`) {
		if _, err := db.ExecContext(ctx, "CREATE SCHEMA IF NOT EXISTS "+revisionName); err != nil {
			return "", err
		}
	}
	_, err = db.ExecContext(ctx, fmt.Sprintf("CREATE TABLE IF NOT EXISTS "+table+` (
		"version" %[1]s NOT NULL, "description" %[1]s NOT NULL,
		"type" %[2]s NOT NULL DEFAULT 2, "applied" %[2]s NOT NULL DEFAULT 0, "total" %[2]s NOT NULL DEFAULT 0,
		"executed_at" %[3]s NOT NULL, "execution_time" %[2]s NOT NULL,
		"error" text NULL, "error_stmt" text NULL, "hash" %[1]s NOT NULL, "partial_hashes" %[4]s NULL,
		"operator_version" %[1]s NOT NULL, PRIMARY KEY ("version"))`, text, number, at, json))
	return table, err
}

// Ident names the table for the check that a database is clean.
func (r revisions) Ident() *migrate.TableIdent {
	if in, _, ok := strings.Cut(r.table, `"."`); ok {
		return &migrate.TableIdent{Name: revisionName, Schema: strings.ReplaceAll(in[1:], `""`, `"`)}
	}
	return &migrate.TableIdent{Name: revisionName}
}

const revisionColumns = `"version", "description", "type", "applied", "total", "executed_at", "execution_time", ` +
	`"error", "error_stmt", "hash", "partial_hashes", "operator_version"`

// ReadRevisions returns all revisions, oldest first.
func (r revisions) ReadRevisions(ctx context.Context) ([]*migrate.Revision, error) {
	return r.query(ctx, `WHERE "version" <> $1 ORDER BY "version"`, cloudIdentifier)
}

// ReadRevision returns one revision.
func (r revisions) ReadRevision(ctx context.Context, version string) (*migrate.Revision, error) {
	found, err := r.query(ctx, `WHERE "version" = $1`, version)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, migrate.ErrRevisionNotExist
	}
	return found[0], nil
}

func (r revisions) query(ctx context.Context, where string, args ...any) ([]*migrate.Revision, error) {
	found, err := r.db.QueryContext(ctx, "SELECT "+revisionColumns+" FROM "+r.table+" "+where, args...)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	var list []*migrate.Revision
	for found.Next() {
		var (
			rev                  migrate.Revision
			took                 int64
			failure, stmt, parts sql.NullString
		)
		if err := found.Scan(&rev.Version, &rev.Description, &rev.Type, &rev.Applied, &rev.Total, &rev.ExecutedAt,
			&took, &failure, &stmt, &rev.Hash, &parts, &rev.OperatorVersion); err != nil {
			return nil, err
		}
		rev.ExecutionTime, rev.Error, rev.ErrorStmt = time.Duration(took), failure.String, stmt.String
		if parts.Valid && parts.String != "" {
			if err := json.Unmarshal([]byte(parts.String), &rev.PartialHashes); err != nil {
				return nil, err
			}
		}
		list = append(list, &rev)
	}
	return list, found.Err()
}

// WriteRevision inserts or replaces a revision.
func (r revisions) WriteRevision(ctx context.Context, rev *migrate.Revision) error {
	parts, err := json.Marshal(rev.PartialHashes)
	if err != nil {
		return err
	}
	_, err = r.db.ExecContext(ctx, "INSERT INTO "+r.table+" ("+revisionColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
		ON CONFLICT ("version") DO UPDATE SET "description" = excluded."description", "type" = excluded."type",
		"applied" = excluded."applied", "total" = excluded."total", "executed_at" = excluded."executed_at",
		"execution_time" = excluded."execution_time", "error" = excluded."error", "error_stmt" = excluded."error_stmt",
		"hash" = excluded."hash", "partial_hashes" = excluded."partial_hashes", "operator_version" = excluded."operator_version"`,
		rev.Version, rev.Description, int64(rev.Type), rev.Applied, rev.Total, rev.ExecutedAt.UTC(), rev.ExecutionTime.Nanoseconds(),
		null(rev.Error), null(rev.ErrorStmt), rev.Hash, string(parts), rev.OperatorVersion)
	return err
}

// DeleteRevision removes a revision.
func (r revisions) DeleteRevision(ctx context.Context, version string) error {
	_, err := r.db.ExecContext(ctx, "DELETE FROM "+r.table+` WHERE "version" = $1`, version)
	return err
}

func null(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }
