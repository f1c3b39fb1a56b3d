-- The first schema. Keys begin with user_id, so that every query names the user
-- and the tables can be partitioned or distributed by it.

CREATE TABLE chat_users (
  user_id text NOT NULL,
  leaf_id text NULL,
  session_version integer NOT NULL DEFAULT 0,
  created_at datetime NOT NULL,
  PRIMARY KEY (user_id)
);

CREATE TABLE chat_conversations (
  user_id text NOT NULL,
  id text NOT NULL,
  title text NULL,
  system text NULL,
  model text NULL,
  leaf_id text NULL,
  last_message_at datetime NOT NULL,
  created_at datetime NOT NULL,
  updated_at datetime NOT NULL,
  PRIMARY KEY (user_id, id),
  CONSTRAINT chat_conversations_user_fkey FOREIGN KEY (user_id) REFERENCES chat_users (user_id) ON DELETE CASCADE
);

CREATE INDEX chat_conversations_recent_idx ON chat_conversations (user_id, last_message_at DESC, id DESC);

CREATE TABLE chat_messages (
  user_id text NOT NULL,
  id text NOT NULL,
  conversation_id text NULL,
  parent_id text NULL,
  role text NOT NULL,
  content text NOT NULL,
  metadata json NULL,
  created_at datetime NOT NULL,
  PRIMARY KEY (user_id, id),
  CONSTRAINT chat_messages_role_check CHECK (role IN ('user', 'assistant')),
  CONSTRAINT chat_messages_user_fkey FOREIGN KEY (user_id) REFERENCES chat_users (user_id) ON DELETE CASCADE,
  CONSTRAINT chat_messages_conversation_fkey FOREIGN KEY (user_id, conversation_id) REFERENCES chat_conversations (user_id, id) ON DELETE CASCADE
);

CREATE INDEX chat_messages_thread_idx ON chat_messages (user_id, conversation_id, created_at, id);

CREATE INDEX chat_messages_user_idx ON chat_messages (user_id, created_at, id);

CREATE INDEX chat_messages_parent_idx ON chat_messages (user_id, parent_id);

CREATE TABLE chat_runs (
  user_id text NOT NULL,
  id text NOT NULL,
  conversation_id text NULL,
  parent_id text NOT NULL,
  kind text NOT NULL,
  state text NOT NULL,
  attempt integer NOT NULL DEFAULT 0,
  owner text NULL,
  lease_until datetime NULL,
  stop_requested bool NOT NULL DEFAULT false,
  background bool NOT NULL DEFAULT false,
  params json NOT NULL,
  prefix text NOT NULL DEFAULT '',
  reasoning text NOT NULL DEFAULT '',
  text text NOT NULL DEFAULT '',
  provider text NULL,
  model text NULL,
  finish_reason text NULL,
  failure text NULL,
  usage_input integer NOT NULL DEFAULT 0,
  usage_output integer NOT NULL DEFAULT 0,
  usage_cache_read integer NOT NULL DEFAULT 0,
  usage_cache_write integer NOT NULL DEFAULT 0,
  usage_reasoning integer NOT NULL DEFAULT 0,
  usage_estimated bool NOT NULL DEFAULT false,
  cost_micros integer NULL,
  idempotency_key text NULL,
  fingerprint text NOT NULL DEFAULT '',
  audit_id text NOT NULL DEFAULT '',
  metadata json NULL,
  created_at datetime NOT NULL,
  started_at datetime NULL,
  ended_at datetime NULL,
  PRIMARY KEY (user_id, id),
  CONSTRAINT chat_runs_kind_check CHECK (kind IN ('reply', 'regeneration', 'continuation')),
  CONSTRAINT chat_runs_state_check CHECK (state IN ('queued', 'running', 'completed', 'stopped', 'failed', 'interrupted')),
  CONSTRAINT chat_runs_ended_check CHECK ((ended_at IS NULL) = (state IN ('queued', 'running'))),
  CONSTRAINT chat_runs_user_fkey FOREIGN KEY (user_id) REFERENCES chat_users (user_id) ON DELETE CASCADE,
  CONSTRAINT chat_runs_conversation_fkey FOREIGN KEY (user_id, conversation_id) REFERENCES chat_conversations (user_id, id) ON DELETE CASCADE
);

-- One live reply per conversation.
CREATE UNIQUE INDEX chat_runs_live_key ON chat_runs (user_id, conversation_id) WHERE state = 'running' AND conversation_id IS NOT NULL;

CREATE UNIQUE INDEX chat_runs_idempotency_key ON chat_runs (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE INDEX chat_runs_claim_idx ON chat_runs (lease_until) WHERE state IN ('queued', 'running');

CREATE INDEX chat_runs_owner_idx ON chat_runs (owner) WHERE state = 'running';

CREATE INDEX chat_runs_ended_idx ON chat_runs (user_id, ended_at);

CREATE INDEX chat_runs_parent_idx ON chat_runs (user_id, parent_id);

-- No foreign key: audit entries outlive the user.
CREATE TABLE audit_logs (
  user_id text NOT NULL DEFAULT '',
  id text NOT NULL,
  action text NOT NULL,
  resource text NOT NULL,
  resource_id text NULL,
  metadata json NULL,
  ip_address text NULL,
  user_agent text NULL,
  status text NOT NULL DEFAULT 'success',
  error_message text NULL,
  created_at datetime NOT NULL,
  updated_at datetime NOT NULL,
  PRIMARY KEY (user_id, id),
  CONSTRAINT audit_logs_status_check CHECK (status IN ('pending', 'success', 'failure'))
);

CREATE INDEX audit_logs_user_idx ON audit_logs (user_id, created_at);

CREATE INDEX audit_logs_action_idx ON audit_logs (action, created_at);
