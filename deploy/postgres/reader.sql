-- A role for dashboards: it sees who wrote when and how replies ended, never
-- what was written. Run as the owner of the tables, as often as you like:
--   psql "$DATABASE_URL" -v password=... -f deploy/postgres/reader.sql
SELECT 'CREATE ROLE parley_reader' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'parley_reader') \gexec
ALTER ROLE parley_reader LOGIN PASSWORD :'password';
ALTER ROLE parley_reader SET default_transaction_read_only = on;
ALTER ROLE parley_reader SET statement_timeout = '10s';
-- What sessions do and wait for, also those of other roles. Only some owners may
-- grant it: without, parley admin sql shows the state of other sessions as hidden.
DO $$ BEGIN
  GRANT pg_monitor TO parley_reader;
EXCEPTION WHEN insufficient_privilege THEN
  RAISE NOTICE 'pg_monitor was not granted to parley_reader: %', SQLERRM;
END $$;
GRANT USAGE ON SCHEMA public TO parley_reader;
GRANT SELECT (user_id, created_at) ON chat_users TO parley_reader;
GRANT SELECT (user_id, id, last_message_at, created_at, updated_at) ON chat_conversations TO parley_reader;
GRANT SELECT (user_id, id, conversation_id, role, created_at) ON chat_messages TO parley_reader;
GRANT SELECT (user_id, id, conversation_id, kind, state, attempt, background, provider, model, finish_reason, failure,
  usage_input, usage_output, usage_cache_read, usage_cache_write, usage_reasoning, usage_estimated, cost_micros,
  created_at, started_at, ended_at, lease_until) ON chat_runs TO parley_reader;
GRANT SELECT (user_id, action, resource, status, created_at, updated_at) ON audit_logs TO parley_reader;
-- For parley admin sql, which can run as this role (ADMIN_DATABASE_URL).
GRANT SELECT (user_id, day, tokens, cost_micros, replies) ON chat_usage TO parley_reader;
GRANT SELECT (n, queued_at) ON audit_unsealed TO parley_reader;
GRANT USAGE ON SCHEMA atlas_schema_revisions TO parley_reader;
GRANT SELECT ON atlas_schema_revisions.atlas_schema_revisions TO parley_reader;
