package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/adapters/httpapi"
	"parley/domain/access"
	"parley/domain/audit"
)

// fill makes a request of a route: every body field that has to be there gets
// a value, and the field named gets this one.
func fill(r httpapi.Route, named httpapi.Field, value string) (target, body string) {
	target = r.Path
	query := url.Values{}
	members := map[string]any{}
	for _, f := range r.Fields {
		v := map[string]any{"content": "Hello", "title": "Mine", "size": 5, "rating": "up", "q": "Hello"}[f.Name]
		if slices.Contains([]string{"/api/chat", "/api/chat/ui", "/api/chat/text"}, r.Path) {
			v = map[string]any{
				"id": "chat-1", "messages": []any{map[string]any{"role": "user", "parts": []any{map[string]any{"type": "text", "text": "Hello"}}}},
			}[f.Name]
		}
		if f.In == "path" {
			v = "0199a5f0-0000-7000-8000-000000000000"
		}
		if f.In == named.In && f.Name == named.Name {
			v = value
			if f.Type.Kind() == reflect.Slice {
				v = []any{value}
			}
		}
		if v == nil && f.In != "file" {
			continue
		}
		switch f.In {
		case "file":
			body = "Hello, file"
		case "path":
			target = strings.Replace(target, "{"+f.Name+"}", url.PathEscape(v.(string)), 1)
		case "query":
			query.Set(f.Name, v.(string))
		case "body":
			members[f.Name] = v
		}
	}
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	if len(members) > 0 {
		raw, _ := json.Marshal(members)
		body = string(raw)
	}
	return target, body
}

// TestOwnership walks every place of every route at which an id can stand, as
// a user whose id it is not. It is derived from the router: a new route is
// covered without being named here.
func TestOwnership(t *testing.T) { onBoth(t, ownership) }

func ownership(t *testing.T, b *bench) {
	conversation := b.do("alice", "POST", "/api/chat/conversations", `{"title":"Alice's secret plan"}`).must(201).text("id")
	sent := b.do("alice", "POST", "/api/chat/messages", `{"content":"the secret of Alice","conversationId":"`+conversation+`"}`).must(201)
	loose := b.do("alice", "POST", "/api/chat/messages", `{"content":"another secret of Alice"}`).must(201)
	ids := map[string]string{
		"conversation":    conversation,
		"message":         sent.text("userMessage", "id"),
		"reply":           sent.text("assistantMessage", "id"),
		"default message": loose.text("userMessage", "id"),
		"default reply":   loose.text("assistantMessage", "id"),
		"share":           b.do("alice", "POST", "/api/chat/conversations/"+conversation+"/shares", "").must(201).text("id"),
		"file":            b.do("alice", "POST", "/api/chat/files?name=secret.txt", "the secret file of Alice").must(201).text("id"),
	}
	before := b.dump("alice")
	const unknown = "0199a5f0-1111-7111-8111-111111111111"

	places := 0
	for _, route := range b.api.Routes() {
		for _, field := range route.Fields {
			if field.Ref == "" {
				continue
			}
			places++
			t.Run(route.Label()+"/"+field.In+" "+field.Name, func(t *testing.T) {
				b.t = t
				bob := fmt.Sprintf("bob-%d", places) // new to each place: an id that he chooses himself becomes his
				ask := func(id string) answer {
					target, body := fill(route, field, id)
					return b.do(bob, route.Method, target, body)
				}
				if strings.HasPrefix(field.Ref, "new ") {
					for _, id := range ids {
						bob += "+"
						if a := ask(id); a.status/100 != 2 && a.status != http.StatusNotFound || strings.Contains(a.raw, "ecret") {
							t.Errorf("%d %s", a.status, a.raw)
						}
					}
					return
				}
				missing := ask(unknown).refused(404, "NOT_FOUND", "")
				delete(missing.body, "requestId")
				others := map[string]string{
					"malformed": "a b/../c", "too long": strings.Repeat("x", 300), "odd": "'; DROP TABLE chat_messages; --", "not text": "\xff\xfe",
				}
				for name, id := range ids {
					others["alice's "+name] = id
				}
				for name, id := range others {
					if name == "not text" && field.In == "body" {
						continue // JSON cannot carry it
					}
					a := ask(id).refused(404, "NOT_FOUND", "")
					delete(a.body, "requestId")
					if !reflect.DeepEqual(a.body, missing.body) {
						t.Errorf("%s id: %v\nunknown id: %v", name, a.body, missing.body)
					}
				}
			})
			b.t = t
			if after := b.dump("alice"); after != before {
				t.Fatalf("%s changed what is Alice's:\n%s\n%s", route.Label(), before, after)
			}
		}
	}
	if places < 15 {
		t.Errorf("only %d places: are the routes enumerated?", places)
	}
	b.do("alice", "GET", "/api/chat/conversations/"+conversation, "").must(200)
	b.alive()
}

// TestRoutes_RefuseStrangers holds that nothing but health answers without a
// credential, whichever way it is left out.
func TestRoutes_RefuseStrangers(t *testing.T) { onBoth(t, refuseStrangers) }

func refuseStrangers(t *testing.T, b *bench) {
	for _, route := range b.api.Routes() {
		if !route.Access.NeedsCredential() {
			continue
		}
		target, body := fill(route, httpapi.Field{}, "")
		for name, headers := range map[string][]string{
			"None":          nil,
			"Garbage":       {"Authorization", "Bearer garbage"},
			"Basic":         {"Authorization", "Basic YWxpY2U6c2VjcmV0"},
			"GarbageCookie": {"Cookie", "authjs.session-token=garbage"},
			"Placeholder":   {"Cookie", "session-token"},
			"SQL":           {"Authorization", "Bearer ' OR '1'='1"},
			"APIKey":        {"X-Api-Key", "sk-123"},
		} {
			t.Run(route.Label()+"/"+name, func(t *testing.T) {
				b.t = t
				a := b.do("", route.Method, target, body, headers...).refused(401, "UNAUTHORIZED", "Authentication required")
				if a.header.Get("WWW-Authenticate") == "" {
					t.Error("no WWW-Authenticate")
				}
			})
		}
	}
	b.t = t
	if rows := b.rows(); rows != "chat_conversations 0, chat_messages 0, chat_runs 0" {
		t.Error(rows)
	}
}

// TestScopes walks every route with keys that may do one thing, both, and all:
// 403 exactly where the scope is not the route's, once audited, and nothing done.
func TestScopes(t *testing.T) { onBoth(t, eachScope) }

func eachScope(t *testing.T, b *bench) {
	const user = "keyed"
	needs := map[httpapi.Access]access.Scope{
		httpapi.Reads: access.ChatRead, httpapi.Writes: access.ChatWrite, httpapi.Sends: access.ChatWrite,
	}
	keys := map[string][]access.Scope{
		"read": {access.ChatRead}, "write": {access.ChatWrite}, "both": {access.ChatRead, access.ChatWrite}, "all": nil,
	}
	for _, name := range []string{"read", "write", "both", "all"} {
		scopes := keys[name]
		key := b.key(user, scopes...)
		for _, route := range b.api.Routes() {
			if !route.Access.NeedsCredential() || route.Path == "/api/chat/account" && name != "read" {
				continue // the account would be gone, and the key with it
			}
			t.Run(name+"/"+route.Label(), func(t *testing.T) {
				b.t = t
				target, body := fill(route, httpapi.Field{}, "")
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				res, err := b.server.Client().Do(b.request("", route.Method, target, body, "Authorization", "Bearer "+key).WithContext(ctx))
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				may := len(scopes) == 0 || slices.Contains(scopes, needs[route.Access])
				if got := res.StatusCode; may == (got == http.StatusForbidden) || got == http.StatusUnauthorized || got >= 500 {
					t.Errorf("%d, although it may is %v", got, may)
				}
				if may {
					return
				}
				raw, err := io.ReadAll(res.Body)
				if err != nil || res.Header.Get("X-Error-Code") != "FORBIDDEN" && !strings.Contains(string(raw), `"FORBIDDEN"`) {
					t.Errorf("%s %v", raw, err)
				}
				var entries int
				if err := b.store.DB().QueryRow("SELECT COUNT(*) FROM audit_logs WHERE user_id = $1 AND action = $2 AND resource_id = $3 AND status = 'failure'",
					user, audit.ActionUnauthorizedAccess, route.Label()).Scan(&entries); err != nil || entries == 0 {
					t.Errorf("%d entries of the audit, %v", entries, err)
				}
			})
			b.t = t
		}
		if rows := b.rows(); name == "read" && rows != "chat_conversations 0, chat_messages 0, chat_runs 0" {
			t.Errorf("a key that may only read left %s", rows)
		}
	}
}
