package dashboards

// outcomeColours keeps one colour for one outcome on every graph.
var outcomeColours = []string{
	"ok", "green", "client_cancel", "blue", "rate_limited", "purple", "quota", "dark-purple",
	"provider_error", "red", "provider_auth", "purple", "timeout", "orange", "breaker_open", "dark-orange", "internal_error", "dark-red",
}

func overview() Dashboard {
	d := base("parley-overview", "Overview",
		"Start here: are the promises kept, what do users get, what is about to run out, and which alerts fire.",
		providerVar, modelVar)
	firing := table("Firing alerts",
		"Every alert of Parley that fires. A name leads to its runbook.", "short", 24,
		now(`max by (alertname, severity, job, dependency, breaker, provider, slo, window) (ALERTS{alertstate="firing", team="chat"})`, ""),
		"Value")
	firing.FieldConfig.Defaults.NoValue = "none"
	firing.FieldConfig.Overrides = []Override{{
		Matcher: Option{ID: "byName", Opts: "alertname"},
		Properties: []Option{{ID: "links", Value: []Link{{
			Title: "Runbook", URL: Runbooks + "/${__value.raw}.md", TargetBlank: true}}}},
	}}
	return board(d,
		row{"Promises (30 days)", 5, []Panel{
			stat("Turns answered", "Share of turns that ended well over 30 days; the promise is 99.5 %. Cancelled and refused turns do not count.",
				"percentunit", 4, query(`1 - job:chat_turn_errors:ratio_rate30d{JOB}`, "{{job}}")).good(.995, .998).digits(2).empty("no turns yet"),
			stat("First words in 2.5 s", "Share of turns whose first piece could be shown within 2.5 s over 30 days; the promise is 95 %.",
				"percentunit", 4, query(`1 - job:chat_first_events_slow:ratio_rate30d{JOB}`, "{{job}}")).good(.95, .97).digits(2).empty("no turns yet"),
			stat("API answered", "Share of requests, without those that make a reply, that did not end in 5xx over 30 days; the promise is 99.9 %.",
				"percentunit", 4, query(`1 - job:chat_api_errors:ratio_rate30d{JOB}`, "{{job}}")).good(.999, .9995).digits(2).empty("no requests yet"),
			stat("Budget left", "What is left of each error budget of 30 days: 1 is untouched, 0 is spent.",
				"percentunit", 4,
				query(`1 - job:chat_turn_errors:ratio_rate30d{JOB} / 0.005`, "turns"),
				query(`1 - job:chat_first_events_slow:ratio_rate30d{JOB} / 0.05`, "first words"),
				query(`1 - job:chat_api_errors:ratio_rate30d{JOB} / 0.001`, "API")).good(0, .25).digits(0).empty("no turns yet"),
			lines("Burn rate (1 h)", "How many times faster than allowed the budgets are being spent. A page comes at 14.4.",
				"none", 8,
				query(`job:chat_turn_errors:ratio_rate1h{JOB} / 0.005`, "turns"),
				query(`job:chat_first_events_slow:ratio_rate1h{JOB} / 0.05`, "first words"),
				query(`job:chat_api_errors:ratio_rate1h{JOB} / 0.001`, "API")).limit(14.4),
		}},
		row{"Rate, errors, duration", 8, []Panel{
			lines("Turns by outcome", "Turns that ended, per second. ok, client_cancel and the refusals are nobody's fault.",
				"reqps", 8, query(`sum by (outcome) (rate(chat_turns_total{AT, MODEL}[RATE]))`, "{{outcome}}")).stacked().colours(outcomeColours...),
			lines("Share of turns that failed", "Failed turns of those that count, by outcome. The line is the promise.",
				"percentunit", 8, query(`sum by (outcome) (rate(chat_turns_total{AT, MODEL, outcome=~"provider_error|provider_auth|timeout|breaker_open|internal_error"}[RATE]))`+
					` / on () group_left () sum (rate(chat_turns_total{AT, MODEL, outcome!~"client_cancel|rate_limited|quota"}[RATE]))`,
					"{{outcome}}")).stacked().limit(.005).colours(outcomeColours...),
			lines("Requests by status", "Requests per second, by status. 499 is a caller who left before the answer.",
				"reqps", 8, query(`sum by (http_response_status_code) (rate(http_server_request_duration_seconds_count{AT}[RATE]))`, "{{http_response_status_code}}")).stacked(),
			lines("Time to first words", "From the acceptance of a message to the first piece that could be shown. Dots lead to traces.",
				"s", 8, quantiles("chat_turn_time_to_first_event_seconds", "AT, MODEL")...).limit(2.5),
			lines("Duration of turns", "From the acceptance of a message to the durable end of its reply. Dots lead to traces.",
				"s", 8, quantiles("chat_turn_duration_seconds", "AT, MODEL")...),
			lines("Slowest routes (p95)", "95th percentile of requests by route; a stream is as long as its reply. Dots lead to traces.",
				"s", 8, traced(`topk(8, histogram_quantile(0.95, sum by (le, http_route) (rate(http_server_request_duration_seconds_bucket{AT}[RATE]))))`, "{{http_route}}")),
		}},
		row{"What may run out", 7, []Panel{
			lines("Open streams", "Event streams by instance.", "short", 6, query(`sum by (instance) (chat_streams_active{AT})`, "{{instance}}")),
			lines("Database connections in use", "Connections in use of those allowed, by instance.",
				"percentunit", 6, query(`max by (instance) (go_sql_in_use_connections{AT} / go_sql_max_open_connections{AT})`, "{{instance}}")).upTo(1),
			lines("CPU in use", "CPU time of the CPUs that Go may use, by instance. Whether the container is throttled, only the platform's own metrics can tell.",
				"percentunit", 6, query(`sum by (instance) (rate(process_cpu_seconds_total{AT}[RATE])) / sum by (instance) (go_sched_gomaxprocs_threads{AT})`, "{{instance}}")),
			lines("Wait for a worker (p95)", "From the acceptance of a message until an instance begins its reply.",
				"s", 6, query(`histogram_quantile(0.95, sum by (le, instance) (rate(chat_run_wait_seconds_bucket{AT}[RATE])))`, "{{instance}}")),
		}},
		row{"Alerts", 8, []Panel{firing}},
	)
}
