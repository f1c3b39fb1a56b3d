package httpapi_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/domain/chat"
	"parley/ports"
)

func TestFeedback(t *testing.T) { onBoth(t, feedback) }

func feedback(t *testing.T, b *bench) {
	const canary = "canary <b>&\u2028ß"
	conversation := b.do("ann", "POST", "/api/chat/conversations", "").must(201).text("id")
	body := `{"content":"!echo one","conversationId":"` + conversation + `"}`
	sent := b.do("ann", "POST", "/api/chat/messages", body, "Idempotency-Key", "k1").must(201)
	reply, question := sent.text("assistantMessage", "id"), sent.text("userMessage", "id")
	if f, there := sent.body["assistantMessage"].(map[string]any)["feedback"]; f != nil || !there {
		t.Errorf("a new reply has feedback %v", f)
	}
	address := "/api/chat/messages/" + reply + "/feedback"
	given, _ := json.Marshal(map[string]string{"rating": "down", "reason": canary})
	want := map[string]any{"rating": "down", "reason": canary}
	got := b.do("ann", "PUT", address, string(given)).must(200)
	if d := cmp.Diff(want, got.body); d != "" {
		t.Error(d)
	}

	// Wherever the message is answered.
	history := func(query string) any {
		t.Helper()
		list := b.do("ann", "GET", "/api/chat/messages?conversationId="+conversation+query, "").must(200).body["messages"].([]any)
		if f := list[0].(map[string]any)["feedback"]; f != nil {
			t.Errorf("the question has feedback %v", f)
		}
		return list[1].(map[string]any)["feedback"]
	}
	replayed := b.do("ann", "POST", "/api/chat/messages", body, "Idempotency-Key", "k1").must(201)
	for where, f := range map[string]any{"history": history(""), "branch": history("&leaf=current"), "replay": replayed.get("assistantMessage", "feedback")} {
		if d := cmp.Diff(any(want), f); d != "" {
			t.Errorf("%s: %s", where, d)
		}
	}
	export := b.do("ann", "GET", "/api/chat/export", "").must(200)
	if !strings.Contains(export.raw, `"feedback":{"rating":"down","reason":"canary`) {
		t.Errorf("export: %s", export.raw)
	}

	// What is recorded of it.
	if n := b.audited("ann", "chat.feedback_given", "success"); n != 1 {
		t.Errorf("%d audit entries", n)
	}
	var entries strings.Builder
	b.write(&entries, "SELECT * FROM audit_logs WHERE user_id = $1", "ann")
	if strings.Contains(entries.String(), "canary") || !strings.Contains(entries.String(), "down") {
		t.Error("the audit has the reason, or not the rating")
	}
	if d := cmp.Diff([]ports.FeedbackGiven{{Provider: "demo", Model: "demo", Rating: chat.Down}}, seen[ports.FeedbackGiven](b)); d != "" {
		t.Error(d)
	}

	b.do("ann", "PUT", address, `{"rating":"up"}`).must(200)
	if d := cmp.Diff(any(map[string]any{"rating": "up", "reason": ""}), history("")); d != "" {
		t.Error(d)
	}
	for range 2 {
		if a := b.do("ann", "DELETE", address, "").must(204); a.raw != "" {
			t.Errorf("204 with %q", a.raw)
		}
	}
	if f := history(""); f != nil {
		t.Errorf("after its end: %v", f)
	}
	if n := b.audited("ann", "chat.feedback_deleted", "success"); n != 1 {
		t.Errorf("%d audit entries of the end", n)
	}

	for body, sentence := range map[string]string{
		`{}`:                                  "rating must be up or down",
		`{"rating":"great"}`:                  "rating must be up or down",
		`{"rating":1}`:                        "rating must be up or down",
		`{"reason":"x"}`:                      "rating must be up or down",
		`{"rating":"up","reason":"a\u0000b"}`: "Text must not contain control characters",
		`{"rating":"up","reason":"` + strings.Repeat("ü", 2001) + `"}`: "The reason cannot exceed 2000 characters",
		`{"rating":"up","reason":["x"]}`:                               "reason must be a string with max 2000 characters",
		`{"rating":"up","stars":5}`:                                    `Unknown field "stars"`,
	} {
		b.do("ann", "PUT", address, body).refused(400, "INVALID_INPUT", sentence)
	}
	b.do("ann", "PUT", address, `{"rating":"up","reason":"`+strings.Repeat("ü", 2000)+`"}`).must(200)
	b.do("ann", "PUT", "/api/chat/messages/"+question+"/feedback", `{"rating":"up"}`).refused(400, "INVALID_INPUT", "Feedback is given on replies only")
	b.do("bob", "PUT", address, `{"rating":"up"}`).refused(404, "NOT_FOUND", "")
}
