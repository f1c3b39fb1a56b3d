package httpapi

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// statusOf is the only place where a kind of fault meets HTTP.
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
	fault.Internal:        http.StatusInternalServerError,
}

// asFault returns what may be said about an error. What is no fault is told as
// an internal one, without a word of the cause.
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

// problem writes err as an RFC 9457 problem. Beside its standard members stand
// error.code and error.message, which the clients of the reference system read,
// and message, which its hook reads. A fault's details are members of both.
func problem(w http.ResponseWriter, err error) {
	f, status := asFault(err)
	inner := map[string]any{}
	body := map[string]any{}
	for name, value := range f.Details {
		if m, ok := value.(chat.Message); ok {
			value = messageOf(m)
		}
		inner[name], body[name] = value, value
	}
	inner["code"], inner["message"] = f.Kind, f.Message
	body["type"] = "urn:parley:problem:" + strings.ReplaceAll(strings.ToLower(string(f.Kind)), "_", "-")
	body["title"] = http.StatusText(status)
	body["status"] = status
	body["detail"] = f.Message
	body["message"] = f.Message
	body["requestId"] = w.Header().Get(requestID)
	body["error"] = inner

	h := w.Header()
	h.Set("Content-Type", mediaProblem)
	h.Set("Cache-Control", "no-store")
	switch status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="parley"`)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", strconv.Itoa(seconds(f.RetryAfter)))
	}
	if limit, ok := f.Details["limit"].(int); ok && f.Kind == fault.Limited && h.Get("RateLimit") == "" {
		reset, _ := f.Details["reset"].(string)
		limitHeaders(h, "all", limit, 0, reset, f.RetryAfter)
	}
	raw, err := json.Marshal(body)
	if err != nil { // a detail that is no JSON
		raw = []byte(`{"type":"about:blank","status":` + strconv.Itoa(status) + `}`)
	}
	write(w, status, raw)
}

// seconds is a Retry-After: whole ones, and never "at once".
func seconds(d time.Duration) int { return max(1, int(math.Ceil(d.Seconds()))) }

// limitHeaders tells where the caller stands: the X- fields of the reference
// system, and the fields of the IETF's draft. t of the latter is at most the
// window, of which the limiters may count a second more.
func limitHeaders(h http.Header, policy string, limit, remaining int, reset string, wait time.Duration) {
	h.Set("X-RateLimit-Limit", strconv.Itoa(limit))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(remaining))
	h.Set("X-RateLimit-Reset", reset)
	h.Set("RateLimit-Policy", `"`+policy+`";q=`+strconv.Itoa(limit)+";w="+strconv.Itoa(int(access.Window.Seconds())))
	h.Set("RateLimit", `"`+policy+`";r=`+strconv.Itoa(remaining)+";t="+strconv.Itoa(seconds(min(wait, access.Window))))
}

// fail is what kit does with errors of decoders, use cases and encoders: it
// answers, and states the fact.
func (a *API) fail(ctx context.Context, err error, w http.ResponseWriter) {
	if fault.KindOf(err) == fault.Canceled && ctx.Err() != nil {
		return // nobody is listening
	}
	problem(w, err)
	c := callOf(ctx)
	f, status := asFault(err)
	switch {
	case f.Kind == fault.AIFailed || f.Kind == fault.AIUnavailable || f.Kind == fault.Limited:
		// The first two are ends of runs, and the gate has told of the third.
	case f.Kind == fault.NotFound || f.Kind == fault.Forbidden:
		a.Gate.Refuse(ctx, c.principal, c.caller, c.route.Label(), f.Kind)
	case status < 500 || f.Kind == fault.QueueFull || f.Kind == fault.Overloaded || f.Kind == fault.Unavailable && f.Cause == nil:
		a.Observer.Observe(ctx, ports.Refused{Kind: f.Kind, Tier: c.principal.Tier, UserID: c.principal.UserID})
	default:
		a.Observer.Observe(ctx, ports.RequestFailed{Route: c.route.Label(), Sends: c.route.Access == Sends, Kind: f.Kind, Err: err})
	}
}
