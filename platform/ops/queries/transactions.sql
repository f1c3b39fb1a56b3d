-- Transactions that have been open the longest; they hold locks and keep dead rows.
SELECT pid, usename AS username, application_name AS program, coalesce(state, 'hidden') AS state,
  round(extract(epoch FROM now() - xact_start)) AS seconds, left(regexp_replace(query, '\s+', ' ', 'g'), 80) AS last_statement
FROM pg_stat_activity
WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
ORDER BY xact_start
LIMIT 20
