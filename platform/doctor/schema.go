package doctor

import (
	"fmt"
	"slices"
	"strings"

	"parley/adapters/sqlstore"
)

// schemaChecks are the checks of the kinds of objects, and how to say that nothing
// differs.
var schemaChecks = []struct {
	id    string
	kinds []string
}{
	{"schema.tables", []string{"table", "partition"}},
	{"schema.columns", []string{"column"}},
	{"schema.indexes", []string{"index"}},
	{"schema.constraints", []string{"constraint"}},
	{"schema.triggers", []string{"trigger", "rule"}},
	{"schema.functions", []string{"function"}},
	{"schema.policies", []string{"policy"}},
	{"schema.owners", []string{"owner"}},
	{"schema.grants", []string{"grant"}},
}

// postgresOnly are the kinds that SQLite does not have.
var postgresOnly = []string{"schema.functions", "schema.policies", "schema.owners", "schema.grants", "schema.constraints"}

// Schema reports the differences between the database and the migrations, a line for
// each kind of object.
func (r *Report) Schema(dialect string, differences []sqlstore.SchemaDifference) {
	columns := map[string]bool{} // tables whose columns differ: the text of the table differs with them
	for _, d := range differences {
		if d.Kind == "column" {
			columns[d.Parent] = true
		}
	}
	for _, check := range schemaChecks {
		if dialect == "sqlite" && slices.Contains(postgresOnly, check.id) {
			continue
		}
		var bad, harmless []sqlstore.SchemaDifference
		for _, d := range differences {
			switch {
			case !slices.Contains(check.kinds, d.Kind):
			case dialect == "sqlite" && d.Kind == "table" && d.Actual != "" && columns[d.Name]:
			case implied(d, differences):
			case d.Harmless():
				harmless = append(harmless, d)
			default:
				bad = append(bad, d)
			}
		}
		switch {
		case len(bad) > 0:
			r.Fail(check.id, remedyFor(dialect, bad[0]), "%s", list(bad))
		case len(harmless) > 0 && harmless[0].Moving():
			r.Warn(check.id, "finish the move to partitions, or abandon it (-v abandon=1): psql ... -f deploy/scale/partition.sql", "%s", list(harmless))
		case len(harmless) > 0:
			r.Warn(check.id, "DROP it, if you do not need it", "%s", list(harmless))
		default:
			r.OK(check.id, "as the migrations make them")
		}
	}
}

// implied reports whether a difference follows from another one: the index of a
// constraint that is missing, what a missing column takes with it, or that an index is
// invalid which some partition lacks.
func implied(d sqlstore.SchemaDifference, all []sqlstore.SchemaDifference) bool {
	for _, o := range all {
		switch {
		case d.Kind == "index" && d.Actual != "" && o.Kind == "index" && o.Missing && o.OfPartition() && o.Name == d.Name:
			return true
		case d.Kind == "index" && o.Kind == "constraint" && o.Name == d.Name && o.Parent == d.Parent:
			return true
		case o.Kind == "column" && o.Missing && o.Parent == d.Parent && d.Missing && d.Kind != "column" && d.Kind != "table" && containsWord(d.Definition, o.Name):
			return true
		}
	}
	return false
}

func containsWord(text, word string) bool {
	return slices.Contains(strings.FieldsFunc(text, func(c rune) bool { return c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') }), word)
}

func list(differences []sqlstore.SchemaDifference) string {
	const most = 5
	var texts []string
	for i, d := range differences {
		if i == most {
			texts = append(texts, fmt.Sprintf("and %d more", len(differences)-most))
			break
		}
		texts = append(texts, d.String())
	}
	return strings.Join(texts, "; ")
}

// remedyFor returns the statement that makes an object what it must be, as far as one
// statement can.
func remedyFor(dialect string, d sqlstore.SchemaDifference) string {
	const restore = "restore the newest backup into an empty database: parley restore FILE"
	invalid := strings.HasSuffix(d.Actual, " INVALID")
	switch d.Kind {
	case "index":
		switch {
		case d.Unexpected:
			return "run: DROP INDEX " + d.Name
		case d.Missing && d.OfPartition():
			return "run, for each such partition, with a name of its own for INDEX: " +
				strings.Replace(concurrently(dialect, d.Definition), " "+d.Name+" ", " INDEX ", 1) + "; ALTER INDEX " + d.Name + " ATTACH PARTITION INDEX"
		case d.Missing:
			return "run: " + concurrently(dialect, d.Definition)
		case invalid:
			return "run: REINDEX INDEX " + d.Name
		}
		return "run: DROP INDEX " + d.Name + "; " + d.Definition
	case "constraint":
		add := "ALTER TABLE " + d.Parent + " ADD CONSTRAINT " + d.Name + " " + d.Definition
		switch {
		case d.Unexpected:
			return "run: ALTER TABLE " + d.Parent + " DROP CONSTRAINT " + d.Name
		case d.Missing:
			return "run: " + add
		case strings.HasSuffix(d.Actual, " NOT VALID"):
			return "run: ALTER TABLE " + d.Parent + " VALIDATE CONSTRAINT " + d.Name
		case strings.HasSuffix(d.Actual, " DISABLED"):
			return "run: ALTER TABLE " + d.Parent + " ENABLE TRIGGER ALL"
		}
		return "run: ALTER TABLE " + d.Parent + " DROP CONSTRAINT " + d.Name + "; " + add
	case "trigger", "rule":
		drop := "DROP " + strings.ToUpper(d.Kind) + " " + d.Name
		if dialect == "postgres" {
			drop += " ON " + d.Parent
		}
		switch {
		case d.Unexpected:
			return "run: " + drop
		case d.Missing:
			return "run: " + d.Definition
		case dialect == "postgres" && strings.TrimSuffix(d.Actual, " DISABLED") == d.Definition:
			return "run: ALTER TABLE " + d.Parent + " ENABLE TRIGGER " + d.Name
		}
		return "run: " + drop + "; " + d.Definition
	case "policy":
		if d.Unexpected {
			return "run: DROP POLICY " + d.Name + " ON " + d.Parent
		}
		return "run the CREATE POLICY of " + d.Parent + " in the migrations again, after: DROP POLICY IF EXISTS " + d.Name + " ON " + d.Parent
	case "owner":
		return "run: ALTER TABLE (or FUNCTION) " + d.Name + " OWNER TO the owner of chat_users"
	case "grant":
		return "run: REVOKE ALL ON " + d.Name + " FROM PUBLIC"
	case "column":
		switch {
		case d.Unexpected:
			return "run: ALTER TABLE " + d.Parent + " DROP COLUMN " + d.Name
		case d.Missing || dialect == "sqlite":
			return restore
		}
		return "alter " + d.Parent + "." + d.Name + " to: " + d.Definition
	case "function":
		if d.Unexpected {
			return "run: DROP FUNCTION " + d.Name
		}
		return "run the CREATE FUNCTION of " + d.Name + " in the migrations again, as CREATE OR REPLACE"
	case "partition":
		remainder, modulus, _ := strings.Cut(d.Name, " of ")
		return "if the table is still there, run: ALTER TABLE " + d.Parent + " ATTACH PARTITION ... FOR VALUES WITH (MODULUS " + modulus + ", REMAINDER " + remainder + "); else " + restore
	case "table":
		if strings.HasSuffix(d.Actual, ", not logged") {
			return "run: ALTER TABLE " + d.Name + " SET LOGGED"
		}
	}
	return restore
}

// concurrently builds an index without blocking writes.
func concurrently(dialect, definition string) string {
	if dialect != "postgres" {
		return definition
	}
	return strings.Replace(definition, "INDEX ", "INDEX CONCURRENTLY ", 1)
}
