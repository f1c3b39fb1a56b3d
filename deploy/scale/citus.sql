-- Distributes Parley's tables of users over the machines of a Citus cluster, by
-- user_id, each user's rows on one machine. Run on the coordinator, as the owner of
-- the tables (a superuser, for the setting below), while Parley is stopped:
--
--   psql "$OWNER_URL" -v ON_ERROR_STOP=1 -f deploy/scale/citus.sql
--
-- Read docs/scaling.md first: Parley of this release cannot serve on it yet. This was
-- written by Citus' documentation (12), and its calls are tested against the
-- catalogue of PostgreSQL; it has not been executed on a cluster.
BEGIN;
-- The triggers of these tables change rows of the same user only, which are on the
-- machine of the row that changed.
SET LOCAL citus.enable_unsafe_triggers = on;

-- References are allowed between distributed tables, and not while only one of two is.
CREATE TEMPORARY TABLE kept_references ON COMMIT DROP AS
SELECT k.conrelid::regclass AS of_table, k.conname AS name, pg_get_constraintdef(k.oid) AS definition
FROM pg_constraint AS k WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confrelid::regclass::text LIKE 'chat\_%';

DO $$
DECLARE
  r record;
BEGIN
  FOR r IN SELECT * FROM kept_references LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', r.of_table, r.name);
  END LOOP;
END $$;

-- A unique index must have the user: the digests of tokens are unique by their size.
DROP INDEX chat_shares_token_key;
CREATE INDEX chat_shares_token_key ON chat_shares (token_hash);

SELECT create_distributed_table('chat_users', 'user_id', colocate_with := 'none');
SELECT create_distributed_table('chat_conversations', 'user_id', colocate_with := 'chat_users');
SELECT create_distributed_table('chat_messages', 'user_id', colocate_with := 'chat_users');
SELECT create_distributed_table('chat_runs', 'user_id', colocate_with := 'chat_users');
SELECT create_distributed_table('chat_run_output', 'user_id', colocate_with := 'chat_users');
SELECT create_distributed_table('chat_usage', 'user_id', colocate_with := 'chat_users');
SELECT create_distributed_table('chat_api_keys', 'user_id', colocate_with := 'chat_users');
SELECT create_distributed_table('chat_files', 'user_id', colocate_with := 'chat_users');
SELECT create_distributed_table('chat_message_files', 'user_id', colocate_with := 'chat_users');
SELECT create_distributed_table('chat_search_segments', 'user_id', colocate_with := 'chat_users');
SELECT create_distributed_table('chat_search_buckets', 'user_id', colocate_with := 'chat_users');
SELECT create_distributed_table('chat_search_late', 'user_id', colocate_with := 'chat_users');
SELECT create_distributed_table('chat_shares', 'user_id', colocate_with := 'chat_users');
SELECT create_distributed_table('chat_feedback', 'user_id', colocate_with := 'chat_users');
SELECT create_distributed_table('chat_webhook_events', 'user_id', colocate_with := 'chat_users');

DO $$
DECLARE
  r record;
BEGIN
  FOR r IN SELECT * FROM kept_references LOOP
    EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I %s', r.of_table, r.name, r.definition);
  END LOOP;
END $$;

-- The others stay on the coordinator. The audit log is one chain in one order, whose
-- queue is numbered by one sequence and written by triggers of the log: it does not
-- join tables of users. chat_switches and what is remembered of erased users are small,
-- and no statement joins them with tables of users.
COMMIT;
