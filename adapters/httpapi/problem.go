package httpapi

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"parley/domain/access"
	"parley/domain/fault"
)

// statusOf maps kinds of faults to HTTP. It is the only place that does.
var statusOf = map[fault.Kind]int{
	fault.Invalid:         http.StatusBadRequest,
	fault.Unauthenticated: http.StatusUnauthorized,
	fault.Forbidden:       http.StatusForbidden,
	fault.NotFound:        http.StatusNotFound,
	fault.Method:          http.StatusMethodNotAllowed,
	fault.NotAcceptable:   http.StatusNotAcceptable,
	fault.Busy:            http.StatusConflict,
	fault.Conflict:        http.StatusConflict,
	fault.TooLarge:        http.StatusRequestEntityTooLarge,
	fault.MediaType:       http.StatusUnsupportedMediaType,
	fault.Mismatch:        http.StatusUnprocessableEntity,
	fault.Limited:         http.StatusTooManyRequests,
	fault.OverBudget:      http.StatusTooManyRequests,
	fault.TooManyStreams:  http.StatusTooManyRequests,
	fault.QueueFull:       http.StatusServiceUnavailable,
	fault.Overloaded:      http.StatusServiceUnavailable,
	fault.AIFailed:        http.StatusBadGateway,
	fault.AIUnavailable:   http.StatusServiceUnavailable,
	fault.Unavailable:     http.StatusServiceUnavailable,
	fault.Disabled:        http.StatusServiceUnavailable,
	fault.Internal:        http.StatusInternalServerError,
}

// asFault returns the fault that may be shown for an error. An error that is no
// fault becomes an internal one, without its cause.
func asFault(err error) (*fault.Error, int) {
	f := fault.As(err)
	kind := fault.KindOf(err)
	status, ok := statusOf[kind]
	switch {
	case !ok || kind == fault.Internal: // its own sentence is for operators too
		return fault.Wrap(err, fault.Internal, "Internal server error"), http.StatusInternalServerError
	case f == nil:
		f = fault.Wrap(err, fault.Unavailable, "Service temporarily unavailable")
	}
	return f, status
}

// writeProblem writes err as an RFC 9457 problem. Beside its standard members it
// has error.code and error.message, which the clients of the reference system
// read, and message, which its hook reads. A fault's details are members of both.
func writeProblem(w http.ResponseWriter, err error) {
	f, status := asFault(err)
	inner := map[string]any{}
	body := map[string]any{}
	for name, value := range f.Details {
		inner[name], body[name] = value, value
	}
	inner["code"], inner["message"] = f.Kind, f.Message
	body["type"] = problemType(f.Kind)
	body["title"] = http.StatusText(status)
	body["status"] = status
	body["detail"] = f.Message
	body["message"] = f.Message
	body["requestId"] = w.Header().Get(requestID)
	body["error"] = inner

	w.Header().Set("Content-Type", MediaProblem)
	setRefusalHeaders(w.Header(), f, status)
	raw, err := json.Marshal(body)
	if err != nil { // a detail that is no JSON
		raw = []byte(`{"type":"about:blank","status":` + strconv.Itoa(status) + `}`)
	}
	writeBody(w, status, raw)
}

func problemType(kind fault.Kind) string {
	return "urn:parley:problem:" + strings.ReplaceAll(strings.ToLower(string(kind)), "_", "-")
}

// setRefusalHeaders sets the headers that refusals have in any format.
func setRefusalHeaders(h http.Header, f *fault.Error, status int) {
	h.Set("Cache-Control", "no-store")
	switch status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="parley"`)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", strconv.Itoa(seconds(f.RetryAfter)))
	}
	if limit, ok := f.Details["limit"].(int); ok && f.Kind == fault.Limited && h.Get("RateLimit") == "" {
		reset, _ := f.Details["reset"].(string)
		setLimitHeaders(h, "all", limit, 0, reset, f.RetryAfter)
	}
}

// errorCode is the header of a plain refusal's code.
const errorCode = "X-Error-Code"

// detailHeaders are the headers of a plain refusal for details of its fault.
var detailHeaders = map[string]string{
	"limit": "X-Error-Limit", "reset": "X-Error-Reset", "budget": "X-Error-Budget", "runId": "X-Error-Run-Id",
}

// writePlainRefusal writes err as a sentence in plain text, for clients that show
// the body of a refusal to people. Headers have the code and the details.
func writePlainRefusal(w http.ResponseWriter, err error) {
	f, status := asFault(err)
	h := w.Header()
	h.Set("Content-Type", MediaText+"; charset=utf-8")
	h.Set(errorCode, string(f.Kind))
	for name, header := range detailHeaders {
		switch v := f.Details[name].(type) {
		case string:
			h.Set(header, v)
		case int:
			h.Set(header, strconv.Itoa(v))
		}
	}
	setRefusalHeaders(h, f, status)
	writeBody(w, status, []byte(f.Message))
}

// seconds is a Retry-After: whole seconds, at least one.
func seconds(d time.Duration) int { return max(1, int(math.Ceil(d.Seconds()))) }

// setLimitHeaders says what is left of the caller's limit: the X- fields of the reference
// system, and the fields of the IETF's draft. t of the latter is at most the
// window, of which the limiters may count a second more.
func setLimitHeaders(h http.Header, policy string, limit, remaining int, reset string, wait time.Duration) {
	h.Set("X-RateLimit-Limit", strconv.Itoa(limit))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(remaining))
	h.Set("X-RateLimit-Reset", reset)
	h.Set("RateLimit-Policy", `"`+policy+`";q=`+strconv.Itoa(limit)+";w="+strconv.Itoa(int(access.Window.Seconds())))
	h.Set("RateLimit", `"`+policy+`";r=`+strconv.Itoa(remaining)+";t="+strconv.Itoa(seconds(min(wait, access.Window))))
}
