package dashboards

func providers() Dashboard {
	return board(base("parley-providers", "Providers",
		"How each AI provider behaves: its rate, errors and duration, what failover saves, and what is left of its limits.",
		providerVar, modelVar),
		row{"Requests to providers", 8, []Panel{
			lines("Attempts by provider", "Requests to providers per second: first tries, retries and fallbacks.",
				"reqps", 8, query(`sum by (provider, model) (rate(chat_provider_attempts_total{AT, MODEL}[RATE]))`, "{{provider}} {{model}}")).stacked(),
			lines("Share of attempts that failed", "Attempts that ended with an error, of all. A turn may still end well, by a retry or a fallback.",
				"percentunit", 8, query(`sum by (provider) (rate(chat_provider_attempts_total{AT, MODEL, result="error"}[RATE]))`+
					` / sum by (provider) (rate(chat_provider_attempts_total{AT, MODEL}[RATE]))`, "{{provider}}")).limit(.2),
			lines("Errors by type", "What went wrong at the provider, per second.",
				"reqps", 8, query(`sum by (gen_ai_provider_name, error_type) (rate(gen_ai_client_operation_duration_seconds_count{AT, GENAI, error_type!=""}[RATE]))`,
					"{{gen_ai_provider_name}} {{error_type}}")).stacked(),
		}},
		row{"Durations", 8, []Panel{
			heat("Duration of requests", "How long requests to providers take, whole replies. The brighter, the more.",
				"s", 8, `sum by (le) (increase(gen_ai_client_operation_duration_seconds_bucket{AT, GENAI}[RATE]))`),
			lines("Duration (p95)", "95th percentile of whole replies, by model. Dots lead to traces.",
				"s", 8, traced(`histogram_quantile(0.95, sum by (le, gen_ai_provider_name, gen_ai_request_model) (rate(gen_ai_client_operation_duration_seconds_bucket{AT, GENAI}[RATE])))`,
					"{{gen_ai_provider_name}} {{gen_ai_request_model}}")),
			lines("First chunk (p50, p95)", "From the request to the first piece of the reply, by provider. Dots lead to traces.",
				"s", 8,
				traced(`histogram_quantile(0.5, sum by (le, gen_ai_provider_name) (rate(gen_ai_client_operation_time_to_first_chunk_seconds_bucket{AT, GENAI}[RATE])))`, "{{gen_ai_provider_name}} p50"),
				traced(`histogram_quantile(0.95, sum by (le, gen_ai_provider_name) (rate(gen_ai_client_operation_time_to_first_chunk_seconds_bucket{AT, GENAI}[RATE])))`, "{{gen_ai_provider_name}} p95")),
		}},
		row{"Failover", 8, []Panel{
			lines("Retries and fallbacks", "Attempts beyond the first, per second.",
				"reqps", 8, query(`sum by (kind) (rate(chat_provider_attempts_total{AT, MODEL, kind!="first"}[RATE]))`, "{{kind}}")),
			lines("Attempts per turn", "How many requests to providers a turn costs. 1 is the first one alone, 0 is a breaker that lets nothing through; an outage must not multiply it.",
				"none", 8, query(`sum (rate(chat_provider_attempts_total{AT, MODEL}[RATE]))`+
					` / sum (rate(chat_turns_total{AT, outcome!~"rate_limited|quota"}[RATE]))`, "attempts")).limit(1.1).digits(2),
			lines("Turns that no provider answered", "Turns per second that ended badly although every provider was tried.",
				"reqps", 8, query(`sum by (outcome) (rate(chat_turns_total{AT, outcome=~"provider_error|provider_auth|timeout|breaker_open"}[RATE]))`, "{{outcome}}")).stacked().colours(outcomeColours...),
		}},
		row{"Breakers and limits", 8, []Panel{
			states("Breakers", "State of each breaker on each instance: open lets nothing through, half-open tries.", 12,
				query(`max by (instance, breaker) (chat_breaker_state{AT, state="open"} * 2 or chat_breaker_state{AT, state="half-open"} * 1 or chat_breaker_state{AT, state="closed"} * 0)`,
					"{{breaker}} {{instance}}"),
				map[string][2]string{"0": {"closed", "green"}, "1": {"half-open", "orange"}, "2": {"open", "red"}}),
			lines("Changes of breakers", "How often breakers went into each state, per hour.",
				"short", 6, query(`sum by (breaker, state) (increase(chat_breaker_transitions_total{AT}[1h]))`, "{{breaker}} {{state}}")),
			lines("Turned away by breakers", "Requests per second that a breaker did not let through.",
				"reqps", 6, query(`sum by (breaker) (rate(chat_breaker_rejections_total{AT}[RATE]))`, "{{breaker}}")),
			lines("Providers spared", "Requests per second that were not made: saturated is our own bound, retry_budget keeps an outage from being multiplied.",
				"reqps", 8, query(`sum by (provider, reason) (rate(chat_provider_skips_total{AT, MODEL}[RATE]))`, "{{provider}} {{reason}}")),
			states("Keys", "Whether each provider takes the configured key, by its last answer on each instance.", 8,
				query(`max by (instance, provider) (chat_provider_key_refused{AT, provider=~"$provider"})`, "{{provider}} {{instance}}"),
				map[string][2]string{"0": {"taken", "green"}, "1": {"refused", "red"}}),
			lines("Left of providers' limits", "What is left of the limits that providers set us, by their last answers.",
				"percentunit", 8, query(`min by (provider, kind) (chat_provider_ratelimit_remaining_ratio{AT, provider=~"$provider"})`, "{{provider}} {{kind}}")).upTo(1),
			lines("Turns by model", "Turns per second by the model that made the reply; none never reached one.",
				"reqps", 8, query(`sum by (provider, model) (rate(chat_turns_total{AT, MODEL}[RATE]))`, "{{provider}} {{model}}")).stacked(),
		}},
	)
}
