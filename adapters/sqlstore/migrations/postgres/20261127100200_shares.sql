-- Branches that anyone who has the token can read, from the root to leaf_id.
-- token_hash is the SHA-256 of the token, which is not stored. Revoked shares are
-- deleted. title is the conversation's when it was shared.

CREATE TABLE chat_shares (
  user_id text NOT NULL,
  id text NOT NULL,
  conversation_id text NOT NULL,
  leaf_id text NOT NULL,
  title text NULL,
  token_hash bytea NOT NULL,
  created_at timestamptz NOT NULL,
  expires_at timestamptz NULL,
  PRIMARY KEY (user_id, id),
  CONSTRAINT chat_shares_conversation_fkey FOREIGN KEY (user_id, conversation_id) REFERENCES chat_conversations (user_id, id) ON DELETE CASCADE
);

CREATE INDEX chat_shares_conversation_idx ON chat_shares (user_id, conversation_id, created_at);

CREATE UNIQUE INDEX chat_shares_token_key ON chat_shares (token_hash);

CREATE INDEX chat_shares_expiry_idx ON chat_shares (expires_at) WHERE expires_at IS NOT NULL;

CREATE POLICY parley_scope ON chat_shares
  USING (user_id = nullif(current_setting('parley.user_id', true), '')
    OR user_id = ANY (string_to_array(current_setting('parley.user_ids', true), chr(31)))
    OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));
