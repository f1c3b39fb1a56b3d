package dashboards

// spendFloor is the spending per hour, in US dollars, below which no rise is
// worth a page.
const minSpendPerHour = "20"

// ours keeps a rule on a metric that other services export too to our jobs.
const ofParley = "and on (job) group by (job) (chat_build_info)"

func labelled(severity string) [][2]string {
	return [][2]string{{"severity", severity}, {"team", "chat"}}
}

func pages() []Rule {
	page := labelled("page")
	return []Rule{
		{
			Alert: "ChatAbsent", For: "5m", Labels: page, Board: "parley-overview",
			// A job that was here within a day and is not any more; or none at all.
			Expr: "group by (job) (last_over_time(chat_build_info[1d])) unless on (job) group by (job) (chat_build_info)\n" +
				"or on () absent(chat_build_info)",
			Summary:     "No instance of Parley {{ with $labels.job }}({{ . }}) {{ end }}is scraped; {{ $value }} job is missing",
			Description: "Every instance is down, or Prometheus does not reach the admin address. No other alert works meanwhile.",
		},
		{
			Alert: "ChatDependencyDown", For: "2m", Labels: page, Board: "parley-dependencies",
			Expr:        `max by (job, dependency) (chat_dependency_up{dependency="database"}) == 0`,
			Summary:     "No instance reaches the {{ $labels.dependency }} ({{ $labels.job }}); up is {{ $value }}",
			Description: "Nothing can be stored or read: sends and history answer 503.",
		},
		{
			Alert: "ChatAllProvidersUnavailable", For: "2m", Labels: page, Board: "parley-providers",
			Expr:        `max by (job) (chat_breaker_state{state="closed"}) == 0`,
			Summary:     "{{ $value }} providers are available: every breaker is open ({{ $labels.job }})",
			Description: "Messages are stored and answered with 503. No reply is generated until a breaker closes.",
		},
		{
			Alert: "ChatProviderKeyRefused", For: "2m", Labels: page, Board: "parley-providers",
			Expr:        `max by (job, provider) (chat_provider_key_refused) == 1`,
			Summary:     "{{ $labels.provider }} refuses the configured key (refused: {{ $value }}; {{ $labels.job }})",
			Description: "This provider generates no reply until the key is replaced: messages fail, or go to the next provider.",
		},
		{
			Alert: "ChatLimiterFailOpen", For: "10m", Labels: page, Board: "parley-dependencies",
			Expr: `sum by (job) (rate(chat_ratelimit_decisions_total{decision=~"fallback_allow|fallback_deny"}[5m]))` + "\n" +
				`/ (sum by (job) (rate(chat_ratelimit_decisions_total[5m])) > 0)` + "\n> 0.5",
			Summary:     "{{ $value | humanizePercentage }} of rate limit decisions are made without Redis ({{ $labels.job }})",
			Description: "Each instance counts by itself and admits its share: limits are less exact.",
		},
		{
			Alert: "ChatSpendRunaway", For: "15m", Labels: page, Board: "parley-usage",
			Expr: "sum by (job) (rate(chat_cost_usd_total[1h])) * 3600\n" +
				"> 10 * (sum by (job) (rate(chat_cost_usd_total[1h] offset 1w)) * 3600)\n" +
				"and sum by (job) (rate(chat_cost_usd_total[1h])) * 3600 > " + minSpendPerHour,
			Summary:     "Cost of {{ $value | printf \"%.2f\" }} USD an hour, more than ten times last week's ({{ $labels.job }})",
			Description: "A leaked credential, a loop in a client, or a change of model. The cost grows until it is stopped.",
		},
		{
			Alert: "ChatWatchdog", Labels: labelled("none"), Board: "parley-overview",
			Expr:        "vector(1)",
			Summary:     "Alerting works ({{ $value }}). This alert always fires",
			Description: "Alertmanager sends it to a dead man's switch, which reports when it stops.",
		},
	}
}

func tickets() []Rule {
	ticket := labelled("ticket")
	return []Rule{
		{
			Alert: "ChatInstanceDown", For: "10m", Labels: ticket, Board: "parley-runtime",
			Expr:        "up == 0 and on (job) group by (job) (chat_build_info)",
			Summary:     "{{ $labels.instance }} cannot be scraped; up is {{ $value }} ({{ $labels.job }})",
			Description: "Other instances take its load; the redundancy is reduced.",
		},
		{
			Alert: "ChatRedisDown", For: "5m", Labels: ticket, Board: "parley-dependencies",
			Expr:        `min by (job, dependency) (chat_dependency_up{dependency="redis"}) == 0`,
			Summary:     "An instance does not reach {{ $labels.dependency }}; up is {{ $value }} ({{ $labels.job }})",
			Description: "Limits are per instance, and followers on other instances read the database, which is slower.",
		},
		{
			Alert: "ChatProviderDegraded", For: "10m", Labels: ticket, Board: "parley-providers",
			Expr: `sum by (job, provider) (rate(chat_provider_attempts_total{result="error"}[10m]))` + "\n" +
				`/ sum by (job, provider) (rate(chat_provider_attempts_total[10m]))` + "\n> 0.2\n" +
				`and sum by (job, provider) (increase(chat_provider_attempts_total[10m])) > 10`,
			Summary:     "{{ $value | humanizePercentage }} of requests to {{ $labels.provider }} fail ({{ $labels.job }})",
			Description: "Retries and fallbacks may still hide it from users; other providers take the load.",
		},
		{
			Alert: "ChatBreakerFlapping", Labels: ticket, Board: "parley-providers",
			Expr:        "sum by (job, breaker) (increase(chat_breaker_transitions_total[1h])) > 6",
			Summary:     "Breaker {{ $labels.breaker }} changed {{ $value | printf \"%.0f\" }} times in an hour ({{ $labels.job }})",
			Description: "The provider fails intermittently, and users notice.",
		},
		{
			Alert: "ChatRateLimitHeadroomLow", For: "15m", Labels: ticket, Board: "parley-providers",
			Expr:        "min by (job, provider, kind) (chat_provider_ratelimit_remaining_ratio) < 0.1",
			Summary:     "{{ $value | humanizePercentage }} of the limit of {{ $labels.kind }} at {{ $labels.provider }} is left ({{ $labels.job }})",
			Description: "Soon the provider will answer 429, and the breaker will open.",
		},
		{
			Alert: "ChatRateLimited", For: "15m", Labels: ticket, Board: "parley-product",
			Expr: `sum by (job) (rate(chat_ratelimit_decisions_total{scope="send", decision=~"deny|fallback_deny"}[15m]))` + "\n" +
				`/ sum by (job) (rate(chat_ratelimit_decisions_total{scope="send"}[15m]))` + "\n> 0.05\n" +
				`and sum by (job) (increase(chat_ratelimit_decisions_total{scope="send"}[15m])) > 20`,
			Summary:     "{{ $value | humanizePercentage }} of messages are refused by the rate limit ({{ $labels.job }})",
			Description: "A client floods, or the limit is too low for ordinary use.",
		},
		{
			Alert: "ChatPoolSaturated", For: "10m", Labels: ticket, Board: "parley-dependencies",
			Expr: "max by (job, instance) (go_sql_in_use_connections / go_sql_max_open_connections) > 0.9\n" +
				"and sum by (job, instance) (rate(go_sql_wait_duration_seconds_total[5m])) > 0\n" + ofParley,
			Summary:     "{{ $value | humanizePercentage }} of the database connections of {{ $labels.instance }} are in use, and requests wait ({{ $labels.job }})",
			Description: "Requests that need the database get slower, and will time out.",
		},
		{
			Alert: "ChatStreamAbortsHigh", For: "15m", Labels: ticket, Board: "parley-runtime",
			Expr: `sum by (job) (rate(chat_stream_aborts_total{reason="write_timeout"}[15m]))` + "\n" +
				"/ (sum by (job) (rate(chat_turns_total[15m])) > 0)\n> 0.05",
			Summary:     "{{ $value | humanizePercentage }} of turns lose a slow client ({{ $labels.job }})",
			Description: "Streams are closed before the end of the reply. Clients can resume.",
		},
		{
			Alert: "ChatBackgroundFailing", For: "15m", Labels: ticket, Board: "parley-dependencies",
			Expr:        "sum by (job, task) (rate(chat_background_failures_total[5m])) > 0",
			Summary:     "{{ $labels.task }} fails {{ $value | printf \"%.2f\" }} times a second in the background ({{ $labels.job }})",
			Description: "Background work fails repeatedly: recording, recovery or sealing is late.",
		},
		{
			Alert: "ChatAuditUnsealed", For: "5m", Labels: ticket, Board: "parley-dependencies",
			// The least of what the instances saw: one that does not look any more
			// repeats what it saw last.
			Expr:        "min by (job) (chat_audit_seal_lag_seconds) > 60",
			Summary:     "Audit entries have waited {{ $value | humanizeDuration }} to be sealed ({{ $labels.job }})",
			Description: "The entries are recorded, but can still be changed in the database without detection.",
		},
		{
			Alert: "ChatSchemaPending", For: "15m", Labels: ticket, Board: "parley-dependencies",
			Expr:        "max by (job) (chat_schema_pending) > 0",
			Summary:     "{{ $value }} migrations are pending ({{ $labels.job }})",
			Description: "The running build is newer than the database's schema.",
		},
		{
			Alert: "ChatTelemetryDropping", For: "10m", Labels: ticket, Board: "parley-runtime",
			Expr:        "sum by (job, signal) (rate(chat_telemetry_dropped_total[5m])) > 0",
			Summary:     "{{ $value | printf \"%.1f\" }} {{ $labels.signal }} a second are lost ({{ $labels.job }})",
			Description: "Spans do not reach the collector, or log lines do not reach their reader. Metrics and users are not affected.",
		},
		{
			Alert: "ChatUnpricedModel", Labels: ticket, Board: "parley-usage",
			Expr:        "sum by (job, provider, model) (increase(chat_unpriced_requests_total[1h])) > 0",
			Summary:     "{{ $value | printf \"%.0f\" }} replies of {{ $labels.provider }} {{ $labels.model }} have no price ({{ $labels.job }})",
			Description: "Cost, money budgets and the cost alert do not include this model.",
		},
		{
			Alert: "ChatMemoryNearLimit", For: "15m", Labels: ticket, Board: "parley-runtime",
			Expr:        "max by (job, instance) (process_resident_memory_bytes / go_gc_gomemlimit_bytes) > 0.9\n" + ofParley,
			Summary:     "{{ $labels.instance }} uses {{ $value | humanizePercentage }} of its memory limit ({{ $labels.job }})",
			Description: "Garbage collection takes more and more CPU; above the limit the kernel kills the process.",
		},
		{
			Alert: "ChatRuleEvaluationFailing", For: "5m", Labels: ticket, Board: "parley-overview",
			Expr:        `sum by (rule_group) (increase(prometheus_rule_evaluation_failures_total{rule_group=~".+parley-.+"}[5m])) > 0`,
			Summary:     "Rules of {{ $labels.rule_group }} failed {{ $value | printf \"%.0f\" }} times in five minutes",
			Description: "The alerts of that group do not work.",
		},
	}
}
