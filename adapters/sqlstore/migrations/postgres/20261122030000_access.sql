-- API keys, stored as digests, and the time before which a user's sessions were
-- revoked.

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

ALTER TABLE chat_users ADD COLUMN revoked_at timestamptz NULL;

CREATE INDEX chat_users_revoked_idx ON chat_users (revoked_at) WHERE revoked_at IS NOT NULL;
