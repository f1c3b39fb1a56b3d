package dashboards

import "strconv"

// spendFloor is the spending per hour, in US dollars, below which no rise is
// worth a page.
const minSpendPerHour = "20"

// ours keeps a rule on a metric that other services export too to our jobs.
const ofParley = "and on (job) group by (job) (chat_build_info)"

// outlast is longer than the shortest window of the service levels. An alert that
// silences theirs goes on that long: they would page when the cause has just ended.
const outlast = "6m"

func labelled(severity string) [][2]string {
	return [][2]string{{"severity", severity}, {"team", "chat"}}
}

// failedByProviders are the outcomes of turns that no provider could answer.
const failedByProviders = `provider_error|timeout|breaker_open`

// withoutLimiter is the share of decisions that instances make by themselves.
const withoutLimiter = `sum by (job) (rate(chat_ratelimit_decisions_total{decision=~"fallback_allow|fallback_deny"}[5m]))` + "\n" +
	`/ (sum by (job) (rate(chat_ratelimit_decisions_total[5m])) > 0)` + "\n> 0.5"

func pages() []Rule {
	page := labelled("page")
	return []Rule{
		{
			Alert: "ChatAbsent", For: "2m", Keep: outlast, Labels: page, Board: "parley-overview",
			// A job that was here within a day and is not any more; or none at all.
			Expr: "group by (job) (last_over_time(chat_build_info[1d])) unless on (job) group by (job) (chat_build_info)\n" +
				"or on () absent(chat_build_info)",
			Summary:     "No instance of Parley {{ with $labels.job }}({{ . }}) {{ end }}is scraped; {{ $value }} job is missing",
			Description: "Every instance is down, or Prometheus does not reach the admin address. No other alert works meanwhile.",
		},
		{
			Alert: "ChatProxyDown", For: "2m", Labels: page, Board: "parley-overview",
			Expr:        `max by (job) (up{component="proxy"}) == 0 and on () group (last_over_time(chat_build_info[1d]))`,
			Summary:     "The proxy cannot be scraped; up is {{ $value }} ({{ $labels.job }})",
			Description: "Users reach no instance if the proxy is down, however healthy the instances are.",
		},
		{
			Alert: "ChatDependencyDown", For: "1m", Keep: outlast, Labels: page, Board: "parley-dependencies",
			Expr:        `max by (job, dependency) (chat_dependency_up{dependency=~"database|sessions"}) == 0`,
			Summary:     "No instance reaches the {{ $labels.dependency }} ({{ $labels.job }}); up is {{ $value }}",
			Description: "Without the database nothing can be stored or read. Without the database of sessions users of the app cannot be recognised.",
		},
		{
			Alert: "ChatDatabaseLocked", For: "1m", Keep: outlast, Labels: page, Board: "parley-dependencies",
			Expr:        "max by (job) (max_over_time(chat_database_lock_waits[1m])) > 0",
			Summary:     "{{ $value }} sessions of the database wait for a lock that is not released ({{ $labels.job }})",
			Description: "Requests wait for it until they time out, and use up the connections of all other requests.",
		},
		{
			Alert: "ChatAllProvidersUnavailable", For: "1m", Keep: outlast, Labels: page, Board: "parley-providers",
			Expr: `sum by (job) (rate(chat_turns_total{outcome=~"` + failedByProviders + `"}[2m]))` + "\n" +
				`/ (sum by (job) (rate(chat_turns_total{outcome=~"ok|provider_auth|` + failedByProviders + `"}[2m])) > 0)` + "\n> 0.95\n" +
				`and sum by (job) (increase(chat_turns_total{outcome=~"` + failedByProviders + `"}[2m])) > 2`,
			Summary:     "{{ $value | humanizePercentage }} of replies get nothing from any provider ({{ $labels.job }})",
			Description: "Messages are stored, but practically no reply is generated.",
		},
		{
			Alert: "ChatProviderKeyRefused", For: "1m", Labels: page, Board: "parley-providers",
			Expr:        `max by (job, provider) (chat_provider_key_refused) == 1`,
			Summary:     "{{ $labels.provider }} refuses the configured key (refused: {{ $value }}; {{ $labels.job }})",
			Description: "This provider generates no reply until the key is replaced: messages fail, or go to the next provider.",
		},
		{
			Alert: "ChatProviderFrozen", For: "1m", Keep: outlast, Labels: page, Board: "parley-providers",
			Expr: "sum by (job, provider) (chat_runs_without_output)\n" +
				"> on (job) group_left () (0.5 * sum by (job) (chat_runs_active))\n" +
				"and sum by (job, provider) (chat_runs_without_output) > 2",
			Summary:     "{{ $value }} replies, more than half, have waited over 10 s for the first output of {{ $labels.provider }} ({{ $labels.job }})",
			Description: "The provider accepts requests and sends nothing. Each reply waits for AI_FIRST_TOKEN_TIMEOUT before the next provider is asked.",
		},
		{
			Alert: "ChatFirstWordsSlow", For: "5m", Labels: page, Board: "parley-overview",
			Expr:        "job:chat_first_events_slow:ratio_rate5m > 0.5\nand job:chat_first_events:rate5m * 3600 > " + strconv.Itoa(minPerHour),
			Summary:     "{{ $value | humanizePercentage }} of turns took more than 2.5 s to their first output over five minutes ({{ $labels.job }})",
			Description: "Most users wait too long for the first output.",
		},
		{
			Alert: "ChatQueueStuck", For: "1m", Labels: page, Board: "parley-overview",
			Expr:        "max by (job) (chat_oldest_queued_run_seconds) > 60",
			Summary:     "A reply has waited {{ $value | humanizeDuration }} for an instance that makes it ({{ $labels.job }})",
			Description: "Replies that could be started are not: the instances are full, or do not claim any.",
		},
		{
			Alert: "ChatRouteFailing", For: "1m", Keep: outlast, Labels: page, Board: "parley-overview",
			Expr: `sum by (job, http_request_method, http_route) (rate(http_server_request_duration_seconds_count{http_response_status_code="500"}[5m]))` + "\n" +
				`/ sum by (job, http_request_method, http_route) (rate(http_server_request_duration_seconds_count[5m]))` + "\n> 0.25\n" +
				`and sum by (job, http_request_method, http_route) (increase(http_server_request_duration_seconds_count{http_response_status_code="500"}[5m])) > 5` + "\n" + ofParley,
			Summary:     "{{ $value | humanizePercentage }} of {{ $labels.http_request_method }} {{ $labels.http_route }} end in status 500 ({{ $labels.job }})",
			Description: "One route is broken while others may work, as after a faulty release.",
		},
		{
			Alert: "ChatAllCallersRefused", For: "1m", Labels: page, Board: "parley-product",
			// By instance: one with another secret refuses its share of the requests.
			Expr: `sum by (job, instance) (rate(http_server_request_duration_seconds_count{http_route=~"/api/chat/.+", http_response_status_code="401"}[2m]))` + "\n" +
				`/ sum by (job, instance) (rate(http_server_request_duration_seconds_count{http_route=~"/api/chat/.+"}[2m]))` + "\n> 0.98\n" +
				`and sum by (job, instance) (increase(http_server_request_duration_seconds_count{http_route=~"/api/chat/.+", http_response_status_code="401"}[5m])) > 20` + "\n" + ofParley,
			Summary:     "{{ $labels.instance }} refuses {{ $value | humanizePercentage }} of requests because of their token ({{ $labels.job }})",
			Description: "It recognises practically nobody: the secret or the keys that sign tokens have changed on one side only.",
		},
		{
			Alert: "ChatSpendRunaway", For: "15m", Labels: page, Board: "parley-usage",
			// In the first week there is nothing to compare with but the day before.
			Expr: "sum by (job) (rate(chat_cost_usd_total[1h])) * 3600\n" +
				"> 10 * (sum by (job) (rate(chat_cost_usd_total[1h] offset 1w)) or avg_over_time((sum by (job) (rate(chat_cost_usd_total[1h])))[1d:30m] offset 1h)) * 3600\n" +
				"and sum by (job) (rate(chat_cost_usd_total[1h])) * 3600 > " + minSpendPerHour,
			Summary:     "Cost of {{ $value | printf \"%.2f\" }} USD an hour, more than ten times what it was ({{ $labels.job }})",
			Description: "A leaked credential, a loop in a client, or a change of model. The cost grows until it is stopped.",
		},
		{
			Alert: "ChatSpendWithoutLimiter", For: "5m", Labels: page, Board: "parley-usage",
			Expr: "sum by (job) (rate(chat_cost_usd_total[10m])) * 3600\n" +
				"> 3 * (sum by (job) (rate(chat_cost_usd_total[1h] offset 10m)) * 3600)\n" +
				"and sum by (job) (rate(chat_cost_usd_total[10m])) * 3600 > " + minSpendPerHour + "\n" +
				"and on (job) (" + withoutLimiter + ")",
			Summary:     "Cost of {{ $value | printf \"%.2f\" }} USD an hour, more than three times that of the hour before, while limits are decided without Redis ({{ $labels.job }})",
			Description: "Limits are less exact without Redis, and a caller may use that. The cost grows until it is stopped.",
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
			Alert: "ChatInstanceNotReady", For: "3m", Labels: ticket, Board: "parley-dependencies",
			Expr:        `min by (job, instance, dependency) (chat_dependency_up{dependency=~"database|sessions"}) == 0`,
			Summary:     "{{ $labels.instance }} does not reach the {{ $labels.dependency }}; up is {{ $value }} ({{ $labels.job }})",
			Description: "The proxy sends it no requests. Other instances take its load; the redundancy is reduced.",
		},
		{
			Alert: "ChatInstanceUnobserved", For: "10m", Labels: ticket, Board: "parley-dependencies",
			// The backend of the proxy has the name of Parley's job.
			Expr: `count by (job) (label_replace(max by (proxy, server) (haproxy_server_status{state="UP"}) == 1, "job", "$1", "proxy", "(.+)"))` + "\n" +
				"> count by (job) (up == 1 and on (job) group by (job) (chat_build_info))",
			Summary:     "The proxy sends requests to {{ $value }} instances, and Prometheus scrapes fewer ({{ $labels.job }})",
			Description: "What goes wrong on an instance that is not scraped raises no alert.",
		},
		{
			Alert: "ChatInstanceRestarting", Labels: ticket, Board: "parley-runtime",
			Expr:        "max by (job, instance) (changes(process_start_time_seconds[1h])) > 3\n" + ofParley,
			Summary:     "{{ $labels.instance }} has started {{ $value }} times in an hour ({{ $labels.job }})",
			Description: "It crashes or is killed again and again. Its replies are taken over each time, and users see them late or interrupted.",
		},
		{
			Alert: "ChatRedisDown", For: "5m", Labels: ticket, Board: "parley-dependencies",
			Expr:        `min by (job, dependency) (chat_dependency_up{dependency="redis"}) == 0`,
			Summary:     "An instance cannot use {{ $labels.dependency }}; up is {{ $value }} ({{ $labels.job }})",
			Description: "Limits are per instance, and followers on other instances read the database, which is slower.",
		},
		{
			Alert: "ChatLimiterFailOpen", For: "10m", Labels: ticket, Board: "parley-dependencies",
			Expr:        withoutLimiter,
			Summary:     "{{ $value | humanizePercentage }} of rate limit decisions are made without Redis ({{ $labels.job }})",
			Description: "Each instance counts by itself and admits its share: limits are less exact. A rise of the cost pages.",
		},
		{
			Alert: "ChatBlobStoreDown", For: "2m", Labels: ticket, Board: "parley-dependencies",
			Expr:        `min by (job, dependency) (chat_dependency_up{dependency="files"}) == 0`,
			Summary:     "An instance does not reach the store of files; up is {{ $value }} ({{ $labels.job }})",
			Description: "Files cannot be uploaded or read, and messages that refer to files get no reply. All else works.",
		},
		{
			Alert: "ChatFilesLost", Labels: ticket, Board: "parley-dependencies",
			Expr:        `sum by (job) (increase(chat_files_swept_total{reason="lost"}[6h])) > 0`,
			Summary:     "The content of {{ $value | printf \"%.0f\" }} files is missing in the store of files ({{ $labels.job }})",
			Description: "Users still see these files in their messages, but cannot open them.",
		},
		{
			Alert: "ChatReadsSlow", For: "5m", Labels: ticket, Board: "parley-overview",
			Expr:        "job:chat_reads_slow:ratio_rate5m > 0.3\nand job:chat_reads:rate5m * 3600 > " + strconv.Itoa(minPerHour),
			Summary:     "{{ $value | humanizePercentage }} of reads took more than 25 ms over five minutes ({{ $labels.job }})",
			Description: "Conversations and histories open slowly: an index is missing, a lock is held, or the database is overloaded.",
		},
		{
			Alert: "ChatOutputSlow", For: "2m", Labels: ticket, Board: "parley-providers",
			Expr: "histogram_quantile(0.5, sum by (job, provider, model, le) (rate(chat_output_tokens_per_second_bucket[10m]))) < 5\n" +
				"and sum by (job, provider, model) (increase(chat_output_tokens_per_second_count[10m])) > 5",
			Summary:     "Replies of {{ $labels.provider }} {{ $labels.model }} come at {{ $value | printf \"%.1f\" }} tokens a second ({{ $labels.job }})",
			Description: "Half of the replies come slower than one reads. The first output may be as fast as ever.",
		},
		{
			Alert: "ChatProviderLimited", For: "1m", Labels: ticket, Board: "parley-providers",
			Expr: `sum by (job, provider) (rate(chat_provider_attempts_total{result="rate_limited"}[5m]))` + "\n" +
				`/ sum by (job, provider) (rate(chat_provider_attempts_total[5m]))` + "\n> 0.05\n" +
				`and sum by (job, provider) (increase(chat_provider_attempts_total{result="rate_limited"}[5m])) > 3`,
			Summary:     "{{ $labels.provider }} answers {{ $value | humanizePercentage }} of requests with 429 ({{ $labels.job }})",
			Description: "The account's rate limit is used up. Messages go to the next provider, or fail.",
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
			// Closed again means that requests succeeded: one outage closes a breaker once.
			Expr:        `max by (job, breaker) (increase(chat_breaker_transitions_total{state="closed"}[1h])) > 2.5`,
			Summary:     "Breaker {{ $labels.breaker }} opened and closed {{ $value | printf \"%.0f\" }} times in an hour ({{ $labels.job }})",
			Description: "The provider fails, works and fails again, and users notice.",
		},
		{
			Alert: "ChatRateLimitHeadroomLow", For: "1m", Labels: ticket, Board: "parley-providers",
			Expr: "min by (job, provider, kind) (avg_over_time(chat_provider_ratelimit_remaining_ratio[5m])) < 0.2\n" +
				"and on (job, provider) sum by (job, provider) (rate(chat_provider_attempts_total[5m])) > 0",
			Summary:     "{{ $value | humanizePercentage }} of the limit of {{ $labels.kind }} at {{ $labels.provider }} was left over five minutes ({{ $labels.job }})",
			Description: "Soon the provider will answer 429.",
		},
		{
			Alert: "ChatCallersRefused", For: "5m", Labels: ticket, Board: "parley-product",
			Expr: `sum by (job) (rate(chat_refusals_total{kind="UNAUTHORIZED"}[5m]))` + "\n" +
				`+ sum by (job) (rate(chat_ratelimit_decisions_total{scope="coarse", decision=~"deny|fallback_deny"}[5m]))` + "\n> 5",
			Summary:     "{{ $value | printf \"%.1f\" }} requests a second are refused for bad tokens or because they are far too many ({{ $labels.job }})",
			Description: "A caller guesses tokens, a client repeats an expired one, or a client is in a loop.",
		},
		{
			Alert: "ChatRateLimited", For: "5m", Labels: ticket, Board: "parley-product",
			Expr: `sum by (job) (rate(chat_ratelimit_decisions_total{scope="send", decision=~"deny|fallback_deny"}[5m]))` + "\n" +
				`/ sum by (job) (rate(chat_ratelimit_decisions_total{scope="send"}[5m]))` + "\n> 0.05\n" +
				`and sum by (job) (increase(chat_ratelimit_decisions_total{scope="send"}[5m])) > 20`,
			Summary:     "{{ $value | humanizePercentage }} of messages are refused by the rate limit ({{ $labels.job }})",
			Description: "A client floods, or the limit is too low for ordinary use.",
		},
		{
			Alert: "ChatPoolSaturated", For: "3m", Labels: ticket, Board: "parley-dependencies",
			Expr: "max by (job, instance) (go_sql_in_use_connections / go_sql_max_open_connections) > 0.9\n" +
				"and sum by (job, instance) (rate(go_sql_wait_duration_seconds_total[5m])) > 0\n" + ofParley,
			Summary:     "{{ $value | humanizePercentage }} of the database connections of {{ $labels.instance }} are in use, and requests wait ({{ $labels.job }})",
			Description: "Requests that need the database get slower, and will time out.",
		},
		{
			Alert: "ChatStatementsFailing", For: "2m", Labels: ticket, Board: "parley-dependencies",
			// Not those that fail in ordinary operation, nor those of other alerts: a row
			// that exists already, a request that was cancelled, a pool that is in use.
			Expr: `sum by (job, error_type) (rate(db_client_operation_duration_seconds_count{error_type!~"|23505|40001|canceled|pool_exhausted"}[5m]))` + "\n" +
				`/ on (job) group_left () sum by (job) (rate(db_client_operation_duration_seconds_count[5m]))` + "\n> 0.01\n" +
				`and sum by (job, error_type) (increase(db_client_operation_duration_seconds_count{error_type!~"|23505|40001|canceled|pool_exhausted"}[5m])) > 10` + "\n" + ofParley,
			Summary:     "{{ $value | humanizePercentage }} of statements of the database fail with {{ $labels.error_type }} ({{ $labels.job }})",
			Description: "The code is an SQLSTATE, or timeout or connect. Requests fail or are slow, or are tried again.",
		},
		{
			Alert: "ChatReplicationSlotStuck", For: "15m", Labels: ticket, Board: "parley-dependencies",
			Expr:        "max by (job) (chat_database_retained_wal_bytes) > 10 * 1024 ^ 3",
			Summary:     "PostgreSQL keeps {{ $value | humanize1024 }}B of WAL for a replication slot ({{ $labels.job }})",
			Description: "A replica or a consumer of changes does not read its slot. The WAL fills the disk of the server until it stops.",
		},
		{
			Alert: "ChatTransactionIdsRunOut", For: "15m", Labels: ticket, Board: "parley-dependencies",
			Expr:        "max by (job) (chat_database_transaction_ids) > 1e9",
			Summary:     "{{ $value | humanize }} transactions have passed since the oldest row that is not frozen ({{ $labels.job }})",
			Description: "Autovacuum does not finish its work. Before 2.1 billion PostgreSQL refuses all writes.",
		},
		{
			Alert: "ChatTransactionOpen", For: "5m", Labels: ticket, Board: "parley-dependencies",
			Expr:        "max by (job) (chat_database_oldest_transaction_seconds) > 3600",
			Summary:     "A transaction of the database has been open for {{ $value | humanizeDuration }} ({{ $labels.job }})",
			Description: "Rows that are deleted or changed meanwhile cannot be cleaned up: tables grow, and reads get slower. It may hold locks.",
		},
		{
			Alert: "ChatDescriptorsNearLimit", For: "5m", Labels: ticket, Board: "parley-runtime",
			Expr:        "max by (job, instance) (process_open_fds / process_max_fds) > 0.8\n" + ofParley,
			Summary:     "{{ $labels.instance }} has {{ $value | humanizePercentage }} of its file descriptors open ({{ $labels.job }})",
			Description: "At the limit it accepts no connections and reaches neither the database nor a provider.",
		},
		{
			Alert: "ChatBudgetsExhausted", For: "5m", Labels: ticket, Board: "parley-product",
			Expr: `sum by (job) (rate(chat_turns_total{outcome="quota"}[5m]))` + "\n" +
				`/ (sum by (job) (rate(chat_turns_total{outcome!="rate_limited"}[5m])) > 0)` + "\n> 0.2\n" +
				`and sum by (job) (increase(chat_turns_total{outcome="quota"}[5m])) > 20`,
			Summary:     "{{ $value | humanizePercentage }} of messages are refused because a budget is used up ({{ $labels.job }})",
			Description: "Many users have used up their budget, or a budget was set too low by mistake. They get no reply until the day or month ends.",
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
			Alert: "ChatWebhooksLate", For: "5m", Labels: ticket, Board: "parley-dependencies",
			Expr:        "min by (job) (chat_webhook_oldest_seconds) > 900",
			Summary:     "The oldest webhook has waited {{ $value | humanizeDuration }} to be delivered ({{ $labels.job }})",
			Description: "The receiver at WEBHOOK_URL does not accept events. They are kept and sent again.",
		},
		{
			Alert: "ChatWebhooksDead", Labels: ticket, Board: "parley-dependencies",
			Expr:        `sum by (job) (increase(chat_webhook_deliveries_total{outcome="dead"}[1h])) > 0`,
			Summary:     "{{ $value | printf \"%.0f\" }} webhooks were given up in an hour ({{ $labels.job }})",
			Description: "The receiver answered 410, or did not accept an event for more than a day. parley webhook replay sends them again.",
		},
		{
			Alert: "ChatSchemaPending", For: "2m", Labels: ticket, Board: "parley-dependencies",
			Expr:        "max by (job) (chat_schema_pending) > 0",
			Summary:     "{{ $value }} migrations are pending ({{ $labels.job }})",
			Description: "The database lacks migrations of the running build, as after a restored backup: requests that need them fail.",
		},
		{
			Alert: "ChatTelemetryDropping", For: "10m", Labels: ticket, Board: "parley-runtime",
			Expr:        `sum by (job, signal) (rate(chat_telemetry_dropped_total{signal="traces"}[5m])) > 0`,
			Summary:     "{{ $value | printf \"%.1f\" }} {{ $labels.signal }} a second are lost ({{ $labels.job }})",
			Description: "Spans do not reach the collector. Metrics and users are not affected.",
		},
		{
			Alert: "ChatLogsDropping", For: "5m", Labels: ticket, Board: "parley-runtime",
			Expr:        `sum by (job, instance) (rate(chat_telemetry_dropped_total{signal="logs"}[5m])) > 0`,
			Summary:     "{{ $value | printf \"%.1f\" }} lines of the log of {{ $labels.instance }} are lost every second ({{ $labels.job }})",
			Description: "The disk that the log is written to is full, or its reader has stopped. What went wrong meanwhile is not recorded.",
		},
		{
			Alert: "ChatDisabled", For: "30m", Labels: ticket, Board: "parley-overview",
			Expr:        "sum by (job, switch) (chat_disabled) > 0",
			Summary:     "{{ $labels.switch }} has been disabled on {{ $value }} instances for half an hour ({{ $labels.job }})",
			Description: "An operator has disabled chat or a provider, and may have forgotten it. parley chat status says why.",
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
			Alert: "ChatMemoryForecast", For: "30m", Labels: ticket, Board: "parley-runtime",
			Expr: "max by (job, instance) (predict_linear(process_resident_memory_bytes[1h], 4 * 3600) / go_gc_gomemlimit_bytes) > 1\n" +
				"and max by (job, instance) (process_resident_memory_bytes / go_gc_gomemlimit_bytes) > 0.5\n" + ofParley,
			Summary:     "{{ $labels.instance }} will use {{ $value | humanizePercentage }} of its memory limit in four hours ({{ $labels.job }})",
			Description: "Memory grows steadily. When the limit is reached, requests become slow, and then the process is killed.",
		},
		{
			Alert: "ChatDiskForecast", For: "10m", Labels: ticket, Board: "parley-runtime",
			Expr:        "min by (job, instance) (predict_linear(chat_data_dir_free_bytes[1h], 4 * 3600) / chat_data_dir_size_bytes) < 0.05",
			Summary:     "The disk of DATA_DIR of {{ $labels.instance }} will have {{ $value | humanizePercentage }} of its space free in four hours ({{ $labels.job }})",
			Description: "When it is full, nothing can be stored: messages are refused, and uploads fail.",
		},
		{
			Alert: "ChatClockSkew", For: "5m", Labels: ticket, Board: "parley-runtime",
			Expr:        "max by (job, instance) (abs(chat_clock_seconds - timestamp(chat_clock_seconds))) > 5",
			Summary:     "The clock of {{ $labels.instance }} differs by {{ $value | humanizeDuration }} from that of Prometheus ({{ $labels.job }})",
			Description: "Tokens are refused as expired or not valid yet, and times of messages are wrong.",
		},
		{
			Alert: "ChatVolumeHigh", For: "30m", Labels: ticket, Board: "parley-overview",
			Expr:        "sum by (job) (rate(chat_turns_total[10m])) * 60 > 1000",
			Summary:     "{{ $value | printf \"%.0f\" }} messages a minute for half an hour ({{ $labels.job }})",
			Description: "Nothing is wrong. It is the load at which to look whether everything has room for twice as much.",
		},
		{
			Alert: "ChatDatabaseBusy", For: "30m", Labels: ticket, Board: "parley-dependencies",
			// node_exporter of the database's machine, whose target has the label.
			Expr: `1 - avg by (job, instance) (rate(node_cpu_seconds_total{component="database", mode="idle"}[10m])) > 0.7` + "\n" +
				"and on () group (last_over_time(chat_build_info[1d]))",
			Summary:     "The processors of the database's machine {{ $labels.instance }} have been {{ $value | humanizePercentage }} busy for half an hour",
			Description: "Requests get slower from here on, and a peak has no room.",
		},
		{
			Alert: "ChatRedisMemoryHigh", For: "30m", Labels: ticket, Board: "parley-dependencies",
			Expr:        "max by (job, instance) (redis_memory_used_bytes) > 1e9 and on () group (last_over_time(chat_build_info[1d]))",
			Summary:     "Redis uses {{ $value | humanize1024 }}B ({{ $labels.instance }})",
			Description: "Limits and live output need far less: something else uses it, or keys stay that should expire.",
		},
		{
			Alert: "ChatReplicaLagging", For: "5m", Labels: ticket, Board: "parley-dependencies",
			Expr:        "max by (job, instance) (pg_replication_lag_seconds) > 30 and on () group (last_over_time(chat_build_info[1d]))",
			Summary:     "A replica of PostgreSQL is {{ $value | humanizeDuration }} behind ({{ $labels.instance }})",
			Description: "A failover now would lose what was stored last. Parley reads the primary meanwhile.",
		},
		{
			Alert: "ChatReplicaUnused", For: "5m", Labels: ticket, Board: "parley-dependencies",
			Expr:        "max by (job, replica) (chat_replica_used) == 0",
			Summary:     "No instance reads the replica {{ $labels.replica }} (used: {{ $value }}; {{ $labels.job }})",
			Description: "It is down, lags behind, was promoted or follows another primary. No read fails or is old: the primary answers all of them, and has more to do.",
		},
		{
			Alert: "ChatNotificationsFailing", For: "2m", Labels: ticket, Board: "parley-overview",
			Expr: "sum by (integration) (increase(alertmanager_notifications_failed_total[5m])) > 0\n" +
				"or sum by (alertmanager) (increase(prometheus_notifications_errors_total[5m])) > 0",
			Summary:     "{{ $value | printf \"%.0f\" }} alerts could not be delivered to {{ with $labels.integration }}the receiver {{ . }}{{ end }}{{ with $labels.alertmanager }}{{ . }}{{ end }}",
			Description: "Alertmanager is down, or a receiver refuses its notifications: alerts reach nobody.",
		},
		{
			Alert: "ChatRuleEvaluationFailing", For: "5m", Labels: ticket, Board: "parley-overview",
			Expr:        `sum by (rule_group) (increase(prometheus_rule_evaluation_failures_total{rule_group=~".+parley-.+"}[5m])) > 0`,
			Summary:     "Rules of {{ $labels.rule_group }} failed {{ $value | printf \"%.0f\" }} times in five minutes",
			Description: "The alerts of that group do not work.",
		},
	}
}
