// Package ops is what an operator uses from a terminal, without Grafana and without a
// shell beside the program: named queries of the database, requests to the admin
// address, and one screen of the state of the instances (top).
package ops

import (
	"context"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/adapters/sqlstore/migrations"
)

//go:embed queries/*.sql
var files embed.FS

// Query is a read-only SELECT for PostgreSQL with a name.
type Query struct {
	Name string
	Help string // one sentence
	SQL  string
	Args []any
}

// Queries returns all named queries, ordered by name.
func Queries() []Query {
	paths, err := fs.Glob(files, "queries/*.sql")
	if err != nil {
		panic(err) // a pattern that is constant
	}
	var out []Query
	for _, path := range paths {
		content, err := files.ReadFile(path)
		if err != nil {
			panic(err) // it is embedded
		}
		help, sql, _ := strings.Cut(string(content), "\n")
		q := Query{Name: strings.TrimSuffix(strings.TrimPrefix(path, "queries/"), ".sql"), Help: strings.TrimPrefix(help, "-- "), SQL: strings.TrimSpace(sql)}
		if strings.Contains(q.SQL, "$1::text[]") {
			q.Args = []any{indexNames()}
		}
		out = append(out, q)
	}
	return out
}

// FindQuery returns the query of a name.
func FindQuery(name string) (Query, error) {
	all := Queries()
	for _, q := range all {
		if q.Name == name {
			return q, nil
		}
	}
	var list strings.Builder
	for _, q := range all {
		fmt.Fprintf(&list, "\n  %-12s %s", q.Name, q.Help)
	}
	return Query{}, fmt.Errorf("there is no query %q; there are:%s", name, &list)
}

// Timeouts of a query. An operator must not add to the load of a database in trouble.
const (
	connectTimeout = 5 * time.Second
	queryTimeout   = 10 * time.Second
)

// RunQuery runs a query in a read-only transaction and writes its result as a table.
// searchPath may be empty.
func RunQuery(ctx context.Context, url string, searchPath []string, q Query, w io.Writer) error {
	conf, err := pgx.ParseConfig(url)
	if err != nil {
		return err
	}
	conf.ConnectTimeout = connectTimeout
	conf.DefaultQueryExecMode = pgx.QueryExecModeExec // works behind PgBouncer
	conf.RuntimeParams["application_name"] = "parley-admin"
	ctx, cancel := context.WithTimeout(ctx, connectTimeout+queryTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written
	settings := []string{fmt.Sprintf("SET LOCAL statement_timeout = %d", queryTimeout.Milliseconds()), "SET LOCAL lock_timeout = 2000"}
	if len(searchPath) > 0 {
		quoted := make([]string, len(searchPath))
		for i, schema := range searchPath {
			quoted[i] = pgx.Identifier{schema}.Sanitize()
		}
		settings = append(settings, "SET LOCAL search_path = "+strings.Join(quoted, ", "))
	}
	for _, s := range settings {
		if _, err := tx.Exec(ctx, s); err != nil {
			return err
		}
	}
	rows, err := tx.Query(ctx, q.SQL, q.Args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, f := range rows.FieldDescriptions() {
		fmt.Fprint(table, separator(i), strings.ToUpper(f.Name))
	}
	fmt.Fprintln(table)
	n := 0
	for ; rows.Next(); n++ {
		values := rows.RawValues()
		formats := rows.FieldDescriptions()
		decoded, err := rows.Values()
		if err != nil {
			return err
		}
		for i, v := range values {
			fmt.Fprint(table, separator(i), cell(v, formats[i].Format == pgx.TextFormatCode, decoded[i]))
		}
		fmt.Fprintln(table)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	fmt.Fprintf(table, "(%d rows)\n", n)
	return table.Flush()
}

func separator(i int) string {
	if i == 0 {
		return ""
	}
	return "\t"
}

// cell is a value for a reader: PostgreSQL's own text where it sent text.
func cell(raw []byte, text bool, decoded any) string {
	switch v := decoded.(type) {
	case nil:
		return "-"
	case time.Time:
		return v.UTC().Format(time.DateTime)
	}
	if text {
		return strings.Join(strings.Fields(string(raw)), " ")
	}
	return strings.Join(strings.Fields(fmt.Sprint(decoded)), " ")
}

var indexChange = regexp.MustCompile(`(?im)^\s*(CREATE|DROP)\s+(?:UNIQUE\s+)?INDEX\s+(?:CONCURRENTLY\s+)?(?:IF\s+(?:NOT\s+)?EXISTS\s+)?"?([a-z0-9_]+)"?`)

// indexNames returns the indexes that exist after all migrations, without those of
// primary keys and constraints.
func indexNames() []string {
	paths, err := fs.Glob(migrations.FS, "postgres/*.sql")
	if err != nil {
		panic(err) // a pattern that is constant
	}
	var names []string
	for _, path := range paths { // Glob sorts, and versions are in order
		content, err := migrations.FS.ReadFile(path)
		if err != nil {
			panic(err) // it is embedded
		}
		for _, m := range indexChange.FindAllStringSubmatch(string(content), -1) {
			if strings.EqualFold(m[1], "create") {
				names = append(names, m[2])
			} else {
				names = slices.DeleteFunc(names, func(n string) bool { return n == m[2] })
			}
		}
	}
	return names
}
