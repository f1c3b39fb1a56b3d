package check

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"parley/dashboards"
)

// rule is one habit of good dashboards. The first fifteen are those of
// Grafana's dashboard-linter; its two for LogQL are met by having none. In one
// we differ: its template-job-rule requires .+ for all jobs, which mixes
// go_* and http_* of other services in; our list of jobs comes from
// chat_build_info, and all of them are just these.
type rule struct {
	name  string
	check func(d *dashboards.Dashboard, report func(where, format string, args ...any))
}

var rules = []rule{
	{"template-datasource-rule", func(d *dashboards.Dashboard, report func(string, string, ...any)) {
		v := variable(d, "datasource")
		if v == nil || v.Type != "datasource" || v.Query != "prometheus" {
			report("templating", "there is no variable datasource of type prometheus")
		}
	}},
	{"template-job-rule", func(d *dashboards.Dashboard, report func(string, string, ...any)) { choice(d, "job", "", report) }},
	{"template-instance-rule", func(d *dashboards.Dashboard, report func(string, string, ...any)) {
		choice(d, "instance", ".+", report)
	}},
	{"template-label-promql-rule", func(d *dashboards.Dashboard, report func(string, string, ...any)) {
		for _, v := range d.Templating.List {
			if v.Type != "query" {
				continue
			}
			expr, ok := labelValues(v.Definition)
			if _, err := parse(expr); !ok || err != nil {
				report("variable "+v.Name, "%q is no label_values() of a valid selector", v.Definition)
			}
		}
	}},
	{"template-on-time-change-reload-rule", func(d *dashboards.Dashboard, report func(string, string, ...any)) {
		for _, v := range d.Templating.List {
			if v.Type == "query" && v.Refresh != 2 {
				report("variable "+v.Name, "does not reload when the time range changes")
			}
		}
	}},
	{"panel-datasource-rule", everyPanel(func(p dashboards.Panel, report func(string, string, ...any)) {
		refs := []dashboards.Ref{}
		if p.Datasource != nil {
			refs = append(refs, *p.Datasource)
		}
		for _, t := range p.Targets {
			refs = append(refs, t.Datasource)
		}
		if len(refs) != len(p.Targets)+1 {
			report(p.Title, "has no data source")
		}
		for _, r := range refs {
			if r.UID != "${datasource}" && r.UID != "${postgres}" {
				report(p.Title, "has the fixed data source %q", r.UID)
			}
		}
	})},
	{"panel-title-description-rule", everyPanel(func(p dashboards.Panel, report func(string, string, ...any)) {
		if p.Title == "" || len(p.Description) < 20 || !strings.HasSuffix(p.Description, ".") {
			report(p.Title, "needs a title and a description of a sentence")
		}
	})},
	{"panel-units-rule", everyPanel(func(p dashboards.Panel, report func(string, string, ...any)) {
		if p.FieldConfig == nil || !slices.Contains(units, p.FieldConfig.Defaults.Unit) && !strings.HasPrefix(p.FieldConfig.Defaults.Unit, "suffix: ") {
			report(p.Title, "has no unit that Grafana knows")
		}
	})},
	{"panel-no-targets-rule", everyPanel(func(p dashboards.Panel, report func(string, string, ...any)) {
		if len(p.Targets) == 0 {
			report(p.Title, "has no query")
		}
		for _, t := range p.Targets {
			if (t.Expr == "") == (t.RawSQL == "") {
				report(p.Title, "query %s needs PromQL or SQL", t.RefID)
			}
		}
	})},
	{"target-promql-rule", everyExpr(func(where string, _ dashboards.Target, e parser.Expr, err error, report func(string, string, ...any)) {
		if err != nil {
			report(where, "%v", err)
		}
	})},
	{"target-rate-interval-rule", everyExpr(func(where string, t dashboards.Target, e parser.Expr, _ error, report func(string, string, ...any)) {
		// A fixed hour says "per hour"; anything shorter must fit the scraper.
		for _, m := range fixedRange.FindAllStringSubmatch(t.Expr, -1) {
			if d, err := time.ParseDuration(strings.Replace(m[1], "w", "h", 1)); err != nil || d < time.Hour {
				report(where, "looks at the fixed range [%s] instead of [$__rate_interval]", m[1])
			}
		}
		walkCalls(e, func(c *parser.Call) {
			if c.Func.Name == "irate" {
				report(where, "irate sees two samples only")
			}
		})
	})},
	{"target-job-rule", everyExpr(matcherRule("job"))},
	{"target-instance-rule", everyExpr(matcherRule("instance"))},
	{"target-counter-agg-rule", everyExpr(func(where string, _ dashboards.Target, e parser.Expr, _ error, report func(string, string, ...any)) {
		bareCounters(e, false, func(s *parser.VectorSelector) {
			report(where, "the counter %s is used without rate or increase", s.Name)
		})
	})},
	{"uneditable-dashboard", func(d *dashboards.Dashboard, report func(string, string, ...any)) {
		if d.Editable {
			report("dashboard", "is editable, so that changes would get lost")
		}
	}},

	// Our own.
	{"stable", func(d *dashboards.Dashboard, report func(string, string, ...any)) {
		if !strings.HasPrefix(d.UID, "parley-") || d.ID != nil || d.SchemaVersion > 42 || d.Refresh != "30s" || d.GraphTooltip != 1 {
			report("dashboard", "needs a stable uid, no id, a schemaVersion of 42 or less, 30 s refresh and a shared crosshair")
		}
		if len(d.Links) != 1 || !slices.Equal(d.Links[0].Tags, []string{dashboards.Tag}) || !slices.Contains(d.Tags, dashboards.Tag) || !d.Links[0].KeepTime {
			report("dashboard", "needs links to the others, by tag")
		}
		if len(d.Annotations.List) == 0 {
			report("dashboard", "needs marks for deploys")
		}
	}},
	{"layout", func(d *dashboards.Dashboard, report func(string, string, ...any)) {
		ids, cells := map[int]bool{}, map[[2]int]string{}
		for _, p := range d.Panels {
			if ids[p.ID] {
				report(p.Title, "shares its id %d", p.ID)
			}
			ids[p.ID] = true
			g := p.GridPos
			if g.W < 1 || g.X+g.W > 24 || g.H < 1 {
				report(p.Title, "is off the grid")
			}
			for x := g.X; x < g.X+g.W; x++ {
				for y := g.Y; y < g.Y+g.H; y++ {
					if other, taken := cells[[2]int{x, y}]; taken {
						report(p.Title, "covers %s", other)
						return
					}
					cells[[2]int{x, y}] = p.Title
				}
			}
		}
	}},
	{"variables", func(d *dashboards.Dashboard, report func(string, string, ...any)) {
		whole := string(d.JSON())
		for _, v := range d.Templating.List {
			if !regexp.MustCompile(`\$({` + v.Name + `}|` + v.Name + `\b)`).MatchString(whole) {
				report("variable "+v.Name, "is used by nothing")
			}
		}
		for _, m := range dollar.FindAllStringSubmatch(whole, -1) {
			if name := m[1] + m[2]; !strings.HasPrefix(name, "__") && variable(d, name) == nil {
				report("dashboard", "uses the variable %s, which it lacks", name)
			}
		}
	}},
	{"legends", everyExpr(func(where string, t dashboards.Target, e parser.Expr, _ error, report func(string, string, ...any)) {
		if t.Format == "" && t.LegendFormat == "" {
			report(where, "has no legend")
		}
	})},
	{"exemplars", everyExpr(func(where string, t dashboards.Target, e parser.Expr, _ error, report func(string, string, ...any)) {
		quantile := false
		walkCalls(e, func(c *parser.Call) { quantile = quantile || c.Func.Name == "histogram_quantile" })
		if quantile && strings.Contains(t.Expr, "chat_turn") && !t.Exemplar {
			report(where, "shows a latency of users without its traces")
		}
	})},
}

// units are those that we use, as Grafana spells them. Beside them, "suffix: text"
// puts a text behind the value.
var units = []string{"none", "short", "s", "percentunit", "percent", "reqps", "ops", "Bps", "bytes", "currencyUSD", "dateTimeAsIso"}

var (
	fixedRange = regexp.MustCompile(`\[(\d[0-9a-z]*)\]`)
	dollar     = regexp.MustCompile(`\$(?:{([a-zA-Z_]+)[}.]|([a-zA-Z_]+))`)
)

// Lint checks the habits.
func (s *Suite) Lint() []Problem {
	var out []Problem
	uids := map[string]bool{}
	for i := range s.Boards {
		d := &s.Boards[i]
		if uids[d.UID] {
			out = append(out, Problem{d.UID, "shares its uid"})
		}
		uids[d.UID] = true
		for _, r := range rules {
			r.check(d, func(where, format string, args ...any) {
				out = append(out, Problem{d.UID + " / " + where, r.name + ": " + fmt.Sprintf(format, args...)})
			})
		}
	}
	return out
}

func variable(d *dashboards.Dashboard, name string) *dashboards.Variable {
	for i := range d.Templating.List {
		if d.Templating.List[i].Name == name {
			return &d.Templating.List[i]
		}
	}
	return nil
}

// choice checks a variable with which one chooses some or all of something.
func choice(d *dashboards.Dashboard, name, all string, report func(string, string, ...any)) {
	v := variable(d, name)
	if v == nil || v.Type != "query" || !v.Multi || !v.IncludeAll || v.AllValue != all ||
		v.Datasource == nil || v.Datasource.UID != "${datasource}" || !strings.HasPrefix(v.Definition, "label_values(chat_build_info") {
		report("templating", "there is no variable %s of chat_build_info, with several and all (%q)", name, all)
	}
}

func everyPanel(check func(dashboards.Panel, func(string, string, ...any))) func(*dashboards.Dashboard, func(string, string, ...any)) {
	return func(d *dashboards.Dashboard, report func(string, string, ...any)) {
		for _, p := range d.Queries() {
			check(p, report)
		}
	}
}

func everyExpr(check func(string, dashboards.Target, parser.Expr, error, func(string, string, ...any))) func(*dashboards.Dashboard, func(string, string, ...any)) {
	return everyPanel(func(p dashboards.Panel, report func(string, string, ...any)) {
		for _, t := range p.Targets {
			if t.Expr != "" {
				e, err := parse(t.Expr)
				check(p.Title+" / "+t.RefID, t, e, err, report)
			}
		}
	})
}

// matcherRule requires that every selector uses the variable of that name.
// Recorded series have no instance left, and alerts are of any job. The proxy and
// the servers of databases have jobs and instances of their own.
func matcherRule(name string) func(string, dashboards.Target, parser.Expr, error, func(string, string, ...any)) {
	return func(where string, t dashboards.Target, _ parser.Expr, _ error, report func(string, string, ...any)) {
		// Parsed with a telling value, to see what becomes of the variable.
		e, err := promql.ParseExpr(Variables{name: "chosen", "__rate_interval": "1m", "__range": "1h"}.Expand(t.Expr))
		if err != nil {
			return // target-promql-rule reports it
		}
		walkSelectors(e, func(s *parser.VectorSelector) {
			if s.Name == "ALERTS" || name == "instance" && strings.Contains(s.Name, ":") || ofExporter(s.Name) {
				return
			}
			for _, m := range s.LabelMatchers {
				if m.Name == name && m.Type == labels.MatchRegexp && m.Value == "chosen" {
					return
				}
			}
			report(where, `%s lacks %s=~"$%s"`, s.Name, name, name)
		})
	}
}

func walkSelectors(e parser.Expr, visit func(*parser.VectorSelector)) {
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			visit(s)
		}
		return nil
	})
}

func walkCalls(e parser.Expr, visit func(*parser.Call)) {
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if c, ok := n.(*parser.Call); ok {
			visit(c)
		}
		return nil
	})
}

// bareCounters visits counters that no function turns into a rate.
func bareCounters(e parser.Node, rated bool, visit func(*parser.VectorSelector)) {
	switch n := e.(type) {
	case *parser.Call:
		switch n.Func.Name {
		case "rate", "increase", "irate", "changes", "resets", "delta":
			rated = true
		}
	case *parser.VectorSelector:
		counter := strings.HasSuffix(n.Name, "_total") || strings.HasSuffix(n.Name, "_bucket") || strings.HasSuffix(n.Name, "_count")
		if counter && !rated && !isGauge(n.Name) {
			visit(n)
		}
		return
	}
	for c := range parser.ChildrenIter(e) {
		bareCounters(c, rated, visit)
	}
}

// ofExporter reports whether a metric is one of the proxy or of an exporter.
func ofExporter(name string) bool {
	return slices.ContainsFunc(dashboards.Catalogue, func(m dashboards.Metric) bool {
		return m.Name == name && m.Source == dashboards.Exporter
	})
}

// isGauge reports whether the catalogue has a gauge of that name: some have the
// ending of a counter.
func isGauge(name string) bool {
	return slices.ContainsFunc(dashboards.Catalogue, func(m dashboards.Metric) bool {
		return m.Name == name && m.Kind == dashboards.Gauge
	})
}
