-- Unfinished replies by state and model, with the age of the oldest.
SELECT state, coalesce(provider, '-') AS provider, coalesce(model, '-') AS model, count(*) AS replies,
  round(extract(epoch FROM now() - min(created_at))) AS oldest_seconds,
  round(extract(epoch FROM now() - min(lease_until))) AS lease_ended_seconds_ago
FROM chat_runs WHERE ended_at IS NULL
GROUP BY 1, 2, 3 ORDER BY 5 DESC
LIMIT 20
