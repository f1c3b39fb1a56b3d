package boot_test

import (
	"net/http"
	"strings"
	"testing"
)

// In development mode a browser on this machine is signed in by opening the page.
func TestServe_PageSignsIn(t *testing.T) {
	t.Parallel()
	p := start(t, "DATA_DIR="+dataDir(t))
	page := call(t, "GET", p.url+"/", "")
	if page.status != http.StatusOK || !strings.HasPrefix(page.body, "<!doctype html>") {
		t.Fatalf("the page: %d %.100s", page.status, page.body)
	}
	session := page.header.Get("Set-Cookie")
	for _, want := range []string{"authjs.session-token=", "HttpOnly", "SameSite=Strict", "Path=/"} {
		if !strings.Contains(session, want) {
			t.Errorf("the session's cookie lacks %s: %s", want, session)
		}
	}
	cookie, _, _ := strings.Cut(session, ";")
	if a := call(t, "GET", p.url+"/api/chat/usage", "", "Cookie: "+cookie); a.status != http.StatusOK {
		t.Errorf("with the session: %d %s", a.status, a.body)
	}
	if a := call(t, "GET", p.url+"/", "", "Cookie: "+cookie); a.header.Get("Set-Cookie") != "" {
		t.Error("a session that is valid was replaced")
	}
	if a := call(t, "GET", p.url+"/", "", "If-None-Match: "+page.header.Get("ETag")); a.status != http.StatusOK || a.header.Get("Set-Cookie") == "" {
		t.Errorf("with a current copy, but without a session: %d", a.status)
	}
	// Another site may have given this address a name of its own, and a proxy on
	// this machine may have other people behind it.
	for _, header := range []string{"Host: evil.example:8080", "Host: 192.0.2.1:8080", "X-Forwarded-For: 127.0.0.1", "Forwarded: for=192.0.2.1", "Via: 1.1 proxy"} {
		if a := call(t, "GET", p.url+"/", "", header); a.status != http.StatusOK || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %d, %q", header, a.status, a.header.Get("Set-Cookie"))
		}
	}
	for _, path := range []string{"/share/token", "/api/health", "/static/x"} {
		if a := call(t, "GET", p.url+path, ""); a.header.Get("Set-Cookie") != "" {
			t.Errorf("%s signs in", path)
		}
	}
}

// With a secret the page is off unless it is asked for, and signs no user in.
func TestServe_PageIsOffOutsideDevelopment(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env    []string
		status int
	}{
		"production":  {[]string{"AUTH_SECRET=" + testSecret}, http.StatusNotFound},
		"asked for":   {[]string{"AUTH_SECRET=" + testSecret, "WEB_UI=true", "NEXTAUTH_URL=https://app.example.com"}, http.StatusOK},
		"development": {[]string{"WEB_UI=false"}, http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, append(c.env, "DATA_DIR="+dataDir(t))...)
			for _, path := range []string{"/", "/share/token"} {
				a := call(t, "GET", p.url+path, "")
				if a.status != c.status || a.header.Get("Set-Cookie") != "" {
					t.Errorf("%s: %d %v", path, a.status, a.header)
				}
				if c.status == http.StatusNotFound && at(a.json(t), "error", "code") != "NOT_FOUND" {
					t.Errorf("%s: %s", path, a.body)
				}
			}
			if strings.Contains(p.out.String(), "in a browser") != (c.status == http.StatusOK && name != "asked for") {
				t.Errorf("the banner: %s", p.out.String())
			}
		})
	}
}
