package check

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"parley/dashboards"
)

// ours are the prefixes of the metrics that Parley answers for.
var ofParley = []string{"chat_", "http_server_", "gen_ai_", "db_client_", "go_sql_"}

// Exposed checks what instances expose, in Prometheus's text format, against
// the catalogue, both ways. missing are metrics that need not be there, with
// the reason.
func Exposed(catalogue []dashboards.Metric, pages []string, missing map[string]string) ([]Problem, error) {
	families := map[string]*dto.MetricFamily{}
	for _, page := range pages {
		parser := expfmt.NewTextParser(model.LegacyValidation)
		found, err := parser.TextToMetricFamilies(strings.NewReader(page))
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read metrics: %w", err)
		}
		for name, f := range found {
			if families[name] == nil {
				families[name] = f
			} else {
				families[name].Metric = append(families[name].Metric, f.Metric...)
			}
		}
	}
	var out []Problem
	report := func(name, format string, args ...any) {
		out = append(out, Problem{"metric " + name, fmt.Sprintf(format, args...)})
	}
	known := map[string]bool{}
	for _, m := range catalogue {
		known[m.Name] = true
		if m.Source == dashboards.Scraper || m.Source == dashboards.Exporter {
			continue
		}
		f := families[m.Name]
		if reason, ok := missing[m.Name]; f == nil != ok {
			report(m.Name, "is exposed: %v; the reason to be missing: %q", f != nil, reason)
		}
		if f != nil {
			compare(m, f, report)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if !known[name] && slices.ContainsFunc(ofParley, func(p string) bool { return strings.HasPrefix(name, p) }) && !ignored[name] {
			report(name, "is exposed and not in the catalogue")
		}
	}
	return out, nil
}

// ignored come with a collector that we use in part.
var ignored = map[string]bool{
	"go_sql_max_idle_closed_total": true, "go_sql_max_idle_time_closed_total": true, "go_sql_max_lifetime_closed_total": true,
}

// compare holds one family to its entry: its kind, its labels and their values.
// That no label is missing is for Moved to say, which knows the whole run.
func compare(m dashboards.Metric, f *dto.MetricFamily, report func(string, string, ...any)) {
	kinds := map[dto.MetricType]dashboards.Kind{
		dto.MetricType_COUNTER: dashboards.Counter, dto.MetricType_GAUGE: dashboards.Gauge,
		dto.MetricType_HISTOGRAM: dashboards.Histogram, dto.MetricType_SUMMARY: dashboards.Gauge,
	}
	if kinds[f.GetType()] != m.Kind {
		report(m.Name, "is a %s, not a %s", f.GetType(), m.Kind)
	}
	for _, series := range f.Metric {
		for _, l := range series.Label {
			if !slices.Contains(m.Labels, l.GetName()) {
				report(m.Name, "has the label %s, which the catalogue lacks", l.GetName())
				return
			}
			if values, bounded := m.Values[l.GetName()]; bounded && !slices.Contains(values, l.GetValue()) {
				report(m.Name, "has the label %s=%q, which the catalogue lacks", l.GetName(), l.GetValue())
			}
		}
	}
}
