-- Who waits for a lock, and which session holds it: end that one, not those that wait.
SELECT waiting.pid AS waiting, round(extract(epoch FROM now() - waiting.query_start)) AS seconds, left(regexp_replace(waiting.query, '\s+', ' ', 'g'), 40) AS wants,
  holder.pid AS holder, holder.usename AS holder_user, holder.application_name AS holder_program,
  coalesce(holder.state, 'hidden') AS holder_state, round(extract(epoch FROM now() - holder.xact_start)) AS holder_seconds,
  'SELECT pg_terminate_backend(' || holder.pid || ')' AS ends_it
FROM pg_stat_activity waiting
CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS blocking (pid)
JOIN pg_stat_activity holder ON holder.pid = blocking.pid
WHERE waiting.datname = current_database()
ORDER BY cardinality(pg_blocking_pids(holder.pid)), holder.pid, waiting.query_start
LIMIT 20
