//go:build e2e

package check_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"parley/dashboards"
	"parley/dashboards/check"
)

// TestE2E runs Parley through every outcome, and then runs every query of every
// panel and every part of every rule on what was recorded. The mutations afterwards
// break one thing each and must be detected.
func TestE2E(t *testing.T) {
	w := newWorld(t)
	run := check.Run{
		Suite: load(t), Prometheus: w.prometheus, Database: w.reader(),
		From: w.Begun, Variables: check.Variables{
			"job": "parley", "instance": ".+", // as Grafana puts in what label_values has found
			"provider": ".+", "model": ".+", "__rate_interval": "15s", "__range": "10m", "__interval": "1s",
		},
		Empty: mayBeEmpty, Varying: varying,
	}
	// A slow machine, or one with other work, may not let everything happen in
	// time for a scrape: what has not been recorded gets another chance.
	for attempt := 1; ; attempt++ {
		stop := w.backgroundLoad()
		w.drive()
		stop()
		w.refused()
		time.Sleep(2 * time.Second) // the last scrape
		run.To = time.Now()
		missing := append(run.Moved(t.Context(), mayNotMove), run.Panels(t.Context(), nil)...)
		missing = append(missing, run.Conditions(t.Context(), neverTrue)...)
		if missing = append(missing, run.Rules(t.Context())...); len(missing) == 0 || attempt == maxAttempts {
			break
		}
		t.Logf("attempt %d of %d has not recorded: %v", attempt, maxAttempts, missing)
	}
	pages := w.Metrics()

	var panels []panelData
	for _, p := range run.Panels(t.Context(), func(d dashboards.Dashboard, p dashboards.Panel, results []check.Result) {
		panels = append(panels, panelData{d.UID, d.Title, p, results})
	}) {
		t.Error(p)
	}
	for _, p := range run.Rules(t.Context()) {
		t.Error(p)
	}
	for _, p := range run.Moved(t.Context(), mayNotMove) {
		t.Error(p)
	}
	for _, p := range run.Conditions(t.Context(), neverTrue) {
		t.Error(p)
	}
	problems, err := check.Exposed(run.Catalogue, pages, mayBeMissing)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Error(p)
	}
	checkEvaluation(t, run)
	checkExemplars(t, panels)
	save(t, run, panels)
	for i, p := range []*process{w.One, w.Two} {
		log, _ := os.ReadFile(p.Log.Name())
		saveFile(t, []string{"one", "two"}[i]+".log", log)
	}
	if t.Failed() {
		for i, page := range pages {
			saveFile(t, []string{"one", "two"}[i]+".metrics", []byte(page))
		}
		return
	}
	mutate(t, run, pages)
}

// maxAttempts is how often everything may be done until all of it is recorded.
const maxAttempts = 3

// noExporter is why the panels and rules of databases' exporters have no result.
const noExporter = "the exporter is optional, and cannot be had here"

// noReplica is why the metrics of read replicas are not exposed.
const noReplica = "the run has no read replica; TestReplicas and TestServe_Replicas have"

// mayBeEmpty are queries without a result, and why.
var mayBeEmpty = map[string]string{
	"parley-usage / Cost per hour / B": "the run is not a week old",

	"parley-dependencies / Sessions by state / A":    noExporter,
	"parley-dependencies / Deadlocks / A":            noExporter,
	"parley-dependencies / Size of databases / A":    noExporter,
	"parley-dependencies / Replication lag / A":      noExporter,
	"parley-dependencies / Memory of Redis / A":      noExporter,
	"parley-dependencies / Memory of Redis / B":      noExporter,
	"parley-dependencies / Evicted keys / A":         noExporter,
	"parley-dependencies / Connections to Redis / A": noExporter,

	"parley-dependencies / Reads by replicas / A":                                                                                   noReplica,
	"parley-dependencies / Replicas in use / A":                                                                                     noReplica,
	"parley-dependencies / Lag of replicas / A":                                                                                     noReplica,
	"parley-dependencies / WAL behind / A":                                                                                          noReplica,
	"alert ChatReplicaUnused / chat_replica_used":                                                                                   noReplica,
	"alert ChatReplicaUnused / max by (job, replica) (chat_replica_used)":                                                           noReplica,
	"alert ChatReplicaLagging / pg_replication_lag_seconds":                                                                         noExporter,
	"alert ChatReplicaLagging / max by (job, instance) (pg_replication_lag_seconds)":                                                noExporter,
	"alert ChatNotificationsFailing / alertmanager_notifications_failed_total":                                                      "there is no Alertmanager",
	"alert ChatNotificationsFailing / sum by (integration) (increase(alertmanager_notifications_failed_total[5m]))":                 "there is no Alertmanager",
	"parley-dependencies / Processors of the database's machine / A":                                                                noExporter,
	"alert ChatDatabaseBusy / node_cpu_seconds_total{component=\"database\",mode=\"idle\"}":                                         noExporter,
	"alert ChatDatabaseBusy / 1 - avg by (job, instance) (rate(node_cpu_seconds_total{component=\"database\",mode=\"idle\"}[10m]))": noExporter,
	"alert ChatRedisMemoryHigh / redis_memory_used_bytes":                                                                           noExporter,
	"alert ChatRedisMemoryHigh / max by (job, instance) (redis_memory_used_bytes)":                                                  noExporter,
}

// varying are queries whose result depends on the time of the day, and why.
var varying = map[string]string{
	"alert ChatSpendRunaway / avg_over_time((sum by (job) (rate(chat_cost_usd_total[1h])))[1d:30m])": "its steps are the half hours of the clock, of which a run may cross one",
}

// neverTrue are alerts whose condition the run does not bring about, and why. Their
// tests in dashboards/alerts/tests do.
var neverTrue = map[string]string{
	"ChatProviderFrozen":        "10 s without output are needed, and a request times out after 4 s here; make incidents has it",
	"ChatQueueStuck":            "an instance takes a queued reply over within seconds",
	"ChatSpendRunaway":          "the scripted replies cost less than 20 USD an hour; make incidents has dear ones",
	"ChatInstanceUnobserved":    "a target of Prometheus would have to be taken out; make incidents does that",
	"ChatReplicationSlotStuck":  "10 GiB of WAL would have to be written",
	"ChatTransactionIdsRunOut":  "a billion transactions are needed",
	"ChatTransactionOpen":       "no transaction stays open for an hour",
	"ChatLogsDropping":          "the log would have to be on a disk that is full; make incidents has it",
	"ChatBudgetsExhausted":      "one message of many is refused for a budget; make incidents has it",
	"ChatInstanceRestarting":    "four starts of one instance are needed; make incidents has it",
	"ChatDescriptorsNearLimit":  "the limit of open files would have to be lowered; make incidents does that",
	"ChatSpendWithoutLimiter":   "the scripted replies cost less than 20 USD an hour",
	"ChatWebhooksLate":          "no event waits for 15 minutes",
	"ChatStreamAbortsHigh":      "one slow reader of many turns",
	"ChatFilesLost":             "a file counts as lost after a day",
	"ChatAuditUnsealed":         "no entry waits for a minute",
	"ChatMemoryNearLimit":       "GOMEMLIMIT would have to be so low that nothing works",
	"ChatMemoryForecast":        "the memory stays below half of its limit",
	"ChatDiskForecast":          "the disk of the machine would have to be full",
	"ChatClockSkew":             "all processes have the machine's clock",
	"ChatVolumeHigh":            "the run has fewer than 1,000 messages a minute",
	"ChatDatabaseBusy":          "there is no node_exporter",
	"ChatRedisMemoryHigh":       "there is no redis_exporter",
	"ChatReplicaLagging":        "there is no replica and no postgres_exporter",
	"ChatReplicaUnused":         "the run has no read replica",
	"ChatRuleEvaluationFailing": "no rule may fail in the run",
}

// mayBeMissing are metrics that are not exposed, and why.
var mayBeMissing = map[string]string{
	"chat_replica_used":           noReplica,
	"chat_replica_lag_bytes":      noReplica,
	"chat_replica_lag_seconds":    noReplica,
	"chat_replicated_reads_total": noReplica,
}

// mayNotMove are values of labels that the run does not bring about, and why.
var mayNotMove = map[string]string{
	`chat_build_info{revision}`:                   "a build outside a checkout has none",
	`chat_stream_aborts_total{reason="shutdown"}`: "it is counted in the last moments of a process, which no scrape may see",
	`chat_dependency_up{dependency="replicas"}`:   noReplica,
	`chat_dependency_up{dependency="sessions"}`:   "the app's sessions are in cookies here, not in its database",
	`chat_telemetry_dropped_total{signal="logs"}`: "10,000 lines must wait for a reader of the log that blocks; TestLog_BlockedReaderBlocksNobody does that",
	`chat_files_uploaded_total{kind="other"}`:     "FILE_TYPES accepts no further types unless it is set",
	`chat_files_swept_total{reason="expired"}`:    "an upload expires after a day; TestSweep_DeletesUnreferencedUploads does that",
	`chat_files_swept_total{reason="deleted"}`:    "the sweep comes every five minutes; the tests of app/files do that",
	`chat_files_swept_total{reason="orphan"}`:     "the comparison comes every hour; TestSweeper_Compare does that",
	`chat_files_swept_total{reason="lost"}`:       "the comparison comes every hour; TestSweeper_Compare does that",
	`chat_files_swept_total{reason="found"}`:      "the comparison comes every hour; TestSweeper_Compare does that",
}

// A metric that is not exposed has no labels, either.
func init() {
	for _, m := range dashboards.Catalogue {
		reason, missing := mayBeMissing[m.Name]
		if !missing {
			continue
		}
		for _, label := range m.Labels {
			mayNotMove[fmt.Sprintf("%s{%s}", m.Name, label)] = reason
			for _, value := range m.Values[label] {
				mayNotMove[fmt.Sprintf("%s{%s=%q}", m.Name, label, value)] = reason
			}
		}
	}
}

// checkEvaluation checks that no rule fails, and that the watchdog fires.
func checkEvaluation(t *testing.T, run check.Run) {
	t.Helper()
	for expr, want := range map[string]float64{
		`sum(prometheus_rule_evaluation_failures_total)`:                            0,
		`count(ALERTS{alertname="ChatWatchdog",alertstate="firing"})`:               1,
		`count(prometheus_rule_group_rules{rule_group=~".+;parley-.+"})`:            float64(len(run.Groups)),
		`max(max_over_time(scrape_samples_scraped{job="parley"}[10m])) < bool 6000`: 1,
	} {
		got, err := run.Prometheus.Instant(t.Context(), expr, run.To)
		if err != nil || len(got) != 1 || got[0].Points[0].Value != want {
			t.Errorf("%s is %v, want %v (%v)", expr, got, want, err)
		}
	}
}

// checkExemplars checks that latencies of turns and providers have traces.
func checkExemplars(t *testing.T, panels []panelData) {
	t.Helper()
	found := map[string]int{}
	for _, p := range panels {
		for _, r := range p.Results {
			for _, e := range r.Exemplars {
				if len(e.Labels["trace_id"]) == 32 {
					found[p.Board+" / "+p.Panel.Title]++
				}
			}
		}
	}
	for _, where := range []string{
		"parley-overview / Time to first output", "parley-overview / Duration of turns", "parley-overview / Slowest routes (p95)",
		"parley-providers / First chunk (p50, p95)", "parley-dependencies / Slowest statements (p95)",
	} {
		if found[where] == 0 {
			t.Errorf("%s has no traces", where)
		}
	}
}

// drawn is a panel with its data, for dashboards/render.
type panelData struct {
	Board, Title string
	Panel        dashboards.Panel
	Results      []check.Result
}

// save keeps the data of the run for make dashboards-render.
func save(t *testing.T, run check.Run, panels []panelData) {
	t.Helper()
	type heading struct {
		Title string `json:"title"`
		Y     int    `json:"y"`
	}
	rows := map[string][]heading{}
	for _, d := range run.Boards {
		for _, p := range d.Panels {
			if p.Type == "row" {
				rows[d.UID] = append(rows[d.UID], heading{p.Title, p.GridPos.Y})
			}
		}
	}
	type start struct {
		At float64 `json:"at"` // ms
	}
	var starts []start
	marks, err := run.Prometheus.Range(t.Context(), run.Variables.Expand(run.Boards[0].Annotations.List[0].Expr), run.From, run.To, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range marks {
		for i, p := range s.Points {
			if i == 0 || p.Value != s.Points[i-1].Value {
				starts = append(starts, start{p.Value})
			}
		}
	}
	content, err := json.Marshal(map[string]any{"from": run.From, "to": run.To, "starts": starts, "rows": rows, "panels": panels})
	if err != nil {
		t.Fatal(err)
	}
	saveFile(t, "run.json", content)
}

func saveFile(t *testing.T, name string, content []byte) {
	t.Helper()
	dir := "../../bin/dashboards"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
		t.Fatal(err)
	}
}
