package httpapi

import (
	"net/http"
	"slices"
	"strings"
)

// exposed are the response headers that a script of a listed origin may read.
var exposed = strings.Join([]string{
	requestID, "Retry-After", "Idempotency-Replayed", "RateLimit", "RateLimit-Policy",
	"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset",
}, ", ")

// cors lets scripts of listed origins call with credentials, and nobody else:
// an origin is looked up, never repeated. It reports whether the request was a
// preflight and has been answered.
func (a *API) cors(w http.ResponseWriter, r *http.Request) (answered bool) {
	if len(a.origins) == 0 {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	i := slices.Index(a.origins, r.Header.Get("Origin"))
	if i < 0 {
		return false
	}
	h.Set("Access-Control-Allow-Origin", a.origins[i])
	h.Set("Access-Control-Allow-Credentials", "true")
	h.Set("Access-Control-Expose-Headers", exposed)
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PATCH, DELETE")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, "+requestID)
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}
