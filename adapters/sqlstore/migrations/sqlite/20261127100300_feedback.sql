-- Users' ratings of replies. A rating is deleted with its message.

CREATE TABLE chat_feedback (
  user_id text NOT NULL,
  message_id text NOT NULL,
  rating text NOT NULL,
  reason text NOT NULL DEFAULT '',
  created_at datetime NOT NULL,
  PRIMARY KEY (user_id, message_id),
  CONSTRAINT chat_feedback_rating_check CHECK (rating IN ('up', 'down')),
  CONSTRAINT chat_feedback_message_fkey FOREIGN KEY (user_id, message_id) REFERENCES chat_messages (user_id, id) ON DELETE CASCADE
);
