-- Files: their rows, and which messages refer to them. The bytes are in the blob
-- store, under the key in the column blob. Keys of blobs have one length and only
-- hexadecimal digits around one slash, so that every collation sorts them alike.

CREATE TABLE chat_files (
  user_id text NOT NULL,
  id text NOT NULL,
  name text NOT NULL,
  media_type text NOT NULL,
  size bigint NOT NULL,
  digest text NOT NULL DEFAULT '',
  state text NOT NULL,
  blob text NOT NULL,
  created_at timestamptz NOT NULL,
  referenced_at timestamptz NULL,
  PRIMARY KEY (user_id, id),
  CONSTRAINT chat_files_state_check CHECK (state IN ('uploading', 'ready', 'lost', 'deleted')),
  CONSTRAINT chat_files_size_check CHECK (size >= 0),
  CONSTRAINT chat_files_user_fkey FOREIGN KEY (user_id) REFERENCES chat_users (user_id) ON DELETE CASCADE
);

CREATE INDEX chat_files_blob_idx ON chat_files (blob);

-- Uploads that no message has referred to.
CREATE INDEX chat_files_unreferenced_idx ON chat_files (created_at) WHERE referenced_at IS NULL AND state <> 'deleted';

CREATE INDEX chat_files_deleted_idx ON chat_files (created_at) WHERE state = 'deleted';

CREATE TABLE chat_message_files (
  user_id text NOT NULL,
  message_id text NOT NULL,
  file_id text NOT NULL,
  PRIMARY KEY (user_id, message_id, file_id),
  CONSTRAINT chat_message_files_message_fkey FOREIGN KEY (user_id, message_id) REFERENCES chat_messages (user_id, id) ON DELETE CASCADE,
  CONSTRAINT chat_message_files_file_fkey FOREIGN KEY (user_id, file_id) REFERENCES chat_files (user_id, id) ON DELETE CASCADE
);

CREATE INDEX chat_message_files_file_idx ON chat_message_files (user_id, file_id);

-- A file goes with the last message that refers to it. The row is locked first,
-- so that the next statement sees what a concurrent admission has committed.
CREATE FUNCTION chat_release_file() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  PERFORM 1 FROM chat_files WHERE user_id = OLD.user_id AND id = OLD.file_id FOR UPDATE;
  UPDATE chat_files SET state = 'deleted' WHERE user_id = OLD.user_id AND id = OLD.file_id
    AND NOT EXISTS (SELECT 1 FROM chat_message_files WHERE user_id = OLD.user_id AND file_id = OLD.file_id);
  RETURN NULL;
END;
$$;

CREATE TRIGGER chat_message_files_release AFTER DELETE ON chat_message_files FOR EACH ROW EXECUTE FUNCTION chat_release_file();

CREATE POLICY parley_scope ON chat_files
  USING (user_id = nullif(current_setting('parley.user_id', true), '')
    OR user_id = ANY (string_to_array(current_setting('parley.user_ids', true), chr(31)))
    OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));

CREATE POLICY parley_scope ON chat_message_files
  USING (user_id = nullif(current_setting('parley.user_id', true), '')
    OR user_id = ANY (string_to_array(current_setting('parley.user_ids', true), chr(31)))
    OR coalesce(current_setting('parley.scope', true), '') IN ('', 'all'));
