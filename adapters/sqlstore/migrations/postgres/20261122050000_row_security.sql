-- Row-level security. Sessions that set no scope are not restricted. A
-- transaction (or role) whose parley.scope is 'user', or any value other than
-- 'all', sees and writes only rows of parley.user_id. FORCE: the policies apply to
-- the owner of the tables as well.

ALTER TABLE chat_users ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY parley_scope ON chat_users
  USING (user_id = nullif(current_setting('parley.user_id', true), '') OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));

ALTER TABLE chat_conversations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY parley_scope ON chat_conversations
  USING (user_id = nullif(current_setting('parley.user_id', true), '') OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));

ALTER TABLE chat_messages ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY parley_scope ON chat_messages
  USING (user_id = nullif(current_setting('parley.user_id', true), '') OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));

ALTER TABLE chat_runs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY parley_scope ON chat_runs
  USING (user_id = nullif(current_setting('parley.user_id', true), '') OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));

ALTER TABLE chat_usage ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY parley_scope ON chat_usage
  USING (user_id = nullif(current_setting('parley.user_id', true), '') OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));

ALTER TABLE chat_api_keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY parley_scope ON chat_api_keys
  USING (user_id = nullif(current_setting('parley.user_id', true), '') OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));

ALTER TABLE audit_logs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY parley_scope ON audit_logs
  USING (user_id = nullif(current_setting('parley.user_id', true), '') OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));
