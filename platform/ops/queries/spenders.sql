-- Users by the cost and tokens of their replies within an hour.
SELECT user_id, count(*) AS replies, round(sum(cost_micros) / 1e6, 4) AS usd, sum(usage_input) AS input_tokens, sum(usage_output) AS output_tokens
FROM chat_runs WHERE ended_at > now() - INTERVAL '1 hour'
GROUP BY 1 ORDER BY 3 DESC NULLS LAST, 2 DESC
LIMIT 10
