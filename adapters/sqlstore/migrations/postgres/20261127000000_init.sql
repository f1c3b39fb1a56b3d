-- Users, conversations, messages and runs. Keys begin with user_id, so that every
-- query names the user and the tables can be partitioned or distributed by it.

-- What belongs to a user rather than to one of their conversations. A lock on the
-- row makes a user's admissions go one after another.
CREATE TABLE chat_users (
  user_id text NOT NULL,
  leaf_id text NULL,
  session_version integer NOT NULL DEFAULT 0,
  revoked_at timestamptz NULL,
  revoked_sessions text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL,
  PRIMARY KEY (user_id)
);

CREATE INDEX chat_users_revoked_idx ON chat_users (revoked_at) WHERE revoked_at IS NOT NULL;

-- expires_at: a temporary conversation, which is not listed. title_by_user: the
-- user has set the title, which is then never replaced.
CREATE TABLE chat_conversations (
  user_id text NOT NULL,
  id text NOT NULL,
  title text NULL,
  system text NULL,
  model text NULL,
  leaf_id text NULL,
  title_by_user boolean NOT NULL DEFAULT false,
  last_message_at timestamptz NOT NULL,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  expires_at timestamptz NULL,
  PRIMARY KEY (user_id, id),
  CONSTRAINT chat_conversations_user_fkey FOREIGN KEY (user_id) REFERENCES chat_users (user_id) ON DELETE CASCADE
);

CREATE INDEX chat_conversations_recent_idx ON chat_conversations (user_id, last_message_at DESC, id DESC);

CREATE INDEX chat_conversations_expiry_idx ON chat_conversations (expires_at) WHERE expires_at IS NOT NULL;

-- content is the text of the message's text parts. parts is NULL for a message of
-- one text part, and leaves out the text of a text part that is the only one. It is
-- json, not jsonb: a position in a reply's output counts its bytes, so that what a
-- provider sent must come back as it was.
CREATE TABLE chat_messages (
  user_id text NOT NULL,
  id text NOT NULL,
  conversation_id text NULL,
  parent_id text NULL,
  role text NOT NULL,
  content text NOT NULL,
  parts json NULL,
  metadata jsonb NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (user_id, id),
  CONSTRAINT chat_messages_role_check CHECK (role IN ('user', 'assistant')),
  CONSTRAINT chat_messages_user_fkey FOREIGN KEY (user_id) REFERENCES chat_users (user_id) ON DELETE CASCADE,
  CONSTRAINT chat_messages_conversation_fkey FOREIGN KEY (user_id, conversation_id) REFERENCES chat_conversations (user_id, id) ON DELETE CASCADE
);

CREATE INDEX chat_messages_thread_idx ON chat_messages (user_id, conversation_id, created_at, id);

CREATE INDEX chat_messages_user_idx ON chat_messages (user_id, created_at);

CREATE INDEX chat_messages_parent_idx ON chat_messages (user_id, parent_id);

-- hold_tokens and hold_micros are what is set aside on the user's account until
-- the run ends. prefix is the output that a continuation starts from.
CREATE TABLE chat_runs (
  user_id text NOT NULL,
  id text NOT NULL,
  conversation_id text NULL,
  parent_id text NOT NULL,
  kind text NOT NULL,
  state text NOT NULL,
  attempt integer NOT NULL DEFAULT 0,
  owner text NULL,
  lease_until timestamptz NULL,
  stop_requested boolean NOT NULL DEFAULT false,
  background boolean NOT NULL DEFAULT false,
  params jsonb NOT NULL,
  prefix text NOT NULL DEFAULT '',
  provider text NULL,
  model text NULL,
  finish_reason text NULL,
  failure text NULL,
  usage_input bigint NOT NULL DEFAULT 0,
  usage_output bigint NOT NULL DEFAULT 0,
  usage_cache_read bigint NOT NULL DEFAULT 0,
  usage_cache_write bigint NOT NULL DEFAULT 0,
  usage_reasoning bigint NOT NULL DEFAULT 0,
  usage_estimated boolean NOT NULL DEFAULT false,
  cost_micros bigint NULL,
  hold_tokens bigint NOT NULL DEFAULT 0,
  hold_micros bigint NOT NULL DEFAULT 0,
  idempotency_key text NULL,
  fingerprint text NOT NULL DEFAULT '',
  audit_id text NOT NULL DEFAULT '',
  metadata jsonb NULL,
  created_at timestamptz NOT NULL,
  started_at timestamptz NULL,
  ended_at timestamptz NULL,
  PRIMARY KEY (user_id, id),
  CONSTRAINT chat_runs_kind_check CHECK (kind IN ('reply', 'regeneration', 'continuation')),
  CONSTRAINT chat_runs_state_check CHECK (state IN ('queued', 'running', 'completed', 'stopped', 'failed', 'interrupted')),
  CONSTRAINT chat_runs_ended_check CHECK ((ended_at IS NULL) = (state IN ('queued', 'running'))),
  CONSTRAINT chat_runs_user_fkey FOREIGN KEY (user_id) REFERENCES chat_users (user_id) ON DELETE CASCADE,
  CONSTRAINT chat_runs_conversation_fkey FOREIGN KEY (user_id, conversation_id) REFERENCES chat_conversations (user_id, id) ON DELETE CASCADE
);

-- The live runs of a user and of a conversation, of which one is running at most;
-- any number waits. The default thread, without a conversation, has no such bound.
CREATE UNIQUE INDEX chat_runs_live_key ON chat_runs (user_id, conversation_id, (CASE state WHEN 'running' THEN '' ELSE id END)) WHERE ended_at IS NULL;

CREATE UNIQUE INDEX chat_runs_idempotency_key ON chat_runs (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- Live runs of all users: those of an instance, those whose lease has expired, and
-- those that wait, which have no owner.
CREATE INDEX chat_runs_lease_idx ON chat_runs (owner, lease_until) WHERE ended_at IS NULL;

-- Without live runs: a user's would all be inserted at one place, and split pages.
CREATE INDEX chat_runs_ended_idx ON chat_runs (user_id, ended_at) WHERE ended_at IS NOT NULL;

-- What a run has produced, as a log: each flush appends a row, at is the length of
-- the output before it. The rows go away when the message is written that holds
-- the same. No foreign key: it would look up and lock the run for each row. What
-- deletes runs deletes their rows.
CREATE TABLE chat_run_output (
  user_id text NOT NULL,
  run_id text NOT NULL,
  at bigint NOT NULL,
  log text NOT NULL,
  PRIMARY KEY (user_id, run_id, at)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
