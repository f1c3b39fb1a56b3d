package upstream

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Refusal is an error that a provider has put into words, before a stream or
// in the middle of one.
type Refusal struct {
	Status  int // HTTP; 200 in the middle of a stream
	Type    string
	Code    string
	Message string // read here, never passed on
	Header  http.Header
}

// types classifies by what providers call their errors. It goes before the
// status: in the middle of a stream the status is 200.
var types = map[string]Reason{
	"rate_limit_error":    RateLimited,
	"rate_limit_exceeded": RateLimited,
	"too_many_requests":   RateLimited,

	"insufficient_quota":         QuotaExhausted,
	"billing_error":              QuotaExhausted,
	"billing_not_active":         QuotaExhausted,
	"billing_hard_limit_reached": QuotaExhausted,

	"overloaded_error":        Overloaded,
	"overloaded":              Overloaded,
	"engine_overloaded":       Overloaded,
	"engine_overloaded_error": Overloaded,
	"service_unavailable":     Overloaded,
	"unavailable_error":       Overloaded, // llama.cpp, while it loads a model

	"api_error":             ServerError,
	"server_error":          ServerError,
	"internal_server_error": ServerError,
	"timeout_error":         ServerError,

	"authentication_error": Unauthorized,
	"permission_error":     Unauthorized,
	"invalid_api_key":      Unauthorized,

	"model_not_found": UnknownModel,
	"not_found_error": UnknownModel,

	"context_length_exceeded":   TooLong,
	"request_too_large":         TooLong,
	"exceed_context_size_error": TooLong, // llama.cpp

	"content_policy_violation": BadRequest,
	"content_filter":           BadRequest,
}

// phrases are the few sentences that say more than their type does.
var phrases = []struct {
	part   string
	reason Reason
}{
	{"credit balance", QuotaExhausted},
	{"prompt is too long", TooLong},
	{"maximum context length", TooLong},
}

// Fault classifies a refusal: by code, by type, by the few phrases that are
// known, and by status at last.
func (r Refusal) Fault() error {
	reason := r.reason()
	cause := fmt.Errorf("status %d, type %q, code %q", r.Status, label(r.Type), label(r.Code))
	if r.Header != nil {
		if id := label(cmp.Or(r.Header.Get("X-Request-Id"), r.Header.Get("Request-Id"))); id != "" {
			cause = fmt.Errorf("%w, request %s", cause, id)
		}
	}
	return Fail(reason, cause).After(retryAfter(r.Header, time.Now()))
}

func (r Refusal) reason() Reason {
	for _, name := range []string{r.Code, r.Type} {
		if reason, ok := types[name]; ok && reason != RateLimited {
			return reason
		}
	}
	message := strings.ToLower(r.Message)
	for _, p := range phrases {
		if strings.Contains(message, p.part) {
			return p.reason
		}
	}
	if types[r.Code] == RateLimited || types[r.Type] == RateLimited {
		return RateLimited
	}
	switch s := r.Status; {
	case s == http.StatusTooManyRequests:
		return RateLimited
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		return Unauthorized
	case s == http.StatusPaymentRequired:
		return QuotaExhausted
	case s == http.StatusNotFound:
		return UnknownModel
	case s == http.StatusRequestEntityTooLarge:
		return TooLong
	case s == http.StatusServiceUnavailable, s == 529:
		return Overloaded
	case s == http.StatusRequestTimeout, s == http.StatusConflict, s >= 500, s < 300:
		return ServerError
	}
	return BadRequest
}

// retryAfter reads how long to wait: milliseconds, seconds or a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if h == nil {
		return 0
	}
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms > 0 {
		return span(ms / 1000)
	}
	v := h.Get("Retry-After")
	if s, err := strconv.ParseFloat(v, 64); err == nil && s > 0 {
		return span(s)
	}
	if at, err := http.ParseTime(v); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// span is a number of seconds, at most a day.
func span(seconds float64) time.Duration {
	return time.Duration(min(seconds, 86400) * float64(time.Second))
}

// label makes a provider's word fit for a log: short, and of plain characters.
func label(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-.:", r) {
			return r
		}
		return -1
	}, s)
	return s[:min(len(s), 64)]
}

// Headroom reads how much of a rate limit is left, as a part of it, from a
// pair of headers; ok is false when the provider does not say.
func Headroom(h http.Header, limit, remaining string) (ratio float64, ok bool) {
	most, err := strconv.ParseFloat(h.Get(limit), 64)
	if err != nil || most <= 0 {
		return 0, false
	}
	left, err := strconv.ParseFloat(h.Get(remaining), 64)
	if err != nil || left < 0 {
		return 0, false
	}
	return min(left/most, 1), true
}
