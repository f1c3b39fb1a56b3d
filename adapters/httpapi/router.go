package httpapi

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"parley/domain/fault"
)

// router finds the handler of a request by its path and method. Unlike those of
// http.ServeMux its patterns may overlap without one being narrower, as
// /api/chat/{id}/stream and /api/chat/messages/{id} do: a pattern without the
// method is passed over, and a literal segment goes before a wildcard.
type router struct{ patterns []pattern }

// pattern is a path whose segments are literals or wildcards.
type pattern struct {
	path     string
	segments []string
	methods  map[string]http.Handler
}

func isWildcard(segment string) bool { return strings.HasPrefix(segment, "{") }

// handle adds a handler. The patterns are kept in the order in which they are
// tried.
func (t *router) handle(method, path string, h http.Handler) {
	i := slices.IndexFunc(t.patterns, func(p pattern) bool { return p.path == path })
	if i < 0 {
		i = len(t.patterns)
		t.patterns = append(t.patterns, pattern{path, strings.Split(path, "/"), map[string]http.Handler{}})
	}
	t.patterns[i].methods[method] = h
	slices.SortStableFunc(t.patterns, func(a, b pattern) int {
		return slices.CompareFunc(a.segments, b.segments, func(x, y string) int {
			switch {
			case isWildcard(x) == isWildcard(y):
				return cmp.Compare(x, y)
			case isWildcard(x):
				return 1
			}
			return -1
		})
	})
}

// values returns what the wildcards of the pattern stand for in a path of these
// segments; ok is false if the pattern is another one.
func (p pattern) values(segments []string) (values map[string]string, ok bool) {
	if len(segments) != len(p.segments) {
		return nil, false
	}
	for i, segment := range p.segments {
		switch {
		case !isWildcard(segment):
			if segments[i] != segment {
				return nil, false
			}
		case segments[i] == "":
			return nil, false
		default:
			if values == nil {
				values = map[string]string{}
			}
			values[strings.Trim(segment, "{}")] = segments[i]
		}
	}
	return values, true
}

// ServeHTTP leaves the pattern in r.Pattern and what its wildcards stand for in
// r.PathValue.
func (t *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	segments := strings.Split(r.URL.EscapedPath(), "/")
	for i, s := range segments {
		plain, err := url.PathUnescape(s)
		if err != nil {
			notFound(w, r)
			return
		}
		segments[i] = plain
	}
	r.Pattern = "/"
	var allowed []string
	for _, p := range t.patterns {
		values, ok := p.values(segments)
		if !ok {
			continue
		}
		h, ok := p.methods[r.Method]
		if r.Pattern == "/" || ok {
			r.Pattern = p.path
		}
		if !ok {
			for method := range p.methods {
				allowed = append(allowed, method)
			}
			continue
		}
		for name, value := range values {
			r.SetPathValue(name, value)
		}
		h.ServeHTTP(w, r)
		return
	}
	if len(allowed) == 0 {
		notFound(w, r)
		return
	}
	allowed = append(allowed, http.MethodOptions)
	slices.Sort(allowed)
	w.Header().Set("Allow", strings.Join(slices.Compact(allowed), ", "))
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	writeProblem(w, fault.New(fault.Method, "Method not allowed"))
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	writeProblem(w, fault.New(fault.NotFound, "Not found"))
}
