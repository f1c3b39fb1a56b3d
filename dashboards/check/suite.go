// Package check proves that the dashboards and rules fit a running Parley: by
// reading them (lint, names) and by running every query of theirs against what
// a real Prometheus and a real Postgres have recorded of it (Gate).
package check

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

	"parley/dashboards"
)

// Suite is what is checked: the files as they are loaded, not as they were
// meant.
type Suite struct {
	Catalogue []dashboards.Metric
	Boards    []dashboards.Dashboard
	Groups    []Group
}

// Group is a group of rules as Prometheus reads it.
type Group struct {
	Name     string `yaml:"name"`
	Interval string `yaml:"interval,omitempty"`
	Rules    []Rule `yaml:"rules"`
}

// Rule is a recording rule or an alert as Prometheus reads it.
type Rule struct {
	Record      string            `yaml:"record,omitempty"`
	Alert       string            `yaml:"alert,omitempty"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

// Problem is one thing that is wrong, and where.
type Problem struct{ Where, What string }

func (p Problem) String() string { return p.Where + ": " + p.What }

// Load reads the files under dir, the directory dashboards/.
func Load(dir string) (*Suite, error) {
	s := &Suite{Catalogue: slices.Clone(dashboards.Catalogue)}
	boards, err := filepath.Glob(filepath.Join(dir, "grafana", "*.json"))
	if err != nil || len(boards) == 0 {
		return nil, fmt.Errorf("no dashboards in %s", dir)
	}
	for _, path := range boards {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var d dashboards.Dashboard
		decoder := json.NewDecoder(strings.NewReader(string(content)))
		decoder.DisallowUnknownFields() // __inputs among them
		if err := decoder.Decode(&d); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		s.Boards = append(s.Boards, d)
	}
	for _, name := range []string{"slos.yaml", "alerts.yaml"} {
		content, err := os.ReadFile(filepath.Join(dir, "alerts", name))
		if err != nil {
			return nil, err
		}
		var file struct {
			Groups []Group `yaml:"groups"`
		}
		if err := yaml.Unmarshal(content, &file); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		s.Groups = append(s.Groups, file.Groups...)
	}
	return s, nil
}

// Alerts returns all alerting rules.
func (s *Suite) Alerts() []Rule {
	return s.rules(func(r Rule) bool { return r.Alert != "" })
}

// Recordings returns all recording rules.
func (s *Suite) Recordings() []Rule {
	return s.rules(func(r Rule) bool { return r.Record != "" })
}

func (s *Suite) rules(keep func(Rule) bool) []Rule {
	var out []Rule
	for _, g := range s.Groups {
		for _, r := range g.Rules {
			if keep(r) {
				out = append(out, r)
			}
		}
	}
	return out
}

// Query is one PromQL expression and where it stands.
type Query struct {
	Where  string
	Expr   string // with variables
	Legend string
	Panel  *dashboards.Panel // nil: of an annotation or a variable
	Target *dashboards.Target
}

// Queries returns every PromQL expression of the dashboards.
func (s *Suite) Queries() []Query {
	var out []Query
	for b := range s.Boards {
		d := &s.Boards[b]
		panels := d.Queries()
		for i := range panels {
			p := &panels[i]
			for j := range p.Targets {
				if t := &p.Targets[j]; t.RawSQL == "" {
					out = append(out, Query{Where: d.UID + " / " + p.Title + " / " + t.RefID, Expr: t.Expr, Legend: t.LegendFormat, Panel: p, Target: t})
				}
			}
		}
		for _, a := range d.Annotations.List {
			out = append(out, Query{Where: d.UID + " / annotation " + a.Name, Expr: a.Expr, Legend: a.TitleFormat + a.TextFormat})
		}
		for _, v := range d.Templating.List {
			if expr, ok := labelValues(v.Definition); ok {
				out = append(out, Query{Where: d.UID + " / variable " + v.Name, Expr: expr})
			}
		}
	}
	return out
}

// labelValues returns the selector of label_values(selector, label), grouped
// by the label so that it must exist.
func labelValues(definition string) (string, bool) {
	inner, ok := strings.CutPrefix(definition, "label_values(")
	inner, ok2 := strings.CutSuffix(inner, ")")
	i := strings.LastIndex(inner, ",")
	if !ok || !ok2 || i < 0 {
		return "", false
	}
	return "count by (" + strings.TrimSpace(inner[i+1:]) + ") (" + inner[:i] + ")", true
}

var promql = parser.NewParser(parser.Options{})

// Variables are the values that Grafana would put in for its variables.
type Variables map[string]string

// All is what a dashboard that has just been opened uses.
var All = Variables{
	"job": ".+", "instance": ".+", "provider": ".+", "model": ".+",
	"__rate_interval": "1m", "__range": "1h", "__interval": "15s",
}

// Expand puts values in for variables, the longest names first.
func (v Variables) Expand(expr string) string {
	names := make([]string, 0, len(v))
	for name := range v {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return len(b) - len(a) })
	for _, name := range names {
		expr = strings.ReplaceAll(expr, "${"+name+"}", v[name])
		expr = strings.ReplaceAll(expr, "$"+name, v[name])
	}
	return expr
}

// parse parses an expression of a dashboard or a rule.
func parse(expr string) (parser.Expr, error) { return promql.ParseExpr(All.Expand(expr)) }
