package httpapi

import (
	"context"
	"net/http"
)

// Health is how Parley is. It is public: names and states, nothing else.
type Health struct {
	Status     string               `json:"status" is:"enum=ok|degraded|down"` // HealthOK ...
	Version    string               `json:"version,omitempty"`
	Components map[string]Component `json:"components"`
}

// Component is how one part is.
type Component struct {
	Status string `json:"status"`
	Note   string `json:"note,omitempty"` // "demo: not AI", "sqlite" ...
}

// States of Health. Down means that nothing can be served.
const (
	HealthOK       = "ok"
	HealthDegraded = "degraded"
	HealthDown     = "down"
)

func (a *API) checkHealth(ctx context.Context, _ call) (Health, error) {
	h := a.Health(ctx)
	h.Version = a.Version
	return h, nil
}

var healthEncoder = encoder[Health]{
	[]Answer{jsonAnswer[Health](http.StatusOK), jsonAnswer[Health](http.StatusServiceUnavailable)}, encodeHealth,
}

func encodeHealth(_ context.Context, w http.ResponseWriter, h Health) error {
	w.Header().Set("Cache-Control", "no-store")
	status := http.StatusOK
	if h.Status == HealthDown {
		status = http.StatusServiceUnavailable
	}
	return encodeJSON(w, status, h)
}
