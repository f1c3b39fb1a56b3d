-- Row-level security is enabled where DB_RLS asks for it, by the function
-- below. Where it is enabled, PostgreSQL evaluates the policies in every
-- statement and refuses a plain pg_dump of the role that they apply to.

ALTER TABLE chat_users NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY;

ALTER TABLE chat_conversations NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY;

ALTER TABLE chat_messages NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY;

ALTER TABLE chat_runs NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY;

ALTER TABLE chat_usage NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY;

ALTER TABLE chat_api_keys NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY;

ALTER TABLE audit_logs NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY;

-- Enables row-level security on every table that has the policy, and forces it
-- on the caller who owns the table. It has the rights of the owner, so that the
-- application's role can call it: it only ever turns the policies on.
CREATE FUNCTION chat_enable_row_security() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  t record;
BEGIN
  FOR t IN
    SELECT c.oid::regclass AS name, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced,
      pg_get_userbyid(c.relowner) = session_user AS owned
    FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid
    WHERE p.polname = 'parley_scope' AND pg_table_is_visible(c.oid)
    ORDER BY c.relname
  LOOP
    IF NOT t.enabled THEN
      EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', t.name);
    END IF;
    IF t.owned AND NOT t.forced THEN
      EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', t.name);
    END IF;
  END LOOP;
END;
$$;

REVOKE ALL ON FUNCTION chat_enable_row_security() FROM PUBLIC;
