package httpapi_test

import (
	"html"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"parley/adapters/httpapi"
)

// TestReference: the page describes every route, loads nothing but its style
// sheet, has no script, and each of its links leads somewhere.
func TestReference(t *testing.T) {
	api, err := newAPI(func(c *httpapi.Config) { c.Reference = true })
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string, headers ...string) *httptest.ResponseRecorder {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, path, nil)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		return w
	}
	w := get("/docs", "Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	page := w.Body.String()
	if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
		t.Fatalf("%d %s", w.Code, w.Header())
	}
	policy := w.Header().Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; style-src 'self';") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "script-src") {
		t.Errorf("policy %q", policy)
	}
	for _, banned := range []string{"<script", " style=", " on", "javascript:", "http://", "https://cdn"} {
		if banned == " on" {
			if regexp.MustCompile(` on[a-z]+="`).MatchString(page) {
				t.Error("the page has a handler of an event")
			}
			continue
		}
		if strings.Contains(page, banned) {
			t.Errorf("the page has %s", banned)
		}
	}
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if ids[m[1]] {
			t.Errorf("the id %s stands twice", m[1])
		}
		ids[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`href="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if name, here := strings.CutPrefix(m[1], "#"); here {
			if !ids[name] {
				t.Errorf("a link leads to #%s, where nothing is", name)
			}
		} else if got := get(m[1]); got.Code != http.StatusOK {
			t.Errorf("%s answers %d", m[1], got.Code)
		}
	}
	d := description(t)
	for path, item := range d.Paths.Map() {
		for method, op := range item.Operations() {
			if !ids[op.OperationID] || !strings.Contains(page, html.EscapeString(op.Summary)) {
				t.Errorf("%s %s is not on the page", method, path)
			}
		}
	}
	for name := range d.Components.Schemas {
		if !ids[name] {
			t.Errorf("the schema %s is not on the page", name)
		}
	}
	for _, want := range []string{"RATE_LIMITED", "What is a monad?", "text/event-stream"} {
		if !strings.Contains(page, want) {
			t.Errorf("%s is not on the page", want)
		}
	}
	if again := get("/docs", "If-None-Match", w.Header().Get("ETag")); again.Code != http.StatusNotModified {
		t.Errorf("the same page again: %d", again.Code)
	}

	without, err := newAPI()
	if err != nil {
		t.Fatal(err)
	}
	off := httptest.NewRecorder()
	without.ServeHTTP(off, httptest.NewRequest(http.MethodGet, "/docs", nil))
	if off.Code != http.StatusNotFound {
		t.Errorf("switched off: %d", off.Code)
	}
}
