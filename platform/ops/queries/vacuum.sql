-- Tables by the transactions since their oldest row that is not frozen, with dead rows and the last vacuum.
SELECT c.oid::regclass AS table_name, age(c.relfrozenxid) AS transactions, s.n_dead_tup AS dead_rows,
  coalesce(s.last_autovacuum, s.last_vacuum) AS last_vacuum, coalesce(array_to_string(c.reloptions, ' '), '-') AS options,
  current_setting('autovacuum') AS autovacuum
FROM pg_class c LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE c.relkind IN ('r', 't', 'm')
ORDER BY 2 DESC, 3 DESC NULLS LAST
LIMIT 15
