package dashboards

func dependenciesBoard() Dashboard {
	return board(base("parley-dependencies", "Dependencies",
		"The database, Redis and the limiter: how much of each is in use, who waits, and what fails."),
		row{"Are they there", 6, []Panel{
			states("Dependencies", "Whether each dependency answered the last probe of each instance.", 12,
				query(`min by (instance, dependency) (chat_dependency_up{AT})`, "{{dependency}} {{instance}}"),
				map[string][2]string{"0": {"down", "red"}, "1": {"up", "green"}}),
			stat("Schema version", "Newest migration that the database has, as the instances see it.",
				"none", 6, query(`max (chat_schema_version{AT})`, "version")).digits(0),
			stat("Pending migrations", "Migrations that the running build brings and the database lacks.",
				"none", 6, query(`max (chat_schema_pending{AT})`, "pending")).warn(1, 2),
		}},
		row{"Database", 8, []Panel{
			lines("Connections", "In use, idle, and allowed, over all instances.", "short", 8,
				query(`sum (go_sql_in_use_connections{AT})`, "in use"),
				query(`sum (go_sql_idle_connections{AT})`, "idle"),
				query(`sum (go_sql_open_connections{AT})`, "open"),
				query(`sum (go_sql_max_open_connections{AT})`, "allowed")),
			lines("Waiting for a connection", "Seconds that requests waited per second: above 1, there is always one that waits.",
				"none", 8, query(`sum by (instance) (rate(go_sql_wait_duration_seconds_total{AT}[RATE]))`, "{{instance}}")),
			lines("Waits for a connection", "How often a connection had to be waited for, per second.",
				"ops", 8, query(`sum by (instance) (rate(go_sql_wait_count_total{AT}[RATE]))`, "{{instance}}")),
			lines("Statements", "Statements per second, by name.",
				"ops", 8, query(`topk(10, sum by (db_operation_name) (rate(db_client_operation_duration_seconds_count{AT}[RATE])))`, "{{db_operation_name}}")),
			lines("Slowest statements (p95)", "95th percentile by name. Dots lead to traces.",
				"s", 8, traced(`topk(10, histogram_quantile(0.95, sum by (le, db_operation_name) (rate(db_client_operation_duration_seconds_bucket{AT}[RATE]))))`, "{{db_operation_name}}")),
			lines("Failed statements", "Statements per second that failed, by SQLSTATE.",
				"ops", 8, query(`sum by (error_type) (rate(db_client_operation_duration_seconds_count{AT, error_type!=""}[RATE]))`, "{{error_type}}")),
		}},
		row{"Recording of replies", 7, []Panel{
			lines("Checkpoint (p50, p95, p99)", "How long it takes to record the output of an instance's live replies.",
				"s", 8, quantiles("chat_checkpoint_seconds", "AT")...),
			lines("Output recorded", "Text recorded per second while replies are being made.",
				"Bps", 8, query(`sum by (instance) (rate(chat_checkpoint_bytes_total{AT}[RATE]))`, "{{instance}}")),
			lines("Failures in the background", "Failed work that belongs to no request, per second.",
				"ops", 8, query(`sum by (task) (rate(chat_background_failures_total{AT}[RATE]))`, "{{task}}")).stacked(),
		}},
		row{"Limiter", 7, []Panel{
			lines("Decisions", "What the limiter said, per second. fallback_: it had to decide without Redis.",
				"ops", 8, query(`sum by (scope, decision) (rate(chat_ratelimit_decisions_total{AT}[RATE]))`, "{{scope}} {{decision}}")),
			lines("Decided without Redis", "Share of decisions that an instance made alone.",
				"percentunit", 8, query(`sum (rate(chat_ratelimit_decisions_total{AT, decision=~"fallback_allow|fallback_deny"}[RATE])) / sum (rate(chat_ratelimit_decisions_total{AT}[RATE]))`, "alone")).upTo(1).limit(.5),
			lines("Duration of a decision", "How long the limiter took.", "s", 8, quantiles("chat_ratelimit_backend_seconds", "AT")...),
		}},
	)
}
