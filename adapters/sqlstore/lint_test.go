package sqlstore_test

import (
	"regexp"
	"strings"
	"testing"

	"ariga.io/atlas/sql/migrate"
)

// lint returns what is dangerous in a migration that runs while an older
// release serves. A statement that is meant so says "-- atlas:nolint" above
// itself, with the reason.
func lint(text string) (findings []string) {
	file := migrate.NewLocalFile("20990101000000_x.sql", []byte(text))
	statements, err := file.StmtDecls()
	if err != nil {
		return []string{"cannot be read: " + err.Error()}
	}
	outside := false
	for _, mode := range file.Directive("txmode") {
		outside = outside || mode == "none"
	}
	if !outside && strings.Contains(text, "atlas:txmode none") {
		findings = append(findings, "atlas:txmode none has no effect: it must be the first line, with a blank line behind it")
	}
	for _, s := range statements {
		if len(s.Directive("nolint")) > 0 {
			continue
		}
		for _, rule := range lintRules {
			if finding := rule(s.Text, outside); finding != "" {
				findings = append(findings, finding)
			}
		}
	}
	return findings
}

var (
	concurrently = regexp.MustCompile(`(?i)\bINDEX\s+CONCURRENTLY\b`)
	addColumn    = regexp.MustCompile(`(?is)\bADD\s+(COLUMN\s+)?(IF\s+NOT\s+EXISTS\s+)?[^,(]*`)
	notNull      = regexp.MustCompile(`(?i)\bNOT\s+NULL\b`)
	setNotNull   = regexp.MustCompile(`(?i)\bSET\s+NOT\s+NULL\b`)
	defaultValue = regexp.MustCompile(`(?i)\bDEFAULT\b`)
	drops        = regexp.MustCompile(`(?i)^\s*(DROP\s+TABLE|DROP\s+SCHEMA|TRUNCATE|ALTER\s+TABLE\s+.*\bDROP\s+(COLUMN\s+)?[^\s]*)`)
	dropsHarmful = regexp.MustCompile(`(?i)\bDROP\s+(CONSTRAINT|DEFAULT|NOT\s+NULL)\b`)
	renames      = regexp.MustCompile(`(?i)\bRENAME\s+(COLUMN|TO)\b`)
	retypes      = regexp.MustCompile(`(?i)\bALTER\s+(COLUMN\s+)?\S+\s+(SET\s+DATA\s+)?TYPE\b`)
)

var lintRules = []func(statement string, outside bool) string{
	func(s string, outside bool) string {
		if concurrently.MatchString(s) && !outside {
			return "CREATE INDEX CONCURRENTLY cannot run in a transaction: begin the file with -- atlas:txmode none and a blank line"
		}
		return ""
	},
	func(s string, _ bool) string {
		if !strings.HasPrefix(strings.ToUpper(strings.TrimSpace(s)), "ALTER TABLE") {
			return ""
		}
		if setNotNull.MatchString(s) {
			return "SET NOT NULL reads the whole table under a lock: add a NOT VALID check first"
		}
		for _, add := range addColumn.FindAllString(s, -1) {
			if notNull.MatchString(add) && !defaultValue.MatchString(add) {
				return "a NOT NULL column without a default fails on a table with rows"
			}
		}
		return ""
	},
	func(s string, _ bool) string {
		if drops.MatchString(s) && !dropsHarmful.MatchString(s) {
			return "destroys data, and an older release that still serves fails"
		}
		return ""
	},
	func(s string, _ bool) string {
		if renames.MatchString(s) {
			return "an older release that still serves does not know the new name: add, copy, and drop in a later release"
		}
		return ""
	},
	func(s string, _ bool) string {
		if retypes.MatchString(s) {
			return "another type rewrites the table under a lock"
		}
		return ""
	},
}

func TestMigrationLint(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want int
	}{
		"new table":               {"CREATE TABLE a (id text NOT NULL);", 0},
		"new index":               {"CREATE INDEX a_idx ON a (id);", 0},
		"nullable column":         {"ALTER TABLE a ADD COLUMN b text NULL;", 0},
		"column with default":     {"ALTER TABLE a ADD COLUMN b int NOT NULL DEFAULT 0;", 0},
		"column without default":  {"ALTER TABLE a ADD COLUMN b int NOT NULL;", 1},
		"second without default":  {"ALTER TABLE a ADD COLUMN b int NOT NULL DEFAULT 0, ADD COLUMN c int NOT NULL;", 1},
		"set not null":            {"ALTER TABLE a ALTER COLUMN b SET NOT NULL;", 1},
		"dropped table":           {"DROP TABLE a;", 1},
		"dropped table, meant":    {"-- atlas:nolint\nDROP TABLE a;", 0},
		"dropped column":          {"ALTER TABLE a DROP COLUMN b;", 1},
		"dropped column, short":   {"ALTER TABLE a DROP b;", 1},
		"dropped constraint":      {"ALTER TABLE a DROP CONSTRAINT b;", 0},
		"truncated":               {"TRUNCATE a;", 1},
		"renamed column":          {"ALTER TABLE a RENAME COLUMN b TO c;", 1},
		"renamed table":           {"ALTER TABLE a RENAME TO b;", 1},
		"other type":              {"ALTER TABLE a ALTER COLUMN b TYPE bigint;", 1},
		"concurrent":              {"-- atlas:txmode none\n\nCREATE INDEX CONCURRENTLY a_idx ON a (id);", 0},
		"concurrent in a tx":      {"CREATE INDEX CONCURRENTLY a_idx ON a (id);", 1},
		"concurrent, no blank":    {"-- atlas:txmode none\nCREATE INDEX CONCURRENTLY a_idx ON a (id);", 2},
		"concurrent drop in a tx": {"DROP INDEX CONCURRENTLY a_idx;", 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lint(c.text); len(got) != c.want {
				t.Errorf("got %d findings, want %d: %q", len(got), c.want, got)
			}
		})
	}
}
