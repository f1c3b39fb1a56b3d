package baseline

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const plainSchema = `
CREATE TABLE baseline_threads (user_id text NOT NULL PRIMARY KEY, leaf_id bigint NOT NULL, touched timestamptz NOT NULL);
CREATE TABLE baseline_messages (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id text NOT NULL, role text NOT NULL,
	content text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON baseline_messages (user_id, id)`

const plainInsert = `WITH m AS (INSERT INTO baseline_messages (user_id, role, content) VALUES ($1, $2, $3) RETURNING id, created_at),
	t AS (INSERT INTO baseline_threads (user_id, leaf_id, touched) SELECT $1, id, created_at FROM m
		ON CONFLICT (user_id) DO UPDATE SET leaf_id = excluded.leaf_id, touched = excluded.touched)
	SELECT id, created_at FROM m`

// userBytes is how long an id of a user is.
const userBytes = 36

type plainMessage struct {
	ID        int64     `json:"id"`
	Role      string    `json:"role"`
	Content   string    `json:"content"`
	CreatedAt time.Time `json:"createdAt"`
}

// Plain returns the handler of the plain baseline on an empty database: JSON in, the
// user's message committed in one statement, an echo of it committed in another,
// JSON out. The user is the end of the Authorization header.
func Plain(ctx context.Context, db *pgxpool.Pool) (http.Handler, error) {
	if _, err := db.Exec(ctx, plainSchema); err != nil {
		return nil, err
	}
	insert := func(ctx context.Context, user, role, content string) (plainMessage, error) {
		m := plainMessage{Role: role, Content: content}
		err := db.QueryRow(ctx, plainInsert, user, role, content).Scan(&m.ID, &m.CreatedAt)
		return m, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Content string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		user := r.Header.Get("Authorization")
		user = user[max(0, len(user)-userBytes):]
		asked, err := insert(r.Context(), user, "user", in.Content)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		reply, err := insert(r.Context(), user, "assistant", "You said: "+in.Content)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		writeCreated(w, map[string]any{"userMessage": asked, "assistantMessage": reply})
	}), nil
}

func writeCreated(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(body)
}
