package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// The baseline is a server without a service: JSON in, the user's message
// committed, a reply out of thin air committed, JSON out. Nobody is
// authenticated, limited, audited or billed; nothing can be repeated safely,
// recovered, stopped or followed; no context is read. Each commit is one
// statement in one round trip.

const baselineSchema = `
CREATE TABLE baseline_threads (user_id text NOT NULL PRIMARY KEY, leaf_id bigint NOT NULL, touched timestamptz NOT NULL);
CREATE TABLE baseline_messages (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id text NOT NULL, role text NOT NULL,
	content text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON baseline_messages (user_id, id)`

const baselineStore = `WITH m AS (INSERT INTO baseline_messages (user_id, role, content) VALUES ($1, $2, $3) RETURNING id, created_at),
	t AS (INSERT INTO baseline_threads (user_id, leaf_id, touched) SELECT $1, id, created_at FROM m
		ON CONFLICT (user_id) DO UPDATE SET leaf_id = excluded.leaf_id, touched = excluded.touched)
	SELECT id, created_at FROM m`

type baselineMessage struct {
	ID        int64     `json:"id"`
	Role      string    `json:"role"`
	Content   string    `json:"content"`
	CreatedAt time.Time `json:"createdAt"`
}

// serveBaseline serves at ADDR on an empty DATABASE_URL.
func serveBaseline() error {
	ctx := context.Background()
	config, err := pgxpool.ParseConfig(os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	config.MaxConns = 12 // as many as Parley
	db, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.Exec(ctx, baselineSchema); err != nil {
		return err
	}
	store := func(ctx context.Context, user, role, content string) (baselineMessage, error) {
		m := baselineMessage{Role: role, Content: content}
		err := db.QueryRow(ctx, baselineStore, user, role, content).Scan(&m.ID, &m.CreatedAt)
		return m, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /api/chat/messages", func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Content string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		user := r.Header.Get("Authorization") // taken as it is
		asked, err := store(r.Context(), user, "user", in.Content)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		reply, err := store(r.Context(), user, "assistant", "You said: "+in.Content)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		json.NewEncoder(w).Encode(map[string]any{"userMessage": asked, "assistantMessage": reply})
	})
	fmt.Println("the baseline listens on", os.Getenv("ADDR"))
	return http.ListenAndServe(os.Getenv("ADDR"), mux)
}
