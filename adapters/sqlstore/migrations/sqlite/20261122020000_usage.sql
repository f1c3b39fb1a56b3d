-- Usage of each user, by day ('2026-11-22') and by month ('2026-11'). It outlives
-- the conversations that it counts. The hold of a live run is in the run's row,
-- so that its end can release it.

CREATE TABLE chat_usage (
  user_id text NOT NULL,
  period text NOT NULL,
  tokens integer NOT NULL DEFAULT 0,
  cost_micros integer NOT NULL DEFAULT 0,
  held_tokens integer NOT NULL DEFAULT 0,
  held_micros integer NOT NULL DEFAULT 0,
  replies integer NOT NULL DEFAULT 0,
  PRIMARY KEY (user_id, period),
  CONSTRAINT chat_usage_user_fkey FOREIGN KEY (user_id) REFERENCES chat_users (user_id) ON DELETE CASCADE
);

ALTER TABLE chat_runs ADD COLUMN hold_tokens integer NOT NULL DEFAULT 0;

ALTER TABLE chat_runs ADD COLUMN hold_micros integer NOT NULL DEFAULT 0;
