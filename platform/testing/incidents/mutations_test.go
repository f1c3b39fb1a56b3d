package incidents

import (
	"os"
	"strings"
	"testing"
)

// mutation breaks rules, routes or a runbook, so that an incident must fail.
type mutation struct {
	name     string
	file     string // below the root of the repository
	old, new string // the first occurrence after after is replaced
	after    string
	incident string
}

const (
	alertsFile = "dashboards/alerts/alerts.yaml"
	routesFile = "dashboards/alerts/alertmanager.yaml"
)

var mutations = []mutation{
	{name: "an alert is taken out", file: alertsFile, after: "alert: ChatProviderKeyRefused", old: "== 1", new: "== 1 and vector(1) == 0", incident: "provider-key-expired"},
	{name: "a threshold cannot be reached", file: alertsFile, after: "alert: ChatProviderKeyRefused", old: "== 1", new: "== 2", incident: "provider-key-expired"},
	{name: "a ticket is raised to a page", file: alertsFile, after: "alert: ChatRedisDown", old: "severity: 'ticket'", new: "severity: 'page'", incident: "redis-killed"},
	{name: "a page is lowered to a ticket", file: alertsFile, after: "alert: ChatProviderKeyRefused", old: "severity: 'page'", new: "severity: 'ticket'", incident: "provider-key-expired"},
	{name: "a wrong label is selected", file: alertsFile, after: "alert: ChatRedisDown", old: `dependency="redis"`, new: `dependency="cache"`, incident: "redis-killed"},
	{name: "a metric is misspelled", file: alertsFile, after: "alert: ChatSchemaPending", old: "chat_schema_pending", new: "chat_schemas_pending", incident: "migration-pending"},
	{name: "an alert waits for hours", file: alertsFile, after: "alert: ChatRedisDown", old: "for: 5m", new: "for: 5h", incident: "redis-killed"},
	{name: "the team is missing, so that nobody is paged", file: alertsFile, after: "alert: ChatProviderKeyRefused", old: "team: 'chat'", new: "team: 'search'", incident: "provider-key-expired"},
	{name: "an alert links another runbook", file: alertsFile, after: "alert: ChatRedisDown", old: "ChatRedisDown.md", new: "ChatUnpricedModel.md", incident: "redis-killed"},
	{name: "pages go to the tickets", file: routesFile, after: "receiver: pager", old: `'severity = "page"'`, new: `'severity = "pages"'`, incident: "provider-key-expired"},
	{name: "a command of a runbook is misspelled", file: "docs/runbooks/ChatRedisDown.md", old: "parley admin redis", new: "parley admin reddis", incident: "redis-killed"},
	{name: "a query of a runbook leaves the provider out", file: "docs/runbooks/ChatProviderKeyRefused.md", old: "by (instance, provider)", new: "by (instance)", incident: "provider-key-expired"},
	{name: "a query of a runbook has a wrong metric", file: "docs/runbooks/ChatProviderKeyRefused.md", after: "```promql", old: "chat_provider_key_refused", new: "chat_provider_keys_refused", incident: "provider-key-expired"},
	{name: "a runbook has no first step", file: "docs/runbooks/ChatSchemaPending.md", old: "## Check first", new: "## Check later", incident: "migration-pending"},
	{name: "a threshold is always exceeded", file: alertsFile, after: "alert: ChatRateLimitHeadroomLow", old: "< 0.", new: "< 1.", incident: "redis-killed"},
	{name: "an inhibition is removed", file: routesFile, after: "inhibit_rules:", old: `'alertname = "ChatDependencyDown"'`, new: `'alertname = "ChatNothingDown"'`, incident: "postgres-killed"},
}

// apply returns content with the mutation, and whether it changes anything.
func (m mutation) apply(content string) (mutated string, changed bool) {
	before, rest := "", content
	if m.after != "" {
		var found bool
		if before, rest, found = strings.Cut(content, m.after); !found {
			return content, false
		}
	}
	mutated = before + m.after + strings.Replace(rest, m.old, m.new, 1)
	return mutated, mutated != content
}

// TestMutations_Apply: a mutation that changes nothing would prove nothing.
func TestMutations_Apply(t *testing.T) {
	if len(mutations) < 12 {
		t.Errorf("%d mutations", len(mutations))
	}
	for _, m := range mutations {
		content, err := os.ReadFile("../../../" + m.file)
		if err != nil {
			t.Fatal(err)
		}
		if _, changed := m.apply(string(content)); !changed {
			t.Errorf("%s: %s has no %q after %q", m.name, m.file, m.old, m.after)
		}
	}
}
