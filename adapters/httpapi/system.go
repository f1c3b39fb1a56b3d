package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
)

// systemRoutes are the routes of the transport itself.
func (a *API) systemRoutes() []Endpoint {
	return []Endpoint{
		Handle(Route{Method: "GET", Path: "/api/health", Access: Public, Summary: "Report the health of Parley"}, DecodeCall, a.checkHealth, healthEncoder),
		Handle(Route{Method: "GET", Path: "/api/openapi.json", Access: Public, Summary: "Describe this API"}, DecodeCall, a.describe, JSONEncoder(http.StatusOK, identity[json.RawMessage])),
	}
}

func identity[T any](v T) T { return v }

// Health is the state of Parley. It is public: names and states, nothing else.
type Health struct {
	Status     string               `json:"status" schema:"enum=ok|degraded|down"` // HealthOK ...
	Version    string               `json:"version,omitempty"`
	Components map[string]Component `json:"components"`
}

// Component is the state of one dependency.
type Component struct {
	Status string `json:"status"`
	Note   string `json:"note,omitempty"` // "demo, not AI", "sqlite" ...
}

// States of Health. Down means that nothing can be served.
const (
	HealthOK       = "ok"
	HealthDegraded = "degraded"
	HealthDown     = "down"
)

func (a *API) checkHealth(ctx context.Context, _ Call) (Health, error) {
	h := a.Health(ctx)
	h.Version = a.Version
	return h, nil
}

var healthEncoder = Encoder[Health]{
	[]Answer{JSONAnswer[Health](http.StatusOK), JSONAnswer[Health](http.StatusServiceUnavailable)}, encodeHealth,
}

func encodeHealth(_ context.Context, w *Response, h Health) error {
	w.Header().Set("Cache-Control", "no-store")
	status := http.StatusOK
	if h.Status == HealthDown {
		status = http.StatusServiceUnavailable
	}
	return w.JSON(status, h)
}

// describe returns the description of the API.
func (a *API) describe(context.Context, Call) (json.RawMessage, error) { return a.description() }
