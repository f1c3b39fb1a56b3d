package httpapi_test

import (
	"testing"

	"parley/adapters/httpapi"
)

func TestMatches(t *testing.T) {
	for header, want := range map[string]bool{
		`"a"`: true, `W/"a"`: true, `"b", "a"`: true, ` "a" ,"b"`: true, "*": true,
		"": false, `"b"`: false, "a": false, `"ab"`: false, `W/"b"`: false, `"b", W/"ba"`: false,
	} {
		if got := httpapi.Matches(header, `"a"`); got != want {
			t.Errorf("%q: %v", header, got)
		}
	}
}

// A page that has not changed is not sent again; one that has, in whatever way, is.
func TestRevalidation(t *testing.T) { onBoth(t, revalidation) }

func revalidation(t *testing.T, b *bench) {
	conversation := b.do("ann", "POST", "/api/chat/conversations", "").must(201).text("id")
	b.do("eve", "POST", "/api/chat/conversations", "").must(201)
	sent := b.do("ann", "POST", "/api/chat/messages", `{"content":"!echo one","conversationId":"`+conversation+`"}`).must(201)
	history := "/api/chat/messages?conversationId=" + conversation
	tags := map[string]string{}
	changed := func(target string, want bool) {
		t.Helper()
		a := b.do("ann", "GET", target, "", "If-None-Match", tags[target])
		tag := a.header.Get("ETag")
		switch {
		case want && (a.status != 200 || a.raw == "" || tag == "" || tag == tags[target]):
			t.Errorf("%s has changed and is answered %d with ETag %s, %d bytes; before: %s", target, a.status, tag, len(a.raw), tags[target])
		case !want && (a.status != 304 || a.raw != "" || tag != tags[target]):
			t.Errorf("%s has not changed and is answered %d with ETag %s, %d bytes; before: %s", target, a.status, tag, len(a.raw), tags[target])
		}
		if cache := a.header.Get("Cache-Control"); cache != "no-store" {
			t.Errorf("%s: Cache-Control %s", target, cache)
		}
		tags[target] = tag
	}
	for _, change := range []func(){
		func() {},
		func() {
			b.do("ann", "POST", "/api/chat/messages", `{"content":"!echo two","conversationId":"`+conversation+`"}`).must(201)
		},
		func() {
			b.do("ann", "PATCH", "/api/chat/conversations/"+conversation, `{"title":"Another"}`).must(200)
			b.do("ann", "PUT", "/api/chat/messages/"+sent.text("assistantMessage", "id")+"/feedback", `{"rating":"up"}`).must(200)
		},
	} {
		change()
		for _, target := range []string{history, history + "&leaf=current&render=html", "/api/chat/conversations"} {
			changed(target, true)
			changed(target, false)
		}
	}
	// Of another user the tag of an answer says nothing.
	if a := b.do("eve", "GET", "/api/chat/conversations", "", "If-None-Match", tags["/api/chat/conversations"]); a.status != 200 {
		t.Errorf("another user's list: %d", a.status)
	}
}
