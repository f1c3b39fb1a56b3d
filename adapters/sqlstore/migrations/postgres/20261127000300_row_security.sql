-- Row-level security, which is enabled where DB_RLS asks for it, by the function
-- below. Where it is enabled, PostgreSQL evaluates the policies in every statement
-- and refuses a plain pg_dump of the role that they apply to. Sessions that set no
-- scope are not restricted. A transaction (or role) whose parley.scope is 'user',
-- or any value other than 'all', sees and writes only rows of parley.user_id, and of
-- the users that parley.user_ids lists, with chr(31) between them.

CREATE POLICY parley_scope ON chat_users
  USING (user_id = nullif(current_setting('parley.user_id', true), '')
    OR user_id = ANY (string_to_array(current_setting('parley.user_ids', true), chr(31)))
    OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));

CREATE POLICY parley_scope ON chat_conversations
  USING (user_id = nullif(current_setting('parley.user_id', true), '')
    OR user_id = ANY (string_to_array(current_setting('parley.user_ids', true), chr(31)))
    OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));

CREATE POLICY parley_scope ON chat_messages
  USING (user_id = nullif(current_setting('parley.user_id', true), '')
    OR user_id = ANY (string_to_array(current_setting('parley.user_ids', true), chr(31)))
    OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));

CREATE POLICY parley_scope ON chat_runs
  USING (user_id = nullif(current_setting('parley.user_id', true), '')
    OR user_id = ANY (string_to_array(current_setting('parley.user_ids', true), chr(31)))
    OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));

CREATE POLICY parley_scope ON chat_run_output
  USING (user_id = nullif(current_setting('parley.user_id', true), '')
    OR user_id = ANY (string_to_array(current_setting('parley.user_ids', true), chr(31)))
    OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));

CREATE POLICY parley_scope ON chat_usage
  USING (user_id = nullif(current_setting('parley.user_id', true), '')
    OR user_id = ANY (string_to_array(current_setting('parley.user_ids', true), chr(31)))
    OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));

CREATE POLICY parley_scope ON chat_api_keys
  USING (user_id = nullif(current_setting('parley.user_id', true), '')
    OR user_id = ANY (string_to_array(current_setting('parley.user_ids', true), chr(31)))
    OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));

CREATE POLICY parley_scope ON audit_logs
  USING (user_id = nullif(current_setting('parley.user_id', true), '')
    OR user_id = ANY (string_to_array(current_setting('parley.user_ids', true), chr(31)))
    OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));

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
