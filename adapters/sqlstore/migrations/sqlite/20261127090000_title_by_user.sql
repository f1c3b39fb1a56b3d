-- Whether the user has set a conversation's title, which is then never replaced.

ALTER TABLE chat_conversations ADD COLUMN title_by_user boolean NOT NULL DEFAULT FALSE;
