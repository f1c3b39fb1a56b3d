package check

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql/parser"

	"parley/dashboards"
)

// Run is a suite beside what was recorded while a Parley ran.
type Run struct {
	*Suite
	Prometheus Prometheus
	Database   *sql.DB // as the role that dashboards read with
	From, To   time.Time
	Variables  Variables
	// Empty are queries that may have no result, by where they stand, with the
	// reason. One that has a result after all is a problem too.
	Empty map[string]string
	// Varying are queries that have a result at some times of the day only, by where
	// they stand, with the reason.
	Varying map[string]string
}

// Result is what a query of a panel returned.
type Result struct {
	Series    []Series   `json:",omitempty"`
	Exemplars []Exemplar `json:",omitempty"`
	Columns   []string   `json:",omitempty"`
	Rows      [][]any    `json:",omitempty"`
}

// Panels runs every query of every panel, annotation and variable. seen, if
// set, is given each panel's result.
func (r *Run) Panels(ctx context.Context, seen func(board dashboards.Dashboard, panel dashboards.Panel, results []Result)) []Problem {
	var out []Problem
	for _, d := range r.Boards {
		for _, p := range d.Queries() {
			var results []Result
			for _, t := range p.Targets {
				where := d.UID + " / " + p.Title + " / " + t.RefID
				result, none, err := r.target(ctx, t)
				if problem := r.judge(where, none, err); problem != nil {
					out = append(out, *problem)
				}
				results = append(results, result)
			}
			if seen != nil {
				seen(d, p, results)
			}
		}
	}
	for _, q := range r.Queries() {
		if q.Panel != nil {
			continue
		}
		series, err := r.Prometheus.Range(ctx, r.Variables.Expand(q.Expr), r.From, r.To, r.step())
		if problem := r.judge(q.Where, empty(series), err); problem != nil {
			out = append(out, *problem)
		}
	}
	return out
}

func (r *Run) step() time.Duration {
	return max(time.Second, r.To.Sub(r.From)/200).Truncate(time.Second)
}

func (r *Run) target(ctx context.Context, t dashboards.Target) (result Result, none bool, err error) {
	if t.RawSQL != "" {
		result.Columns, result.Rows, err = r.sql(ctx, t.RawSQL)
		return result, !slices.ContainsFunc(result.Rows, filled), err
	}
	expr := r.Variables.Expand(t.Expr)
	if t.Instant {
		result.Series, err = r.Prometheus.Instant(ctx, expr, r.To)
	} else {
		result.Series, err = r.Prometheus.Range(ctx, expr, r.From, r.To, r.step())
	}
	if err == nil && t.Exemplar {
		result.Exemplars, err = r.Prometheus.Exemplars(ctx, expr, r.From, r.To)
	}
	return result, empty(result.Series), err
}

func (r *Run) judge(where string, none bool, err error) *Problem {
	reason, allowed := r.Empty[where]
	_, varies := r.Varying[where]
	switch {
	case err != nil:
		return &Problem{where, err.Error()}
	case varies:
	case none && !allowed:
		return &Problem{where, "has no result"}
	case !none && allowed:
		return &Problem{where, "has a result; its reason to have none is out of date: " + reason}
	}
	return nil
}

// filled reports whether a row holds anything but its time.
func filled(row []any) bool {
	return slices.ContainsFunc(row, func(v any) bool {
		_, isTime := v.(time.Time)
		return v != nil && !isTime
	})
}

var timeFilter = regexp.MustCompile(`\$__timeFilter\(([a-z_.]+)\)`)

// sql runs a query as Grafana's Postgres data source would send it.
func (r *Run) sql(ctx context.Context, text string) (columns []string, rows [][]any, err error) {
	quoted := func(t time.Time) string { return "'" + t.UTC().Format(time.RFC3339Nano) + "'" }
	text = timeFilter.ReplaceAllString(text, "$1 BETWEEN "+quoted(r.From)+" AND "+quoted(r.To))
	found, err := r.Database.QueryContext(ctx, text)
	if err != nil {
		return nil, nil, err
	}
	defer found.Close()
	if columns, err = found.Columns(); err != nil {
		return nil, nil, err
	}
	for found.Next() {
		row := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := found.Scan(into...); err != nil {
			return nil, nil, err
		}
		rows = append(rows, row)
	}
	return columns, rows, found.Err()
}

// Rules runs every alert and recording rule, taken apart: each selector must
// have matched something, and each side of a comparison must have a value, or
// the rule could never fire.
func (r *Run) Rules(ctx context.Context) []Problem {
	var out []Problem
	try := func(where, expr string) {
		series, err := r.Prometheus.Range(ctx, expr, r.From, r.To, r.step())
		if problem := r.judge(where+" / "+expr, empty(series), err); problem != nil {
			out = append(out, *problem)
		}
	}
	for _, g := range r.Groups {
		for _, rule := range g.Rules {
			where := "alert " + rule.Alert
			if rule.Record != "" {
				where = "record " + rule.Record
				try(where, rule.Record)
			}
			// As it is, for errors that only an evaluation shows.
			if _, err := r.Prometheus.Range(ctx, rule.Expr, r.From, r.To, r.step()); err != nil {
				out = append(out, Problem{where, err.Error()})
				continue
			}
			// What is a week back cannot be there yet; it is the same thing.
			e, err := promql.ParseExpr(offset.ReplaceAllString(rule.Expr, ""))
			if err != nil {
				out = append(out, Problem{where, err.Error()})
				continue
			}
			walkSelectors(e, func(s *parser.VectorSelector) { try(where, s.String()) })
			for _, o := range operands(e) {
				try(where, o.String())
			}
		}
	}
	return out
}

// Conditions checks that the condition of every alert has been true once in the run,
// in one of its windows: a rule whose every selector matches can still compare what
// can never be. never are alerts that need not, with the reason.
func (r *Run) Conditions(ctx context.Context, never map[string]string) []Problem {
	span := fmt.Sprintf("[%ds]", int(r.To.Sub(r.From).Seconds())+1)
	got, err := r.Prometheus.Instant(ctx, "count by (alertname) (count_over_time(ALERTS"+span+"))", r.To)
	if err != nil {
		return []Problem{{"alerts", err.Error()}}
	}
	happened := map[string]bool{}
	for _, s := range got {
		happened[s.Labels["alertname"]] = true
	}
	var out []Problem
	known := map[string]bool{}
	for _, a := range r.Alerts() {
		if !known[a.Alert] && !happened[a.Alert] && never[a.Alert] == "" {
			out = append(out, Problem{"alert " + a.Alert, "its condition was never true"})
		}
		known[a.Alert] = true
	}
	for name := range never {
		if !known[name] {
			out = append(out, Problem{"alert " + name, "does not exist, and has a reason not to be true"})
		}
	}
	return out
}

// Moved checks that every label of the catalogue has occurred, and every value
// that it can have to have occurred: otherwise a panel could be right about a
// thing that never happens. unmoved are those that may not have, as
// metric{label="value"}, with the reason.
func (r *Run) Moved(ctx context.Context, unmoved map[string]string) []Problem {
	var out []Problem
	ask := func(what, format string, args ...any) {
		got, err := r.Prometheus.Instant(ctx, fmt.Sprintf(format, args...), r.To)
		switch {
		case err != nil:
			out = append(out, Problem{what, err.Error()})
		case (len(got) != 1 || got[0].Points[0].Value <= 0) && unmoved[what] == "":
			out = append(out, Problem{what, "never occurred"})
		}
	}
	span := fmt.Sprintf("[%ds]", int(r.To.Sub(r.From).Seconds())+1)
	for _, m := range r.Catalogue {
		if m.Source == dashboards.Scraper || m.Source == dashboards.Exporter {
			continue
		}
		series := m.Name
		if m.Kind == dashboards.Histogram {
			series += "_count"
		}
		for _, label := range m.Labels {
			ask(fmt.Sprintf("%s{%s}", m.Name, label), `count(count_over_time(%s{%s!=""}%s))`, series, label, span)
		}
		for _, label := range slices.Sorted(maps.Keys(m.Values)) {
			for _, v := range m.Values[label] {
				ask(fmt.Sprintf("%s{%s=%q}", m.Name, label, v), "sum(max_over_time(%s{%s=%q}%s))", series, label, v, span)
			}
		}
	}
	return out
}

var offset = regexp.MustCompile(` offset \d+[a-z]`)

// operands are the parts of an expression that stand between its comparisons
// and its sets, and that have no reason to be empty by themselves.
func operands(e parser.Expr) []parser.Expr {
	switch e := e.(type) {
	case *parser.ParenExpr:
		return operands(e.Expr)
	case *parser.BinaryExpr:
		if e.Op.IsSetOperator() || e.Op.IsComparisonOperator() || compares(e) {
			return append(operands(e.LHS), operands(e.RHS)...)
		}
	case *parser.Call:
		if strings.HasPrefix(e.Func.Name, "absent") { // empty is its good news
			return nil
		}
	case *parser.NumberLiteral:
		return nil
	}
	return []parser.Expr{e}
}

func compares(e parser.Expr) bool {
	found := false
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if b, ok := n.(*parser.BinaryExpr); ok && (b.Op.IsComparisonOperator() || b.Op.IsSetOperator()) {
			found = true
		}
		return nil
	})
	return found
}
