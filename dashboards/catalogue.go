// Package dashboards has the catalogue of metrics, the Grafana dashboards and the
// Prometheus rules. Dashboards and
// rules are written here in Go, because their panels repeat one another, and
// generated into grafana/ and alerts/, which Grafana and Prometheus load. Package
// check tests them on running instances.
package dashboards

// Kind is the type of a metric.
type Kind string

const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Source is where a metric is recorded.
type Source string

const (
	Domain    Source = "domain"    // adapters/observe, by client_golang
	OTel      Source = "otel"      // the names of the semantic conventions, through the OTel exporter
	Collector Source = "collector" // client_golang's collectors
	Scraper   Source = "scraper"   // Prometheus itself
	Exporter  Source = "exporter"  // the proxy, Alertmanager and exporters of databases: as far as they are scraped
)

// Metric is one entry of the catalogue.
type Metric struct {
	Name   string // as scraped, without _bucket, _sum and _count
	Kind   Kind
	Unit   string
	Help   string
	Labels []string
	// Values are all that a label can have, where that is known beforehand.
	Values map[string][]string
	Source Source
	// Unused is the reason why no panel and no rule needs the metric.
	Unused string
}

var (
	outcomes = []string{"ok", "client_cancel", "rate_limited", "quota",
		"provider_error", "provider_auth", "timeout", "breaker_open", "internal_error"}
	tokenKinds    = []string{"input", "output", "cache_read", "cache_write", "reasoning"}
	breakerStates = []string{"closed", "half-open", "open"}
	dependencies  = []string{"database", "files", "redis", "replicas", "sessions"}
)

// Catalogue has every metric of Parley, and those of others that dashboards and
// rules use.
var Catalogue = []Metric{
	// Turns: a message and the making of its reply.
	{Name: "chat_turns_total", Kind: Counter, Source: Domain,
		Help:   "Turns by outcome.",
		Labels: []string{"provider", "model", "outcome"}, Values: map[string][]string{"outcome": outcomes}},
	{Name: "chat_turn_duration_seconds", Kind: Histogram, Unit: "s", Source: Domain,
		Help:   "From the acceptance of a message to the committed end of its reply.",
		Labels: []string{"provider", "model"}},
	{Name: "chat_turn_time_to_first_event_seconds", Kind: Histogram, Unit: "s", Source: Domain,
		Help:   "From the acceptance of a message to the first event of its reply.",
		Labels: []string{"provider", "model"}},
	{Name: "chat_run_wait_seconds", Kind: Histogram, Unit: "s", Source: Domain,
		Help: "From the acceptance of a message until an instance starts its reply."},
	{Name: "chat_runs_active", Kind: Gauge, Source: Domain,
		Help: "Replies that an instance makes at the moment."},
	{Name: "chat_oldest_run_seconds", Kind: Gauge, Unit: "s", Source: Domain,
		Help: "Age of the oldest reply that an instance makes at the moment; 0: none."},
	{Name: "chat_runs_without_output", Kind: Gauge, Source: Domain,
		Help: "Replies to which a provider has sent nothing for 10 s after it was asked.", Labels: []string{"provider"}},
	{Name: "chat_runs_queued", Kind: Gauge, Source: Domain,
		Help: "Replies that wait in the database for an instance; the same on every instance."},
	{Name: "chat_oldest_queued_run_seconds", Kind: Gauge, Unit: "s", Source: Domain,
		Help: "How long the oldest reply that could be started has waited for an instance; 0: none."},
	{Name: "chat_output_tokens_per_second", Kind: Histogram, Source: Domain,
		Help: "Visible output tokens of a reply per second, from its first chunk to its end.", Labels: []string{"provider", "model"}},
	{Name: "chat_runs_recovered_total", Kind: Counter, Source: Domain,
		Help: "Replies taken over from an instance that stopped or crashed."},
	{Name: "chat_runs_fenced_total", Kind: Counter, Source: Domain,
		Help: "Replies of this instance that a newer attempt took over."},
	{Name: "chat_checkpoint_seconds", Kind: Histogram, Unit: "s", Source: Domain,
		Help: "Duration of recording the output of all live replies of an instance."},
	{Name: "chat_checkpoint_bytes_total", Kind: Counter, Unit: "By", Source: Domain,
		Help: "Bytes of output recorded before replies ended."},
	{Name: "chat_feedback_total", Kind: Counter, Source: Domain,
		Help:   "Ratings of replies by users; a rating that is changed counts again.",
		Labels: []string{"provider", "model", "rating"}, Values: map[string][]string{"rating": {"up", "down"}}},
	{Name: "chat_files_uploaded_total", Kind: Counter, Source: Domain,
		Help: "Files that were stored, by kind.", Labels: []string{"kind"},
		Values: map[string][]string{"kind": {"image", "pdf", "text", "json", "other"}}},
	{Name: "chat_file_bytes_uploaded_total", Kind: Counter, Unit: "By", Source: Domain,
		Help: "Bytes of files that were stored."},
	{Name: "chat_files_swept_total", Kind: Counter, Source: Domain,
		Help: "What the sweep of files found: expired uploads, deleted files, blobs without a row, lost and found blobs.", Labels: []string{"reason"},
		Values: map[string][]string{"reason": {"expired", "deleted", "orphan", "lost", "found"}}},
	{Name: "chat_webhook_deliveries_total", Kind: Counter, Source: Domain,
		Help: "Attempts to deliver an event by webhook, by what became of the event.", Labels: []string{"outcome"},
		Values: map[string][]string{"outcome": {"delivered", "retry", "dead"}}},
	{Name: "chat_webhook_delivery_seconds", Kind: Histogram, Unit: "s", Source: Domain,
		Help: "Duration of an attempt to deliver an event."},
	{Name: "chat_webhook_events", Kind: Gauge, Source: Domain,
		Help: "Events that wait to be delivered or have been given up, as of the last check by this instance.", Labels: []string{"state"},
		Values: map[string][]string{"state": {"pending", "dead"}}},
	{Name: "chat_webhook_oldest_seconds", Kind: Gauge, Unit: "s", Source: Domain,
		Help: "Age of the oldest event that waits to be delivered, as of the last check by this instance."},
	{Name: "chat_background_failures_total", Kind: Counter, Source: Domain,
		Help: "Failures of background work, by task.", Labels: []string{"task"}},
	{Name: "chat_audit_seal_lag_seconds", Kind: Gauge, Unit: "s", Source: Domain,
		Help: "Age of the oldest unsealed audit entry, as of the last check by this instance."},
	{Name: "chat_audit_sealed_seq", Kind: Gauge, Source: Domain,
		Help:   "Sequence number of the last entry that this instance sealed.",
		Unused: "to be compared with exported heads"},
	{Name: "chat_refusals_total", Kind: Counter, Source: Domain,
		Help: "Requests refused before a reply was started, by kind of error.", Labels: []string{"kind"}},

	// Streams.
	{Name: "chat_streams_active", Kind: Gauge, Source: Domain, Help: "Open event streams."},
	{Name: "chat_stream_aborts_total", Kind: Counter, Source: Domain,
		Help:   "Event streams that ended before their reply.",
		Labels: []string{"reason"},
		Values: map[string][]string{"reason": {"client_gone", "write_timeout", "shutdown", "revoked"}}},

	// Spending.
	{Name: "chat_tokens_total", Kind: Counter, Source: Domain,
		Help:   "Tokens; input includes the cached ones, output the reasoning.",
		Labels: []string{"provider", "model", "kind"}, Values: map[string][]string{"kind": tokenKinds}},
	{Name: "chat_cost_usd_total", Kind: Counter, Unit: "USD", Source: Domain,
		Help: "Cost of replies in US dollars, where prices are known.", Labels: []string{"provider", "model"}},
	{Name: "chat_replies_cached_total", Kind: Counter, Source: Domain,
		Help: "Replies that were taken from the response cache.", Labels: []string{"provider", "model"}},
	{Name: "chat_unpriced_requests_total", Kind: Counter, Source: Domain,
		Help: "Replies of models whose price is not known.", Labels: []string{"provider", "model"}},

	// Providers.
	{Name: "chat_provider_attempts_total", Kind: Counter, Source: Domain,
		Help:   "Requests to providers by kind (first, retry, fallback) and result.",
		Labels: []string{"provider", "model", "kind", "result"},
		Values: map[string][]string{"kind": {"first", "retry", "fallback"}, "result": {"ok", "error", "rate_limited", "canceled"}}},
	{Name: "chat_provider_skips_total", Kind: Counter, Source: Domain,
		Help:   "Requests not sent to a provider, by reason.",
		Labels: []string{"provider", "model", "reason"},
		Values: map[string][]string{"reason": {"breaker_open", "saturated", "retry_budget", "disabled"}}},
	{Name: "chat_provider_ratelimit_remaining_ratio", Kind: Gauge, Unit: "ratio", Source: Domain,
		Help:   "Remaining part of a provider's own rate limit, from its last response.",
		Labels: []string{"provider", "kind"}, Values: map[string][]string{"kind": {"requests", "tokens"}}},
	{Name: "chat_provider_key_refused", Kind: Gauge, Source: Domain,
		Help: "1 if the provider refused the configured key in the last request.", Labels: []string{"provider"}},
	{Name: "chat_disabled", Kind: Gauge, Source: Domain,
		Help: "1 while an operator has disabled chat, or a provider; the same on every instance within a second.", Labels: []string{"switch"}},
	{Name: "chat_breaker_state", Kind: Gauge, Source: Domain,
		Help:   "1 for the state that a breaker is in, 0 for the others.",
		Labels: []string{"breaker", "state"}, Values: map[string][]string{"state": breakerStates}},
	{Name: "chat_breaker_transitions_total", Kind: Counter, Source: Domain,
		Help:   "Transitions of a breaker into a state.",
		Labels: []string{"breaker", "state"}, Values: map[string][]string{"state": breakerStates}},
	{Name: "chat_breaker_rejections_total", Kind: Counter, Source: Domain,
		Help: "Requests rejected by an open breaker.", Labels: []string{"breaker"}},
	{Name: "gen_ai_client_operation_duration_seconds", Kind: Histogram, Unit: "s", Source: OTel,
		Help:   "Duration of requests to AI providers.",
		Labels: []string{"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "error_type"}},
	{Name: "gen_ai_client_operation_time_to_first_chunk_seconds", Kind: Histogram, Unit: "s", Source: OTel,
		Help:   "From the request to an AI provider to the first chunk of its reply.",
		Labels: []string{"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"}},
	{Name: "gen_ai_client_token_usage", Kind: Histogram, Unit: "{token}", Source: OTel,
		Help:   "Tokens of one request to an AI provider.",
		Labels: []string{"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_token_type"},
		Values: map[string][]string{"gen_ai_token_type": {"input", "output"}}},
	{Name: "chat_overhead_seconds", Kind: Histogram, Unit: "s", Source: Domain,
		Help:   "Latency added by Parley: from the request to the call of the provider (admit), from a chunk of the provider to its event (emit).",
		Labels: []string{"stage"}, Values: map[string][]string{"stage": {"admit", "emit"}}},

	// Limits.
	{Name: "chat_ratelimit_decisions_total", Kind: Counter, Source: Domain,
		Help:   "Decisions of the rate limiter; fallback_ when Redis did not answer.",
		Labels: []string{"scope", "decision"},
		Values: map[string][]string{"scope": {"coarse", "send"},
			"decision": {"allow", "deny", "fallback_allow", "fallback_deny"}}},
	{Name: "chat_ratelimit_backend_seconds", Kind: Histogram, Unit: "s", Source: Domain,
		Help: "Duration of a decision of the rate limiter."},

	// HTTP and the database.
	{Name: "chat_api_requests_total", Kind: Counter, Source: Domain,
		Help:   "Requests that count for the API's service level: those of users, without streams and sends.",
		Labels: []string{"result"}, Values: map[string][]string{"result": {"ok", "error"}}},
	{Name: "http_server_request_duration_seconds", Kind: Histogram, Unit: "s", Source: OTel,
		Help:   "Duration of requests.",
		Labels: []string{"http_request_method", "http_route", "http_response_status_code", "error_type"}},
	{Name: "http_server_active_requests", Kind: Gauge, Source: OTel, Help: "Requests in progress."},
	{Name: "db_client_operation_duration_seconds", Kind: Histogram, Unit: "s", Source: Domain,
		Help:   "Duration of SQL statements.",
		Labels: []string{"db_system_name", "db_operation_name", "error_type"}},
	{Name: "go_sql_open_connections", Kind: Gauge, Source: Collector, Labels: []string{"db_name"}, Help: "Connections to the database (parley) or to a read replica, in use or idle."},
	{Name: "go_sql_in_use_connections", Kind: Gauge, Source: Collector, Labels: []string{"db_name"}, Help: "Connections in use."},
	{Name: "go_sql_idle_connections", Kind: Gauge, Source: Collector, Labels: []string{"db_name"}, Help: "Idle connections."},
	{Name: "go_sql_max_open_connections", Kind: Gauge, Source: Collector, Labels: []string{"db_name"}, Help: "Maximum number of connections."},
	{Name: "go_sql_wait_count_total", Kind: Counter, Source: Collector, Labels: []string{"db_name"}, Help: "Number of waits for a connection."},
	{Name: "go_sql_wait_duration_seconds_total", Kind: Counter, Unit: "s", Source: Collector, Labels: []string{"db_name"}, Help: "Time spent waiting for connections."},
	{Name: "chat_dependency_up", Kind: Gauge, Source: Domain,
		Help:   "1 if the last probe of the dependency succeeded.",
		Labels: []string{"dependency"}, Values: map[string][]string{"dependency": dependencies}},
	{Name: "chat_database_lock_waits", Kind: Gauge, Source: Domain,
		Help: "Sessions of the database that have waited for a lock for more than half a second; the same on every instance."},
	{Name: "chat_database_oldest_lock_wait_seconds", Kind: Gauge, Unit: "s", Source: Domain,
		Help: "How long the session that has waited longest for a lock has waited; 0: none."},
	{Name: "chat_database_retained_wal_bytes", Kind: Gauge, Unit: "By", Source: Domain,
		Help: "Bytes of WAL that PostgreSQL keeps for the replication slot that is furthest behind; the same on every instance."},
	{Name: "chat_database_transaction_ids", Kind: Gauge, Source: Domain,
		Help: "Transactions since the oldest row that is not frozen; PostgreSQL refuses writes before 2^31. The same on every instance."},
	{Name: "chat_database_oldest_transaction_seconds", Kind: Gauge, Unit: "s", Source: Domain,
		Help: "How long the oldest transaction of the database has been open, of those that the role of DATABASE_URL may see."},
	{Name: "chat_replica_used", Kind: Gauge, Source: Domain, Labels: []string{"replica"},
		Help: "1 if reads go to the replica. With DATABASE_REPLICA_URLS only, as all chat_replica_*."},
	{Name: "chat_replica_lag_bytes", Kind: Gauge, Unit: "By", Source: Domain, Labels: []string{"replica"},
		Help: "Bytes of WAL that the replica had not replayed when it was last asked."},
	{Name: "chat_replica_lag_seconds", Kind: Gauge, Unit: "s", Source: Domain, Labels: []string{"replica"},
		Help: "Age of the last transaction that the replica had replayed when it was last asked; 0 if it had all of them."},
	{Name: "chat_replicated_reads_total", Kind: Counter, Source: Domain, Labels: []string{"source", "reason"},
		Values: map[string][]string{"source": {"replica", "primary"},
			"reason": {"", "unreachable", "lagging", "refused", "failing", "conflict", "slow", "busy", "no_position"}},
		Help: "Reads that a replica may answer, by what answered them and why the primary did (docs/database.md)."},
	{Name: "chat_schema_version", Kind: Gauge, Source: Domain, Help: "Version of the newest applied migration."},
	{Name: "chat_schema_pending", Kind: Gauge, Source: Domain, Help: "Migrations of this build that are not applied to the database; 1 while its tables do not match its record of migrations."},

	// The process.
	{Name: "chat_build_info", Kind: Gauge, Source: Domain, Labels: []string{"version", "revision", "goversion"},
		Help: "Version of the running build; always 1."},
	{Name: "chat_telemetry_dropped_total", Kind: Counter, Source: Domain,
		Help: "Spans and log lines that could not be delivered.", Labels: []string{"signal"},
		Values: map[string][]string{"signal": {"traces", "logs"}}},
	{Name: "chat_clock_seconds", Kind: Gauge, Unit: "s", Source: Domain,
		Help: "The instance's clock at the scrape, in Unix seconds."},
	{Name: "chat_data_dir_free_bytes", Kind: Gauge, Unit: "By", Source: Domain, Help: "Free bytes of the file system of DATA_DIR."},
	{Name: "chat_data_dir_size_bytes", Kind: Gauge, Unit: "By", Source: Domain, Help: "Size of the file system of DATA_DIR."},
	{Name: "go_goroutines", Kind: Gauge, Source: Collector, Help: "Goroutines."},
	{Name: "go_gc_duration_seconds", Kind: Gauge, Unit: "s", Source: Collector, Labels: []string{"quantile"}, Help: "Pauses of the garbage collector (a summary)."},
	{Name: "go_memstats_heap_inuse_bytes", Kind: Gauge, Unit: "By", Source: Collector, Help: "Heap in use."},
	{Name: "go_gc_gomemlimit_bytes", Kind: Gauge, Unit: "By", Source: Collector, Help: "GOMEMLIMIT."},
	{Name: "go_sched_gomaxprocs_threads", Kind: Gauge, Source: Collector, Help: "GOMAXPROCS."},
	{Name: "process_cpu_seconds_total", Kind: Counter, Unit: "s", Source: Collector, Help: "CPU time."},
	{Name: "process_resident_memory_bytes", Kind: Gauge, Unit: "By", Source: Collector, Help: "Resident memory."},
	{Name: "process_open_fds", Kind: Gauge, Source: Collector, Help: "Open file descriptors."},
	{Name: "process_max_fds", Kind: Gauge, Source: Collector, Help: "Limit of open file descriptors."},
	{Name: "process_start_time_seconds", Kind: Gauge, Unit: "s", Source: Collector, Help: "Start of the process, in Unix seconds."},

	// Prometheus.
	{Name: "up", Kind: Gauge, Source: Scraper, Labels: []string{"component"}, Help: "1 if the last scrape succeeded; component is proxy for the proxy."},
	{Name: "scrape_samples_scraped", Kind: Gauge, Source: Scraper, Help: "Samples of the last scrape."},
	{Name: "ALERTS", Kind: Gauge, Source: Scraper, Labels: []string{"alertname", "alertstate", "severity", "team"}, Help: "Alerts that are pending or firing."},
	{Name: "prometheus_rule_evaluation_failures_total", Kind: Counter, Source: Scraper, Labels: []string{"rule_group"}, Help: "Rules that could not be evaluated."},
	{Name: "prometheus_notifications_errors_total", Kind: Counter, Source: Scraper, Labels: []string{"alertmanager"}, Help: "Alerts that could not be sent to an Alertmanager."},

	// Others.
	{Name: "haproxy_backend_http_responses_total", Kind: Counter, Source: Exporter, Labels: []string{"proxy", "code"}, Help: "Responses of the proxy by class of status, its own included."},
	{Name: "haproxy_server_http_responses_total", Kind: Counter, Source: Exporter, Labels: []string{"proxy", "server", "code"}, Help: "Responses of an instance through the proxy by class of status."},
	{Name: "haproxy_server_status", Kind: Gauge, Source: Exporter, Labels: []string{"proxy", "server", "state"}, Help: "1 for the state that the proxy sees an instance in."},
	{Name: "haproxy_backend_current_sessions", Kind: Gauge, Source: Exporter, Labels: []string{"proxy"}, Help: "Requests in progress at the proxy."},
	{Name: "alertmanager_notifications_failed_total", Kind: Counter, Source: Exporter, Labels: []string{"integration"}, Help: "Notifications that a receiver did not take."},
	{Name: "node_cpu_seconds_total", Kind: Counter, Unit: "s", Source: Exporter, Labels: []string{"component", "mode"}, Help: "Seconds of each processor, by what it did (node_exporter). The target of the database's machine has the label component=\"database\"."},
	{Name: "pg_replication_lag_seconds", Kind: Gauge, Unit: "s", Source: Exporter, Help: "How far a replica is behind (postgres_exporter)."},
	{Name: "pg_stat_activity_count", Kind: Gauge, Source: Exporter, Labels: []string{"datname", "state"}, Help: "Sessions by state (postgres_exporter)."},
	{Name: "pg_stat_database_deadlocks", Kind: Counter, Source: Exporter, Labels: []string{"datname"}, Help: "Deadlocks (postgres_exporter)."},
	{Name: "pg_database_size_bytes", Kind: Gauge, Unit: "By", Source: Exporter, Labels: []string{"datname"}, Help: "Size of a database (postgres_exporter)."},
	{Name: "redis_memory_used_bytes", Kind: Gauge, Unit: "By", Source: Exporter, Help: "Memory in use (redis_exporter)."},
	{Name: "redis_memory_max_bytes", Kind: Gauge, Unit: "By", Source: Exporter, Help: "maxmemory (redis_exporter)."},
	{Name: "redis_connected_clients", Kind: Gauge, Source: Exporter, Help: "Connections (redis_exporter)."},
	{Name: "redis_evicted_keys_total", Kind: Counter, Source: Exporter, Help: "Keys that were deleted to free memory (redis_exporter)."},
}
