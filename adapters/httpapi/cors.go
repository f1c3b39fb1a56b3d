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
	"X-Budget-Remaining-Tokens", "X-Budget-Remaining-Usd", "X-Budget-Reset",
	errorCode, "X-Error-Limit", "X-Error-Reset", "X-Error-Budget", "X-Error-Run-Id", RunID, "X-Vercel-Ai-Ui-Message-Stream",
}, ", ")

// maxHeaderNames is the maximum length of a preflight's list of headers.
const maxHeaderNames = 2048

// allowedHeaders returns the headers that the script of a listed origin may send:
// those that it asks for, if they are names of headers, and ours.
func allowedHeaders(requested []string) string {
	names := []string{"Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", requestID}
	list := strings.Join(requested, ",")
	if len(list) > maxHeaderNames {
		list = ""
	}
	for name := range strings.SplitSeq(list, ",") {
		name = strings.Trim(name, " \t")
		known := func(other string) bool { return strings.EqualFold(name, other) }
		if isToken(name) && !slices.ContainsFunc(names, known) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// isToken reports whether s can be the name of a header.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
		if !letter && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

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
	h.Add("Vary", "Access-Control-Request-Headers")
	h.Set("Access-Control-Allow-Headers", allowedHeaders(r.Header.Values("Access-Control-Request-Headers")))
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}
