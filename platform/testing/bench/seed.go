package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// shape is what a database is filled with. Conversation c is of user-(c mod users).
type shape struct{ conversations, perConversation, users int }

// seedFunctions make ids of the length and order of UUIDv7, and texts of 600
// bytes, no two alike.
const seedFunctions = `
CREATE FUNCTION pg_temp.conversation_id(c bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
	$$ SELECT '0193f8a2-7c1e-7d3a-8b5f-' || lpad(to_hex(c), 12, '0') $$;
CREATE FUNCTION pg_temp.message_id(g bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
	$$ SELECT '0193' || lpad(to_hex(g / 65536), 4, '0') || '-' || lpad(to_hex(g % 65536), 4, '0') || '-7d3a-9b5f-' || left(md5(g::text), 12) $$;
CREATE FUNCTION pg_temp.body(g bigint, source text) RETURNS text LANGUAGE sql IMMUTABLE AS
	$$ SELECT g || ' ' || substr(source, 1 + (g * 37 % 4096)::integer, 599 - length(g::text)) $$;`

// seedText is what the texts of messages are cut from: some thousand words, as of
// a language, each used more or less often.
const seedText = `SELECT string_agg(left(md5((random() * random() * 3000)::integer::text), 2 + (random() * 7)::integer), ' ') FROM generate_series(1, 1200)`

// seed fills an empty database of Parley's. Conversations get their messages in
// turn, as from live traffic: a page of one is spread over the table. Each message
// answers the one before. Indexes and foreign keys are made again afterwards.
func seed(ctx context.Context, url string, of shape) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var source string
	for _, sql := range []string{"SET synchronous_commit = off", "SET maintenance_work_mem = '256MB'", seedFunctions} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	if err := conn.QueryRow(ctx, seedText).Scan(&source); err != nil {
		return err
	}
	restore, err := dropIndexes(ctx, conn, "chat_messages")
	if err != nil {
		return err
	}
	for _, fill := range []struct {
		sql  string
		args []any
	}{
		{`INSERT INTO chat_users (user_id, created_at) SELECT 'user-' || u, now() - interval '30 days' FROM generate_series(0, $1::integer - 1) AS u
			ON CONFLICT DO NOTHING`, []any{of.users}},
		{`INSERT INTO chat_conversations (user_id, id, title, leaf_id, last_message_at, created_at, updated_at)
			SELECT 'user-' || c % $1, pg_temp.conversation_id(c), 'Conversation ' || c, pg_temp.message_id(($3::bigint - 1) * $2 + c),
				now() - interval '1 day' + c * interval '1 ms', now() - interval '30 days', now() - interval '1 day'
			FROM generate_series(0, $2::bigint - 1) AS c`, []any{of.users, of.conversations, of.perConversation}},
		{`INSERT INTO chat_messages (user_id, id, conversation_id, parent_id, role, content, created_at)
			SELECT 'user-' || g % $2 % $1, pg_temp.message_id(g), pg_temp.conversation_id(g % $2), CASE WHEN g >= $2 THEN pg_temp.message_id(g - $2) END,
				CASE g / $2 % 2 WHEN 0 THEN 'user' ELSE 'assistant' END, pg_temp.body(g, $4), now() - interval '20 days' + g * interval '100 us'
			FROM generate_series(0, $3::bigint * $2 - 1) AS g`, []any{of.users, of.conversations, of.perConversation, source}},
	} {
		if _, err := conn.Exec(ctx, fill.sql, fill.args...); err != nil {
			return fmt.Errorf("seed: %w", err)
		}
	}
	for _, sql := range append(restore, "VACUUM ANALYZE chat_messages", "VACUUM ANALYZE chat_conversations") {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("seed: %s: %w", sql, err)
		}
	}
	return nil
}

// dropIndexes drops the indexes of a table, and its keys with the foreign keys
// that depend on them. It returns the statements that make them again.
func dropIndexes(ctx context.Context, conn *pgx.Conn, table string) (restore []string, err error) {
	var drop []string
	found, err := conn.Query(ctx, `
		SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname),
			format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)), contype = 'p' AS key
		FROM pg_constraint WHERE contype IN ('f', 'p') AND (conrelid = $1::regclass OR confrelid = $1::regclass)
		UNION ALL
		SELECT format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid), true
		FROM pg_index AS i WHERE indrelid = $1::regclass AND NOT EXISTS (SELECT 1 FROM pg_constraint AS c WHERE c.conindid = i.indexrelid AND c.conrelid = i.indrelid)
		ORDER BY key`, table)
	if err != nil {
		return nil, err
	}
	var keys, foreign []string
	var one, again string
	var key bool
	_, err = pgx.ForEachRow(found, []any{&one, &again, &key}, func() error {
		drop = append(drop, one)
		if key {
			keys = append(keys, again)
		} else {
			foreign = append(foreign, again)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, sql := range drop {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return nil, fmt.Errorf("%s: %w", sql, err)
		}
	}
	return append(keys, foreign...), nil
}
