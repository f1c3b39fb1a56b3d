package incidents

import (
	"fmt"
	"os"
	"strings"
)

// Step is a query or a command of a runbook.
type Step struct {
	Language string // promql, sql or sh
	Text     string // as written
	Line     int    // of the opening fence, from 1
}

// Steps returns all fenced queries and commands of a runbook, in their order.
func Steps(markdown string) []Step {
	var out []Step
	var open *Step
	var text []string
	for i, line := range strings.Split(markdown, "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case open == nil && strings.HasPrefix(trimmed, "```"):
			open, text = &Step{Language: strings.TrimPrefix(trimmed, "```"), Line: i + 1}, nil
		case open != nil && trimmed == "```":
			open.Text = strings.Join(text, "\n")
			out = append(out, *open)
			open = nil
		case open != nil:
			text = append(text, line)
		}
	}
	return out
}

// Section returns the part of a runbook below a heading, up to the next one of its
// level.
func Section(markdown, heading string) string {
	_, rest, found := strings.Cut(markdown, "\n## "+heading+"\n")
	if !found {
		return ""
	}
	section, _, _ := strings.Cut(rest, "\n## ")
	return section
}

// FirstStep returns the first query or command below "Check first" of the runbook of
// an alert, in the directory dir.
func FirstStep(dir, alert string) (Step, error) {
	content, err := os.ReadFile(dir + "/" + alert + ".md")
	if err != nil {
		return Step{}, err
	}
	steps := Steps(Section(string(content), "Check first"))
	if len(steps) == 0 {
		return Step{}, fmt.Errorf("the runbook of %s has no query or command to check first", alert)
	}
	return steps[0], nil
}
