package dashboards

func usage() Dashboard {
	return board(base("parley-usage", "Usage and cost",
		"Tokens and cost by model, compared with the same hour of last week.", providerVar, modelVar, postgresVar),
		row{"Cost", 8, []Panel{
			stat("Cost in the time range", "US dollars in the selected time range, for models with a known price.",
				"currencyUSD", 4, now(`sum (increase(chat_cost_usd_total{AT, MODEL}[$__range]))`, "spent")).digits(2),
			stat("Cost per 1,000 turns", "US dollars per 1,000 successful turns, over the last hour.",
				"currencyUSD", 4, query(`1000 * sum (increase(chat_cost_usd_total{AT, MODEL}[1h])) / sum (increase(chat_turns_total{AT, MODEL, outcome="ok"}[1h]))`, "per 1,000")).digits(2).empty("no turns"),
			lines("Cost per hour", "US dollars per hour, now and one week before.",
				"currencyUSD", 10,
				query(`sum (rate(chat_cost_usd_total{AT, MODEL}[RATE])) * 3600`, "now"),
				query(`sum (rate(chat_cost_usd_total{AT, MODEL}[1h] offset 1w)) * 3600`, "a week before")).colours("a week before", "text"),
			table("Models by cost", "Cost of each model in the selected time range.", "currencyUSD", 6,
				now(`sort_desc(sum by (provider, model) (increase(chat_cost_usd_total{AT, MODEL}[$__range])))`, "")).digits(2),
		}},
		row{"Users", 8, []Panel{
			lines("Cost per user and day", "US dollars per day, of a user with replies on that day: mean, and the most of one user. From PostgreSQL.", "currencyUSD", 12, sql(`
SELECT day AS time, AVG(usd) AS mean, MAX(usd) AS most
FROM (
  SELECT DATE_TRUNC('day', ended_at) AS day, user_id, SUM(cost_micros) / 1e6 AS usd
  FROM chat_runs
  WHERE cost_micros IS NOT NULL AND $__timeFilter(ended_at)
  GROUP BY 1, 2
) AS per_user
GROUP BY day
ORDER BY day`)).bars(),
			table("Users by cost", "The users whose replies in the selected time range cost the most. From PostgreSQL.", "short", 12, sql(`
SELECT user_id AS "user", COUNT(*) AS replies, SUM(usage_input) AS input_tokens, SUM(usage_output) AS output_tokens,
  ROUND(SUM(cost_micros) / 1e6, 4) AS usd
FROM chat_runs
WHERE cost_micros IS NOT NULL AND $__timeFilter(ended_at)
GROUP BY user_id
ORDER BY usd DESC
LIMIT 10`)).unitOf("usd", "currencyUSD"),
		}},
		row{"Tokens", 8, []Panel{
			lines("Tokens by kind", "Tokens per second. Cached ones are part of the input, reasoning is part of the output.",
				of("tokens/s"), 8, query(`sum by (kind) (rate(chat_tokens_total{AT, MODEL}[RATE]))`, "{{kind}}")),
			lines("Tokens by model", "Input and output tokens per second.",
				of("tokens/s"), 8, query(`sum by (provider, model) (rate(chat_tokens_total{AT, MODEL, kind=~"input|output"}[RATE]))`, "{{provider}} {{model}}")).stacked(),
			lines("Cached share of input tokens", "Cached input tokens of all input tokens, by provider.",
				"percentunit", 8, query(`sum by (provider) (rate(chat_tokens_total{AT, MODEL, kind="cache_read"}[RATE])) / sum by (provider) (rate(chat_tokens_total{AT, MODEL, kind="input"}[RATE]))`, "{{provider}}")).upTo(1),
			lines("Replies from the cache", "Share of successful turns whose reply was taken from the response cache (RESPONSE_CACHE_TTL).",
				"percentunit", 8, query(`sum by (provider) (rate(chat_replies_cached_total{AT, MODEL}[RATE])) / sum by (provider) (rate(chat_turns_total{AT, MODEL, outcome="ok"}[RATE]))`, "{{provider}}")).upTo(1),
			lines("Tokens per request (p50, p95)", "Input and output tokens of one request.",
				of("tokens"), 8,
				query(`histogram_quantile(0.5, sum by (le, gen_ai_token_type) (rate(gen_ai_client_token_usage_bucket{AT, GENAI}[RATE])))`, "{{gen_ai_token_type}} p50"),
				query(`histogram_quantile(0.95, sum by (le, gen_ai_token_type) (rate(gen_ai_client_token_usage_bucket{AT, GENAI}[RATE])))`, "{{gen_ai_token_type}} p95")),
			lines("Replies without a price", "Replies per hour of models without a price. The costs above do not include them.",
				of("per hour"), 8, query(`sum by (provider, model) (increase(chat_unpriced_requests_total{AT, MODEL}[1h]))`, "{{provider}} {{model}}")),
			lines("Turns per hour", "Finished turns per hour, by outcome.",
				of("per hour"), 8, query(`sum by (outcome) (increase(chat_turns_total{AT, MODEL}[1h]))`, "{{outcome}}")).stacked().colours(outcomeColours...),
		}},
	)
}
