-- Row-level security, the second fence. It asks for nothing of sessions that
-- declare no scope. A transaction (or role) whose parley.scope is 'user' sees
-- and writes rows of parley.user_id alone; a setting that is neither unset nor
-- 'all' is as strict. FORCE: the owner of the tables is held to it as well.

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
