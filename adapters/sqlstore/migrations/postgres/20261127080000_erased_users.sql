-- What outlives an erased account: when its credentials ended and what it had
-- used in the current day and month. No user id: user_hash is an HMAC under a
-- key that only the deployment's secret opens. Rows expire.

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

-- Digests of the sessions in the app's database that a revocation ended.
ALTER TABLE chat_users ADD COLUMN revoked_sessions text NOT NULL DEFAULT '';
