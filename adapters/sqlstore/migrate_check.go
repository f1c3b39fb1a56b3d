package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/schema"
	"github.com/jackc/pgx/v5/pgconn"
)

// checkTables compares the tables of the schema with the revisions on record,
// in the table that is named; "" when there is none. It refuses a schema in
// which pending migrations would meet tables that exist, one that lacks tables
// of applied migrations, and revisions of another program.
func (s *Store) checkTables(ctx context.Context, db schema.ExecQuerier, dir migrate.Dir, table string) error {
	files, err := dir.Files()
	if err != nil || len(files) == 0 {
		return err
	}
	var done []*migrate.Revision
	if table != "" {
		if done, err = (revisions{db: db, table: table}).ReadRevisions(ctx); err != nil {
			return err
		}
	}
	begun, applied := map[string]bool{}, map[string]bool{}
	for _, r := range done {
		begun[r.Version], applied[r.Version] = true, r.Applied == r.Total
	}
	if len(done) > 0 && !begun[files[0].Version()] {
		return &SetupError{What: "The table " + revisionName + " holds the migrations of another program", Fix: ownSchema}
	}
	made, toMake := map[string]bool{}, map[string]bool{}
	for _, f := range files {
		switch {
		case applied[f.Version()]:
			applyTables(string(f.Bytes()), made)
		case !begun[f.Version()]: // of a file that was applied in part, either may be true
			applyTables(string(f.Bytes()), toMake)
		}
	}
	present, visible, err := s.tables(ctx, db)
	if err != nil {
		return err
	}
	var absent, taken []string
	for name := range made {
		if !visible[name] {
			absent = append(absent, name)
		}
	}
	for name := range toMake {
		if present[name] && !made[name] {
			taken = append(taken, name)
		}
	}
	slices.Sort(absent)
	slices.Sort(taken)
	const restore = "restore the whole backup into an empty database, and name that in %s"
	ahead := len(done) > 0 && done[len(done)-1].Version > files[len(files)-1].Version()
	switch {
	case len(absent) > 0 && !ahead: // a newer release may have dropped tables
		return &SetupError{What: "The schema was restored in part: it lacks the tables " + strings.Join(absent, ", "), Fix: restore}
	case len(taken) > 0 && present["chat_users"] && present["chat_runs"]:
		return &SetupError{What: "The schema was restored in part: it holds Parley's tables without the record of its migrations (" + revisionName + ")", Fix: restore}
	case len(taken) > 0:
		return &SetupError{What: "The schema already holds tables that Parley did not make: " + strings.Join(taken, ", "), Fix: ownSchema}
	}
	return nil
}

// ownSchema fixes a schema that another program uses.
const ownSchema = "give Parley a schema of its own by adding schema=parley to the parameters of %s, and run parley migrate up again"

var (
	tableName = `(?:IF (?:NOT )?EXISTS )?"?([a-z_]+)"?`
	createdOr = regexp.MustCompile(`(?i)^(?:(CREATE) TABLE ` + tableName + `|(DROP) TABLE ` + tableName + `|ALTER TABLE ` + tableName + ` (RENAME) TO "?([a-z_]+)"?)`)
)

// applyTables adds the tables that a migration creates to a set, and removes those
// that it drops or renames.
func applyTables(text string, tables map[string]bool) {
	for line := range strings.Lines(text) {
		m := createdOr.FindStringSubmatch(strings.TrimSpace(line))
		switch {
		case m == nil:
		case m[1] != "":
			tables[m[2]] = true
		case m[3] != "":
			delete(tables, m[4])
		default:
			delete(tables, m[5])
			tables[m[7]] = true
		}
	}
}

// tables returns the relations of the schema in which tables are created, and
// those that a statement would find.
func (s *Store) tables(ctx context.Context, db schema.ExecQuerier) (present, visible map[string]bool, err error) {
	query := "SELECT name, true, true FROM sqlite_master WHERE type IN ('table', 'view')"
	if s.dialect.name == "postgres" {
		query = `SELECT relname, relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()), pg_table_is_visible(oid)
			FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND relnamespace <> 'pg_catalog'::regnamespace`
	}
	found, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, nil, err
	}
	defer found.Close()
	present, visible = map[string]bool{}, map[string]bool{}
	for found.Next() {
		var (
			name string
			here *bool
			seen bool
		)
		if err := found.Scan(&name, &here, &seen); err != nil {
			return nil, nil, err
		}
		present[name] = present[name] || here != nil && *here
		visible[name] = visible[name] || seen
	}
	return present, visible, found.Err()
}

// remedies are the causes and fixes of failed migrations, by SQLSTATE.
var remedies = map[string]string{
	"55P03": "another session holds a lock that it needs; run it again when pg_stat_activity shows no long transaction",
	"40P01": "it met a deadlock; run it again",
	"57014": "it was cancelled; run it again",
	"25006": "the database is read-only; run it on the primary",
	"53100": "the disk is full; make room and run it again",
}

// migrationError describes in one sentence why a file was not applied, and the
// fix. file is "" if no file was being applied.
func migrationError(file string, err error) error {
	if setup := setupError(err); setup != nil {
		if setup.statement {
			return &SetupError{What: about(file) + ": " + setup.What, Fix: "run it as the owner of the tables, with the owner's role in %s"}
		}
		return setup
	}
	reason, ok := remedies[sqlState(err)]
	var pg *pgconn.PgError
	switch {
	case ok:
	case lostConnection(err):
		reason = "the connection to the database was lost; run it again"
	case errors.As(err, &pg) && strings.HasPrefix(pg.Code, "22"):
		reason = "SQLSTATE " + pg.Code // its text quotes values
	case errors.As(err, &pg):
		reason = pg.Message + " (SQLSTATE " + pg.Code + ")"
	default:
		return fmt.Errorf("%s: %w", about(file), err)
	}
	return fmt.Errorf("%s: %s", about(file), reason)
}

func about(file string) string {
	if file == "" {
		return "migrate"
	}
	return "migration " + file + " was not applied"
}
