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
	made := map[string]bool{}
	for _, found := range createsTable.FindAllStringSubmatch(text, -1) {
		made[strings.ToLower(found[1])] = true
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
		if finding := lintLocks(s.Text, made); finding != "" {
			findings = append(findings, finding)
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

var (
	createsTable   = regexp.MustCompile(`(?im)^\s*CREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?"?(\w+)"?`)
	createsIndex   = regexp.MustCompile(`(?is)^\s*CREATE\s+(?:UNIQUE\s+)?INDEX\s+(?:IF\s+NOT\s+EXISTS\s+)?\S+\s+ON\s+(?:ONLY\s+)?"?(\w+)"?`)
	altersTable    = regexp.MustCompile(`(?is)^\s*ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?"?(\w+)"?`)
	addsConstraint = regexp.MustCompile(`(?is)\bADD\s+(CONSTRAINT\s+\S+\s+)?(FOREIGN\s+KEY|CHECK|UNIQUE|PRIMARY\s+KEY|EXCLUDE)\b`)
	notValid       = regexp.MustCompile(`(?i)\bNOT\s+VALID\b|\bUSING\s+INDEX\b`)
	dropsIndex     = regexp.MustCompile(`(?i)^\s*DROP\s+INDEX\b`)
	rewrites       = regexp.MustCompile(`(?i)^\s*(VACUUM\s+FULL|CLUSTER|REINDEX|LOCK)\b`)
	volatile       = regexp.MustCompile(`(?i)\bADD\s+(COLUMN\s+)?.*\bDEFAULT\b[^,]*\b(random|clock_timestamp|gen_random_uuid|nextval|timeofday)\s*\(`)
	generated      = regexp.MustCompile(`(?i)\bADD\s+(COLUMN\s+)?.*\bGENERATED\s+ALWAYS\b`)
)

// lintLocks finds statements that read or write a whole table while they keep
// others from it. Tables that the same file makes have no rows.
func lintLocks(statement string, made map[string]bool) string {
	if found := createsIndex.FindStringSubmatch(statement); found != nil && !strings.EqualFold(found[1], "CONCURRENTLY") && !made[strings.ToLower(found[1])] && !concurrently.MatchString(statement) {
		return "CREATE INDEX keeps writers from the table until it is done: make it CONCURRENTLY, in a file of its own with -- atlas:txmode none"
	}
	if dropsIndex.MatchString(statement) && !concurrently.MatchString(statement) {
		return "DROP INDEX waits for every reader, with all others behind it: drop it CONCURRENTLY, in a file of its own with -- atlas:txmode none"
	}
	if rewrites.MatchString(statement) {
		return "locks or rewrites a table while others use it"
	}
	table := altersTable.FindStringSubmatch(statement)
	switch {
	case table == nil || made[strings.ToLower(table[1])]:
	case addsConstraint.MatchString(statement) && !notValid.MatchString(statement):
		return "a constraint reads the whole table under a lock: add it NOT VALID and VALIDATE it in a later file, or add a key USING INDEX"
	case volatile.MatchString(statement), generated.MatchString(statement):
		return "a column with a value for each row rewrites the table under a lock"
	}
	return ""
}

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
		"index of a new table":    {"CREATE TABLE a (id text NOT NULL);\n\nCREATE UNIQUE INDEX a_idx ON a (id);", 0},
		"index of an old table":   {"CREATE TABLE b (id text NOT NULL);\n\nCREATE INDEX a_idx ON a (id);", 1},
		"unique index, old table": {"CREATE UNIQUE INDEX IF NOT EXISTS a_idx ON a (id);", 1},
		"dropped index":           {"DROP INDEX a_idx;", 1},
		"dropped index, aside":    {"-- atlas:txmode none\n\nDROP INDEX CONCURRENTLY a_idx;", 0},
		"reference":               {"ALTER TABLE a ADD CONSTRAINT f FOREIGN KEY (b) REFERENCES c (id);", 1},
		"reference, not valid":    {"ALTER TABLE a ADD CONSTRAINT f FOREIGN KEY (b) REFERENCES c (id) NOT VALID;", 0},
		"reference of a new one":  {"CREATE TABLE a (b text);\nALTER TABLE a ADD CONSTRAINT f FOREIGN KEY (b) REFERENCES c (id);", 0},
		"check":                   {"ALTER TABLE a ADD CHECK (b > 0);", 1},
		"validated later":         {"ALTER TABLE a VALIDATE CONSTRAINT f;", 0},
		"unique constraint":       {"ALTER TABLE a ADD CONSTRAINT k UNIQUE (b);", 1},
		"unique, using index":     {"ALTER TABLE a ADD CONSTRAINT k UNIQUE USING INDEX k;", 0},
		"volatile default":        {"ALTER TABLE a ADD COLUMN b uuid DEFAULT gen_random_uuid();", 1},
		"constant default":        {"ALTER TABLE a ADD COLUMN b timestamptz DEFAULT now();", 0},
		"generated column":        {"ALTER TABLE a ADD COLUMN b text GENERATED ALWAYS AS (c || d) STORED;", 1},
		"full vacuum":             {"VACUUM FULL a;", 1},
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
