-- Statements that run now, the longest first, and what they wait for.
SELECT pid, usename AS username, application_name AS program, state, round(extract(epoch FROM now() - query_start)::numeric, 1) AS seconds,
  coalesce(wait_event_type || ':' || wait_event, '-') AS waits_for, left(regexp_replace(query, '\s+', ' ', 'g'), 80) AS statement
FROM pg_stat_activity
WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()
ORDER BY query_start
LIMIT 20
