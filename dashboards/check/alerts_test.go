package check_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"parley/dashboards"
	"parley/dashboards/check"
	"parley/platform/config"
	"parley/platform/testing/testenv"
)

// promtool reads what Prometheus would read.
func TestRules_AreValid(t *testing.T) {
	files, err := filepath.Glob("../alerts/*s.yaml")
	if err != nil || len(files) != 2 {
		t.Fatalf("rule files %v, %v", files, err)
	}
	run(t, "promtool", append([]string{"check", "rules", "--lint=all", "--lint-fatal"}, files...)...)
}

// Each file of tests runs on the alerts that it names and on what these are computed
// from: promtool evaluates all rules of a file at each step of each test, ten times as
// many.
func TestRules_FireAndStaySilent(t *testing.T) {
	files, err := filepath.Glob("../alerts/tests/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("tests %v, %v", files, err)
	}
	var all ruleFile
	for _, name := range []string{"slos", "alerts"} {
		var rules ruleFile
		read(t, "../alerts/"+name+".yaml", &rules)
		all.Groups = append(all.Groups, rules.Groups...)
	}
	dir := t.TempDir()
	args := []string{"test", "rules"}
	for _, path := range files {
		var f testFile
		read(t, path, &f)
		name := filepath.Base(path)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		const of = "\nrule_files: [../slos.yaml, ../alerts.yaml]\n"
		if !strings.Contains(string(text), of) {
			t.Fatalf("%s is not about the rules", path)
		}
		args = append(args, filepath.Join(dir, "test-"+name))
		write(t, args[len(args)-1], []byte(strings.Replace(string(text), of, "\nrule_files: [rules-"+name+"]\n", 1)))
		rules, err := yaml.Marshal(all.needed(f))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "rules-"+name), rules)
	}
	run(t, "promtool", args...)
}

// ruleFile is a file of rules, all of whose members are kept.
type ruleFile struct {
	Groups []ruleGroup `yaml:"groups"`
}

type ruleGroup struct {
	Rules []map[string]any `yaml:"rules"`
	Rest  map[string]any   `yaml:",inline"`
}

// needed returns the alerts that a file of tests names, and the rules whose results they
// read, directly or through others.
func (f ruleFile) needed(tests testFile) (out ruleFile) {
	wanted := map[string]bool{}
	for _, test := range tests.Tests {
		for _, c := range test.Cases {
			wanted[c.Alert] = true
		}
	}
	name := func(rule map[string]any) string {
		if alert, ok := rule["alert"].(string); ok {
			return alert
		}
		return rule["record"].(string)
	}
	var names []string
	for _, g := range f.Groups {
		for _, rule := range g.Rules {
			names = append(names, name(rule))
		}
	}
	for before := -1; before != len(wanted); {
		before = len(wanted)
		for _, g := range f.Groups {
			for _, rule := range g.Rules {
				if !wanted[name(rule)] {
					continue
				}
				text := fmt.Sprint(rule)
				for _, other := range names {
					if strings.Contains(text, other) {
						wanted[other] = true
					}
				}
			}
		}
	}
	for _, g := range f.Groups {
		g.Rules = slices.DeleteFunc(slices.Clone(g.Rules), func(rule map[string]any) bool { return !wanted[name(rule)] })
		if len(g.Rules) > 0 {
			out.Groups = append(out.Groups, g)
		}
	}
	return out
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(testenv.Binary(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// firing is an alert that a file of alerts/tests expects, by what tells rules
// of one name apart.
type firing struct{ alert, window string }

type testFile struct {
	Tests []struct {
		Name  string `yaml:"name"`
		Cases []struct {
			Alert string `yaml:"alertname"`
			Want  []struct {
				Labels map[string]string `yaml:"exp_labels"`
			} `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	} `yaml:"tests"`
}

// Every alert has a test in which it fires and one in which it does not.
func TestAlerts_AreTested(t *testing.T) {
	fires, silent := map[firing]bool{}, map[firing]bool{}
	rules := load(t).Alerts()
	files, _ := filepath.Glob("../alerts/tests/*.yaml")
	for _, path := range files {
		var f testFile
		read(t, path, &f)
		for _, test := range f.Tests {
			for _, c := range test.Cases {
				seen := map[firing]bool{}
				for _, w := range c.Want {
					seen[firing{c.Alert, w.Labels["window"]}] = true
				}
				for _, r := range rules {
					if k := (firing{r.Alert, r.Labels["window"]}); r.Alert == c.Alert {
						fires[k] = fires[k] || seen[k]
						silent[k] = silent[k] || !seen[k]
					}
				}
			}
		}
	}
	for _, r := range rules {
		k := firing{r.Alert, r.Labels["window"]}
		if !fires[k] {
			t.Errorf("no test lets %v fire", k)
		}
		if _, always := dashboards.AlwaysFires[r.Alert]; silent[k] == always {
			t.Errorf("%v: stays silent in a test: %v", k, silent[k])
		}
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string, into any) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(content, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// Every alert has a value, a severity, a dashboard and a runbook.
func TestAlerts_SayWhatToDo(t *testing.T) {
	s := load(t)
	boards := map[string]bool{}
	for _, b := range s.Boards {
		boards[b.UID] = true
	}
	runbooks := map[string]bool{}
	for _, r := range s.Alerts() {
		t.Run(r.Alert+r.Labels["window"], func(t *testing.T) {
			if !slices.Contains([]string{"page", "ticket", "none"}, r.Labels["severity"]) || r.Labels["team"] != "chat" {
				t.Errorf("labels %v", r.Labels)
			}
			if !strings.Contains(r.Annotations["summary"], "$value") || r.Annotations["description"] == "" {
				t.Errorf("annotations %v", r.Annotations)
			}
			if uid := filepath.Base(r.Annotations["dashboard_url"]); !boards[uid] {
				t.Errorf("there is no dashboard %s", uid)
			}
			name := filepath.Base(r.Annotations["runbook_url"])
			if name != r.Alert+".md" {
				t.Errorf("the runbook is called %s", name)
			}
			runbooks[name] = true
			checkRunbook(t, s, r, filepath.Join("../../docs/runbooks", name))
		})
	}
	files, _ := filepath.Glob("../../docs/runbooks/*.md")
	for _, path := range files {
		if name := filepath.Base(path); strings.HasPrefix(name, "Chat") && !runbooks[name] {
			t.Errorf("%s is the runbook of no alert", name)
		}
	}
}

// chapters are the shape of a runbook: one that is woken knows where to look.
var chapters = []string{"## What it means", "## Impact", "## Check first", "## Fix", "## Escalate", "## How it was tested"}

var panelRef = regexp.MustCompile(`\*\*([^*/]+) / ([^*]+)\*\*`)

func checkRunbook(t *testing.T, s *check.Suite, r check.Rule, path string) {
	content, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	text := string(content)
	if !strings.HasPrefix(text, "# "+r.Alert+"\n") {
		t.Errorf("%s does not begin with its name", path)
	}
	at := 0
	for _, c := range chapters {
		i := strings.Index(text[at:], "\n"+c+"\n")
		if i < 0 {
			t.Errorf("%s lacks %q, or has it elsewhere", path, c)
			return
		}
		at += i + len(c)
	}
	first := between(text, "## Check first", "## Fix")
	refs := panelRef.FindAllStringSubmatch(first, -1)
	if len(refs) == 0 || !strings.Contains(first, "```") {
		t.Errorf("%s needs a panel (**Dashboard / Panel**) and a query or a command to look at first", path)
	}
	for _, ref := range refs {
		found := slices.ContainsFunc(s.Boards, func(d dashboards.Dashboard) bool {
			return d.Title == "Parley / "+ref[1] && slices.ContainsFunc(d.Queries(), func(p dashboards.Panel) bool { return p.Title == ref[2] })
		})
		if !found {
			t.Errorf("%s points to the panel %q of %q, which does not exist", path, ref[2], ref[1])
		}
	}
	for _, m := range setting.FindAllStringSubmatch(text, -1) {
		if !settings[m[1]] {
			t.Errorf("%s speaks of %s, which nobody reads", path, m[1])
		}
	}
	if tested := between(text, "## How it was tested", ""); !strings.Contains(tested, "dashboards/alerts/tests/"+r.Alert+".yaml") {
		t.Errorf("%s does not name its test", path)
	}
}

// TestRunbooks_LeadToTheLock requires that every alert that a lock in the database
// can raise leads to the one runbook that finds its holder.
func TestRunbooks_LeadToTheLock(t *testing.T) {
	for _, alert := range []string{
		"ChatTurnErrorBudgetBurn", "ChatApiErrorBudgetBurn", "ChatFirstWordsBudgetBurn", "ChatFirstWordsSlow", "ChatReadsBudgetBurn", "ChatReadsSlow",
		"ChatDependencyDown", "ChatPoolSaturated", "ChatBackgroundFailing", "ChatAuditUnsealed", "ChatQueueStuck", "ChatSchemaPending",
	} {
		content, err := os.ReadFile("../../docs/runbooks/" + alert + ".md")
		if err != nil || !strings.Contains(string(content), "(ChatDatabaseLocked.md)") {
			t.Errorf("%s does not lead to ChatDatabaseLocked (%v)", alert, err)
		}
	}
	lock, err := os.ReadFile("../../docs/runbooks/ChatDatabaseLocked.md")
	if err != nil || !strings.Contains(string(lock), "pg_blocking_pids") || !strings.Contains(string(lock), "pg_terminate_backend") {
		t.Errorf("ChatDatabaseLocked does not find and end the holder (%v)", err)
	}
}

// setting is a variable that a runbook tells to set: `NAME`, or `NAME=value`.
var setting = regexp.MustCompile("`([A-Z][A-Z0-9_]{3,})[`=]")

// settings are those that Parley reads, or Go, or OpenTelemetry.
var settings = func() map[string]bool {
	out := map[string]bool{"ADMIN": true, // stands for an address
		"AI_FAILED": true, "AI_UNAVAILABLE": true, "OVERLOADED": true, "RATE_LIMITED": true, "BUDGET_EXCEEDED": true, // codes of errors
		"GOMEMLIMIT": true, "OTEL_TRACES_SAMPLER": true, "OTEL_TRACES_SAMPLER_ARG": true, "OTEL_EXPORTER_OTLP_PROTOCOL": true}
	for _, v := range config.Variables() {
		out[v.Name] = true
	}
	return out
}()

func between(text, from, to string) string {
	_, after, _ := strings.Cut(text, from)
	if to != "" {
		after, _, _ = strings.Cut(after, to)
	}
	return after
}
