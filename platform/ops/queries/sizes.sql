-- The largest tables with their indexes, and the whole database.
SELECT 'database ' || current_database() AS name, pg_size_pretty(pg_database_size(current_database())) AS size, NULL::bigint AS rows, NULL::bigint AS dead_rows
UNION ALL
(SELECT relname, pg_size_pretty(pg_total_relation_size(relid)), n_live_tup, n_dead_tup
FROM pg_stat_user_tables ORDER BY pg_total_relation_size(relid) DESC LIMIT 15)
