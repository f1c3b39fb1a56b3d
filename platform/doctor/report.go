// Package doctor reports whether a deployment is as it must be: one line for each
// check, with what was measured and the one command or setting that fixes it.
package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// State is the result of a check.
type State string

const (
	OK   State = "ok"
	Warn State = "warn" // it works, and something should be changed
	Fail State = "fail" // something does not work, or data can be lost
)

// Line is the result of one check.
type Line struct {
	ID     string `json:"id"` // one of Checks
	State  State  `json:"state"`
	Fact   string `json:"fact"`             // what was measured
	Remedy string `json:"remedy,omitempty"` // "" if the state is ok
}

// Report collects lines. Each is written as soon as it is added.
type Report struct {
	Lines []Line
	text  io.Writer // nil: nothing is written
}

// NewReport returns a report that writes its lines as text; nil: it does not.
func NewReport(text io.Writer) *Report { return &Report{text: text} }

// OK reports a check that found nothing wrong.
func (r *Report) OK(id, fact string, args ...any) { r.add(id, OK, "", fact, args...) }

// Warn reports something that works and should be changed.
func (r *Report) Warn(id, remedy, fact string, args ...any) { r.add(id, Warn, remedy, fact, args...) }

// Fail reports something that does not work.
func (r *Report) Fail(id, remedy, fact string, args ...any) { r.add(id, Fail, remedy, fact, args...) }

func (r *Report) add(id string, state State, remedy, fact string, args ...any) {
	if !slices.ContainsFunc(Checks, func(c Check) bool { return c.ID == id }) {
		panic("doctor: unknown check " + id)
	}
	l := Line{ID: id, State: state, Fact: strings.Join(strings.Fields(fmt.Sprintf(fact, args...)), " "), Remedy: remedy}
	r.Lines = append(r.Lines, l)
	if r.text == nil {
		return
	}
	mark := string(l.State)
	if l.State == Fail {
		mark = "FAIL"
	}
	fmt.Fprintf(r.text, "%-5s %-24s %s\n", mark, l.ID, l.Fact)
	if l.Remedy != "" {
		fmt.Fprintf(r.text, "%-5s %-24s fix: %s\n", "", "", l.Remedy)
	}
}

// Failed returns how many checks failed.
func (r *Report) Failed() (n int) {
	for _, l := range r.Lines {
		if l.State == Fail {
			n++
		}
	}
	return n
}

// HasFailed reports whether a check failed whose id begins with one of the prefixes.
func (r *Report) HasFailed(prefixes ...string) bool {
	return slices.ContainsFunc(r.Lines, func(l Line) bool {
		return l.State == Fail && slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(l.ID, p) })
	})
}

// JSON writes all lines as one document.
func (r *Report) JSON(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(map[string]any{"failed": r.Failed(), "checks": r.Lines})
}
