package dashboards

func dependenciesBoard() Dashboard {
	return board(base("parley-dependencies", "Dependencies",
		"Database, Redis and rate limiter: utilisation, waits and errors."),
		row{"Availability", 6, []Panel{
			states("Dependencies", "Whether each dependency answered the last probe of each instance.", 12,
				query(`min by (instance, dependency) (chat_dependency_up{AT})`, "{{dependency}} {{instance}}"),
				map[string][2]string{"0": {"down", "red"}, "1": {"up", "green"}}),
			stat("Schema version", "Version of the newest applied migration.",
				"none", 6, query(`max (chat_schema_version{AT})`, "version")).digits(0),
			stat("Pending migrations", "Migrations of the running build that are not applied.",
				"none", 6, query(`max (chat_schema_pending{AT})`, "pending")).warn(1, 2),
		}},
		row{"Database", 8, []Panel{
			lines("Connections", "In use, idle, open and allowed, over all instances.", "short", 8,
				query(`sum (go_sql_in_use_connections{AT})`, "in use"),
				query(`sum (go_sql_idle_connections{AT})`, "idle"),
				query(`sum (go_sql_open_connections{AT})`, "open"),
				query(`sum (go_sql_max_open_connections{AT})`, "allowed")),
			lines("Waiting for a connection", "Seconds waited per second. Above 1, at least one request is always waiting.",
				"none", 8, query(`sum by (instance) (rate(go_sql_wait_duration_seconds_total{AT}[RATE]))`, "{{instance}}")),
			lines("Waits for a connection", "Waits for a connection per second.",
				"ops", 8, query(`sum by (instance) (rate(go_sql_wait_count_total{AT}[RATE]))`, "{{instance}}")),
			lines("Statements", "Statements per second, by name.",
				"ops", 8, query(`topk(10, sum by (db_operation_name) (rate(db_client_operation_duration_seconds_count{AT}[RATE])))`, "{{db_operation_name}}")),
			lines("Slowest statements (p95)", "95th percentile by name. Dots link to traces.",
				"s", 8, traced(`topk(10, histogram_quantile(0.95, sum by (le, db_operation_name) (rate(db_client_operation_duration_seconds_bucket{AT}[RATE]))))`, "{{db_operation_name}}")),
			lines("Failed statements", "Statements per second that failed, by SQLSTATE.",
				"ops", 8, query(`sum by (error_type) (rate(db_client_operation_duration_seconds_count{AT, error_type!=""}[RATE]))`, "{{error_type}}")),
		}},
		row{"Output recording", 7, []Panel{
			lines("Checkpoint (p50, p95, p99)", "Duration of recording the output of all live replies of an instance.",
				"s", 8, quantiles("chat_checkpoint_seconds", "AT")...),
			lines("Output recorded", "Bytes of output recorded per second.",
				"Bps", 8, query(`sum by (instance) (rate(chat_checkpoint_bytes_total{AT}[RATE]))`, "{{instance}}")),
			lines("Background failures", "Failures of background work per second.",
				"ops", 8, query(`sum by (task) (rate(chat_background_failures_total{AT}[RATE]))`, "{{task}}")).stacked(),
		}},
		row{"Limiter", 7, []Panel{
			lines("Decisions", "Decisions per second. fallback_: Redis did not answer.",
				"ops", 8, query(`sum by (scope, decision) (rate(chat_ratelimit_decisions_total{AT}[RATE]))`, "{{scope}} {{decision}}")),
			lines("Decisions without Redis", "Share of decisions that instances made by themselves.",
				"percentunit", 8, query(`sum (rate(chat_ratelimit_decisions_total{AT, decision=~"fallback_allow|fallback_deny"}[RATE])) / sum (rate(chat_ratelimit_decisions_total{AT}[RATE]))`, "alone")).upTo(1).limit(.5),
			lines("Duration of a decision", "Duration of a decision of the rate limiter.", "s", 8, quantiles("chat_ratelimit_backend_seconds", "AT")...),
		}},
	)
}
