package dashboards

func runtime() Dashboard {
	return board(base("parley-runtime", "Runtime",
		"Processes: versions, restarts, memory, CPU, and the latency that Parley adds."),
		row{"Instances", 7, []Panel{
			table("Versions", "Version of each instance.", "none", 8,
				now(`max by (job, instance, version, revision, goversion) (chat_build_info{AT})`, ""), "Value"),
			stat("Uptime", "Time since the start of each instance.", "s", 8, query(`time() - max by (instance) (process_start_time_seconds{AT})`, "{{instance}}")),
			lines("Restarts", "Starts per hour, by instance.", "short", 8,
				query(`sum by (instance) (changes(process_start_time_seconds{AT}[1h]))`, "{{instance}}")),
			lines("Scrape success", "1 if the last scrape succeeded.", "short", 8, query(`min by (instance) (up{AT})`, "{{instance}}")).upTo(1),
			lines("Series", "Samples of one scrape; more than 6,000 mean unbounded labels.", "short", 8,
				query(`max by (instance) (scrape_samples_scraped{AT})`, "{{instance}}")).limit(6000),
			lines("Dropped telemetry", "Spans and log lines per second that could not be delivered.", "ops", 8,
				query(`sum by (instance, signal) (rate(chat_telemetry_dropped_total{AT}[RATE]))`, "{{signal}} {{instance}}")),
		}},
		row{"Latency added by Parley", 7, []Panel{
			lines("Request to provider", "From the request to the call of the provider: authentication, limits, the commit, the prompt.",
				"s", 12, quantiles("chat_overhead_seconds", `AT, stage="admit"`)...),
			lines("Provider chunk to event", "From a chunk of the provider to its event, including recording.",
				"s", 12, quantiles("chat_overhead_seconds", `AT, stage="emit"`)...),
		}},
		row{"Go", 7, []Panel{
			lines("Memory", "Resident memory and heap against GOMEMLIMIT.", "bytes", 8,
				query(`max by (instance) (process_resident_memory_bytes{AT})`, "resident {{instance}}"),
				query(`max by (instance) (go_memstats_heap_inuse_bytes{AT})`, "heap {{instance}}"),
				query(`min (go_gc_gomemlimit_bytes{AT} < 1e15)`, "limit")),
			lines("CPU", "CPUs in use, by instance.", "none", 8, query(`sum by (instance) (rate(process_cpu_seconds_total{AT}[RATE]))`, "{{instance}}")),
			lines("Goroutines", "Number of goroutines. A steady rise is a leak.", "short", 8, query(`max by (instance) (go_goroutines{AT})`, "{{instance}}")),
			lines("Longest GC pause", "Longest recent pause of the garbage collector.", "s", 8,
				query(`max by (instance) (go_gc_duration_seconds{AT, quantile=~"1|1.0"})`, "{{instance}}")),
			lines("File descriptors", "Open file descriptors as a share of the limit.", "percentunit", 8,
				query(`max by (instance) (process_open_fds{AT} / process_max_fds{AT})`, "{{instance}}")),
			lines("Requests in flight", "Requests in progress, including streams.", "short", 8,
				query(`sum by (instance) (http_server_active_requests{AT})`, "{{instance}}")),
		}},
		row{"Replies across instances", 7, []Panel{
			lines("Recovered replies", "Replies per hour taken over from instances that stopped or crashed.", "short", 8,
				query(`sum by (instance) (increase(chat_runs_recovered_total{AT}[1h]))`, "{{instance}}")),
			lines("Fenced replies", "Replies per hour that a newer attempt on another instance took over.", "short", 8,
				query(`sum by (instance) (increase(chat_runs_fenced_total{AT}[1h]))`, "{{instance}}")),
			lines("Aborted streams", "Event streams per second that ended before their reply. client_gone is not an error.", "ops", 8,
				query(`sum by (reason) (rate(chat_stream_aborts_total{AT}[RATE]))`, "{{reason}}")),
		}},
	)
}
