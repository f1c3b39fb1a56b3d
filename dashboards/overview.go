package dashboards

import (
	"slices"
	"strings"
)

// outcomeColours keeps one colour for one outcome on every graph.
var outcomeColours = []string{
	"ok", "green", "client_cancel", "blue", "rate_limited", "purple", "quota", "dark-purple",
	"provider_error", "red", "provider_auth", "purple", "timeout", "orange", "breaker_open", "dark-orange", "internal_error", "dark-red",
}

func overview() Dashboard {
	d := base("parley-overview", "Overview",
		"Start here: service levels, rate, errors, duration, saturation and firing alerts.",
		providerVar, modelVar)
	firing := table("Firing alerts",
		"All firing alerts of Parley. The name links to the runbook.", "short", 24,
		now(`label_replace(max by (alertname, severity, job, instance, dependency, breaker, provider, model, switch, task, signal, http_request_method, http_route, slo, window)`+
			` (ALERTS{alertstate="firing", team="chat"}), "summary", "$1", "alertname", "(.+)")`, ""),
		"Value")
	firing.FieldConfig.Defaults.NoValue = "none"
	firing.FieldConfig.Overrides = []Override{
		{Matcher: Option{ID: "byName", Opts: "alertname"},
			Properties: []Option{{ID: "links", Value: []Link{{
				Title: "Runbook", URL: Runbooks + "/${__value.raw}.md", TargetBlank: true}}}}},
		{Matcher: Option{ID: "byName", Opts: "summary"},
			Properties: []Option{{ID: "mappings", Value: []any{map[string]any{"type": "value", "options": descriptions()}}}, {ID: "custom.width", Value: 620}}},
	}
	return board(d,
		row{"Service levels (30 days)", 5, []Panel{
			stat("Turn availability", "Share of successful turns over 30 days; the objective is 99.5 %. Cancelled and refused turns are excluded.",
				"percentunit", 4, query(`1 - job:chat_turn_errors:ratio_rate30d{JOB}`, "{{job}}")).good(.995, .998).digits(2).empty("no turns yet"),
			stat("First output within 2.5 s", "Share of turns with a first event within 2.5 s over 30 days; the objective is 95 %.",
				"percentunit", 4, query(`1 - job:chat_first_events_slow:ratio_rate30d{JOB}`, "{{job}}")).good(.95, .97).digits(2).empty("no turns yet"),
			stat("API availability", "Share of requests without a 5xx status over 30 days; the objective is 99.9 %. Sends and streams count as turns, unless the proxy answered them by itself.",
				"percentunit", 4, query(`1 - job:chat_api_errors:ratio_rate30d{JOB}`, "{{job}}")).good(.999, .9995).digits(2).empty("no requests yet"),
			stat("Reads within 25 ms", "Share of requests for conversations and histories that took at most 25 ms over 30 days; the objective is 95 %.",
				"percentunit", 4, query(`1 - job:chat_reads_slow:ratio_rate30d{JOB}`, "{{job}}")).good(.95, .97).digits(2).empty("no reads yet"),
			stat("Error budget left", "Remaining part of each error budget of 30 days: 1 is unused, 0 is used up.",
				"percentunit", 8,
				query(`1 - job:chat_turn_errors:ratio_rate30d{JOB} / 0.005`, "turns"),
				query(`1 - job:chat_first_events_slow:ratio_rate30d{JOB} / 0.05`, "first output"),
				query(`1 - job:chat_api_errors:ratio_rate30d{JOB} / 0.001`, "API"),
				query(`1 - job:chat_reads_slow:ratio_rate30d{JOB} / 0.05`, "reads")).good(0, .25).digits(0).empty("no turns yet"),
			lines("Burn rate (1 h)", "How many times faster than allowed the error budgets are used. 14.4 pages.",
				of("times the budget"), 12,
				query(`job:chat_turn_errors:ratio_rate1h{JOB} / 0.005`, "turns"),
				query(`job:chat_first_events_slow:ratio_rate1h{JOB} / 0.05`, "first output"),
				query(`job:chat_api_errors:ratio_rate1h{JOB} / 0.001`, "API"),
				query(`job:chat_reads_slow:ratio_rate1h{JOB} / 0.05`, "reads")).limit(14.4),
			lines("Errors answered by the proxy", "Responses of status 5xx per second that reached no instance, or came from none: the proxy gave them by itself.",
				"reqps", 12, query(`job:chat_proxy_errors:rate5m{JOB}`, "{{job}}")).empty("the proxy is not scraped"),
		}},
		row{"Replies in the making", 7, []Panel{
			lines("Replies in the making", "Replies that instances make at the moment, and those to which a provider has sent nothing for 10 s.",
				of("replies"), 8,
				query(`sum (chat_runs_active{AT})`, "in the making"),
				query(`sum by (provider) (chat_runs_without_output{AT, provider=~"$provider"})`, "without output, {{provider}}")),
			lines("Oldest reply", "Age of the oldest reply that each instance makes at the moment.",
				"s", 8, query(`max by (instance) (chat_oldest_run_seconds{AT})`, "{{instance}}")),
			lines("Queue", "Replies that wait in the database for an instance. Those behind another reply of their conversation are among them.",
				of("replies"), 4, query(`max (chat_runs_queued{AT})`, "waiting")),
			lines("Age of the queue", "How long the oldest reply that could be started has waited for an instance.",
				"s", 4, query(`max (chat_oldest_queued_run_seconds{AT})`, "oldest")).limit(60),
		}},
		row{"Switches", 4, []Panel{
			lines("Disabled by operators", "1 while an operator has disabled chat, or a provider: parley chat status says why.",
				"short", 24, query(`max by (switch) (chat_disabled{AT})`, "{{switch}}")).upTo(1),
		}},
		row{"Rate, errors, duration", 8, []Panel{
			lines("Turns by outcome", "Finished turns per second. client_cancel, rate_limited and quota are not errors.",
				"reqps", 8, query(`sum by (outcome) (rate(chat_turns_total{AT, MODEL}[RATE]))`, "{{outcome}}")).stacked().colours(outcomeColours...),
			lines("Turn error ratio", "Failed turns as a share of those that count, by outcome. The line is the objective.",
				"percentunit", 8, query(`sum by (outcome) (rate(chat_turns_total{AT, MODEL, outcome=~"provider_error|provider_auth|timeout|breaker_open|internal_error"}[RATE]))`+
					` / on () group_left () sum (rate(chat_turns_total{AT, MODEL, outcome!~"client_cancel|rate_limited|quota"}[RATE]))`,
					"{{outcome}}")).stacked().limit(.005).colours(outcomeColours...),
			lines("Requests by status", "Requests per second by status. 499: the client disconnected before the response.",
				"reqps", 8, query(`sum by (http_response_status_code) (rate(http_server_request_duration_seconds_count{AT}[RATE]))`, "{{http_response_status_code}}")).stacked(),
			lines("Time to first output", "From the acceptance of a message to the first event of its reply. Dots link to traces.",
				"s", 8, quantiles("chat_turn_time_to_first_event_seconds", "AT, MODEL")...).limit(2.5),
			lines("Duration of turns", "From the acceptance of a message to the committed end of its reply. Dots link to traces.",
				"s", 8, quantiles("chat_turn_duration_seconds", "AT, MODEL")...),
			lines("Slowest routes (p95)", "95th percentile of requests by method and route; a stream lasts as long as its reply. Dots link to traces.",
				"s", 8, traced(`topk(8, histogram_quantile(0.95, sum by (le, http_request_method, http_route) (rate(http_server_request_duration_seconds_bucket{AT}[RATE]))))`, "{{http_request_method}} {{http_route}}")),
		}},
		row{"Saturation", 7, []Panel{
			lines("Open streams", "Open event streams by instance.", of("streams"), 6, query(`sum by (instance) (chat_streams_active{AT})`, "{{instance}}")),
			lines("Database connections in use", "Connections in use as a share of the maximum, by instance.",
				"percentunit", 6, query(`max by (instance) (go_sql_in_use_connections{AT} / go_sql_max_open_connections{AT})`, "{{instance}}")).upTo(1),
			lines("CPU in use", "CPU time as a share of GOMAXPROCS, by instance. CPU throttling is only in the metrics of the platform.",
				"percentunit", 6, query(`sum by (instance) (rate(process_cpu_seconds_total{AT}[RATE])) / sum by (instance) (go_sched_gomaxprocs_threads{AT})`, "{{instance}}")),
			lines("Time until a reply starts (p95)", "From the acceptance of a message until an instance starts its reply.",
				"s", 6, query(`histogram_quantile(0.95, sum by (le, instance) (rate(chat_run_wait_seconds_bucket{AT}[RATE])))`, "{{instance}}")),
		}},
		row{"Alerts", 8, []Panel{firing}},
	)
}

// descriptions are what the alerts mean, by name, as texts of value mappings: the
// series ALERTS has no annotations.
func descriptions() map[string]any {
	out := map[string]any{}
	for _, g := range slices.Concat(ServiceLevels(), Alerts()) {
		for _, r := range g.Rules {
			if r.Alert != "" && out[r.Alert] == nil {
				text, _, _ := strings.Cut(r.Description, " At this rate")
				out[r.Alert] = map[string]any{"text": text}
			}
		}
	}
	return out
}
