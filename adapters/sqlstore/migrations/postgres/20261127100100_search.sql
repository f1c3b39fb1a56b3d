-- An index for the search of users who have many messages. What is newer than the
-- last segment of a user is searched without one, and what the index finds is read
-- from the messages, so that it can neither miss nor show what they do not say.

-- A segment has 1,024 messages that follow each other in the order of created_at
-- and id. dirty: some of them have been deleted, and their words are still in it.
CREATE TABLE chat_search_segments (
  user_id text NOT NULL,
  segment integer NOT NULL,
  version integer NOT NULL,
  dirty boolean NOT NULL DEFAULT false,
  begin_at timestamptz NOT NULL,
  end_at timestamptz NOT NULL,
  end_id text NOT NULL,
  PRIMARY KEY (user_id, segment),
  CONSTRAINT chat_search_segments_user_fkey FOREIGN KEY (user_id) REFERENCES chat_users (user_id) ON DELETE CASCADE
);

CREATE INDEX chat_search_segments_dirty_idx ON chat_search_segments (user_id) WHERE dirty;

-- What a segment is divided into: buckets of hashed groups of letters, each with
-- the numbers of the messages that have it; and, with negative numbers, the ids of
-- 64 messages each.
CREATE TABLE chat_search_buckets (
  user_id text NOT NULL,
  segment integer NOT NULL,
  bucket integer NOT NULL,
  content bytea NOT NULL,
  PRIMARY KEY (user_id, segment, bucket),
  CONSTRAINT chat_search_buckets_segment_fkey FOREIGN KEY (user_id, segment) REFERENCES chat_search_segments (user_id, segment) ON DELETE CASCADE
);

-- Messages that were stored long after their created_at. Segments have messages of
-- more than an hour ago, so that they may lack these and no others.
CREATE TABLE chat_search_late (
  user_id text NOT NULL,
  message_id text NOT NULL,
  PRIMARY KEY (user_id, message_id),
  CONSTRAINT chat_search_late_message_fkey FOREIGN KEY (user_id, message_id) REFERENCES chat_messages (user_id, id) ON DELETE CASCADE
);

CREATE FUNCTION chat_search_note_late() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  INSERT INTO chat_search_late (user_id, message_id) VALUES (NEW.user_id, NEW.id) ON CONFLICT DO NOTHING;
  RETURN NULL;
END;
$$;

-- The condition is all that a turn pays for the search.
CREATE TRIGGER chat_messages_search_late AFTER INSERT ON chat_messages FOR EACH ROW
  WHEN (NEW.created_at < clock_timestamp() - interval '10 minutes') EXECUTE FUNCTION chat_search_note_late();

CREATE FUNCTION chat_search_note_deleted() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  UPDATE chat_search_segments AS s SET dirty = true FROM gone AS g
  WHERE s.user_id = g.user_id AND g.created_at BETWEEN s.begin_at AND s.end_at AND NOT s.dirty;
  RETURN NULL;
END;
$$;

CREATE TRIGGER chat_messages_search_deleted AFTER DELETE ON chat_messages REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION chat_search_note_deleted();

CREATE POLICY parley_scope ON chat_search_segments
  USING (user_id = nullif(current_setting('parley.user_id', true), '')
    OR user_id = ANY (string_to_array(current_setting('parley.user_ids', true), chr(31)))
    OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));

CREATE POLICY parley_scope ON chat_search_buckets
  USING (user_id = nullif(current_setting('parley.user_id', true), '')
    OR user_id = ANY (string_to_array(current_setting('parley.user_ids', true), chr(31)))
    OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));

CREATE POLICY parley_scope ON chat_search_late
  USING (user_id = nullif(current_setting('parley.user_id', true), '')
    OR user_id = ANY (string_to_array(current_setting('parley.user_ids', true), chr(31)))
    OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));
