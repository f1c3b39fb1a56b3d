package dashboards

// spendFloor is the spending per hour, in US dollars, below which no rise is
// worth waking somebody.
const spendFloor = "20"

// ours keeps a rule on a metric that other services export too to our jobs.
const ours = "and on (job) group by (job) (chat_build_info)"

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
			Summary:     "No instance of Parley {{ with $labels.job }}({{ . }}) {{ end }}is being scraped; {{ $value }} job is missing",
			Description: "Either every instance is down, or Prometheus does not reach the admin address. All other alerts are blind meanwhile.",
		},
		{
			Alert: "ChatDependencyDown", For: "2m", Labels: page, Board: "parley-dependencies",
			Expr:        `max by (job, dependency) (chat_dependency_up{dependency="database"}) == 0`,
			Summary:     "No instance reaches the {{ $labels.dependency }} ({{ $labels.job }}); up is {{ $value }}",
			Description: "Nothing can be stored: sending answers 503, and so does history.",
		},
		{
			Alert: "ChatAllProvidersUnavailable", For: "2m", Labels: page, Board: "parley-providers",
			Expr:        `max by (job) (chat_breaker_state{state="closed"}) == 0`,
			Summary:     "{{ $value }} providers are available: every breaker is open ({{ $labels.job }})",
			Description: "Every message is kept and answered with 503. No reply is made until a breaker closes.",
		},
		{
			Alert: "ChatProviderKeyRefused", For: "2m", Labels: page, Board: "parley-providers",
			Expr:        `max by (job, provider) (chat_provider_key_refused) == 1`,
			Summary:     "{{ $labels.provider }} refuses the configured key (refused: {{ $value }}; {{ $labels.job }})",
			Description: "No reply of this provider is made until the key is replaced: messages fail, or go to the next provider.",
		},
		{
			Alert: "ChatLimiterFailOpen", For: "10m", Labels: page, Board: "parley-dependencies",
			Expr: `sum by (job) (rate(chat_ratelimit_decisions_total{decision=~"fallback_allow|fallback_deny"}[5m]))` + "\n" +
				`/ (sum by (job) (rate(chat_ratelimit_decisions_total[5m])) > 0)` + "\n> 0.5",
			Summary:     "{{ $value | humanizePercentage }} of limits are decided without Redis ({{ $labels.job }})",
			Description: "Instances count alone, so that limits are coarse: abuse and spending are less bounded than promised.",
		},
		{
			Alert: "ChatSpendRunaway", For: "15m", Labels: page, Board: "parley-usage",
			Expr: "sum by (job) (rate(chat_cost_usd_total[1h])) * 3600\n" +
				"> 10 * (sum by (job) (rate(chat_cost_usd_total[1h] offset 1w)) * 3600)\n" +
				"and sum by (job) (rate(chat_cost_usd_total[1h])) * 3600 > " + spendFloor,
			Summary:     "Spending {{ $value | printf \"%.2f\" }} USD an hour, more than ten times last week's ({{ $labels.job }})",
			Description: "A leaked credential, a loop in a client, or a change of model. The provider's bill grows until somebody acts.",
		},
		{
			Alert: "ChatWatchdog", Labels: labelled("none"), Board: "parley-overview",
			Expr:        "vector(1)",
			Summary:     "Alerting works ({{ $value }}). This alert always fires",
			Description: "Alertmanager sends it to a dead man's switch, which tells when it stops coming.",
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
			Description: "Other instances carry its load; there is one fewer to lose.",
		},
		{
			Alert: "ChatRedisDown", For: "5m", Labels: ticket, Board: "parley-dependencies",
			Expr:        `min by (job, dependency) (chat_dependency_up{dependency="redis"}) == 0`,
			Summary:     "An instance does not reach {{ $labels.dependency }}; up is {{ $value }} ({{ $labels.job }})",
			Description: "Limits are local, and a follower on another instance reads from the database: slower, but right.",
		},
		{
			Alert: "ChatProviderDegraded", For: "10m", Labels: ticket, Board: "parley-providers",
			Expr: `sum by (job, provider) (rate(chat_provider_attempts_total{result="error"}[10m]))` + "\n" +
				`/ sum by (job, provider) (rate(chat_provider_attempts_total[10m]))` + "\n> 0.2\n" +
				`and sum by (job, provider) (increase(chat_provider_attempts_total[10m])) > 10`,
			Summary:     "{{ $value | humanizePercentage }} of requests to {{ $labels.provider }} fail ({{ $labels.job }})",
			Description: "Retries and fallbacks may still hide it from users; the other providers carry the load.",
		},
		{
			Alert: "ChatBreakerFlapping", Labels: ticket, Board: "parley-providers",
			Expr:        "sum by (job, breaker) (increase(chat_breaker_transitions_total[1h])) > 6",
			Summary:     "Breaker {{ $labels.breaker }} changed {{ $value | printf \"%.0f\" }} times in an hour ({{ $labels.job }})",
			Description: "The provider is neither well nor away; users meet it by turns.",
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
			Description: "Somebody floods, or the limit is too tight for what people do.",
		},
		{
			Alert: "ChatPoolSaturated", For: "10m", Labels: ticket, Board: "parley-dependencies",
			Expr: "max by (job, instance) (go_sql_in_use_connections / go_sql_max_open_connections) > 0.9\n" +
				"and sum by (job, instance) (rate(go_sql_wait_duration_seconds_total[5m])) > 0\n" + ours,
			Summary:     "{{ $value | humanizePercentage }} of the database connections of {{ $labels.instance }} are in use, and requests wait ({{ $labels.job }})",
			Description: "Every request that needs the database gets slower; soon they time out.",
		},
		{
			Alert: "ChatStreamAbortsHigh", For: "15m", Labels: ticket, Board: "parley-runtime",
			Expr: `sum by (job) (rate(chat_stream_aborts_total{reason="write_timeout"}[15m]))` + "\n" +
				"/ (sum by (job) (rate(chat_turns_total[15m])) > 0)\n> 0.05",
			Summary:     "{{ $value | humanizePercentage }} of turns lose a slow reader ({{ $labels.job }})",
			Description: "Readers are cut off in mid-reply. They can resume, but they notice.",
		},
		{
			Alert: "ChatBackgroundFailing", For: "15m", Labels: ticket, Board: "parley-dependencies",
			Expr:        "sum by (job, task) (rate(chat_background_failures_total[5m])) > 0",
			Summary:     "{{ $labels.task }} fails {{ $value | printf \"%.2f\" }} times a second in the background ({{ $labels.job }})",
			Description: "Work that belongs to no request goes wrong again and again: recording, recovery or audit is behind.",
		},
		{
			Alert: "ChatAuditUnsealed", For: "5m", Labels: ticket, Board: "parley-dependencies",
			// The least of what the instances saw: one that does not look any more
			// repeats what it saw last.
			Expr:        "min by (job) (chat_audit_seal_lag_seconds) > 60",
			Summary:     "Audit entries have waited {{ $value | humanizeDuration }} to be sealed ({{ $labels.job }})",
			Description: "What happened is on record, but whoever writes to the database could still change it unnoticed.",
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
			Description: "Traces do not reach their store. Metrics and users are not affected.",
		},
		{
			Alert: "ChatUnpricedModel", Labels: ticket, Board: "parley-usage",
			Expr:        "sum by (job, provider, model) (increase(chat_unpriced_requests_total[1h])) > 0",
			Summary:     "{{ $value | printf \"%.0f\" }} replies of {{ $labels.provider }} {{ $labels.model }} have no price ({{ $labels.job }})",
			Description: "Cost, budgets and the spending alert do not see this model.",
		},
		{
			Alert: "ChatMemoryNearLimit", For: "15m", Labels: ticket, Board: "parley-runtime",
			Expr:        "max by (job, instance) (process_resident_memory_bytes / go_gc_gomemlimit_bytes) > 0.9\n" + ours,
			Summary:     "{{ $labels.instance }} uses {{ $value | humanizePercentage }} of its memory limit ({{ $labels.job }})",
			Description: "The collector works ever harder; past the limit the kernel kills the process.",
		},
		{
			Alert: "ChatRuleEvaluationFailing", For: "5m", Labels: ticket, Board: "parley-overview",
			Expr:        `sum by (rule_group) (increase(prometheus_rule_evaluation_failures_total{rule_group=~".+parley-.+"}[5m])) > 0`,
			Summary:     "Rules of {{ $labels.rule_group }} failed {{ $value | printf \"%.0f\" }} times in five minutes",
			Description: "Alerts of that group are blind.",
		},
	}
}
