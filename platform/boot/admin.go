package boot

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strings"

	"parley/adapters/observe"
	"parley/domain/webhook"
	"parley/platform/telemetry"
	"parley/ports"
)

// admin is the private listener: metrics, probes, profiles, breakers, events for
// webhooks and the level of the log.
func admin(tel *telemetry.Telemetry, observer *observe.Observer, h *health, models ports.Catalogue, events ports.EventLog) http.Handler {
	mux := http.NewServeMux()
	metrics := tel.Metrics()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		observer.Flush()
		metrics.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "alive")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if because := h.ready(r.Context()); because != "" {
			http.Error(w, because, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("GET /debug/models", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(models.Models())
	})
	mux.HandleFunc("GET /debug/webhooks", func(w http.ResponseWriter, r *http.Request) {
		list, err := events.Events(r.Context(), ports.EventFilter{State: webhook.State(r.FormValue("state")), Limit: 1000})
		if err != nil {
			http.Error(w, "the database does not answer", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_ = writeEvents(w, list)
	})
	mux.HandleFunc("GET /debug/loglevel", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, strings.ToLower(tel.Level.Level().String()))
	})
	mux.HandleFunc("PUT /debug/loglevel", func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(io.LimitReader(r.Body, 16))
		var level slog.Level
		if level.UnmarshalText([]byte(strings.TrimSpace(string(raw)))) != nil {
			http.Error(w, "send debug, info, warn or error", http.StatusBadRequest)
			return
		}
		tel.Level.Set(level)
		tel.Log.Info("log level changed", "level", level.String())
		fmt.Fprintln(w, strings.ToLower(level.String()))
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
