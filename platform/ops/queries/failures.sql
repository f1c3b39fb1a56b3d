-- Replies that failed within an hour, by what they recorded.
SELECT coalesce(failure, state) AS failure, coalesce(provider, '-') AS provider, coalesce(model, '-') AS model, count(*) AS replies, max(ended_at) AS last
FROM chat_runs
WHERE state IN ('failed', 'interrupted') AND ended_at > now() - INTERVAL '1 hour'
GROUP BY 1, 2, 3 ORDER BY 4 DESC
LIMIT 20
