package main

import (
	"fmt"
	"strings"
)

// row is a line of the table: a figure of Parley, what it is compared with, and
// the goal for their ratio, or for the figure where there is no baseline.
type row struct {
	figure, parley, baseline string
	value                    float64
	verb                     string // how to print value, "" where it is not a ratio
	goal                     goal
}

// goal bounds a value; the zero goal is met by every value: it is only stated.
type goal struct {
	bound   float64
	upper   bool
	unit    string
	stretch float64 // a further goal, 0 for none
}

func lowerBound(bound float64) goal              { return goal{bound: bound} }
func upperBound(bound float64, unit string) goal { return goal{bound: bound, upper: true, unit: unit} }

func (g goal) met(value float64) string {
	switch {
	case g.bound == 0:
		return "stated"
	case g.upper && value <= g.bound, !g.upper && value >= g.bound:
		return "met"
	}
	return "**missed**"
}

func (g goal) String() string {
	if g.bound == 0 {
		return "stated"
	}
	sign := "≥"
	if g.upper {
		sign = "≤"
	}
	text := fmt.Sprintf("%s %g%s", sign, g.bound, g.unit)
	if g.stretch != 0 {
		text += fmt.Sprintf(", stretch %g", g.stretch)
	}
	return text
}

// table is what a run prints: the rows, and sections with all that was measured.
type table struct {
	rows     []row
	sections []string
}

func (t *table) add(rows ...row) { t.rows = append(t.rows, rows...) }

func (t *table) section(text string, args ...any) {
	t.sections = append(t.sections, strings.TrimSpace(fmt.Sprintf(text, args...)))
}

// markdown is the table's rows in Markdown.
func (t *table) markdown() string {
	var b strings.Builder
	b.WriteString("| figure | Parley | baseline | ratio | goal | |\n|---|---|---|---|---|---|\n")
	for _, r := range t.rows {
		ratio := ""
		if r.verb != "" {
			ratio = fmt.Sprintf(r.verb, r.value)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", r.figure, r.parley, r.baseline, ratio, r.goal, r.goal.met(r.value))
	}
	return b.String()
}

// String is the table in Markdown, the sections below it.
func (t *table) String() string {
	text := t.markdown()
	for _, s := range t.sections {
		text += "\n" + s + "\n"
	}
	return text
}
