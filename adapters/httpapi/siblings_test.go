package httpapi_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is answered to a send is what the history has, siblings included, and a
// reply that was streamed says so.
func TestSend_AnswersWhatTheHistoryHas(t *testing.T) { onBoth(t, answersWhatTheHistoryHas) }

func answersWhatTheHistoryHas(t *testing.T, b *bench) {
	conversation := b.do("ann", "POST", "/api/chat/conversations", "").must(201).text("id")
	stored := func(id any) map[string]any {
		t.Helper()
		page := b.do("ann", "GET", "/api/chat/messages?limit=1&leaf="+id.(string)+"&conversationId="+conversation, "").must(200)
		return page.get("messages").([]any)[0].(map[string]any)
	}
	check := func(what string, streamed bool, siblings int, messages ...any) {
		t.Helper()
		for _, m := range messages {
			m := m.(map[string]any)
			if d := cmp.Diff(stored(m["id"]), m); d != "" {
				t.Errorf("%s: stored (-), answered (+):\n%s", what, d)
			}
			if metadata, _ := m["metadata"].(map[string]any); m["role"] == "assistant" && (metadata["streamed"] == true) != streamed {
				t.Errorf("%s: metadata %v", what, metadata)
			}
		}
		if last := messages[len(messages)-1].(map[string]any); len(last["siblings"].([]any)) != siblings {
			t.Errorf("%s: siblings %v", what, last["siblings"])
		}
	}
	send := func(method, target, body string) answer {
		t.Helper()
		return b.do("ann", method, target, body).must(201)
	}
	const messages = "/api/chat/messages"
	first := send("POST", messages, `{"content":"!echo one","conversationId":"`+conversation+`"}`)
	asked, reply := first.text("userMessage", "id"), first.text("assistantMessage", "id")
	check("send", false, 1, first.get("userMessage"), first.get("assistantMessage"))
	again := send("POST", messages+"/"+reply+"/regenerate", "")
	check("regenerate", false, 2, again.get("userMessage"), again.get("assistantMessage"))
	edited := send("PATCH", messages+"/"+asked, `{"content":"!echo two"}`)
	check("edit", false, 2, edited.get("userMessage"))
	check("reply to an edit", false, 1, edited.get("assistantMessage"))
	beside := send("POST", messages, `{"content":"!echo x","conversationId":"`+conversation+`","parentId":"`+reply+`"}`)
	check("at a parent", false, 1, beside.get("userMessage"), beside.get("assistantMessage"))
	beside = send("POST", messages, `{"content":"!echo y","conversationId":"`+conversation+`","parentId":"`+reply+`"}`)
	check("again at a parent", false, 2, beside.get("userMessage"))

	for what, call := range map[string]struct {
		method, target, body string
		siblings             int
	}{
		"stream":            {"POST", "/api/chat/stream", `{"content":"!echo s","conversationId":"` + conversation + `"}`, 1},
		"stream by member":  {"POST", messages, `{"content":"!echo s","stream":true,"conversationId":"` + conversation + `"}`, 1},
		"regenerate stream": {"POST", messages + "/" + reply + "/regenerate?stream=true", "", 3},
	} {
		events := b.open(b.request("ann", call.method, call.target, call.body)).rest()
		check(what, true, call.siblings, events[0].data["userMessage"], events[len(events)-1].data["assistantMessage"])
	}
	b.open(b.request("ann", "POST", "/api/chat", uiBody("ui", "q1", "!echo z"))).rest()
	page := b.do("ann", "GET", "/api/chat/ui/messages", "").must(200)
	if metadata := page.get("messages").([]any)[1].(map[string]any)["metadata"].(map[string]any); metadata["streamed"] != true {
		t.Errorf("AI SDK: %v", metadata)
	}
}
