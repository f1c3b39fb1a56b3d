// Package baseline holds servers that do only the unavoidable part of a turn, to
// compare Parley with. They authenticate, limit and bill nobody, read no context,
// and can neither repeat, recover, stop nor follow a reply; the reply is made up.
// A user's message is committed before its reply, as in Parley.
package baseline

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Servers are the baselines by name.
var Servers = map[string]func(context.Context, *pgxpool.Pool) (http.Handler, error){
	"plain": Plain, "group2": Group2,
}

// Serve serves a baseline at ADDR on the empty database at DATABASE_URL. It returns
// with an error.
func Serve(name string) error {
	start, ok := Servers[name]
	if !ok {
		return fmt.Errorf("there is no baseline %q", name)
	}
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
	turns, err := start(ctx, db)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("POST /api/chat/messages", turns)
	return http.ListenAndServe(os.Getenv("ADDR"), mux)
}
