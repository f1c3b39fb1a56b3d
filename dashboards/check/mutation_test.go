//go:build e2e

package check_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"parley/dashboards"
	"parley/dashboards/check"
	"parley/platform/testing/testenv"
)

// mutant is what a mutation may break: a copy of everything that is checked.
type mutant struct {
	t     *testing.T
	run   check.Run
	pages []string
}

// target finds a query of a panel.
func (m *mutant) target(board, panel, ref string) *dashboards.Target {
	for b := range m.run.Boards {
		if m.run.Boards[b].UID != board {
			continue
		}
		for p := range m.run.Boards[b].Panels {
			for i := range m.run.Boards[b].Panels[p].Targets {
				if t := &m.run.Boards[b].Panels[p].Targets[i]; m.run.Boards[b].Panels[p].Title == panel && t.RefID == ref {
					return t
				}
			}
		}
	}
	m.t.Fatalf("there is no query %s of %s / %s", ref, board, panel)
	return nil
}

// panel changes the text of a query.
func (m *mutant) panel(board, panel, ref, old, new string) {
	t := m.target(board, panel, ref)
	if !strings.Contains(t.Expr+t.RawSQL, old) {
		m.t.Fatalf("%q is not in %s%s", old, t.Expr, t.RawSQL)
	}
	t.Expr, t.RawSQL = strings.ReplaceAll(t.Expr, old, new), strings.ReplaceAll(t.RawSQL, old, new)
}

// rule changes the expression of the rules of that name.
func (m *mutant) rule(name, old, new string) {
	found := false
	for g := range m.run.Groups {
		for r := range m.run.Groups[g].Rules {
			if rule := &m.run.Groups[g].Rules[r]; rule.Alert == name || rule.Record == name {
				found = found || strings.Contains(rule.Expr, old)
				rule.Expr = strings.ReplaceAll(rule.Expr, old, new)
			}
		}
	}
	if !found {
		m.t.Fatalf("%q is not in %s", old, name)
	}
}

// exposed changes what the instances expose.
func (m *mutant) exposed(old, new string) {
	if !strings.Contains(m.pages[0], old) {
		m.t.Fatalf("%q is not exposed", old)
	}
	for i := range m.pages {
		m.pages[i] = strings.ReplaceAll(m.pages[i], old, new)
	}
}

var mutations = []struct {
	name string
	do   func(*mutant)
	want string // what the gate must say
}{
	{"a metric is renamed in a panel", func(m *mutant) {
		m.panel("parley-overview", "Turns by outcome", "A", "chat_turns_total", "chat_turn_total")
	}, `"chat_turn_total" is not in the catalogue`},
	{"a panel asks for what is not there", func(m *mutant) {
		m.panel("parley-overview", "Turns by outcome", "A", "chat_turns_total{", `chat_turns_total{outcome="ok",provider="nobody",`)
	}, `Turns by outcome / A: has no result`},
	{"a metric is renamed in the program", func(m *mutant) {
		m.exposed("chat_streams_active", "chat_active_streams")
	}, `chat_active_streams: is exposed and not in the catalogue`},
	{"a metric is no longer exposed", func(m *mutant) {
		m.exposed("chat_runs_fenced_total", "elsewhere_runs_fenced_total")
	}, `chat_runs_fenced_total: is exposed: false`},
	{"a label is added in the program", func(m *mutant) {
		m.exposed("chat_tokens_total{", `chat_tokens_total{user="u-1",`)
	}, `has the label user, which the catalogue lacks`},
	{"a label gets another value in the program", func(m *mutant) {
		m.exposed(`kind="output"`, `kind="completion"`)
	}, `kind="completion", which the catalogue lacks`},
	{"a label of the catalogue is never there", func(m *mutant) {
		m.metric("chat_turns_total").Labels = append(m.metric("chat_turns_total").Labels, "tenant")
	}, `chat_turns_total{tenant}: never occurred`},
	{"an outcome never happens", func(m *mutant) {
		m.metric("chat_turns_total").Values = map[string][]string{"outcome": {"ok", "lost"}}
	}, `outcome="lost"}: never occurred`},
	{"a panel groups by a label that is gone", func(m *mutant) {
		m.panel("parley-overview", "Turns by outcome", "A", "by (outcome)", "by (result)")
	}, `groups by result`},
	{"a panel misspells a value", func(m *mutant) {
		m.panel("parley-overview", "Turn error ratio", "A", "provider_error", "provider_err")
	}, `is never "provider_err"`},
	{"a panel fixes the job", func(m *mutant) {
		m.panel("parley-runtime", "Goroutines", "A", `job=~"$job"`, `job="chatd"`)
	}, `Goroutines / A: has no result`},
	{"a panel forgets the job", func(m *mutant) {
		m.panel("parley-runtime", "Goroutines", "A", `job=~"$job", `, ``)
	}, `target-job-rule`},
	{"a panel does not parse", func(m *mutant) {
		m.panel("parley-usage", "Tokens by kind", "A", "sum by", "sum buy")
	}, `target-promql-rule`},
	{"a panel fixes the rate's range", func(m *mutant) {
		m.panel("parley-usage", "Tokens by kind", "A", "$__rate_interval", "1m")
	}, `target-rate-interval-rule`},
	{"a panel shows a bare counter", func(m *mutant) {
		m.target("parley-usage", "Tokens by kind", "A").Expr = `sum by (kind) (chat_tokens_total{job=~"$job", instance=~"$instance", provider=~"$provider", model=~"$model"})`
	}, `target-counter-agg-rule`},
	{"a panel fixes its data source", func(m *mutant) {
		m.target("parley-usage", "Tokens by kind", "A").Datasource.UID = "PBFA97CFB590B2093"
	}, `panel-datasource-rule`},
	{"two sides of a division do not match", func(m *mutant) {
		m.panel("parley-providers", "Attempt error ratio", "A", "/ sum by (provider)", "/ sum by (model)")
	}, `can match nothing|has no result`},
	{"a column is renamed in the database", func(m *mutant) {
		m.panel("parley-product", "Active users", "A", "user_id", "owner_id")
	}, `column "owner_id" does not exist`},
	{"a panel would show what people write", func(m *mutant) {
		m.panel("parley-product", "Active users", "A", "COUNT(DISTINCT user_id)", "MAX(content)")
	}, `permission denied`},
	{"an alert selects what cannot occur", func(m *mutant) {
		m.rule("ChatLimiterFailOpen", "fallback_allow|fallback_deny", "failed")
	}, `is never "failed"`},
	{"an alert watches a metric of another program", func(m *mutant) {
		m.rule("ChatPoolSaturated", "go_sql_in_use_connections", "pgx_in_use_connections")
	}, `"pgx_in_use_connections" is not in the catalogue`},
	{"an alert watches the memory of every job", func(m *mutant) {
		m.rule("ChatMemoryNearLimit", "and on (job) group by (job) (chat_build_info)", "")
	}, `may be another service's`},
	{"an alert's threshold cannot be reached", func(m *mutant) {
		m.rule("ChatRateLimited", "> 0.05", "> 1.05")
	}, `promtool: .*ChatRateLimited`},
	{"an alert fires for nothing", func(m *mutant) {
		m.rule("ChatRateLimited", "> 0.05", ">= 0")
	}, `promtool: .*ChatRateLimited`},
	{"a recorded series is renamed", func(m *mutant) {
		for g := range m.run.Groups {
			for r := range m.run.Groups[g].Rules {
				if rule := &m.run.Groups[g].Rules[r]; rule.Record == "job:chat_turn_errors:ratio_rate1h" {
					rule.Record = "job:chat_turn_errors:ratio1h"
				}
			}
		}
	}, `ratio_rate1h" is not in the catalogue`},
	{"a promise looks at a bucket that is not there", func(m *mutant) {
		m.rule("job:chat_first_events_slow:rate5m", `le="2.5"`, `le="3"`)
	}, `le="3".*has no result`},
	{"an alert is added whose condition is never true", func(m *mutant) {
		m.run.Groups[len(m.run.Groups)-1].Rules = append(m.run.Groups[len(m.run.Groups)-1].Rules[:0:0], m.run.Groups[len(m.run.Groups)-1].Rules...)
		m.run.Groups[len(m.run.Groups)-1].Rules[0].Alert = "ChatNeverTrue"
	}, `alert ChatNeverTrue: its condition was never true`},
	{"a metric is added that nobody looks at", func(m *mutant) {
		m.run.Catalogue = append(m.run.Catalogue, dashboards.Metric{Name: "process_network_receive_bytes_total", Kind: dashboards.Counter, Source: dashboards.Collector})
	}, `process_network_receive_bytes_total is of no use`},
}

func (m *mutant) metric(name string) *dashboards.Metric {
	i := slices.IndexFunc(m.run.Catalogue, func(e dashboards.Metric) bool { return e.Name == name })
	return &m.run.Catalogue[i]
}

// mutate breaks one thing after the other and requires that a check fails, on what
// the run has recorded.
func mutate(t *testing.T, run check.Run, pages []string) {
	sound := load(t)
	for _, mutation := range mutations {
		t.Run(mutation.name, func(t *testing.T) {
			m := &mutant{t: t, run: run, pages: slices.Clone(pages)}
			m.run.Suite = load(t)
			mutation.do(m)
			var said []string
			for _, p := range problemsOf(t, m, sound) {
				said = append(said, p.String())
			}
			if !regexp.MustCompile(mutation.want).MatchString(strings.Join(said, "\n")) {
				t.Errorf("the gate does not say %q, but:\n%s", mutation.want, strings.Join(said, "\n"))
			}
		})
	}
}

// problemsOf runs all checks, on those dashboards and groups that were touched.
func problemsOf(t *testing.T, m *mutant, sound *check.Suite) []check.Problem {
	out := append(m.run.Lint(), m.run.Names()...)
	exposed, err := check.Exposed(m.run.Catalogue, m.pages, mayBeMissing)
	if err != nil {
		t.Fatal(err)
	}
	out = append(out, exposed...)
	out = append(out, m.run.Moved(t.Context(), mayNotMove)...)
	out = append(out, m.run.Conditions(t.Context(), neverTrue)...)

	touched := *m.run.Suite
	touched.Boards, touched.Groups = nil, nil
	for i, b := range m.run.Boards {
		if string(b.JSON()) != string(sound.Boards[i].JSON()) {
			touched.Boards = append(touched.Boards, b)
		}
	}
	changed := false
	for i, g := range m.run.Groups {
		for j, r := range g.Rules {
			if old := sound.Groups[i].Rules[j]; r.Expr != old.Expr || r.Record != old.Record {
				touched.Groups = append(touched.Groups, check.Group{Name: g.Name, Rules: []check.Rule{r}})
				changed = true
			}
		}
	}
	part := m.run
	part.Suite = &touched
	out = append(out, part.Panels(t.Context(), nil)...)
	out = append(out, part.Rules(t.Context())...)
	if changed {
		out = append(out, promtool(t, m, touched.Groups)...)
	}
	return out
}

// promtool runs the tests of the alerts that were touched.
func promtool(t *testing.T, m *mutant, touched []check.Group) []check.Problem {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"slos.yaml", "alerts.yaml"} {
		content, err := os.ReadFile(filepath.Join("../alerts", name))
		if err != nil {
			t.Fatal(err)
		}
		text := string(content)
		sound := load(t)
		for i, g := range sound.Groups {
			for j, r := range g.Rules {
				if now := m.run.Groups[i].Rules[j]; now.Expr != r.Expr {
					indent := func(e string) string {
						return "          " + strings.ReplaceAll(strings.TrimSpace(e), "\n", "\n          ") + "\n"
					}
					text = strings.ReplaceAll(text, indent(r.Expr), indent(now.Expr))
				}
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var out []check.Problem
	for _, g := range touched {
		alert := g.Rules[0].Alert
		test, err := os.ReadFile(filepath.Join("../alerts/tests", alert+".yaml"))
		if err != nil {
			continue // a recorded series
		}
		if err := os.MkdirAll(filepath.Join(dir, "tests"), 0o755); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "tests", alert+".yaml")
		if err := os.WriteFile(path, test, 0o644); err != nil {
			t.Fatal(err)
		}
		if said, err := exec.CommandContext(context.Background(), testenv.Binary(t, "promtool"), "test", "rules", path).CombinedOutput(); err != nil {
			out = append(out, check.Problem{Where: "promtool", What: alert + ": " + string(said)})
		}
	}
	return out
}
