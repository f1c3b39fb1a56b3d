-- Webhooks: the outbox. An event is added in the transaction of what it tells of,
-- and deleted some days after it was delivered or given up.

CREATE TABLE chat_webhook_events (
  user_id text NOT NULL,
  id text NOT NULL,
  type text NOT NULL,
  body text NOT NULL,
  state text NOT NULL,
  attempt integer NOT NULL,
  tries integer NOT NULL,
  due_at timestamptz NOT NULL,
  last_status integer NOT NULL,
  last_failure text NULL,
  created_at timestamptz NOT NULL,
  keep_until timestamptz NULL,
  PRIMARY KEY (user_id, id),
  CONSTRAINT chat_webhook_events_state_check CHECK (state IN ('pending', 'delivered', 'dead'))
);

-- Pending events by when they are sent, others by when they are deleted.
CREATE INDEX chat_webhook_events_due_idx ON chat_webhook_events (state, due_at);

CREATE POLICY parley_scope ON chat_webhook_events
  USING (user_id = nullif(current_setting('parley.user_id', true), '')
    OR user_id = ANY (string_to_array(current_setting('parley.user_ids', true), chr(31)))
    OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));
