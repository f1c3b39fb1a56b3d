-- Who holds advisory locks, such as the one for sealing the audit log.
SELECT a.pid, a.usename AS username, a.application_name AS program, coalesce(a.state, 'hidden') AS state,
  round(extract(epoch FROM now() - a.xact_start)) AS seconds, l.classid, l.objid,
  'SELECT pg_terminate_backend(' || a.pid || ')' AS ends_it
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY a.xact_start NULLS FIRST
LIMIT 20
