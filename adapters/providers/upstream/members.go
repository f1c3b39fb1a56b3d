package upstream

import (
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Members are names of members of a request.
type Members []string

// Has reports whether name is among them.
func (m Members) Has(name string) bool { return slices.Contains(m, name) }

// refusedMembers remembers which optional members a server refuses, for each
// model: one server may pass requests on to many.
type refusedMembers struct {
	mu      sync.Mutex
	byModel map[string]Members
}

// maxRemembered bounds the models that are remembered.
const maxRemembered = 1000

func (r *refusedMembers) of(model string) Members {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byModel[model]
}

func (r *refusedMembers) remember(model string, omit Members) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byModel == nil || len(r.byModel) >= maxRemembered {
		r.byModel = map[string]Members{}
	}
	for _, name := range omit {
		if known := r.byModel[model]; !known.Has(name) {
			r.byModel[model] = append(slices.Clip(known), name)
		}
	}
}

// member returns the optional member that a refusal names, or "". A refusal
// for another known reason, such as too many tokens, may mention members too.
func (r Refusal) member(optional []string) string {
	switch r.Status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusNotImplemented:
	default:
		return ""
	}
	if r.reason() != BadRequest && r.Status != http.StatusNotImplemented {
		return ""
	}
	switch param, _, _ := strings.Cut(r.Param, "."); {
	case slices.Contains(optional, param):
		return param
	case strings.HasPrefix(param, "messages"), param == "model", param == "system":
		return ""
	}
	first, at := "", len(r.Message)
	for _, name := range optional {
		for _, word := range append([]string{name}, innerMembers[name]...) {
			if i := indexWord(r.Message, word); i >= 0 && i < at {
				first, at = name, i
			}
		}
	}
	return first
}

// innerMembers are the members of optional ones, which an error may name instead.
var innerMembers = map[string][]string{
	"stream_options": {"include_usage"},
	"metadata":       {"user_id"},
	"thinking":       {"budget_tokens"},
	"output_config":  {"effort"},
}

// indexWord returns where name stands in text as a word of its own, or -1.
func indexWord(text, name string) int {
	for from := 0; ; {
		i := strings.Index(text[from:], name)
		if i < 0 {
			return -1
		}
		start, end := from+i, from+i+len(name)
		if (start == 0 || !wordByte(text[start-1])) && (end == len(text) || !wordByte(text[end])) {
			return start
		}
		from = end
	}
}

func wordByte(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
