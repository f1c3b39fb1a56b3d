package httpapi_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Ids of messages may count per chat: each chat has a q1 and a q2, which answer
// to these names in their chat, and repeats are known chat by chat.
func TestClientIDs_ArePerChat(t *testing.T) { onBoth(t, clientIDsArePerChat) }

func clientIDsArePerChat(t *testing.T, b *bench) {
	replayed := func(s *stream) bool { s.chunks(); return s.res.Header.Get("Idempotency-Replayed") == "true" }
	send := func(chat, id, text string) *stream {
		return b.open(b.request("ann", "POST", "/api/chat/ui", uiBody(chat, id, text)))
	}
	for _, chat := range []string{"c1", "c2", "c3"} {
		for _, id := range []string{"q1", "q2"} {
			text := "!echo " + chat + id
			if replayed(send(chat, id, text)) {
				t.Errorf("%s of %s was taken for a repeat", id, chat)
			}
			if !replayed(send(chat, id, text)) {
				t.Errorf("a repeat of %s of %s is not known", id, chat)
			}
		}
		page := b.do("ann", "GET", "/api/chat/messages?leaf=current&conversationId="+chat, "").must(200)
		var ids, parents []any
		for i, m := range page.get("messages").([]any) {
			m := m.(map[string]any)
			if i%2 == 0 {
				ids = append(ids, m["id"])
				if !cmp.Equal(m["siblings"], []any{m["id"]}) {
					t.Errorf("siblings of %v: %v", m["id"], m["siblings"])
				}
			} else {
				parents = append(parents, m["parentId"])
			}
		}
		if want := []any{"q1", "q2"}; !cmp.Equal(ids, want) || !cmp.Equal(parents, want) {
			t.Errorf("questions of %s are %v, replies follow %v", chat, ids, parents)
		}
	}
	for _, chat := range []string{"c1", "c2", "c3"} {
		b.open(b.request("ann", "POST", "/api/chat/ui", fmt.Sprintf(`{"id":%q,"trigger":"regenerate-message","messageId":"q1","messages":[]}`, chat))).chunks()
		if got, want := b.branch("ann", chat), "!echo "+chat+"q1 | "+chat+"q1"; got != want {
			t.Errorf("regenerated: %q, want %q", got, want)
		}
		b.open(b.request("ann", "POST", "/api/chat/ui", fmt.Sprintf(`{"id":%q,"messageId":"q2","message":{"id":"q2","role":"user","parts":[{"type":"text","text":"!echo edited"}]}}`, chat))).chunks()
		if got, want := b.branch("ann", chat), "!echo "+chat+"q1 | "+chat+"q1 | !echo edited | edited"; got != want {
			t.Errorf("edited: %q, want %q", got, want)
		}
		// Pages go on from a message with such an id.
		page := b.do("ann", "GET", "/api/chat/messages?limit=1&offset=4&conversationId="+chat, "").must(200)
		before := page.get("pagination", "before")
		older := b.do("ann", "GET", fmt.Sprintf("/api/chat/messages?limit=50&before=%v&conversationId=%s", before, chat), "").must(200)
		if n := len(older.get("messages").([]any)); n != 2 {
			t.Errorf("%d messages before the second", n)
		}
	}
}
