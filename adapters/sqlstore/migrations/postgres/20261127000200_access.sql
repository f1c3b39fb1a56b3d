-- API keys, budgets, and what outlives an erased account.

-- API keys, stored as digests.
CREATE TABLE chat_api_keys (
  user_id text NOT NULL,
  id text NOT NULL,
  name text NOT NULL,
  hash text NOT NULL,
  scopes text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL,
  revoked_at timestamptz NULL,
  PRIMARY KEY (user_id, id),
  CONSTRAINT chat_api_keys_user_fkey FOREIGN KEY (user_id) REFERENCES chat_users (user_id) ON DELETE CASCADE
);

-- What each user has used, by day ('2026-11-22'). A month is the sum of its days.
-- It outlives the conversations that it counts. What is set aside is in the rows
-- of live runs.
CREATE TABLE chat_usage (
  user_id text NOT NULL,
  day text NOT NULL,
  tokens bigint NOT NULL DEFAULT 0,
  cost_micros bigint NOT NULL DEFAULT 0,
  replies bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (user_id, day),
  CONSTRAINT chat_usage_user_fkey FOREIGN KEY (user_id) REFERENCES chat_users (user_id) ON DELETE CASCADE
);

-- When the credentials of an erased user ended, and what the user had used in the
-- current day and month. No user id: user_hash is an HMAC under a key that only
-- the deployment's secret opens. sessions are digests of the sessions in the app's
-- database that the erasure ended. Rows expire.
CREATE TABLE chat_erased_users (
  user_hash text NOT NULL,
  erased_at timestamptz NOT NULL,
  sessions text NOT NULL DEFAULT '',
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (user_hash)
);

CREATE INDEX chat_erased_users_expiry_idx ON chat_erased_users (expires_at);

CREATE TABLE chat_erased_usage (
  user_hash text NOT NULL,
  period text NOT NULL,
  tokens bigint NOT NULL DEFAULT 0,
  cost_micros bigint NOT NULL DEFAULT 0,
  replies bigint NOT NULL DEFAULT 0,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (user_hash, period)
);

CREATE INDEX chat_erased_usage_expiry_idx ON chat_erased_usage (expires_at);
