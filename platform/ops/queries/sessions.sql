-- How many connections each program has, against the server's maximum.
SELECT coalesce(usename, '-') AS username, coalesce(nullif(application_name, ''), '-') AS program, coalesce(state, 'hidden') AS state, count(*) AS connections,
  current_setting('max_connections') AS max_connections
FROM pg_stat_activity WHERE datname = current_database()
GROUP BY 1, 2, 3 ORDER BY 4 DESC
LIMIT 20
