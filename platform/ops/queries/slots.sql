-- Replication slots with the WAL that is kept for them; drop one that nothing reads any more.
SELECT slot_name, slot_type, active, wal_status,
  CASE WHEN pg_is_in_recovery() THEN '-' ELSE pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)) END AS kept,
  CASE WHEN active THEN '-' ELSE format('SELECT pg_drop_replication_slot(%L)', slot_name) END AS drops_it
FROM pg_replication_slots
ORDER BY restart_lsn NULLS LAST
