package check

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"parley/dashboards"
)

// Names checks every expression against the catalogue: that its metrics exist,
// that labels it selects and groups by are theirs, that the values it names
// can occur, and that legends and summaries use labels that are left. The
// other way round, every metric and every recorded series must be of use.
func (s *Suite) Names() []Problem {
	n := &namer{known: map[string]dashboards.Metric{}, recorded: map[string]set{}, used: map[string]bool{}}
	for _, m := range s.Catalogue {
		n.known[m.Name] = m
	}
	// Recorded series are made of one another: twice round is enough.
	for range 2 {
		for _, r := range s.Recordings() {
			if e, err := parse(r.Expr); err == nil {
				n.recorded[r.Record] = n.labelsOf(e)
			} else {
				n.recorded[r.Record] = set{}
			}
		}
	}
	n.problems, n.used = nil, map[string]bool{}
	for _, r := range s.Recordings() {
		n.check("record "+r.Record, r.Expr)
	}
	for _, r := range slices.Concat(s.Recordings(), s.Alerts()) {
		n.requireJobMatcher("rule "+r.Record+r.Alert, r.Expr)
	}
	for _, r := range s.Alerts() {
		where := "alert " + r.Alert
		left := n.check(where, r.Expr)
		for _, a := range slices.Sorted(maps.Keys(r.Annotations)) {
			for _, m := range labelOfAlert.FindAllStringSubmatch(r.Annotations[a], -1) {
				if !left[m[1]] {
					n.report(where, "the annotation %s uses the label %s, which is not left", a, m[1])
				}
			}
		}
	}
	for _, q := range s.Queries() {
		left := n.check(q.Where, q.Expr)
		for _, m := range labelOfLegend.FindAllStringSubmatch(q.Legend, -1) {
			if !left[m[1]] {
				n.report(q.Where, "the legend uses the label %s, which is not left", m[1])
			}
		}
	}
	for _, m := range s.Catalogue {
		switch {
		case !n.used[m.Name] && m.Unused == "":
			n.report("catalogue", "%s is of no use to any panel or rule, and no reason is given", m.Name)
		case n.used[m.Name] && m.Unused != "":
			n.report("catalogue", "%s is used; its reason to be unused is out of date", m.Name)
		}
	}
	for _, r := range s.Recordings() {
		if !n.used[r.Record] {
			n.report("record "+r.Record, "nothing uses it")
		}
	}
	return n.problems
}

var (
	labelOfAlert  = regexp.MustCompile(`\$labels\.([a-zA-Z_]+)`)
	labelOfLegend = regexp.MustCompile(`{{\s*([a-zA-Z_]+)\s*}}`)
)

// requireJobMatcher requires that a rule on metrics that other services export too
// selects the jobs of Parley: a rule has no variable job.
func (n *namer) requireJobMatcher(where, expr string) {
	e, err := parse(expr)
	if err != nil {
		return
	}
	shared, kept := "", false
	walkSelectors(e, func(s *parser.VectorSelector) {
		switch {
		case strings.HasPrefix(s.Name, "chat_"), strings.HasPrefix(s.Name, "prometheus_"), strings.HasPrefix(s.Name, "alertmanager_"), strings.Contains(s.Name, ":"):
			kept = kept || s.Name == "chat_build_info"
		default:
			shared = s.Name
		}
	})
	if shared != "" && !kept {
		n.report(where, "%s may be another service's: chat_build_info must choose the jobs", shared)
	}
}

type set map[string]bool

type namer struct {
	known    map[string]dashboards.Metric
	recorded map[string]set
	used     map[string]bool
	problems []Problem
	where    string
}

func (n *namer) report(where, format string, args ...any) {
	n.problems = append(n.problems, Problem{where, fmt.Sprintf(format, args...)})
}

// check returns the labels that are left of an expression.
func (n *namer) check(where, expr string) set {
	n.where = where
	e, err := parse(expr)
	if err != nil {
		n.report(where, "%v", err)
		return nil
	}
	return n.labelsOf(e)
}

// labelsOf returns the labels that the result of an expression can have.
func (n *namer) labelsOf(e parser.Expr) set {
	switch e := e.(type) {
	case *parser.VectorSelector:
		return n.selector(e)
	case *parser.MatrixSelector:
		return n.labelsOf(e.VectorSelector)
	case *parser.SubqueryExpr:
		return n.labelsOf(e.Expr)
	case *parser.ParenExpr:
		return n.labelsOf(e.Expr)
	case *parser.UnaryExpr:
		return n.labelsOf(e.Expr)
	case *parser.AggregateExpr:
		return n.aggregate(e)
	case *parser.Call:
		var in set
		for _, a := range e.Args {
			if l := n.labelsOf(a); l != nil {
				in = l
			}
		}
		switch e.Func.Name {
		case "histogram_quantile":
			if !in["le"] {
				n.report(n.where, "a quantile needs the label le")
			}
			return in.without("le")
		case "label_replace":
			out := maps.Clone(n.labelsOf(e.Args[0]))
			if out != nil {
				out[e.Args[1].(*parser.StringLiteral).Val] = true
			}
			return out
		case "absent", "absent_over_time", "vector":
			return set{}
		case "time", "scalar":
			return nil // a number
		}
		return in
	case *parser.BinaryExpr:
		return n.binary(e)
	}
	return nil // a number
}

func (n *namer) selector(e *parser.VectorSelector) set {
	if l, ok := n.recorded[e.Name]; ok {
		n.used[e.Name] = true
		return n.matchers(e, dashboards.Metric{Name: e.Name}, l)
	}
	m, ok := n.metric(e.Name)
	if !ok {
		n.report(n.where, "the metric %q is not in the catalogue", e.Name)
		return set{}
	}
	n.used[m.Name] = true
	l := set{"job": true, "instance": true}
	for _, name := range m.Labels {
		l[name] = true
	}
	if strings.HasSuffix(e.Name, "_bucket") {
		l["le"] = true
	}
	if m.Name == "ALERTS" { // carries whatever its alert does
		for _, name := range []string{"dependency", "breaker", "provider", "model", "slo", "window", "task", "signal", "integration", "switch", "http_request_method", "http_route"} {
			l[name] = true
		}
	}
	return n.matchers(e, m, l)
}

// metric finds a metric by the name of one of its series.
func (n *namer) metric(series string) (dashboards.Metric, bool) {
	if m, ok := n.known[series]; ok {
		return m, m.Kind != dashboards.Histogram
	}
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		if base, ok := strings.CutSuffix(series, suffix); ok {
			m, ok := n.known[base]
			return m, ok && m.Kind == dashboards.Histogram
		}
	}
	return dashboards.Metric{}, false
}

func (n *namer) matchers(e *parser.VectorSelector, m dashboards.Metric, l set) set {
	for _, match := range e.LabelMatchers {
		if match.Name == model.MetricNameLabel {
			continue
		}
		if !l[match.Name] {
			n.report(n.where, "%s has no label %s", e.Name, match.Name)
			continue
		}
		values, bounded := m.Values[match.Name]
		if !bounded {
			continue
		}
		for _, want := range alternatives(match) {
			if want != "" && !slices.Contains(values, want) {
				n.report(n.where, "the label %s of %s is never %q", match.Name, e.Name, want)
			}
		}
	}
	return l
}

// alternatives are the values that a matcher names; a true pattern names none.
func alternatives(m *labels.Matcher) []string {
	if m.Type == labels.MatchEqual || m.Type == labels.MatchNotEqual {
		return []string{m.Value}
	}
	if strings.ContainsAny(m.Value, `.*+?[]()\^$`) {
		return nil
	}
	return strings.Split(m.Value, "|")
}

func (n *namer) aggregate(e *parser.AggregateExpr) set {
	in := n.labelsOf(e.Expr)
	if e.Op == parser.TOPK || e.Op == parser.BOTTOMK {
		return in
	}
	if e.Without {
		return in.without(e.Grouping...)
	}
	out := set{}
	for _, name := range e.Grouping {
		if !in[name] {
			n.report(n.where, "groups by %s, which %s does not have", name, e.Expr)
		}
		out[name] = true
	}
	return out
}

func (n *namer) binary(e *parser.BinaryExpr) set {
	left, right := n.labelsOf(e.LHS), n.labelsOf(e.RHS)
	if left == nil {
		return right
	}
	if right == nil || e.Op == parser.LAND || e.Op == parser.LUNLESS {
		return left
	}
	m := e.VectorMatching
	for _, name := range m.MatchingLabels {
		if m.On && (!left[name] || !right[name]) {
			n.report(n.where, "matches on %s, which one side does not have", name)
		}
	}
	if e.Op == parser.LOR {
		// Both sides' labels may be there.
		out := maps.Clone(left)
		maps.Copy(out, right)
		return out
	}
	if m.Card == parser.CardManyToOne || m.Card == parser.CardOneToMany {
		many := left
		if m.Card == parser.CardOneToMany {
			many = right
		}
		out := maps.Clone(many)
		for _, name := range m.Include {
			out[name] = true
		}
		return out
	}
	if m.On {
		out := set{}
		for _, name := range m.MatchingLabels {
			out[name] = true
		}
		return out
	}
	// One to one without on(): both sides must have the same labels, or nothing matches.
	ignored := left.without(m.MatchingLabels...)
	if !maps.Equal(ignored, right.without(m.MatchingLabels...)) {
		n.report(n.where, "%s can match nothing: the sides have different labels", e)
	}
	return ignored
}

func (s set) without(names ...string) set {
	out := maps.Clone(s)
	for _, name := range names {
		delete(out, name)
	}
	return out
}
