-- A role for the application with no more rights than it needs: it can write
-- entries of the audit log and complete pending ones, and neither change or
-- delete them nor disable the triggers that refuse it (docs/audit.md lists what
-- it can and cannot do). Migrations stay with the owner of the tables.
-- Run as that owner (who must be allowed to create roles), and again after
-- every migration:
--   psql "$OWNER_URL" -v ON_ERROR_STOP=1 -f deploy/postgres/roles.sql
--   psql "$OWNER_URL" -c '\password parley_app'
-- Then let DATABASE_URL of parley serve name parley_app.

DO $$
DECLARE
  chat record;
  queue record;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'parley_app') THEN
    CREATE ROLE parley_app LOGIN;
  END IF;
  FOR chat IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename LIKE 'chat\_%' LOOP
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON public.%I TO parley_app', chat.tablename);
  END LOOP;
  -- pg_dump reads sequences too.
  FOR queue IN SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' AND sequencename ~ '^(chat|audit)_' LOOP
    EXECUTE format('GRANT SELECT ON SEQUENCE public.%I TO parley_app', queue.sequencename);
  END LOOP;
END $$;

GRANT USAGE ON SCHEMA public TO parley_app;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- Earlier releases granted more on the tables of the audit.
REVOKE ALL ON audit_logs, audit_chain, audit_unsealed, audit_keys, audit_root, audit_erasures FROM parley_app;

-- It can write entries and complete pending ones, but not change or delete any.
GRANT SELECT, INSERT ON audit_logs TO parley_app;
GRANT UPDATE (status, error_message, updated_at) ON audit_logs TO parley_app;

-- It seals: takes facts from the queue, which only triggers write, and appends
-- links, keys of users and, when a secret is rotated, another wrapped root.
GRANT SELECT, DELETE ON audit_unsealed TO parley_app;
GRANT SELECT, INSERT ON audit_chain, audit_keys, audit_root TO parley_app;

-- It erases users, in no other way than with a link of the chain that says so.
GRANT SELECT ON audit_erasures TO parley_app;
GRANT EXECUTE ON FUNCTION audit_declare_erasure(text, text, bigint, bytea, bytea, timestamptz),
  audit_erase(text, bigint), audit_end_erasure(text) TO parley_app;

-- DB_RLS=true turns the policies on; this role cannot turn them off.
GRANT EXECUTE ON FUNCTION chat_enable_row_security() TO parley_app;

-- parley serve looks whether the schema is the one that it knows.
GRANT USAGE ON SCHEMA atlas_schema_revisions TO parley_app;
GRANT SELECT ON atlas_schema_revisions.atlas_schema_revisions TO parley_app;
