package upstream

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"parley/ports"
)

// Refusal is an error that a provider reports, instead of a stream or in the
// middle of one. Param and Message are read to classify the error, and never
// passed on: they may quote a key or a message of the user's.
type Refusal struct {
	Status  int // HTTP; 200 in the middle of a stream
	Type    string
	Code    string
	Param   string // the request member that the error names
	Message string
	Header  http.Header
}

// ReadRefusal reads the refusal from an error response, and closes its body.
func ReadRefusal(resp *http.Response) Refusal {
	data, _ := io.ReadAll(resp.Body) // as much as the size limit admits
	_ = resp.Body.Close()
	if !gjson.ValidBytes(data) {
		return Refusal{Status: resp.StatusCode, Header: resp.Header, Message: string(data)}
	}
	return ParseRefusal(gjson.ParseBytes(data), resp.StatusCode, resp.Header)
}

// ParseRefusal reads the JSON of an error in the shapes that servers give it:
//
//	{"error": {"type", "code", "param", "message"}}   OpenAI, Anthropic; a list of one from Gemini
//	{"error": "message"}                              Ollama
//	{"type", "code", "param", "message"}              Mistral, vLLM
//	{"detail": "message"}                             FastAPI
//	{"detail": [{"loc": ["body", "member"], "msg"}]}  FastAPI, for members that it refuses
//
// Of any other shape the whole body is taken for the message.
//
// A code that is a number is an HTTP status, which counts when status is 200.
func ParseRefusal(body gjson.Result, status int, header http.Header) Refusal {
	r := Refusal{Status: status, Header: header}
	if body.IsArray() {
		body = body.Get("0")
	}
	e := body
	if inner := body.Get("error"); inner.Exists() {
		e = inner
	}
	detail := body.Get("detail")
	switch {
	case e.Type == gjson.String:
		r.Message = e.Str
	case detail.IsArray():
		for _, item := range detail.Array() {
			for _, name := range item.Get("loc").Array() {
				if name.Str != "body" && r.Param == "" {
					r.Param = name.String()
				}
			}
			r.Message += item.Get("msg").Str + " "
		}
	default:
		r.Type, r.Param = cmp.Or(e.Get("type").Str, e.Get("status").Str), e.Get("param").Str
		r.Message = cmp.Or(e.Get("message").Str, detail.Str)
		code := e.Get("code")
		r.Code = code.String()
		if n := code.Int(); status == http.StatusOK && n >= 400 && n < 600 {
			r.Status = int(n)
		}
	}
	if r.Message == "" {
		r.Message = body.Raw
	}
	return r
}

// types classifies by the codes and types that providers give their errors.
// They go before the status: in the middle of a stream the status is 200.
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
	"UNAVAILABLE":             Overloaded, // Gemini

	"api_error":             ServerError,
	"server_error":          ServerError,
	"internal_server_error": ServerError,
	"timeout_error":         ServerError,

	"authentication_error":         KeyRefused,
	"permission_error":             KeyRefused,
	"invalid_api_key":              KeyRefused,
	"invalid_api_key_error":        KeyRefused,
	"incorrect_api_key_error":      KeyRefused, // Moonshot
	"invalid_authentication_error": KeyRefused, // Moonshot
	"account_deactivated":          KeyRefused,
	"invalid_organization":         KeyRefused,
	"PERMISSION_DENIED":            KeyRefused, // Gemini
	"UNAUTHENTICATED":              KeyRefused, // Gemini

	"model_not_found": UnknownModel,
	"not_found_error": UnknownModel,

	"context_length_exceeded":   TooLong,
	"request_too_large":         TooLong,
	"exceed_context_size_error": TooLong, // llama.cpp

	"content_policy_violation": BadRequest,
	"content_filter":           BadRequest,
	"moderation":               BadRequest, // OpenRouter, with status 403
}

// phrases classifies by parts of sentences, in lower case, where types and
// codes say less.
var phrases = []struct {
	part   string
	reason Reason
}{
	{"credit balance", QuotaExhausted},
	{"prompt is too long", TooLong},
	{"maximum context length", TooLong},
	{"api key not valid", KeyRefused}, // Gemini, with status 400
	{"api key expired", KeyRefused},
	{"incorrect api key", KeyRefused},
	{"invalid api key", KeyRefused},
	{"requires moderation", BadRequest}, // OpenRouter, with status 403
}

// Fault classifies a refusal: by code, by type, by phrases of its message, and
// at last by status.
func (r Refusal) Fault() error { return r.fault(r.reason()) }

// fileWords are in the sentences with which servers refuse files, in lower case.
// Not all of them say that it is a file that they refuse.
var fileWords = []string{
	"image", "vision", "multimodal", "multi-modal", "mmproj", "document", "pdf", "file", "base64", "media type", "media_type",
	"content must be a string", "content type", "valid string",
}

// ofFile reports whether a request with files was refused because of them: the
// server cannot read such files, or not this one.
func (r Refusal) ofFile() bool {
	for _, name := range []string{r.Code, r.Type} {
		if _, known := types[name]; known && types[name] != ServerError && types[name] != UnknownModel {
			return false
		}
	}
	message := strings.ToLower(r.Message + " " + r.Code + " " + r.Param)
	names := slices.ContainsFunc(fileWords, func(word string) bool { return strings.Contains(message, word) })
	switch r.Status {
	case http.StatusBadRequest, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusNotImplemented:
		return names && r.reason() != TooLong && r.reason() != QuotaExhausted && r.reason() != KeyRefused
	case http.StatusNotFound, http.StatusInternalServerError: // OpenRouter; llama.cpp
		return names && strings.Contains(message, "support")
	}
	return false
}

func (r Refusal) fault(reason Reason) error {
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
		return KeyRefused
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
		return seconds(ms / 1000)
	}
	v := h.Get("Retry-After")
	if s, err := strconv.ParseFloat(v, 64); err == nil && s > 0 {
		return seconds(s)
	}
	if at, err := http.ParseTime(v); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// seconds converts a number of seconds, and returns at most a day.
func seconds(n float64) time.Duration {
	return time.Duration(min(n, 86400) * float64(time.Second))
}

// label shortens a provider's code to at most 64 plain characters, which are
// safe to log.
func label(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-.:", r) {
			return r
		}
		return -1
	}, s)
	return s[:min(len(s), 64)]
}

// ReportHeadroom returns a Client.OnHeader that reports to o which part of each
// rate limit remains. limit and remaining are the names of the two headers, in
// which %s stands for requests or tokens. Without an observer it returns nil.
func ReportHeadroom(o ports.Observer, provider, limit, remaining string) func(context.Context, http.Header) {
	if o == nil {
		return nil
	}
	return func(ctx context.Context, h http.Header) {
		for _, kind := range []string{"requests", "tokens"} {
			if ratio, ok := headroom(h, fmt.Sprintf(limit, kind), fmt.Sprintf(remaining, kind)); ok {
				o.Observe(ctx, ports.ProviderHeadroom{Provider: provider, Kind: kind, Ratio: ratio})
			}
		}
	}
}

// headroom reads which part of a rate limit remains, from 0 to 1, from a pair
// of headers; ok is false when they are absent or not numbers.
func headroom(h http.Header, limit, remaining string) (ratio float64, ok bool) {
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
