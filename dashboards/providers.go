package dashboards

func providers() Dashboard {
	return board(base("parley-providers", "Providers",
		"Rate, errors and duration of each AI provider, failover, breakers and rate limits.",
		providerVar, modelVar),
		row{"Requests to providers", 8, []Panel{
			lines("Attempts by provider", "Requests to providers per second: first tries, retries and fallbacks.",
				"reqps", 8, query(`sum by (provider, model) (rate(chat_provider_attempts_total{AT, MODEL}[RATE]))`, "{{provider}} {{model}}")).stacked(),
			lines("Attempt error ratio", "Failed attempts as a share of all. A retry or a fallback may still complete the turn.",
				"percentunit", 8, query(`sum by (provider) (rate(chat_provider_attempts_total{AT, MODEL, result="error"}[RATE]))`+
					` / sum by (provider) (rate(chat_provider_attempts_total{AT, MODEL}[RATE]))`, "{{provider}}")).limit(.2),
			lines("Errors by type", "Errors of providers per second.",
				"reqps", 8, query(`sum by (gen_ai_provider_name, error_type) (rate(gen_ai_client_operation_duration_seconds_count{AT, GENAI, error_type!=""}[RATE]))`,
					"{{gen_ai_provider_name}} {{error_type}}")).stacked(),
		}},
		row{"Durations", 8, []Panel{
			heat("Duration of requests", "Duration of requests to providers, until the end of the reply.",
				"s", 8, `sum by (le) (increase(gen_ai_client_operation_duration_seconds_bucket{AT, GENAI}[RATE]))`),
			lines("Duration (p95)", "95th percentile until the end of the reply, by model. Dots link to traces.",
				"s", 8, traced(`histogram_quantile(0.95, sum by (le, gen_ai_provider_name, gen_ai_request_model) (rate(gen_ai_client_operation_duration_seconds_bucket{AT, GENAI}[RATE])))`,
					"{{gen_ai_provider_name}} {{gen_ai_request_model}}")),
			lines("First chunk (p50, p95)", "From the request to the first chunk of the reply, by provider. Dots link to traces.",
				"s", 8,
				traced(`histogram_quantile(0.5, sum by (le, gen_ai_provider_name) (rate(gen_ai_client_operation_time_to_first_chunk_seconds_bucket{AT, GENAI}[RATE])))`, "{{gen_ai_provider_name}} p50"),
				traced(`histogram_quantile(0.95, sum by (le, gen_ai_provider_name) (rate(gen_ai_client_operation_time_to_first_chunk_seconds_bucket{AT, GENAI}[RATE])))`, "{{gen_ai_provider_name}} p95")),
		}},
		row{"Failover", 8, []Panel{
			lines("Retries and fallbacks", "Attempts beyond the first, per second.",
				"reqps", 8, query(`sum by (kind) (rate(chat_provider_attempts_total{AT, MODEL, kind!="first"}[RATE]))`, "{{kind}}")),
			lines("Attempts per turn", "Requests to providers per turn. 1: no retries; 0: an open breaker rejects all. An outage must not multiply it.",
				"none", 8, query(`sum (rate(chat_provider_attempts_total{AT, MODEL}[RATE]))`+
					` / sum (rate(chat_turns_total{AT, outcome!~"rate_limited|quota"}[RATE]))`, "attempts")).limit(1.1).digits(2),
			lines("Turns failed by all providers", "Turns per second that failed after every provider was tried.",
				"reqps", 8, query(`sum by (outcome) (rate(chat_turns_total{AT, outcome=~"provider_error|provider_auth|timeout|breaker_open"}[RATE]))`, "{{outcome}}")).stacked().colours(outcomeColours...),
		}},
		row{"Breakers and limits", 8, []Panel{
			states("Breakers", "State of each breaker on each instance: open rejects requests, half-open lets some through.", 12,
				query(`max by (instance, breaker) (chat_breaker_state{AT, state="open"} * 2 or chat_breaker_state{AT, state="half-open"} * 1 or chat_breaker_state{AT, state="closed"} * 0)`,
					"{{breaker}} {{instance}}"),
				map[string][2]string{"0": {"closed", "green"}, "1": {"half-open", "orange"}, "2": {"open", "red"}}),
			lines("Breaker transitions", "Breaker transitions per hour, by new state.",
				"short", 6, query(`sum by (breaker, state) (increase(chat_breaker_transitions_total{AT}[1h]))`, "{{breaker}} {{state}}")),
			lines("Rejected by breakers", "Requests per second rejected by open breakers.",
				"reqps", 6, query(`sum by (breaker) (rate(chat_breaker_rejections_total{AT}[RATE]))`, "{{breaker}}")),
			lines("Skipped providers", "Requests per second that were not sent. saturated: AI_MAX_CONCURRENCY is reached; retry_budget: too many retries.",
				"reqps", 8, query(`sum by (provider, reason) (rate(chat_provider_skips_total{AT, MODEL}[RATE]))`, "{{provider}} {{reason}}")),
			states("Keys", "Whether each provider accepted the configured key in its last response, on each instance.", 8,
				query(`max by (instance, provider) (chat_provider_key_refused{AT, provider=~"$provider"})`, "{{provider}} {{instance}}"),
				map[string][2]string{"0": {"taken", "green"}, "1": {"refused", "red"}}),
			lines("Provider rate limit remaining", "Remaining part of the rate limits of providers, from their last responses.",
				"percentunit", 8, query(`min by (provider, kind) (chat_provider_ratelimit_remaining_ratio{AT, provider=~"$provider"})`, "{{provider}} {{kind}}")).upTo(1),
			lines("Turns by model", "Turns per second by model; none: no provider was called.",
				"reqps", 8, query(`sum by (provider, model) (rate(chat_turns_total{AT, MODEL}[RATE]))`, "{{provider}} {{model}}")).stacked(),
		}},
	)
}
