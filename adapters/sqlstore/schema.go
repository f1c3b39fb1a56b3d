package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	_ "embed" // the queries and the expected schema
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/migrations"
)

// SchemaObject is one object of the schema: a table, a partition, a column, an index,
// a constraint, a trigger, a function, a policy, an owner, a grant.
type SchemaObject struct {
	Kind       string
	Parent     string // the table or function that it belongs to
	Name       string
	Definition string // as the database shows it, without the schema's name
}

func (o SchemaObject) key() string { return o.Kind + "\t" + o.Parent + "\t" + o.Name }

// String names the object: "column chat_runs.state".
func (o SchemaObject) String() string {
	if o.Parent == o.Name {
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Parent + "." + o.Name
}

// SchemaDifference is an object that the database lacks, has beside those that the
// migrations make, or has with another definition.
type SchemaDifference struct {
	SchemaObject        // as the migrations make it, or, if Unexpected, as the database has it
	Missing      bool   // the database does not have it
	Unexpected   bool   // no migration makes it
	Actual       string // the definition in the database, if neither
}

// String says what differs.
func (d SchemaDifference) String() string {
	switch {
	case d.Missing:
		return d.SchemaObject.String() + " is missing"
	case d.Unexpected:
		return d.SchemaObject.String() + " is not of any migration"
	}
	return d.SchemaObject.String() + " differs"
}

// Moving reports whether the difference is part of a move to partitions that has begun
// (deploy/scale/partition.sql).
func (d SchemaDifference) Moving() bool {
	return d.Unexpected && (d.Kind == "trigger" && strings.HasPrefix(d.Name, "parley_move") ||
		d.Kind == "constraint" && strings.HasSuffix(d.Name, "_moved") && strings.HasPrefix(d.Definition, "FOREIGN KEY"))
}

// OfPartition reports whether the object belongs to one partition of a table.
func (d SchemaDifference) OfPartition() bool { return strings.Contains(d.Parent, ".") }

// Harmless reports whether requests cannot fail because of the difference: an index
// that is not unique, a column that may stay empty, or a move that has begun.
func (d SchemaDifference) Harmless() bool {
	if !d.Unexpected {
		return false
	}
	switch d.Kind {
	case "trigger", "constraint":
		return d.Moving()
	case "index":
		return strings.HasPrefix(d.Definition, "CREATE INDEX") && !strings.HasSuffix(d.Definition, " INVALID")
	case "column":
		return !strings.Contains(d.Definition, "NOT NULL") || strings.Contains(d.Definition, " DEFAULT ")
	case "owner":
		return d.Definition == "that of chat_users"
	}
	return false
}

//go:embed schema_postgres.sql
var schemaPostgres string

// expectedPostgres is the schema that the migrations make on PostgreSQL, one object a
// line. make generate writes it.
//
//go:embed schema_postgres.txt
var expectedPostgres []byte

// SchemaDifferences compares the schema with the one that all migrations of this
// release make. On PostgreSQL that is embedded, so that no database is needed to
// apply them to; on SQLite they are applied in memory. Other tables, and what
// belongs to them, are not looked at.
func (s *Store) SchemaDifferences(ctx context.Context) ([]SchemaDifference, error) {
	have, err := s.SchemaObjects(ctx)
	if err != nil {
		return nil, err
	}
	want := parseSchema(expectedPostgres)
	if s.dialect.name == "sqlite" {
		if want, err = expectedSQLite(ctx); err != nil {
			return nil, err
		}
	}
	return compareSchemas(withPartitions(want, have), have), nil
}

// perPartition are the kinds of objects that each partition of a table has as well.
var perPartition = []string{"table", "column", "index", "constraint", "trigger", "owner"}

// withPartitions adds to the expected objects those of the partitions of tables that
// are divided (deploy/scale/partition.sql): all the partitions that one of them makes
// necessary, and for each that exists what the table has.
func withPartitions(want, have []SchemaObject) []SchemaObject {
	all, first := slices.Clone(want), map[string]bool{}
	for _, p := range have {
		if p.Kind != "partition" {
			continue
		}
		_, modulus, _ := strings.Cut(p.Name, " of ")
		if n, err := strconv.Atoi(modulus); err == nil && !first[p.Parent] {
			first[p.Parent] = true
			for remainder := range n {
				all = append(all, SchemaObject{Kind: p.Kind, Parent: p.Parent, Name: fmt.Sprintf("%d of %d", remainder, n)})
			}
		}
		for _, w := range want {
			if w.Parent != p.Parent || !slices.Contains(perPartition, w.Kind) {
				continue
			}
			if w.Name == w.Parent {
				w.Name = p.Definition
			}
			w.Definition = strings.Replace(w.Definition, " ON "+w.Parent+" ", " ON "+p.Definition+" ", 1)
			w.Parent = p.Definition
			all = append(all, w)
		}
	}
	return all
}

// same compares definitions of an object. Those of partitions, which are their names,
// may be any; and a trigger that was made from what the database showed of another one
// has fewer parentheses.
func same(want, have SchemaObject) bool {
	switch want.Kind {
	case "partition":
		return true
	case "trigger":
		return noParentheses.Replace(want.Definition) == noParentheses.Replace(have.Definition)
	}
	return want.Definition == have.Definition
}

var noParentheses = strings.NewReplacer("(", "", ")", "")

func compareSchemas(want, have []SchemaObject) (list []SchemaDifference) {
	found := map[string]SchemaObject{}
	for _, o := range have {
		found[o.key()] = o
	}
	ours, made := map[string]bool{}, map[string]bool{}
	absent := map[string]bool{} // tables and functions: what belongs to them is not listed
	for _, w := range want {
		if w.Kind == "table" || w.Kind == "function" {
			made[w.Parent] = true
			if _, ok := found[w.key()]; !ok {
				absent[w.Parent] = true
			}
		}
	}
	for _, w := range want {
		ours[w.key()] = true
		h, ok := found[w.key()]
		switch {
		case !ok && absent[w.Parent] && w.Kind != "table" && w.Kind != "function":
		case !ok && w.Kind == "grant": // PUBLIC may have fewer rights
		case !ok:
			list = append(list, SchemaDifference{SchemaObject: w, Missing: true})
		case !same(w, h):
			list = append(list, SchemaDifference{SchemaObject: w, Actual: h.Definition})
		}
	}
	for _, h := range have {
		if !ours[h.key()] && made[h.Parent] {
			list = append(list, SchemaDifference{SchemaObject: h, Unexpected: true})
		}
	}
	return list
}

// SchemaObjects lists the objects of Parley's schema.
func (s *Store) SchemaObjects(ctx context.Context) (list []SchemaObject, err error) {
	err = s.read(ctx, "schema", allUsers, func(ctx context.Context, db bun.IDB) error {
		if s.dialect.name == "sqlite" {
			list, err = sqliteObjects(ctx, db)
			return err
		}
		var schema string
		err := db.QueryRowContext(ctx, "SELECT relnamespace::regnamespace FROM pg_class WHERE relname = 'chat_users' AND pg_table_is_visible(oid)").Scan(&schema)
		if errors.Is(err, sql.ErrNoRows) {
			err = db.QueryRowContext(ctx, "SELECT coalesce(current_schema(), 'public')").Scan(&schema)
		}
		if err != nil {
			return err
		}
		schema = strings.Trim(schema, `"`)
		query := strings.ReplaceAll(schemaPostgres, "$1", "'"+strings.ReplaceAll(schema, "'", "''")+"'")
		list, err = scanObjects(db.QueryContext(ctx, query))
		return err
	})
	return list, err
}

func scanObjects(found *sql.Rows, err error) (list []SchemaObject, _ error) {
	if err != nil {
		return nil, err
	}
	defer found.Close()
	for found.Next() {
		var o SchemaObject
		if err := found.Scan(&o.Kind, &o.Parent, &o.Name, &o.Definition); err != nil {
			return nil, err
		}
		o.Definition = strings.Join(strings.Fields(o.Definition), " ")
		list = append(list, o)
	}
	return list, found.Err()
}

// querier is a connection or a transaction of any kind.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// sqliteObjects lists what the file's own catalogue says, which has the text of
// every statement that made it, and the columns one by one.
func sqliteObjects(ctx context.Context, db querier) ([]SchemaObject, error) {
	return scanObjects(db.QueryContext(ctx, `SELECT type, tbl_name, name, coalesce(sql, 'of a constraint') FROM sqlite_master
		WHERE tbl_name GLOB 'chat_*' OR tbl_name GLOB 'audit_*'
		UNION ALL
		SELECT 'column', t.name, c.name, c.type || CASE WHEN c."notnull" THEN ' NOT NULL' ELSE '' END || coalesce(' DEFAULT ' || c.dflt_value, '')
		FROM sqlite_master AS t, pragma_table_xinfo(t.name) AS c
		WHERE t.type = 'table' AND (t.name GLOB 'chat_*' OR t.name GLOB 'audit_*')
		ORDER BY 1, 2, 3`))
}

// expectedSQLite applies the migrations to a database in memory.
func expectedSQLite(ctx context.Context) ([]SchemaObject, error) {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // each connection would have a database of its own
	files, err := fs.Glob(migrations.FS, "sqlite/*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	for _, name := range files {
		text, err := migrations.FS.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if _, err := db.ExecContext(ctx, string(text)); err != nil {
			return nil, fmt.Errorf("apply %s in memory: %w", path.Base(name), err)
		}
	}
	return sqliteObjects(ctx, db)
}

// FormatSchema writes objects one a line.
func FormatSchema(list []SchemaObject) []byte {
	var b bytes.Buffer
	for _, o := range list {
		fmt.Fprintf(&b, "%s\t%s\n", o.key(), o.Definition)
	}
	return b.Bytes()
}

func parseSchema(text []byte) (list []SchemaObject) {
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 4)
		if len(parts) == 4 {
			list = append(list, SchemaObject{parts[0], parts[1], parts[2], parts[3]})
		}
	}
	return list
}
