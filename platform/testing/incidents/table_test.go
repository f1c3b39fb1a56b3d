//go:build e2e

package incidents

import (
	"context"
	"net/http"

	"parley/adapters/providers/stub"
)

// incidents are injected in this order. Each alert is named by the rules of
// dashboards/alerts.
var incidents = []incident{
	{
		name: "postgres-killed",
		inject: func(w *world) func() {
			w.Postgres.Kill9()
			return func() { w.Postgres.Restart(); w.awaitReady() }
		},
		first: []string{"ChatDependencyDown"}, pages: []string{"ChatDependencyDown"},
		cause: []string{"database: down"},
	},
	{
		name:   "one-provider-down",
		inject: providers(refuse(http.StatusInternalServerError, "server_error"), well),
		first:  []string{"ChatProviderDegraded"},
		cause:  []string{"openai", "server_error"},
	},
	{
		name:   "provider-key-expired",
		inject: providers(refuse(http.StatusUnauthorized, "invalid_api_key"), well),
		first:  []string{"ChatProviderKeyRefused"}, pages: []string{"ChatProviderKeyRefused"},
		cause: []string{"openai", "} 1"},
	},
	{
		name: "redis-killed",
		inject: func(w *world) func() {
			w.Redis.Kill9()
			return func() { w.Redis.Restart() }
		},
		first: []string{"ChatRedisDown"},
		cause: []string{"refused"},
	},
	{
		name: "table-locked",
		inject: func(w *world) func() {
			conn := w.connect(w.Postgres.URL() + "&application_name=monthly-report")
			tx, err := conn.Begin(context.Background())
			if err == nil {
				_, err = tx.Exec(context.Background(), "LOCK TABLE chat_runs IN EXCLUSIVE MODE")
			}
			if err != nil {
				w.t.Fatal(err)
			}
			return func() { tx.Rollback(context.Background()); conn.Close(context.Background()) }
		},
		first: []string{"ChatTurnErrorBudgetBurn"}, pages: []string{"ChatTurnErrorBudgetBurn", "ChatApiErrorBudgetBurn"},
		cause: []string{"monthly-report"},
	},
}

// providers makes the providers answer by scripts.
func providers(openai, anthropic stub.Script) func(w *world) func() {
	return func(w *world) func() {
		w.setProviders(openai, anthropic)
		return w.heal
	}
}

func refuse(status int, kind string) stub.Script { return stub.Always(stub.Refuse(status, kind)) }

func (w *world) awaitReady() {
	w.Await("http://"+w.One.Admin+"/readyz", w.One.Log.Name())
	w.Await("http://"+w.Two.Admin+"/readyz", w.Two.Log.Name())
}
