-- Users whom a rate limit refused within an hour; a limit is recorded once per user and minute.
SELECT user_id, count(*) AS minutes, max(created_at) AS last
FROM audit_logs
WHERE action = 'security.rate_limit_exceeded' AND created_at > now() - INTERVAL '1 hour'
GROUP BY 1 ORDER BY 2 DESC
LIMIT 10
