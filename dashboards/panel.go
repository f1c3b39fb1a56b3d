package dashboards

import "strings"

// Where a dashboard's data come from, by variables, so that the same file
// serves every Grafana.
var (
	prometheus = Ref{Type: "prometheus", UID: "${datasource}"}
	postgres   = Ref{Type: "grafana-postgresql-datasource", UID: "${postgres}"}
)

// Words that expressions are written with, so that none forgets a matcher.
var placeholders = strings.NewReplacer(
	"AT", `job=~"$job", instance=~"$instance"`,
	"JOB", `job=~"$job"`,
	"MODEL", `provider=~"$provider", model=~"$model"`,
	"GENAI", `gen_ai_provider_name=~"$provider", gen_ai_request_model=~"$model"`,
	"RATE", `$__rate_interval`,
)

// row is a heading and the panels under it. A panel has its width; all panels
// of a row have the same height.
type row struct {
	title  string
	height int
	panels []Panel
}

// board puts rows of panels onto the grid.
func board(d Dashboard, rows ...row) Dashboard {
	y, id := 0, 0
	next := func() int { id++; return id }
	open := false
	for _, r := range rows {
		d.Panels = append(d.Panels, Panel{ID: next(), Type: "row", Title: r.title, Collapsed: &open, GridPos: Grid{H: 1, W: 24, Y: y}})
		y++
		x := 0
		for _, p := range r.panels {
			if x+p.GridPos.W > 24 {
				x, y = 0, y+r.height
			}
			p.ID = next()
			p.GridPos = Grid{H: r.height, W: p.GridPos.W, X: x, Y: y}
			x += p.GridPos.W
			d.Panels = append(d.Panels, p)
		}
		y += r.height
	}
	return d
}

// query is PromQL with the words above.
func query(expr, legend string) Target {
	return Target{Datasource: prometheus, Expr: placeholders.Replace(expr), LegendFormat: legend, Range: true, EditorMode: "code"}
}

// now is a query for the present alone.
func now(expr, legend string) Target {
	t := query(expr, legend)
	t.Range, t.Instant = false, true
	return t
}

// traced asks for exemplars too: dots that lead to a trace.
func traced(expr, legend string) Target {
	t := query(expr, legend)
	t.Exemplar = true
	return t
}

// sql is a query to Postgres; a column "time" makes it a series.
func sql(text string) Target {
	format := "table"
	if strings.Contains(text, " AS time") {
		format = "time_series"
	}
	return Target{Datasource: postgres, RawSQL: strings.TrimSpace(text), RawQuery: true, Format: format, EditorMode: "code"}
}

// of is a unit that Grafana does not have: text behind the value.
func of(what string) string { return "suffix: " + what }

// quantiles asks for the usual three of a histogram.
func quantiles(metric, matchers string) []Target {
	var out []Target
	for _, q := range [][2]string{{"0.5", "p50"}, {"0.95", "p95"}, {"0.99", "p99"}} {
		out = append(out, traced("histogram_quantile("+q[0]+", sum by (le) (rate("+metric+"_bucket{"+matchers+"}[RATE])))", q[1]))
	}
	return out
}

func panel(kind, title, about, unit string, width int, targets []Target) Panel {
	source := prometheus
	for i := range targets {
		targets[i].RefID = string(rune('A' + i))
		source = targets[i].Datasource
	}
	return Panel{
		Type: kind, Title: title, Description: about, Datasource: &source, Targets: targets,
		GridPos:     Grid{W: width},
		FieldConfig: &FieldConfig{Defaults: Defaults{Unit: unit}, Overrides: []Override{}},
	}
}

// lines is a graph over time.
func lines(title, about, unit string, width int, targets ...Target) Panel {
	p := panel("timeseries", title, about, unit, width, targets)
	p.FieldConfig.Defaults.Min = number(0)
	p.FieldConfig.Defaults.Color = map[string]any{"mode": "palette-classic"}
	p.FieldConfig.Defaults.Custom = map[string]any{
		"drawStyle": "line", "lineWidth": 1, "fillOpacity": 8, "showPoints": "never", "spanNulls": false,
		"stacking": map[string]any{"mode": "none"},
	}
	p.Options = map[string]any{
		"legend":  map[string]any{"displayMode": "table", "placement": "right", "showLegend": true, "calcs": []string{"lastNotNull", "max"}},
		"tooltip": map[string]any{"mode": "multi", "sort": "desc"},
	}
	if len(targets) == 1 && targets[0].LegendFormat == "" || width <= 8 {
		p.Options["legend"] = map[string]any{"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []string{}}
	}
	return p
}

// stacked lays the series of a graph on top of one another.
func (p Panel) stacked() Panel {
	p.FieldConfig.Defaults.Custom["stacking"] = map[string]any{"mode": "normal", "group": "A"}
	p.FieldConfig.Defaults.Custom["fillOpacity"] = 40
	return p
}

// bars draws a graph as bars, for counts per day or hour.
func (p Panel) bars() Panel {
	p.FieldConfig.Defaults.Custom["drawStyle"] = "bars"
	p.FieldConfig.Defaults.Custom["fillOpacity"] = 60
	return p
}

// limit draws a line where it gets bad.
func (p Panel) limit(v float64) Panel {
	p.FieldConfig.Defaults.Thresholds = &Thresholds{Mode: "absolute", Steps: []Step{{Color: "transparent"}, {Color: "red", Value: &v}}}
	p.FieldConfig.Defaults.Custom["thresholdsStyle"] = map[string]any{"mode": "line"}
	return p
}

// stat is one figure, or a few.
func stat(title, about, unit string, width int, targets ...Target) Panel {
	p := panel("stat", title, about, unit, width, targets)
	p.FieldConfig.Defaults.Color = map[string]any{"mode": "thresholds"}
	p.FieldConfig.Defaults.Thresholds = &Thresholds{Mode: "absolute", Steps: []Step{{Color: "text"}}}
	p.Options = map[string]any{
		"colorMode": "value", "graphMode": "area", "justifyMode": "auto", "textMode": "auto",
		"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
	}
	return p
}

// good colours a figure: red below bad, green from good on, orange between.
func (p Panel) good(bad, good float64) Panel {
	p.FieldConfig.Defaults.Thresholds = &Thresholds{Mode: "absolute",
		Steps: []Step{{Color: "red"}, {Color: "orange", Value: &bad}, {Color: "green", Value: &good}}}
	return p
}

// warn colours a figure: green below warn, red from bad on, orange between.
func (p Panel) warn(warn, bad float64) Panel {
	p.FieldConfig.Defaults.Thresholds = &Thresholds{Mode: "absolute",
		Steps: []Step{{Color: "green"}, {Color: "orange", Value: &warn}, {Color: "red", Value: &bad}}}
	return p
}

// digits fixes the number of decimals.
func (p Panel) digits(n int) Panel {
	p.FieldConfig.Defaults.Decimals = &n
	return p
}

// upTo fixes the top of the axis.
func (p Panel) upTo(max float64) Panel {
	p.FieldConfig.Defaults.Max = &max
	return p
}

// empty says what an empty panel means.
func (p Panel) empty(text string) Panel {
	p.FieldConfig.Defaults.NoValue = text
	return p
}

// colours fixes the colour of fields by name: pairs of name and colour.
func (p Panel) colours(pairs ...string) Panel {
	for i := 0; i+1 < len(pairs); i += 2 {
		p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, Override{
			Matcher:    Option{ID: "byName", Opts: pairs[i]},
			Properties: []Option{{ID: "color", Value: map[string]any{"mode": "fixed", "fixedColor": pairs[i+1]}}},
		})
	}
	return p
}

// unitOf gives the fields that match another unit.
func (p Panel) unitOf(regex, unit string) Panel {
	p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, Override{
		Matcher: Option{ID: "byRegexp", Opts: regex}, Properties: []Option{{ID: "unit", Value: unit}},
	})
	return p
}

// table shows labels and the present value of one instant query, or the rows
// of one SQL query. hide names the columns to leave out.
func table(title, about, unit string, width int, t Target, hide ...string) Panel {
	if t.Expr != "" {
		t.Format = "table"
	}
	p := panel("table", title, about, unit, width, []Target{t})
	p.FieldConfig.Defaults.Custom = map[string]any{"align": "auto", "filterable": true}
	p.Options = map[string]any{"showHeader": true, "cellHeight": "sm"}
	if t.Expr != "" {
		exclude := map[string]any{"Time": true}
		for _, h := range hide {
			exclude[h] = true
		}
		p.Transforms = []Transform{{ID: "organize", Options: map[string]any{"excludeByName": exclude}}}
	}
	return p
}

// heat shows how a histogram's observations spread over time.
func heat(title, about, unit string, width int, expr string) Panel {
	t := query(expr, "{{le}}")
	t.Format = "heatmap"
	p := panel("heatmap", title, about, unit, width, []Target{t})
	p.Options = map[string]any{
		"calculate": false, "cellGap": 1,
		"color":  map[string]any{"mode": "scheme", "scheme": "Spectral", "steps": 64, "exponent": 0.5, "reverse": true},
		"yAxis":  map[string]any{"unit": unit},
		"legend": map[string]any{"show": true}, "tooltip": map[string]any{"mode": "single"},
	}
	return p
}

// states shows which of some named values a series had when.
func states(title, about string, width int, t Target, names map[string][2]string) Panel {
	p := panel("state-timeline", title, about, "short", width, []Target{t})
	options := map[string]any{}
	for value, look := range names {
		options[value] = map[string]any{"text": look[0], "color": look[1]}
	}
	p.FieldConfig.Defaults.Mappings = []any{map[string]any{"type": "value", "options": options}}
	p.FieldConfig.Defaults.Color = map[string]any{"mode": "thresholds"}
	p.FieldConfig.Defaults.Custom = map[string]any{"fillOpacity": 80, "lineWidth": 0}
	p.Options = map[string]any{"mergeValues": true, "showValue": "auto", "rowHeight": 0.8}
	return p
}

func number(v float64) *float64 { return &v }
