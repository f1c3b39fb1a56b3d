package baseline

import (
	"context"
	"encoding/json"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Conversations is how many conversations Group2 has: c1 to c10000, ten a user.
const Conversations = 10000

const group2Schema = `
CREATE SCHEMA lean; SET search_path = lean;
CREATE TABLE users (id bigint PRIMARY KEY, name text);
CREATE TABLE conversations (id bigint PRIMARY KEY, user_id bigint NOT NULL REFERENCES users (id), title text,
	last_message_at timestamptz NOT NULL DEFAULT now()) WITH (fillfactor=80);
CREATE TABLE messages (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, conversation_id bigint NOT NULL REFERENCES conversations (id),
	user_id bigint NOT NULL, role smallint NOT NULL, content text NOT NULL, metadata jsonb, created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON messages (conversation_id, id);
CREATE TABLE audit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id bigint NOT NULL, action text NOT NULL, resource_id bigint,
	metadata jsonb, ip inet, user_agent text, created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON audit (user_id, id);
CREATE INDEX ON conversations (user_id, last_message_at DESC);
INSERT INTO users SELECT g, 'user ' || g FROM generate_series(1, 1000) AS g;
INSERT INTO conversations SELECT g, 1 + (g - 1) / 10, 'title', now() FROM generate_series(1, 10000) AS g;
RESET search_path`

// One commit before the reply and one after it, each for all turns that wait.
const (
	group2Ask = `WITH t AS (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS t(c, u, q)),
		c AS (UPDATE lean.conversations AS x SET last_message_at = now() FROM t WHERE x.id = t.c)
		INSERT INTO lean.messages (conversation_id, user_id, role, content) SELECT c, u, 1, q FROM t`
	group2Reply = `WITH t AS (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS t(c, u, a)),
		m AS (INSERT INTO lean.messages (conversation_id, user_id, role, content) SELECT c, u, 2, a FROM t),
		c AS (UPDATE lean.conversations AS x SET last_message_at = now() FROM t WHERE x.id = t.c)
		INSERT INTO lean.audit (user_id, action, resource_id, ip, user_agent) SELECT u, 'chat.message_sent', c, '127.0.0.1', 'go' FROM t`
)

const (
	writers  = 2
	maxGroup = 64
)

// write is a row that waits for the next commit.
type write struct {
	conversation, user int64
	text               string
	done               chan error
}

// startWriters has writers commit what is queued, with no timer: whatever came
// while a writer was busy is its next group.
func startWriters(ctx context.Context, db *pgxpool.Pool, sql string) chan<- write {
	queue := make(chan write, 8192)
	for range writers {
		go func() {
			var group []write
			for first := range queue {
				group = append(group[:0], first)
			fill:
				for len(group) < maxGroup {
					select {
					case next := <-queue:
						group = append(group, next)
					default:
						break fill
					}
				}
				sort.Slice(group, func(i, j int) bool { return group[i].conversation < group[j].conversation })
				n := len(group)
				conversations, users, texts := make([]int64, n), make([]int64, n), make([]string, n)
				for i, w := range group {
					conversations[i], users[i], texts[i] = w.conversation, w.user, w.text
				}
				_, err := db.Exec(ctx, sql, conversations, users, texts)
				for _, w := range group {
					w.done <- err
				}
			}
		}()
	}
	return queue
}

// Group2 returns the handler of the grouped baseline on an empty database: as Plain,
// with an audit row and foreign keys, and all turns in flight grouped into common
// commits by two writers. The conversation is one of c1 to c10000.
func Group2(ctx context.Context, db *pgxpool.Pool) (http.Handler, error) {
	if _, err := db.Exec(ctx, group2Schema); err != nil {
		return nil, err
	}
	answer := strings.Repeat("Lorem ipsum dolor sit amet, consectetur ", 15)
	asks, replies := startWriters(ctx, db, group2Ask), startWriters(ctx, db, group2Reply)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Content        string `json:"content"`
			ConversationID string `json:"conversationId"`
		}
		if json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&in) != nil || len(in.ConversationID) < 2 {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		conversation, _ := strconv.ParseInt(in.ConversationID[1:], 10, 64)
		user := 1 + (conversation-1)/10
		done := make(chan error, 1)
		asks <- write{conversation, user, in.Content, done}
		err := <-done
		if err == nil {
			replies <- write{conversation, user, answer, done}
			err = <-done
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		writeCreated(w, map[string]any{"userMessage": map[string]any{"content": in.Content, "createdAt": time.Now()},
			"assistantMessage": map[string]any{"content": answer, "createdAt": time.Now()}})
	}), nil
}
