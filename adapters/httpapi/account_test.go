package httpapi_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExport(t *testing.T) {
	b := setup(t)
	made := b.do("ann", "POST", "/api/chat/conversations", `{"title":"Über <b>"}`)
	id, _ := made.body["id"].(string)
	b.do("ann", "POST", "/api/chat/messages", `{"content":"!echo one","conversationId":"`+id+`"}`)
	b.do("ann", "POST", "/api/chat/messages", `{"content":"!echo alone"}`)
	b.do("bob", "POST", "/api/chat/messages", `{"content":"!echo canary"}`)

	got := b.do("ann", "GET", "/api/chat/export", "")
	if got.status != http.StatusOK || strings.Contains(got.raw, "canary") {
		t.Fatalf("%d %s", got.status, got.raw)
	}
	var all struct {
		UserID        string
		Usage         struct{ Day struct{ Replies int } }
		Conversations []struct {
			ID, Title *string
			Messages  []struct{ Role, Content string }
		}
	}
	if err := json.Unmarshal([]byte(got.raw), &all); err != nil {
		t.Fatalf("%v in %s", err, got.raw)
	}
	var said []string
	for _, c := range all.Conversations {
		for _, m := range c.Messages {
			said = append(said, m.Content)
		}
	}
	if d := cmp.Diff([]string{"!echo alone", "alone", "!echo one", "one"}, said); d != "" {
		t.Error(d)
	}
	if all.UserID != "ann" || all.Usage.Day.Replies != 2 || all.Conversations[0].ID != nil || *all.Conversations[1].Title != "Über <b>" {
		t.Errorf("got %+v", all)
	}
	t.Run("OfSomebodyNew", func(t *testing.T) {
		var all map[string]any
		if got := b.do("new", "GET", "/api/chat/export", ""); json.Unmarshal([]byte(got.raw), &all) != nil {
			t.Errorf("no JSON: %s", got.raw)
		}
	})
	t.Run("AsMarkdown", func(t *testing.T) {
		got := b.do("ann", "GET", "/api/chat/conversations/"+id+"/export", "", "Accept", "text/markdown")
		if got.status != http.StatusOK || !strings.HasPrefix(got.raw, "# Über <b>\n\n## User, ") || !strings.Contains(got.raw, "\n\n!echo one\n\n## Assistant, ") {
			t.Errorf("%d %s", got.status, got.raw)
		}
		if got := b.do("bob", "GET", "/api/chat/conversations/"+id+"/export", ""); got.status != http.StatusNotFound {
			t.Errorf("another user: %d", got.status)
		}
	})
}

func TestAccount_IsErasedWhole(t *testing.T) {
	t.Parallel()
	b := setup(t)
	made := b.do("ann", "POST", "/api/chat/conversations", `{"title":"x"}`)
	id, _ := made.body["id"].(string)
	b.do("ann", "POST", "/api/chat/messages", `{"content":"!echo one","conversationId":"`+id+`"}`)
	b.do("bob", "POST", "/api/chat/messages", `{"content":"!echo kept"}`)
	for name, body := range map[string]string{"without a word": `{}`, "by mistake": `{"confirm":false}`} {
		if got := b.do("ann", "DELETE", "/api/chat/account", body); got.status != http.StatusBadRequest {
			t.Errorf("%s: %d", name, got.status)
		}
	}
	if got := b.do("ann", "DELETE", "/api/chat/account", `{"confirm":true}`); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.raw)
	}
	if got := b.do("ann", "GET", "/api/chat/conversations/"+id, ""); got.status != http.StatusNotFound {
		t.Errorf("the conversation: %d", got.status)
	}
	if got := b.do("bob", "GET", "/api/chat/messages", ""); !strings.Contains(got.raw, "kept") {
		t.Errorf("another user: %s", got.raw)
	}
}

func TestConversations_Temporary(t *testing.T) {
	b := setup(t)
	made := b.do("ann", "POST", "/api/chat/conversations", `{"temporary":true}`)
	id, _ := made.body["id"].(string)
	if made.status != http.StatusCreated || made.body["expiresAt"] == nil {
		t.Fatalf("%d %s", made.status, made.raw)
	}
	if got := b.do("ann", "POST", "/api/chat/messages", `{"content":"!echo one","conversationId":"`+id+`"}`); got.status != http.StatusCreated {
		t.Errorf("a message: %d %s", got.status, got.raw)
	}
	if got := b.do("ann", "GET", "/api/chat/conversations", ""); strings.Contains(got.raw, id) {
		t.Error("it is in the list")
	}
}
