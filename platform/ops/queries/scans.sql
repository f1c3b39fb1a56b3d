-- Tables by rows that were read without an index.
SELECT relname AS table_name, seq_scan AS full_scans, seq_tup_read AS rows_read, idx_scan AS index_scans, n_live_tup AS rows
FROM pg_stat_user_tables
ORDER BY seq_tup_read DESC
LIMIT 10
