-- Users' ratings of replies. A rating is deleted with its message.

CREATE TABLE chat_feedback (
  user_id text NOT NULL,
  message_id text NOT NULL,
  rating text NOT NULL,
  reason text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL,
  PRIMARY KEY (user_id, message_id),
  CONSTRAINT chat_feedback_rating_check CHECK (rating IN ('up', 'down')),
  CONSTRAINT chat_feedback_message_fkey FOREIGN KEY (user_id, message_id) REFERENCES chat_messages (user_id, id) ON DELETE CASCADE
);

CREATE POLICY parley_scope ON chat_feedback
  USING (user_id = nullif(current_setting('parley.user_id', true), '')
    OR user_id = ANY (string_to_array(current_setting('parley.user_ids', true), chr(31)))
    OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));
