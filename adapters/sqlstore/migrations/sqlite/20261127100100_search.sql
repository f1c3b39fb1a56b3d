-- An index for the search of users who have many messages. What is newer than the
-- last segment of a user is searched without one, and what the index finds is read
-- from the messages, so that it can neither miss nor show what they do not say.

-- A segment has 1,024 messages that follow each other in the order of created_at
-- and id. dirty: some of them have been deleted, and their words are still in it.
CREATE TABLE chat_search_segments (
  user_id text NOT NULL,
  segment integer NOT NULL,
  version integer NOT NULL,
  dirty bool NOT NULL DEFAULT false,
  begin_at datetime NOT NULL,
  end_at datetime NOT NULL,
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
  content blob NOT NULL,
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

CREATE TRIGGER chat_messages_search_late AFTER INSERT ON chat_messages
WHEN NEW.created_at < strftime('%Y-%m-%d %H:%M:%f', 'now', '-10 minutes')
BEGIN
  INSERT OR IGNORE INTO chat_search_late (user_id, message_id) VALUES (NEW.user_id, NEW.id);
END;

CREATE TRIGGER chat_messages_search_deleted AFTER DELETE ON chat_messages
BEGIN
  UPDATE chat_search_segments SET dirty = true
  WHERE user_id = OLD.user_id AND begin_at <= OLD.created_at AND end_at >= OLD.created_at AND NOT dirty;
END;
