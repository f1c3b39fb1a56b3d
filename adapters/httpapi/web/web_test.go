package web_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"parley/adapters/httpapi"
	"parley/adapters/httpapi/web"
	"parley/app/gate"
)

type observer struct{}

func (observer) Observe(context.Context, any) {}

// serve returns an API with the page.
func serve(t *testing.T, o web.Options) http.Handler {
	t.Helper()
	routes, err := web.Routes(o)
	if err != nil {
		t.Fatal(err)
	}
	api, err := httpapi.New(httpapi.Config{
		Gate: gate.New(gate.Deps{Observer: observer{}}, nil), Observer: observer{}, Now: time.Now, Health: func(context.Context) httpapi.Health { return httpapi.Health{Status: httpapi.HealthOK} },
	}, routes)
	if err != nil {
		t.Fatal(err)
	}
	return api
}

func do(t *testing.T, h http.Handler, method, target string, headers ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	res := w.Result()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestPage_Headers(t *testing.T) {
	h := serve(t, web.Options{})
	for _, target := range []string{"/", "/?c=some", "/share/some-token"} {
		res, body := do(t, h, "GET", target)
		if res.StatusCode != 200 || !strings.HasPrefix(body, "<!doctype html>") {
			t.Errorf("%s: %d %.80q", target, res.StatusCode, body)
		}
		for name, want := range map[string]string{
			"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff",
			"Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex",
		} {
			if got := res.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", target, name, got, want)
			}
		}
		if res.Header.Get("X-Request-Id") == "" || len(res.Cookies()) > 0 {
			t.Errorf("%s: %v", target, res.Header)
		}
		policy := res.Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' blob:", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: the policy lacks %s: %s", target, want, policy)
			}
		}
		if regexp.MustCompile(`unsafe|https?:|\*|data:`).MatchString(policy) {
			t.Errorf("%s: the policy lets too much through: %s", target, policy)
		}
	}
}

// Nothing on the page needs what its policy forbids, and nothing comes from elsewhere.
func TestPage_KeepsItsPolicy(t *testing.T) {
	h := serve(t, web.Options{})
	_, page := do(t, h, "GET", "/")
	for _, forbidden := range []string{`<script>`, `<style`, ` style=`, ` onclick=`, ` onload=`, `javascript:`, `"http://`, `"https://`, `"//`} {
		if strings.Contains(page, forbidden) {
			t.Errorf("the page has %s", forbidden)
		}
	}
	for name, body := range static(t, h) {
		if !strings.HasSuffix(strings.SplitN(name, "-", 2)[1], ".js") {
			continue
		}
		for _, forbidden := range []string{"eval(", "new Function", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "from 'http"} {
			if strings.Contains(body, forbidden) {
				t.Errorf("%s has %s", name, forbidden)
			}
		}
	}
}

var address = regexp.MustCompile(`"(/static/[^"]+)"`)

// static returns the files that the page refers to, and those that they refer to.
func static(t *testing.T, h http.Handler) map[string]string {
	t.Helper()
	out := map[string]string{}
	_, page := do(t, h, "GET", "/")
	for queue := []string{page}; len(queue) > 0; queue = queue[1:] {
		for _, m := range address.FindAllStringSubmatch(queue[0], -1) {
			if _, ok := out[m[1]]; ok {
				continue
			}
			res, body := do(t, h, "GET", m[1])
			if res.StatusCode != 200 {
				t.Fatalf("%s: %d", m[1], res.StatusCode)
			}
			out[m[1]], queue = body, append(queue, body)
		}
	}
	return out
}

func TestStatic_HashedAndImmutable(t *testing.T) {
	h := serve(t, web.Options{})
	files := static(t, h)
	if len(files) < 10 {
		t.Fatalf("the page refers to %d files", len(files))
	}
	for name := range files {
		if !regexp.MustCompile(`^/static/[a-z-]+-[0-9a-f]{16}\.(js|css|svg)$`).MatchString(name) {
			t.Errorf("%s has no hash in its name", name)
		}
		res, _ := do(t, h, "GET", name)
		if got := res.Header.Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
			t.Errorf("%s: Cache-Control is %q", name, got)
		}
		want := map[string]string{".js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}[name[len(name)-3:]]
		if got := res.Header.Get("Content-Type"); got != want {
			t.Errorf("%s: Content-Type is %q, want %q", name, got, want)
		}
		if len(res.Cookies()) > 0 || res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", name, res.Header)
		}
	}
	for _, name := range []string{"/static/main.js", "/static/main-0000000000000000.js", "/static/index.html", "/static/..%2fweb.go", "/static/"} {
		if res, body := do(t, h, "GET", name); res.StatusCode != 404 || !strings.Contains(body, `"NOT_FOUND"`) {
			t.Errorf("%s: %d %s", name, res.StatusCode, body)
		}
	}
}

func TestPage_Conditional(t *testing.T) {
	h := serve(t, web.Options{})
	file := address.FindStringSubmatch(func() string { _, page := do(t, h, "GET", "/"); return page }())[1]
	for _, target := range []string{"/", "/share/t", file} {
		res, body := do(t, h, "GET", target)
		etag := res.Header.Get("ETag")
		if etag == "" {
			t.Errorf("%s has no ETag", target)
		}
		for _, match := range []string{etag, "W/" + etag, `"other", ` + etag, "*"} {
			if res, body := do(t, h, "GET", target, "If-None-Match", match); res.StatusCode != 304 || body != "" || res.Header.Get("ETag") != etag {
				t.Errorf("%s, If-None-Match %s: %d %.40q", target, match, res.StatusCode, body)
			}
		}
		if res, _ := do(t, h, "GET", target, "If-None-Match", `"other"`); res.StatusCode != 200 {
			t.Errorf("%s, of another version: %d", target, res.StatusCode)
		}
		head, none := do(t, h, "HEAD", target)
		if head.StatusCode != 200 || head.Header.Get("Content-Length") != res.Header.Get("Content-Length") || head.Header.Get("ETag") != etag {
			t.Errorf("HEAD %s: %d %v, %d bytes for %d", target, head.StatusCode, head.Header, len(none), len(body))
		}
		if res, _ := do(t, h, "POST", target); res.StatusCode != 405 || res.Header.Get("Allow") != "GET, HEAD, OPTIONS" {
			t.Errorf("POST %s: %d, Allow %q", target, res.StatusCode, res.Header.Get("Allow"))
		}
	}
}

func TestPage_SignInAddress(t *testing.T) {
	_, page := do(t, serve(t, web.Options{SignInURL: `https://app.example.com/in?a=1&b="><script>`}), "GET", "/")
	if !strings.Contains(page, `content="https://app.example.com/in?a=1&amp;b=&#34;&gt;&lt;script&gt;"`) {
		t.Errorf("the address to sign in at is not on the page: %s", page[:700])
	}
}

// The page is no part of the API.
func TestPage_NotDescribed(t *testing.T) {
	_, description := do(t, serve(t, web.Options{}), "GET", "/api/openapi.json")
	if strings.Contains(description, `"/"`) || strings.Contains(description, "/static/") || !strings.Contains(description, "/api/health") {
		t.Errorf("described: %s", description)
	}
}
