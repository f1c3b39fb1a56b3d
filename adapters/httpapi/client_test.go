package httpapi_test

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"parley/adapters/httpapi"
	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/ports"
)

func TestCredentials(t *testing.T) {
	b := setup(t)
	bearer, session := "Bearer "+token(t, "ann"), cookie(t, "ann")
	long := strings.Split(session, "=")
	for name, tt := range map[string]struct {
		headers []string
		status  int
		code    string
		says    string
	}{
		"Bearer":            {[]string{"Authorization", bearer}, 200, "", ""},
		"BearerLowerCase":   {[]string{"Authorization", "bearer" + bearer[6:]}, 200, "", ""},
		"Cookie":            {[]string{"Cookie", session}, 200, "", ""},
		"CookieAmongOthers": {[]string{"Cookie", "theme=dark; " + session + "; lang=de"}, 200, "", ""},
		"CookieInPieces":    {[]string{"Cookie", long[0] + ".1=" + long[1][100:] + "; " + long[0] + ".0=" + long[1][:100]}, 200, "", ""},
		"CookieAsBearer":    {[]string{"Authorization", "Bearer " + long[1]}, 200, "", ""},
		"BasicBesideCookie": {[]string{"Cookie", session, "Authorization", "Basic cHJveHk6cHJveHk="}, 200, "", ""},
		"Both":              {[]string{"Cookie", session, "Authorization", bearer}, 400, "INVALID_INPUT", "Send either a session cookie or a bearer token, not both"},
		"None":              {nil, 401, "UNAUTHORIZED", "Authentication required"},
		"EmptyBearer":       {[]string{"Authorization", "Bearer "}, 401, "UNAUTHORIZED", "Authentication required"},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			a := b.do("", "GET", "/api/chat/conversations", "", tt.headers...)
			if tt.status == 200 {
				a.must(200)
			} else {
				a.refused(tt.status, tt.code, tt.says)
			}
		})
	}
	t.Run("Twice", func(t *testing.T) {
		b.t = t
		req := b.request("ann", "GET", "/api/chat/models", "")
		req.Header.Add("Authorization", "Bearer other")
		res, err := b.server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 400 {
			t.Errorf("status %d", res.StatusCode)
		}
	})
	b.t = t
	for _, r := range seen[ports.Refused](b) {
		if r.UserID != "" || r.Tier != access.Anonymous {
			t.Errorf("a stranger is told of as %+v", r)
		}
	}
}

// TestCrossOrigin: a cookie that the browser adds by itself changes something
// only for our own pages and the listed ones.
func TestCrossOrigin(t *testing.T) {
	t.Parallel()
	b := setup(t, func(s *settings) {
		s.AllowedOrigins = []string{"https://app.example.com/api/auth", "http://LOCALHOST:3000"}
	})
	session := cookie(t, "ann")
	for name, tt := range map[string]struct {
		headers []string
		allowed bool
	}{
		"Curl":                  {nil, true},
		"SameOrigin":            {[]string{"Sec-Fetch-Site", "same-origin"}, true},
		"Typed":                 {[]string{"Sec-Fetch-Site", "none"}, true},
		"SameSite":              {[]string{"Sec-Fetch-Site", "same-site", "Origin", "https://evil.example.com"}, false},
		"CrossSite":             {[]string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, false},
		"CrossSiteNoOrigin":     {[]string{"Sec-Fetch-Site", "cross-site"}, false},
		"Listed":                {[]string{"Sec-Fetch-Site", "same-site", "Origin", "https://app.example.com"}, true},
		"ListedOnLocalhost":     {[]string{"Sec-Fetch-Site", "cross-site", "Origin", "http://localhost:3000"}, true},
		"OldBrowserListed":      {[]string{"Origin", "https://app.example.com"}, true},
		"OldBrowserOther":       {[]string{"Origin", "https://evil.example"}, false},
		"OldBrowserSame":        {[]string{"Origin", "self"}, true},
		"NullOrigin":            {[]string{"Origin", "null"}, false},
		"ListedAsPrefix":        {[]string{"Sec-Fetch-Site", "cross-site", "Origin", "https://app.example.com.evil.example"}, false},
		"ListedOfAnotherScheme": {[]string{"Sec-Fetch-Site", "cross-site", "Origin", "http://app.example.com"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			headers := append([]string{"Cookie", session}, tt.headers...)
			for i, h := range headers {
				if h == "self" {
					headers[i] = b.server.URL
				}
			}
			for _, route := range b.api.Routes() {
				if route.Method == "GET" || !route.Access.NeedsCredential() {
					continue
				}
				target, body := fill(route, httpapi.Field{}, "")
				before := b.rows()
				a := b.do("", route.Method, target, body, headers...)
				if tt.allowed {
					if a.status == 403 {
						t.Errorf("%s: %s", route.Label(), a.raw)
					}
					continue
				}
				a.refused(403, "FORBIDDEN", "Cross-origin requests with a session cookie are refused")
				if after := b.rows(); after != before {
					t.Errorf("%s stored something: %s, then %s", route.Label(), before, after)
				}
			}
			// Reading changes nothing, and scripts of other origins cannot see it.
			a := b.do("", "GET", "/api/chat/conversations", "", headers...).must(200)
			if !tt.allowed && a.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("another origin may read: %v", a.header)
			}
		})
	}
	t.Run("BearerIsExempt", func(t *testing.T) {
		b.t = t
		b.do("ann", "POST", "/api/chat/conversations", "", "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example").must(201)
	})
	b.t = t
	if n := b.audited("ann", audit.ActionUnauthorizedAccess, "failure"); n == 0 {
		t.Error("nothing is audited")
	}
}

func TestCORS(t *testing.T) {
	b := setup(t, func(s *settings) { s.AllowedOrigins = []string{"https://app.example.com"} })
	a := b.do("ann", "GET", "/api/chat/models", "", "Origin", "https://app.example.com").must(200)
	if h := a.header; h.Get("Access-Control-Allow-Origin") != "https://app.example.com" || h.Get("Access-Control-Allow-Credentials") != "true" ||
		!strings.Contains(h.Get("Access-Control-Expose-Headers"), "X-Request-Id") || !strings.Contains(h.Get("Vary"), "Origin") {
		t.Errorf("%v", h)
	}
	preflight := []string{"Origin", "https://app.example.com", "Access-Control-Request-Method", "PATCH", "Access-Control-Request-Headers", "content-type,idempotency-key"}
	a = b.do("", "OPTIONS", "/api/chat/messages/x", "", preflight...).must(204)
	if h := a.header; h.Get("Access-Control-Allow-Origin") != "https://app.example.com" || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "PATCH") ||
		!strings.Contains(h.Get("Access-Control-Allow-Headers"), "Idempotency-Key") {
		t.Errorf("%v", h)
	}
	// Refusals can be read too.
	if a := b.do("", "GET", "/api/chat/models", "", "Origin", "https://app.example.com").must(401); a.header.Get("Access-Control-Allow-Origin") == "" {
		t.Error("the app cannot read why it was refused")
	}
	for _, origin := range []string{"https://evil.example", "null", "https://app.example.com.evil.example", "*", "http://app.example.com"} {
		preflight[1] = origin
		for _, a := range []answer{
			b.do("ann", "GET", "/api/chat/models", "", "Origin", origin),
			b.do("", "OPTIONS", "/api/chat/messages/x", "", preflight...),
		} {
			if got := a.header.Get("Access-Control-Allow-Origin"); got != "" || a.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s is answered with %q", origin, got)
			}
		}
	}
}

func TestNew_RefusesOrigins(t *testing.T) {
	for _, origin := range []string{"*", "null", "app.example.com", "ftp://app.example.com", "https://", "://"} {
		if _, err := httpapi.New(httpapi.Config{AllowedOrigins: []string{origin}}); err == nil {
			t.Errorf("%q is taken", origin)
		}
	}
}

func TestKillSwitch(t *testing.T) {
	b := setup(t, func(s *settings) { s.disabled = true })
	for _, route := range b.api.Routes() {
		target, body := fill(route, httpapi.Field{}, "")
		a := b.do("ann", route.Method, target, body)
		if route.Access == httpapi.Public {
			a.must(200)
			continue
		}
		if a.refused(503, "CHAT_DISABLED", "Chat temporarily unavailable").header.Get("Retry-After") != "60" {
			t.Errorf("%s: %v", route.Label(), a.header)
		}
	}
}

func TestHealth(t *testing.T) {
	b := setup(t)
	a := b.do("", "GET", "/api/health", "").must(200)
	if a.text("status") != "ok" || a.text("version") != "test" || a.text("components", "database", "status") != "ok" {
		t.Errorf("%s", a.raw)
	}
	b.health.Status = httpapi.HealthDegraded
	b.do("", "GET", "/api/health", "").must(200)
	b.health.Status = httpapi.HealthDown
	if a := b.do("", "GET", "/api/health", "").must(503); a.text("status") != "down" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s", a.raw)
	}
}

func TestModels(t *testing.T) {
	b := setup(t)
	a := b.do("ann", "GET", "/api/chat/models", "").must(200)
	want := `{"models":[{"id":"demo/demo","provider":"demo","model":"demo","default":true,"state":"closed","demo":true}]}`
	if a.raw != want {
		t.Errorf("%s", a.raw)
	}
}

func TestRequestID(t *testing.T) {
	b := setup(t)
	for given, kept := range map[string]bool{
		"0199a5f0-0000-7000": true, "short": false, "with space!": false, strings.Repeat("x", 65): false, "": false,
	} {
		got := b.do("", "GET", "/api/health", "", "X-Request-Id", given).header.Get("X-Request-Id")
		if got == "" || kept != (got == given) {
			t.Errorf("given %q, got %q", given, got)
		}
	}
}

// TestPanic: a fault in the program costs one answer, not the process.
func TestPanic(t *testing.T) {
	b := setup(t, func(s *settings) { s.model = nil })
	b.health.Components = nil
	api, err := httpapi.New(httpapi.Config{
		Gate: b.gate, Observer: b, Health: func(context.Context) httpapi.Health { panic("sk-secret") },
	})
	if err != nil {
		t.Fatal(err)
	}
	b.server.Config.Handler = api
	a := b.do("", "GET", "/api/health", "").refused(500, "INTERNAL_ERROR", "Internal server error")
	if strings.Contains(a.raw, "secret") {
		t.Errorf("%s", a.raw)
	}
	failed := seen[ports.RequestFailed](b)
	if len(failed) != 1 || strings.Contains(failed[0].Err.Error(), "secret") || failed[0].Route != "/api/health" {
		t.Fatalf("%v", failed)
	}
	var p ports.Panic
	if !errors.As(failed[0].Err, &p) || !strings.Contains(string(p.Stack), "client_test.go") {
		t.Errorf("no stack in %v", failed[0].Err)
	}
	b.do("", "GET", "/nope", "").must(404)
}

func TestProxies(t *testing.T) {
	b := setup(t)
	from := func(prefix string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(prefix)} }
	for name, tt := range map[string]struct {
		proxies httpapi.Proxies
		peer    string
		header  []string
		want    string
	}{
		"NoProxy":          {httpapi.Proxies{}, "127.0.0.1:1", []string{"9.9.9.9"}, "127.0.0.1"},
		"OneHop":           {httpapi.Proxies{Hops: 1}, "127.0.0.1:1", []string{"9.9.9.9"}, "9.9.9.9"},
		"OneHop/Spoofed":   {httpapi.Proxies{Hops: 1}, "127.0.0.1:1", []string{"1.2.3.4, 9.9.9.9"}, "9.9.9.9"},
		"TwoHops":          {httpapi.Proxies{Hops: 2, From: from("127.0.0.0/8")}, "127.0.0.1:1", []string{"1.2.3.4, 9.9.9.9, 10.0.0.1"}, "9.9.9.9"},
		"TwoHeaders":       {httpapi.Proxies{Hops: 2}, "127.0.0.1:1", []string{"9.9.9.9", "10.0.0.1"}, "9.9.9.9"},
		"TooFew":           {httpapi.Proxies{Hops: 2}, "127.0.0.1:1", []string{"9.9.9.9"}, "127.0.0.1"},
		"None":             {httpapi.Proxies{Hops: 1}, "127.0.0.1:1", nil, "127.0.0.1"},
		"Garbage":          {httpapi.Proxies{Hops: 1}, "127.0.0.1:1", []string{"evil"}, "127.0.0.1"},
		"IPv6":             {httpapi.Proxies{Hops: 1}, "[::1]:1", []string{"2001:db8::1"}, "2001:db8::1"},
		"IPv6Peer":         {httpapi.Proxies{}, "[fe80::1%eth0]:1", nil, "fe80::1"},
		"Mapped":           {httpapi.Proxies{Hops: 1}, "[::ffff:127.0.0.1]:1", []string{"::ffff:9.9.9.9"}, "9.9.9.9"},
		"NotOurProxy":      {httpapi.Proxies{Hops: 1, From: from("10.0.0.0/8")}, "8.8.8.8:1", []string{"9.9.9.9"}, "8.8.8.8"},
		"OursByItsNetwork": {httpapi.Proxies{Hops: 1, From: from("10.0.0.0/8")}, "10.1.1.1:1", []string{"9.9.9.9"}, "9.9.9.9"},
		"OursAsMapped":     {httpapi.Proxies{Hops: 1, From: from("10.0.0.0/8")}, "[::ffff:10.1.1.1]:1", []string{"9.9.9.9"}, "9.9.9.9"},
		"Socket":           {httpapi.Proxies{}, "@", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			config := b.config
			config.Proxies = tt.proxies
			api, err := httpapi.New(config, b.wires...)
			if err != nil {
				t.Fatal(err)
			}
			user := "user of " + name
			req := b.request(user, "POST", "/api/chat/conversations", "")
			req.RemoteAddr = tt.peer
			for _, h := range tt.header {
				req.Header.Add("X-Forwarded-For", h)
			}
			api.ServeHTTP(httptest.NewRecorder(), req)
			var ip sql.NullString
			err = b.store.DB().QueryRow("SELECT ip_address FROM audit_logs WHERE user_id = ?", user).Scan(&ip)
			if err != nil || ip.String != tt.want {
				t.Errorf("%q, %v; want %q", ip.String, err, tt.want)
			}
		})
	}
}

// TestProxies_SpoofedAddresses: strangers do not escape their limit by
// claiming to be others.
func TestProxies_SpoofedAddresses(t *testing.T) {
	b := setup(t, func(s *settings) {
		s.Proxies = httpapi.Proxies{Hops: 1}
		s.limits = access.Limits{access.Anonymous: 2}
	})
	statuses := map[int]int{}
	for i := range 40 {
		a := b.do("", "GET", "/api/chat/models", "", "X-Forwarded-For",
			netip.AddrFrom4([4]byte{1, 2, 3, byte(i)}).String()+", 9.9.9.9", "X-Real-IP", "5.6.7.8", "Forwarded", "for=5.6.7.8")
		statuses[a.status]++
	}
	if statuses[http.StatusUnauthorized] != 20 || statuses[http.StatusTooManyRequests] != 20 {
		t.Errorf("%v", statuses)
	}
}

// TestConversations goes through the life of one, in both styles.
func TestConversations(t *testing.T) {
	b := setup(t)
	const conversations = "/api/chat/conversations"
	const badTitle = "Title must be a string with max 200 characters"
	made := b.do("ann", "POST", conversations, `{"title":"Plans","systemPrompt":"Be brief.","id":"conv-1"}`).must(201)
	if made.text("id") != "conv-1" || made.text("userId") != "ann" || made.text("title") != "Plans" || made.text("systemPrompt") != "Be brief." {
		t.Errorf("%s", made.raw)
	}
	for _, name := range []string{"lastMessageAt", "createdAt", "updatedAt"} {
		if !isoTime.MatchString(made.text(name)) {
			t.Errorf("%s is %q", name, made.text(name))
		}
	}
	plain := b.do("ann", "POST", conversations, `{"title":null}`).must(201)
	if title, ok := plain.body["title"]; !ok || title != nil || plain.get("systemPrompt") != nil {
		t.Errorf("%s", plain.raw)
	}
	for _, body := range []string{`{"title":7}`, `{"title":"` + strings.Repeat("x", chat.MaxTitle+1) + `"}`, `{"title":"   "}`} {
		b.do("ann", "POST", conversations, body).refused(400, "INVALID_INPUT", badTitle)
	}
	b.do("ann", "POST", conversations, `{"title":"`+strings.Repeat("é", chat.MaxTitle)+`"}`).must(201)
	b.do("ann", "POST", conversations, `{"title":"x","owner":"bob"}`).refused(400, "INVALID_INPUT", "")

	if a := b.do("ann", "PATCH", conversations, `{"conversationId":"conv-1","title":"Better plans"}`).must(200); a.text("title") != "Better plans" {
		t.Errorf("%s", a.raw)
	}
	if a := b.do("ann", "PATCH", conversations+"/conv-1", `{"systemPrompt":"Be long."}`).must(200); a.text("title") != "Better plans" || a.text("systemPrompt") != "Be long." {
		t.Errorf("%s", a.raw)
	}
	b.do("ann", "PATCH", conversations, `{"title":"x"}`).refused(400, "INVALID_INPUT", "Conversation ID is required")
	b.do("ann", "PATCH", conversations, `{"conversationId":"conv-1"}`).refused(400, "INVALID_INPUT", badTitle)
	b.do("ann", "PATCH", conversations+"/conv-1", `{"title":""}`).refused(400, "INVALID_INPUT", badTitle)
	if a := b.do("ann", "GET", conversations+"/conv-1", "").must(200); a.text("title") != "Better plans" {
		t.Errorf("%s", a.raw)
	}
	b.do("ann", "DELETE", conversations, "").refused(400, "INVALID_INPUT", "Conversation ID is required")
	if a := b.do("ann", "DELETE", conversations+"?id="+plain.text("id"), "").must(200); a.raw != `{"success":true}` {
		t.Errorf("%s", a.raw)
	}
	b.do("ann", "DELETE", conversations+"/conv-1", "").must(200)
	b.do("ann", "DELETE", conversations+"/conv-1", "").refused(404, "NOT_FOUND", "Conversation not found or access denied")
	for action, n := range map[string]int{
		audit.ActionConversationCreated: 3, audit.ActionConversationUpdated: 2, audit.ActionConversationDeleted: 2,
	} {
		if got := b.audited("ann", action, "success"); got != n {
			t.Errorf("%s: %d entries, want %d", action, got, n)
		}
	}
}

// TestPages: both lists can be walked by offset and by cursor, to the end and
// no further.
func TestPages(t *testing.T) {
	b := setup(t)
	const n = 7
	for range n {
		b.do("ann", "POST", "/api/chat/conversations", "").must(201)
		b.do("ann", "POST", "/api/chat/messages", `{"content":"x"}`).must(201)
	}
	for _, list := range []struct {
		target, name string
		total        int
	}{{"/api/chat/conversations", "conversations", n}, {"/api/chat/messages", "messages", 2 * n}} {
		t.Run(list.name, func(t *testing.T) {
			b.t = t
			walk := func(first string, next func(answer, int) string) (ids []string) {
				for target, steps := first, 0; ; steps++ {
					a := b.do("ann", "GET", target, "").must(200)
					page := a.get(list.name).([]any)
					newest := page
					if list.name == "messages" { // oldest first within a page
						newest = nil
						for i := len(page) - 1; i >= 0; i-- {
							newest = append(newest, page[i])
						}
					}
					for _, m := range newest {
						ids = append(ids, m.(map[string]any)["id"].(string))
					}
					if a.get("pagination", "limit") != 3.0 || steps > 10 {
						t.Fatalf("%s", a.raw)
					}
					if a.get("pagination", "hasMore") != true {
						return ids
					}
					target = next(a, len(ids))
				}
			}
			distinct := func(ids []string) int {
				set := map[string]bool{}
				for _, id := range ids {
					set[id] = true
				}
				return len(set)
			}
			byOffset := walk(list.target+"?limit=3", func(_ answer, had int) string {
				return list.target + "?limit=3&offset=" + string(rune('0'+had/10)) + string(rune('0'+had%10))
			})
			byCursor := walk(list.target+"?limit=3", func(a answer, _ int) string {
				return list.target + "?limit=3&before=" + a.text("pagination", "before")
			})
			if distinct(byOffset) != list.total || strings.Join(byOffset, " ") != strings.Join(byCursor, " ") {
				t.Errorf("%d of %d\n%q\n%q", len(byOffset), list.total, byOffset, byCursor)
			}
			exact := b.do("ann", "GET", list.target+"?limit="+map[int]string{n: "7", 2 * n: "14"}[list.total], "").must(200)
			if exact.get("pagination", "hasMore") != false {
				t.Error("hasMore at the exact end")
			}
			newest := b.do("ann", "GET", list.target+"?limit=3", "").must(200)
			after := b.do("ann", "GET", list.target+"?limit=3&after="+newest.text("pagination", "after"), "").must(200)
			if len(after.get(list.name).([]any)) != 0 || after.get("pagination", "hasMore") != false {
				t.Errorf("newer than the newest: %s", after.raw)
			}
			if beyond := b.do("ann", "GET", list.target+"?offset=1000", "").must(200); len(beyond.get(list.name).([]any)) != 0 {
				t.Errorf("%s", beyond.raw)
			}
		})
	}
}
