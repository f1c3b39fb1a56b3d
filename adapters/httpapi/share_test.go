package httpapi_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/domain/access"
	"parley/domain/chat"
)

func TestShare(t *testing.T) { onBoth(t, share) }

func share(t *testing.T, b *bench) {
	conversation := b.do("ann", "POST", "/api/chat/conversations", `{"title":"Plans <b>","systemPrompt":"secret prompt"}`).must(201).text("id")
	send := func(content string, more string) answer {
		t.Helper()
		return b.do("ann", "POST", "/api/chat/messages", `{"content":"`+content+`","conversationId":"`+conversation+`"`+more+`}`).must(201)
	}
	file := b.do("ann", "POST", "/api/chat/files?name=a.txt", "the file of ann").must(201).text("id")
	unshared := b.do("ann", "POST", "/api/chat/files?name=b.txt", "secret file").must(201).text("id")
	first := send(`!echo <script>alert(1)</script> **one**`, `,"id":"q1","metadata":{"secret":"metadata"},"files":["`+file+`"]`)
	second := send("!echo two", "")
	leaf := second.text("assistantMessage", "id")
	b.do("ann", "PUT", "/api/chat/messages/"+leaf+"/feedback", `{"rating":"down","reason":"secret reason"}`).must(200)
	shares := "/api/chat/conversations/" + conversation + "/shares"
	made := b.do("ann", "POST", shares, "").must(201)
	token, id := made.text("token"), made.text("id")
	if len(token) != 43 || made.text("url") != "/share/"+token || made.text("messageId") != leaf || made.text("conversationId") != conversation || made.get("expiresAt") != nil {
		t.Errorf("%s", made.raw)
	}

	// What comes later, beside the branch and elsewhere is not shown.
	send("!echo secret later", `,"files":["`+unshared+`"]`)
	b.do("ann", "POST", "/api/chat/messages/"+leaf+"/regenerate", "").must(201)
	b.do("ann", "PATCH", "/api/chat/messages/q1", `{"content":"!echo secret edit"}`).must(201)
	b.do("ann", "PATCH", "/api/chat/conversations/"+conversation, `{"title":"secret title"}`).must(200)
	got := b.do("", "GET", "/api/share/"+token, "").must(200)
	if h := got.header; !strings.Contains(h.Get("X-Robots-Tag"), "noindex") || h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("%v", h)
	}
	var seen struct {
		Title    string
		Messages []struct {
			ID, Role, Content, ContentHTML string
			Parts                          []struct{ Type, URL string }
		}
	}
	if err := json.Unmarshal([]byte(got.raw), &seen); err != nil {
		t.Fatal(err)
	}
	var said, ids []string
	for _, m := range seen.Messages {
		said, ids = append(said, m.Role+": "+m.Content), append(ids, m.ID)
	}
	if d := cmp.Diff([]string{"user: !echo <script>alert(1)</script> **one**", "assistant: <script>alert(1)</script> **one** Its file a.txt is text/plain of 15 bytes.", "user: !echo two", "assistant: two"}, said); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"q1", first.text("assistantMessage", "id"), second.text("userMessage", "id"), leaf}, ids); d != "" {
		t.Error(d)
	}
	if html := seen.Messages[1].ContentHTML; seen.Title != "Plans <b>" || strings.Contains(html, "<script") || !strings.Contains(html, "<strong>one</strong>") {
		t.Errorf("title %q, HTML %q", seen.Title, html)
	}
	for _, hidden := range []string{"secret", "ann", conversation, "metadata", "siblings", "parentId", "feedback", "usage"} {
		if strings.Contains(got.raw, hidden) {
			t.Errorf("%q is in %s", hidden, got.raw)
		}
	}

	// Its files can be read, and no others.
	i := slices.IndexFunc(seen.Messages[0].Parts, func(p struct{ Type, URL string }) bool { return p.Type == "file" })
	address := seen.Messages[0].Parts[i].URL
	if address != "/api/share/"+token+"/files/"+file {
		t.Errorf("the file is at %s", address)
	}
	if a := b.do("", "GET", address, "").must(200); a.raw != "the file of ann" || !strings.Contains(a.header.Get("X-Robots-Tag"), "noindex") ||
		!strings.HasPrefix(a.header.Get("Content-Disposition"), "attachment") || !strings.Contains(a.header.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("%q, %v", a.raw, a.header)
	}
	unknown := b.do("", "GET", "/api/share/unknown", "").refused(404, "NOT_FOUND", "Share not found")
	same := func(what, target string) {
		t.Helper()
		a := b.do("", "GET", target, "").refused(404, "NOT_FOUND", "")
		delete(a.body, "requestId")
		delete(unknown.body, "requestId")
		if d := cmp.Diff(unknown.body, a.body); d != "" {
			t.Errorf("%s: %s", what, d)
		}
		if a.header.Get("X-Robots-Tag") == "" {
			t.Errorf("%s can be indexed", what)
		}
	}
	same("a file that is not in the branch", "/api/share/"+token+"/files/"+unshared)
	same("a file of an unknown share", "/api/share/unknown/files/"+file)
	same("no id", "/api/share/"+token+"/files/%2e%2e")

	// The token opens nothing else, and is told once.
	b.do("", "GET", "/api/chat/messages?conversationId="+conversation, "", "Authorization", "Bearer "+token).refused(401, "UNAUTHORIZED", "")
	list := b.do("ann", "GET", shares, "").must(200)
	if strings.Contains(list.raw, token) || !strings.Contains(list.raw, id) {
		t.Errorf("the list: %s", list.raw)
	}
	if export := b.do("ann", "GET", "/api/chat/export", "").must(200); strings.Contains(export.raw, token) || !strings.Contains(export.raw, `"shares":[{"id":"`+id) {
		t.Errorf("the export: %s", export.raw)
	}
	if dump := b.dump("ann"); strings.Contains(dump, token) {
		t.Error("the token is stored")
	}
	b.do("bob", "GET", shares, "").refused(404, "NOT_FOUND", "")
	b.do("bob", "POST", shares, "").refused(404, "NOT_FOUND", "")
	b.do("bob", "DELETE", "/api/chat/shares/"+id, "").refused(404, "NOT_FOUND", "")

	// A branch up to a message that is named; a share that ends; one that is revoked.
	upTo := b.do("ann", "POST", shares, `{"messageId":"`+first.text("assistantMessage", "id")+`"}`).must(201).text("token")
	if a := b.do("", "GET", "/api/share/"+upTo, "").must(200); len(a.body["messages"].([]any)) != 2 {
		t.Errorf("%s", a.raw)
	}
	ending := ""
	for in := 200 * time.Millisecond; ending == ""; in *= 2 { // a request that takes longer is refused
		if a := b.do("ann", "POST", shares, `{"expiresAt":"`+time.Now().Add(in).Format(time.RFC3339Nano)+`"}`); a.status == http.StatusCreated {
			ending = a.text("token")
		} else {
			a.refused(400, "INVALID_INPUT", "expiresAt must be in the future")
		}
	}
	for b.do("", "GET", "/api/share/"+ending, "").status == http.StatusOK {
		time.Sleep(20 * time.Millisecond)
	}
	same("an expired share", "/api/share/"+ending)
	b.do("ann", "DELETE", "/api/chat/shares/"+id, "").must(204)
	same("a revoked share", "/api/share/"+token)
	same("a file of it", address)
	b.do("ann", "DELETE", "/api/chat/shares/"+id, "").refused(404, "NOT_FOUND", "Share not found")
	for action, n := range map[string]int{"chat.share_created": 3, "chat.share_revoked": 1} {
		if got := b.audited("ann", action, "success"); got != n {
			t.Errorf("%d entries %s, want %d", got, action, n)
		}
	}

	// A file that is deleted, a conversation, an account.
	b.do("ann", "DELETE", "/api/chat/files/"+file, "").must(200)
	same("a deleted file", "/api/share/"+upTo+"/files/"+file)
	b.do("ann", "DELETE", "/api/chat/conversations/"+conversation, "").must(200)
	same("a deleted conversation", "/api/share/"+upTo)
	other := b.do("ann", "POST", "/api/chat/messages", `{"content":"!echo hi","conversationId":"`+b.do("ann", "POST", "/api/chat/conversations", "").must(201).text("id")+`"}`).must(201).text("userMessage", "conversationId")
	last := b.do("ann", "POST", "/api/chat/conversations/"+other+"/shares", "{}").must(201).text("token")
	b.do("", "GET", "/api/share/"+last, "").must(200)
	b.do("ann", "DELETE", "/api/chat/account", `{"confirm":true}`).must(200)
	same("an erased user", "/api/share/"+last)
}

func TestShare_Refused(t *testing.T) {
	b := setup(t, scripted)
	conversation := b.do("ann", "POST", "/api/chat/conversations", "").must(201).text("id")
	shares := "/api/chat/conversations/" + conversation + "/shares"
	b.do("ann", "POST", shares, "").refused(409, "CONFLICT", "The conversation has no messages to share")
	temporary := b.do("ann", "POST", "/api/chat/conversations", `{"temporary":true}`).must(201).text("id")
	b.do("ann", "POST", "/api/chat/conversations/"+temporary+"/shares", "").refused(409, "CONFLICT", "A temporary conversation cannot be shared")

	// A reply that has not ended is not shared, nor is what waits behind it.
	sent := b.do("ann", "POST", "/api/chat/messages", `{"content":"one","background":true,"conversationId":"`+conversation+`"}`).must(202)
	reply := b.model.Next()
	b.do("ann", "POST", shares, `{"messageId":"`+sent.text("runId")+`"}`).refused(404, "NOT_FOUND", "Message not found or access denied")
	waits := b.do("ann", "POST", "/api/chat/messages", `{"content":"two","background":true,"whenBusy":"queue","conversationId":"`+conversation+`"}`).must(202)
	b.do("ann", "POST", shares, `{"messageId":"`+waits.text("userMessage", "id")+`"}`).refused(409, "CONFLICT", "A reply in this branch has not ended yet; share it when it has")
	until := b.do("ann", "POST", shares, `{"messageId":"`+sent.text("userMessage", "id")+`"}`).must(201).text("token")
	if a := b.do("", "GET", "/api/share/"+until, "").must(200); len(a.body["messages"].([]any)) != 1 {
		t.Errorf("%s", a.raw)
	}
	reply.Done()

	for body, sentence := range map[string]string{
		`{"expiresAt":"2020-01-01T00:00:00Z"}`: "expiresAt must be in the future",
		`{"expiresAt":"tomorrow"}`:             "expiresAt must be a time, as 2026-12-31T12:00:00Z",
		`{"expiresAt":5}`:                      "expiresAt must be a time, as 2026-12-31T12:00:00Z",
		`{"messageId":5}`:                      "Invalid message ID",
		`{"public":true}`:                      `Unknown field "public"`,
	} {
		b.do("ann", "POST", shares, body).refused(400, "INVALID_INPUT", sentence)
	}
	b.do("ann", "POST", shares, `{"messageId":"current"}`).refused(404, "NOT_FOUND", "")
	for range chat.MaxShares - 1 {
		b.do("ann", "POST", shares, `{"messageId":"`+sent.text("userMessage", "id")+`","expiresAt":null}`).must(201)
	}
	b.do("ann", "POST", shares, `{"messageId":"`+sent.text("userMessage", "id")+`"}`).refused(409, "CONFLICT", "A conversation can have at most 100 shares; revoke one first")
}

// An address that asks too often is refused, whatever it asks for.
func TestShare_IsLimitedByAddress(t *testing.T) {
	b := setup(t, func(s *settings) { s.limits[access.Anonymous] = 1; s.Proxies.Hops = 1 })
	get := func(address string) answer {
		return b.do("", "GET", "/api/share/"+chat.NewShareToken(), "", "X-Forwarded-For", address)
	}
	for range access.CoarseFactor {
		get("192.0.2.1").refused(404, "NOT_FOUND", "")
	}
	if a := get("192.0.2.1").refused(429, "RATE_LIMITED", ""); a.header.Get("Retry-After") == "" {
		t.Errorf("%v", a.header)
	}
	b.do("", "GET", "/api/share/x/files/y", "", "X-Forwarded-For", "192.0.2.1").refused(429, "RATE_LIMITED", "")
	get("192.0.2.2").refused(404, "NOT_FOUND", "")
}
