package dashboards

func runtime() Dashboard {
	return board(base("parley-runtime", "Runtime",
		"The processes: versions, restarts, memory, CPU, and what Parley itself costs."),
		row{"Instances", 7, []Panel{
			table("Versions", "Which version runs where.", "none", 8,
				now(`max by (job, instance, version, revision, goversion) (chat_build_info{AT})`, ""), "Value"),
			stat("Uptime", "Since each instance began.", "s", 8, query(`time() - max by (instance) (process_start_time_seconds{AT})`, "{{instance}}")),
			lines("Restarts", "Starts per hour, by instance.", "short", 8,
				query(`sum by (instance) (changes(process_start_time_seconds{AT}[1h]))`, "{{instance}}")),
			lines("Scraped", "1 while Prometheus can scrape the instance.", "short", 8, query(`min by (instance) (up{AT})`, "{{instance}}")).upTo(1),
			lines("Series", "Samples of one scrape; above 6,000 something makes labels that it should not.", "short", 8,
				query(`max by (instance) (scrape_samples_scraped{AT})`, "{{instance}}")).limit(6000),
			lines("Telemetry lost", "Spans per second that could not be delivered.", "ops", 8,
				query(`sum by (instance, signal) (rate(chat_telemetry_dropped_total{AT}[RATE]))`, "{{signal}} {{instance}}")),
		}},
		row{"What Parley adds", 7, []Panel{
			lines("From request to provider", "Own time from a request until the provider is called: admission, the commit, the context.",
				"s", 12, quantiles("chat_overhead_seconds", `AT, stage="admit"`)...),
			lines("From piece to event", "Own time from a piece of the provider's reply until it could be shown: recording included.",
				"s", 12, quantiles("chat_overhead_seconds", `AT, stage="emit"`)...),
		}},
		row{"Go", 7, []Panel{
			lines("Memory", "Resident memory and heap against GOMEMLIMIT.", "bytes", 8,
				query(`max by (instance) (process_resident_memory_bytes{AT})`, "resident {{instance}}"),
				query(`max by (instance) (go_memstats_heap_inuse_bytes{AT})`, "heap {{instance}}"),
				query(`min (go_gc_gomemlimit_bytes{AT} < 1e15)`, "limit")),
			lines("CPU", "CPUs in use, by instance.", "none", 8, query(`sum by (instance) (rate(process_cpu_seconds_total{AT}[RATE]))`, "{{instance}}")),
			lines("Goroutines", "A line that only ever rises is a leak.", "short", 8, query(`max by (instance) (go_goroutines{AT})`, "{{instance}}")),
			lines("Longest collector pause", "Longest recent pause of the garbage collector.", "s", 8,
				query(`max by (instance) (go_gc_duration_seconds{AT, quantile=~"1|1.0"})`, "{{instance}}")),
			lines("File descriptors", "Open file descriptors of those allowed.", "percentunit", 8,
				query(`max by (instance) (process_open_fds{AT} / process_max_fds{AT})`, "{{instance}}")),
			lines("Requests in flight", "Requests that are being answered, streams included.", "short", 8,
				query(`sum by (instance) (http_server_active_requests{AT})`, "{{instance}}")),
		}},
		row{"Replies across instances", 7, []Panel{
			lines("Taken over", "Replies per hour begun again after their instance was gone.", "short", 8,
				query(`sum by (instance) (increase(chat_runs_recovered_total{AT}[1h]))`, "{{instance}}")),
			lines("Lost to a newer attempt", "Replies per hour that an instance gave up because another had taken them.", "short", 8,
				query(`sum by (instance) (increase(chat_runs_fenced_total{AT}[1h]))`, "{{instance}}")),
			lines("Streams that broke off", "Event streams per second that ended before their reply. client_gone is nobody's fault.", "ops", 8,
				query(`sum by (reason) (rate(chat_stream_aborts_total{AT}[RATE]))`, "{{reason}}")),
		}},
	)
}
