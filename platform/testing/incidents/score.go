package incidents

import (
	"fmt"
	"strings"
)

// Score is the result of one incident.
type Score struct {
	Incident string
	Alert    string // that came first; "": none came, rightly
	Seconds  int    // until it came, multiplied by Factor
	Pages    string // that came, separated by commas
	Step     string // first step of the runbook, shortened
	Found    bool   // that step showed the cause
}

const (
	scoreBegin = "<!-- incidents: written by make incidents -->"
	scoreEnd   = "<!-- /incidents -->"
)

// WriteScores replaces the rows of the incidents that ran in the table between the
// markers of a document. Rows of others stay if they are named in order, the names of
// all incidents, in whose order the table is.
func WriteScores(document string, order []string, scores []Score) (string, error) {
	before, rest, found := strings.Cut(document, scoreBegin)
	table, after, ended := strings.Cut(rest, scoreEnd)
	if !found || !ended {
		return "", fmt.Errorf("the document has no %q and %q", scoreBegin, scoreEnd)
	}
	rows := map[string]string{}
	for line := range strings.SplitSeq(table, "\n") {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			rows[strings.TrimSpace(cells[1])] = line
		}
	}
	for _, s := range scores {
		found := "no"
		if s.Found {
			found = "yes"
		}
		if s.Alert == "" {
			rows[s.Incident] = fmt.Sprintf("| %s | none | – | %s | – | – |", s.Incident, s.Pages)
			continue
		}
		rows[s.Incident] = fmt.Sprintf("| %s | %s | %d | %s | %s | %s |", s.Incident, s.Alert, s.Seconds, s.Pages, code(s.Step), found)
	}
	out := []string{"", "| Incident | First alert | Seconds to it | Pages | First step of its runbook | Shows the cause |", "|---|---|---|---|---|---|"}
	for _, name := range order {
		if row, ok := rows[name]; ok {
			out = append(out, row)
		}
	}
	return before + scoreBegin + strings.Join(out, "\n") + "\n" + scoreEnd + after, nil
}

// code is the start of a step's first line for a cell of a table.
func code(step string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(step), "\n")
	if i := strings.Index(line, "  #"); i >= 0 {
		line = line[:i]
	}
	line = strings.TrimSpace(strings.ReplaceAll(line, "|", "\\|"))
	if r := []rune(line); len(r) > 60 {
		line = strings.TrimSpace(string(r[:60])) + "…"
	}
	return "`" + line + "`"
}
