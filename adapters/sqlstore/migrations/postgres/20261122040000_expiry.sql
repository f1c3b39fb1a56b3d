-- Temporary conversations: they are not listed, and expire.

ALTER TABLE chat_conversations ADD COLUMN expires_at timestamptz NULL;

CREATE INDEX chat_conversations_expiry_idx ON chat_conversations (expires_at) WHERE expires_at IS NOT NULL;
