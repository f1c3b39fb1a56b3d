package httpapi_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/domain/fault"
	"parley/ports"
)

// uiBody is what useChat sends for a new message if it is told to send only that.
func uiBody(chat, id, text string) string {
	return fmt.Sprintf(`{"id":%q,"trigger":"submit-message","message":{"id":%q,"role":"user","parts":[{"type":"text","text":%q}]}}`, chat, id, text)
}

// chunks reads a UI message stream to its end and returns the types of its
// chunks, and the text that it brings.
func (s *stream) chunks() (kinds []string, text string) {
	s.t.Helper()
	for _, e := range s.rest() {
		kinds = append(kinds, e.kind())
		if e.kind() == "text-delta" {
			text += e.data["delta"].(string)
		}
	}
	return kinds, text
}

var wholeUI = []string{"start", "start-step", "text-start", "text-delta", "text-end", "finish-step", "finish", "[DONE]"}

// branch is the current branch of a conversation: its texts.
func (b *bench) branch(user, conversation string) string {
	b.t.Helper()
	page := b.do(user, "GET", "/api/chat/messages?leaf=current&conversationId="+conversation, "").must(200)
	var out []string
	for _, m := range page.get("messages").([]any) {
		out = append(out, m.(map[string]any)["content"].(string))
	}
	return strings.Join(out, " | ")
}

// TestUI_Transcript keeps what useChat reads, byte for byte. make e2e has
// the SDK itself read it.
func TestUI_Transcript(t *testing.T) {
	b := setup(t, scripted)
	for name, tell := range map[string]func(s *stream){
		"ui_whole": func(s *stream) {
			call := b.model.Next()
			call.Think("Hm.")
			b.hears(s, "Hm.")
			for _, word := range []string{"one ", "“zwei” ", "😀"} {
				call.Say(word)
				b.hears(s, word)
			}
			call.Done()
		},
		"ui_broken": func(s *stream) {
			call := b.model.Next()
			call.Say("half of it")
			b.hears(s, "half of it")
			call.Fail(fault.Wrap(errSecret, fault.AIFailed, "x"))
		},
		"ui_never_begun": func(*stream) {
			b.model.Next().Fail(fault.Wrap(errSecret, fault.AIUnavailable, "x"))
		},
		"ui_stopped": func(s *stream) {
			call := b.model.Next()
			call.Say("some")
			b.hears(s, "some")
			stopped := b.do("ann", "POST", "/api/chat/ui/ui_stopped/stop", "").must(200)
			if runs := stopped.get("runs").([]any); len(runs) != 1 {
				b.t.Errorf("stopped %v", runs)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			s := b.open(b.request("ann", "POST", "/api/chat/ui", uiBody(name, "m-"+name, "Count <b>&</b> é"), "Accept", "*/*"))
			for name, want := range map[string]string{
				"Content-Type": "text/event-stream", "Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no",
				"X-Vercel-Ai-Ui-Message-Stream": "v1", "X-RateLimit-Limit": "10000",
			} {
				if got := s.res.Header.Get(name); got != want {
					t.Errorf("%s: %q", name, got)
				}
			}
			var seen strings.Builder
			s.lines.Reset(io.TeeReader(s.res.Body, &seen))
			tell(s)
			s.wire()
			transcript(t, name, seen.String())
			if err := description(t).disagrees("POST", "/api/chat/ui", 200, s.res.Header, []byte(seen.String())); err != nil {
				t.Error(err)
			}
		})
	}
	b.t = t
	if left := seen[ports.FollowerLeft](b); len(left) != 4 || left[0].Reason != "done" {
		t.Errorf("%v", left)
	}
}

// TestUI_Talk: the ids that the SDK makes are kept, and what it does to a chat
// is done to the conversation.
func TestUI_Talk(t *testing.T) { onBoth(t, uiTalk) }

func uiTalk(t *testing.T, b *bench) {
	ask := func(body string) (kinds []string, text string) {
		t.Helper()
		return b.open(b.request("ann", "POST", "/api/chat/ui", body)).chunks()
	}
	want := func(what, branch string) {
		t.Helper()
		if got := b.branch("ann", "c1"); got != branch {
			t.Errorf("%s: %q, want %q", what, got, branch)
		}
	}
	if _, text := ask(uiBody("c1", "m1", "!echo one")); text != "one" {
		t.Errorf("says %q", text)
	}
	want("first", "!echo one | one")
	// As the SDK sends it: all of it, with members that are its own business.
	ask(`{"id":"c1","trigger":"submit-message","selectedChatModel":"x","tools":{},"config":null,"messages":[
		{"id":"m1","role":"user","parts":[{"type":"text","text":"!echo one"}]},
		{"id":"r1","role":"assistant","parts":[{"type":"step-start"},{"type":"reasoning","text":"hm","state":"done"},{"type":"text","text":"one","state":"done"}]},
		{"id":"m2","role":"user","metadata":{"from":"test"},"createdAt":"2026-01-01","parts":[{"type":"text","text":"!echo two"},{"type":"text","text":"lines","providerMetadata":{}}]}]}`)
	want("second", "!echo one | one | !echo two\n\nlines | two\n\nlines")
	page := b.do("ann", "GET", "/api/chat/messages?leaf=m2&conversationId=c1&limit=1", "").must(200)
	if m := page.get("messages").([]any)[0].(map[string]any); m["id"] != "m2" || !cmp.Equal(m["metadata"], map[string]any{"from": "test"}) {
		t.Errorf("kept %v", m)
	}

	// The last message alone, as the guide to resuming has it.
	ask(`{"id":"c1","message":{"id":"m3","role":"user","parts":[{"type":"text","text":"!echo three"}]}}`)
	want("third", "!echo one | one | !echo two\n\nlines | two\n\nlines | !echo three | three")

	// An edit bears the id of what it takes the place of, also the second time.
	for _, text := range []string{"zwei", "deux"} {
		ask(`{"id":"c1","trigger":"submit-message","messageId":"m2","messages":[{"id":"m1","role":"user","parts":[{"type":"text","text":"!echo one"}]},{"id":"r1","role":"assistant","parts":[]},{"id":"m2","role":"user","parts":[{"type":"text","text":"!echo ` + text + `"}]}]}`)
		want("edited", "!echo one | one | !echo "+text+" | "+text)
	}

	before := b.rows()
	ask(`{"id":"c1","trigger":"regenerate-message","messages":[]}`) // the last one, which is not m2
	want("again", "!echo one | one | !echo deux | deux")
	ask(`{"id":"c1","trigger":"regenerate-message","messageId":"m1","messages":[]}`)
	want("again, by the question", "!echo one | one")
	if after := b.rows(); after == before {
		t.Error("nothing was made again")
	}
	for i := range 2 { // the end of the chat is another one the second time
		s := b.open(b.request("ann", "POST", "/api/chat/ui", `{"id":"c1","trigger":"regenerate-message","messages":[]}`, "Idempotency-Key", "again"))
		if s.chunks(); (s.res.Header.Get("Idempotency-Replayed") == "true") != (i == 1) {
			t.Errorf("request %d of two alike: %v", i+1, s.res.Header)
		}
	}

	// A request that is repeated joins the first one.
	first := b.open(b.request("ann", "POST", "/api/chat/ui", uiBody("c2", "m9", "!echo once")))
	first.chunks()
	again := b.open(b.request("ann", "POST", "/api/chat/ui", uiBody("c2", "m9", "!echo once")))
	if kinds, text := again.chunks(); text != "once" || again.res.Header.Get("Idempotency-Replayed") != "true" || !cmp.Equal(kinds, wholeUI) {
		t.Errorf("repeated: %v %q", kinds, text)
	}
	if got := b.branch("ann", "c2"); got != "!echo once | once" {
		t.Errorf("repeated: %q", got)
	}
	// Another chat of the same name is another user's own.
	b.open(b.request("bob", "POST", "/api/chat/ui", uiBody("c1", "m1", "!echo mine"))).chunks()
	if got := b.branch("bob", "c1"); got != "!echo mine | mine" {
		t.Errorf("Bob has %q", got)
	}
	want("Ann still", "!echo one | one")
}

// TestUI_Fails: after a reply that failed, the same is asked again.
func TestUI_Fails(t *testing.T) { onBoth(t, uiFails, scripted) }

func uiFails(t *testing.T, b *bench) {
	s := b.open(b.request("ann", "POST", "/api/chat/ui", uiBody("c1", "m1", "why")))
	b.model.Next().Fail(fault.Wrap(errSecret, fault.AIUnavailable, "x"))
	if kinds, _ := s.chunks(); !cmp.Equal(kinds, []string{"start", "start-step", "error", "[DONE]"}) {
		t.Errorf("%v", kinds)
	}
	s = b.open(b.request("ann", "POST", "/api/chat/ui", `{"id":"c1","trigger":"regenerate-message","messages":[]}`))
	b.finish("because")
	if kinds, text := s.chunks(); text != "because" || !cmp.Equal(kinds, wholeUI) {
		t.Errorf("%v %q", kinds, text)
	}
	if got := b.branch("ann", "c1"); got != "why | because" {
		t.Error(got)
	}
}

// TestUI_Resume: a client that comes back gets all of the reply, from its start.
func TestUI_Resume(t *testing.T) { onBoth(t, uiResume, scripted) }

func uiResume(t *testing.T, b *bench) {
	nothing := func(user, chat string) {
		t.Helper()
		if a := b.do(user, "GET", "/api/chat/ui/"+chat+"/stream", "").must(http.StatusNoContent); a.header.Get("Content-Type") != "" {
			t.Errorf("nothing is %s", a.header.Get("Content-Type"))
		}
	}
	nothing("ann", "unheard-of")
	s := b.open(b.request("ann", "POST", "/api/chat/ui", uiBody("c1", "m1", "x")))
	call := b.model.Next()
	call.Say("one ")
	b.hears(s, "one ")
	s.close() // a reload
	nothing("bob", "c1")
	nothing("ann", "c2")
	resumed := b.open(b.request("ann", "GET", "/api/chat/ui/c1/stream", ""))
	if v := resumed.res.Header.Get("X-Vercel-Ai-Ui-Message-Stream"); v != "v1" {
		t.Errorf("version %q", v)
	}
	b.hears(resumed, "one ")
	call.Say("two")
	b.hears(resumed, "two")
	call.Done()
	if kinds, _ := resumed.chunks(); !cmp.Equal(kinds, wholeUI[4:]) {
		t.Errorf("ends with %v", kinds)
	}
	nothing("ann", "c1")
	if n := b.model.Calls(); n != 1 {
		t.Errorf("the provider was asked %d times", n)
	}
}

// TestUI_SendsOn: hanging up is all that the SDK's stop does, so the next
// message takes the place of the reply that goes on unread.
func TestUI_SendsOn(t *testing.T) { onBoth(t, uiSendsOn, scripted) }

func uiSendsOn(t *testing.T, b *bench) {
	s := b.open(b.request("ann", "POST", "/api/chat/ui", uiBody("c1", "m1", "x")))
	first := b.model.Next()
	first.Say("as far as it got")
	b.hears(s, "as far as it got")
	s.close()
	next := b.open(b.request("ann", "POST", "/api/chat/ui", uiBody("c1", "m2", "y")))
	second := b.model.Next()
	select {
	case <-first.Ctx.Done():
	case <-time.After(time.Minute):
		t.Error("the first reply goes on")
	}
	second.Say("whole")
	second.Done()
	if _, text := next.chunks(); text != "whole" {
		t.Errorf("says %q", text)
	}
	if got := b.branch("ann", "c1"); got != "x | as far as it got | y | whole" {
		t.Error(got)
	}
	// Unless it is told to wait.
	b.open(b.request("ann", "POST", "/api/chat/ui", uiBody("c1", "m3", "z")))
	b.model.Next()
	b.do("ann", "POST", "/api/chat/ui", strings.Replace(uiBody("c1", "m4", "z"), "{", `{"whenBusy":"reject",`, 1)).refused(409, "REPLY_IN_PROGRESS", "")
}

// TestUI_Stop: all that is being made in the chat ends, what waits included.
func TestUI_Stop(t *testing.T) { onBoth(t, uiStop, scripted) }

func uiStop(t *testing.T, b *bench) {
	b.open(b.request("ann", "POST", "/api/chat/ui", uiBody("c1", "m1", "x")))
	call := b.model.Next()
	b.open(b.request("ann", "POST", "/api/chat/ui", strings.Replace(uiBody("c1", "m2", "y"), "{", `{"whenBusy":"queue",`, 1)))
	other := b.do("ann", "POST", "/api/chat/messages", `{"content":"elsewhere","background":true}`).must(202).text("runId")
	for _, user := range []string{"bob", "ann"} {
		stopped := b.do(user, "POST", "/api/chat/ui/c1/stop", "").must(200)
		if n := len(stopped.get("runs").([]any)); user == "bob" && n != 0 || user == "ann" && n != 2 {
			t.Errorf("%s stopped %d", user, n)
		}
	}
	select {
	case <-call.Ctx.Done():
	case <-time.After(time.Minute):
		t.Error("the provider is still asked")
	}
	for _, r := range seen[ports.RunFinished](b) {
		if r.RunID == other {
			t.Error("a reply of another conversation was stopped")
		}
	}
}

// TestUI_Drain: an instance that leaves breaks the connection, so that the SDK
// does not take what there is for the whole.
func TestUI_Drain(t *testing.T) {
	t.Parallel()
	b := setup(t, scripted, func(s *settings) { s.opt.ShutdownTimeout = 50 * time.Millisecond })
	s := b.open(b.request("ann", "POST", "/api/chat/ui", uiBody("c1", "m1", "x")))
	b.model.Next() // nothing is said yet: another instance begins anew
	b.drain()
	raw, err := io.ReadAll(s.lines)
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasSuffix(string(raw), "{\"type\":\"start-step\"}\n\n") {
		t.Errorf("%q, %v", raw, err)
	}
	if left := seen[ports.FollowerLeft](b); len(left) != 1 || left[0].Reason != "shutdown" {
		t.Errorf("%v", left)
	}
}

func TestUI_BadInput(t *testing.T) { onBoth(t, uiBadInput) }

func uiBadInput(t *testing.T, b *bench) {
	b.open(b.request("ann", "POST", "/api/chat/ui", uiBody("c0", "m0", "x"))).chunks() // elsewhere
	text := `"parts":[{"type":"text","text":"x"}]`
	for name, tt := range map[string]struct {
		body   string
		status int
		says   string
	}{
		"NoChat":         {`{"message":{"role":"user",` + text + `}}`, 400, "Invalid chat ID"},
		"MalformedChat":  {`{"id":"a/b","message":{"role":"user",` + text + `}}`, 400, "Invalid chat ID"},
		"NoMessage":      {`{"id":"c"}`, 400, "The last message must be the user's"},
		"EmptyMessages":  {`{"id":"c","messages":[]}`, 400, "The last message must be the user's"},
		"AssistantLast":  {`{"id":"c","messages":[{"role":"user",` + text + `},{"role":"assistant",` + text + `}]}`, 400, "The last message must be the user's"},
		"NoParts":        {`{"id":"c","message":{"role":"user"}}`, 400, "Message content is required"},
		"OldContent":     {`{"id":"c","message":{"role":"user","content":"x"}}`, 400, "Message content is required"},
		"File":           {`{"id":"c","message":{"role":"user","parts":[{"type":"file","url":"data:,x","mediaType":"text/plain"},{"type":"text","text":"x"}]}}`, 400, "A data: URL must be base64"},
		"BadBase64":      {`{"id":"c","message":{"role":"user","parts":[{"type":"file","url":"data:image/png;base64,A===","mediaType":"image/png"}]}}`, 400, "A data: URL must be base64"},
		"EmptyFile":      {`{"id":"c","message":{"role":"user","parts":[{"type":"file","url":"data:image/png;base64,","mediaType":"image/png"}]}}`, 400, "The file is empty"},
		"FileElsewhere":  {`{"id":"c","message":{"role":"user","parts":[{"type":"file","url":"https://example.com/a.png","mediaType":"image/png"}]}}`, 400, "The URL of a file must be a data: URL or begin with /api/chat/files/; upload the file first"},
		"ForeignFile":    {`{"id":"c","message":{"role":"user","parts":[{"type":"file","url":"/api/chat/files/f1","mediaType":"image/png"}]}}`, 404, ""},
		"FilePath":       {`{"id":"c","message":{"role":"user","parts":[{"type":"file","url":"/api/chat/files/a/../b","mediaType":"image/png"}]}}`, 404, ""},
		"UnknownPart":    {`{"id":"c","message":{"role":"user","parts":[{"type":"video"},{"type":"text","text":"x"}]}}`, 400, `A message cannot have parts of the type "video"`},
		"ToolPart":       {`{"id":"c","message":{"role":"user","parts":[{"type":"tool-x","toolCallId":"1","state":"output-available"},{"type":"text","text":"x"}]}}`, 400, `A message cannot have parts of the type "tool-x"`},
		"LargeData":      {`{"id":"c","message":{"role":"user","parts":[{"type":"data-x","data":"` + strings.Repeat("x", 20_000) + `"},{"type":"text","text":"x"}]}}`, 400, "A data part cannot exceed 16384 bytes"},
		"DataName":       {`{"id":"c","message":{"role":"user","parts":[{"type":"data-","data":1},{"type":"text","text":"x"}]}}`, 400, "The name of a data part must be letters, digits, '.', '_' and '-', at most 64"},
		"Trigger":        {`{"id":"c","trigger":"resume-stream","message":{"role":"user",` + text + `}}`, 400, "trigger must be submit-message or regenerate-message"},
		"MessagesType":   {`{"id":"c","messages":{}}`, 400, "messages must be a list of messages of the AI SDK"},
		"Metadata":       {`{"id":"c","message":{"role":"user","metadata":5,` + text + `}}`, 400, "message must be a message of the AI SDK"},
		"OldMetadata":    {`{"id":"c","messages":[{"id":"q1","role":"user","metadata":[],` + text + `},{"id":"a1","role":"assistant",` + text + `},{"id":"q2","role":"user",` + text + `}]}`, 400, "messages must be a list of messages of the AI SDK"},
		"PartsType":      {`{"id":"c","message":{"role":"user","parts":"x"}}`, 400, "message must be a message of the AI SDK"},
		"MessageID":      {`{"id":"c","message":{"id":"a b","role":"user",` + text + `}}`, 400, "Invalid message ID"},
		"Control":        {`{"id":"c","message":{"role":"user","parts":[{"type":"text","text":"\u0000"}]}}`, 400, "Text must not contain control characters"},
		"WhenBusy":       {`{"id":"c","whenBusy":"x","message":{"role":"user",` + text + `}}`, 400, "whenBusy must be reject, queue or interrupt"},
		"AgainNowhere":   {`{"id":"c","trigger":"regenerate-message","messages":[]}`, 404, ""},
		"Reserved":       {`{"id":"conversations","message":{"role":"user",` + text + `}}`, 400, "The chat ID conversations is reserved; please use another one"},
		"UnknownHistory": {`{"id":"c","messages":[{"id":"q1","role":"user",` + text + `},{"id":"a1","role":"assistant",` + text + `},{"id":"q2","role":"user",` + text + `}]}`, 409, ""},
		"ReplyAsMessage": {`{"id":"c0","messages":[{"id":"m0","role":"user","parts":[]},{"id":"m0","role":"assistant",` + text + `}],"trigger":"submit-message"}`, 400, "The last message must be the user's"},
		"FromElsewhere":  {`{"id":"c","trigger":"regenerate-message","messageId":"m0","messages":[]}`, 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			code := map[int]string{400: "INVALID_INPUT", 404: "NOT_FOUND", 409: "CONFLICT"}[tt.status]
			b.do("ann", "POST", "/api/chat/ui", tt.body).refused(tt.status, code, tt.says)
		})
	}
	b.t = t
	if rows := b.rows(); rows != "chat_conversations 1, chat_messages 2, chat_runs 1" {
		t.Error(rows)
	}

	// The history that comes with a message may be long.
	long := strings.Repeat(`{"id":"m","role":"assistant","parts":[{"type":"text","text":"`+strings.Repeat("x", 10_000)+`"}]},`, 200)
	body := `{"id":"long","messages":[` + long + `{"id":"m1","role":"user","parts":[{"type":"text","text":"!echo on"}]}]}`
	if _, text := b.open(b.request("ann", "POST", "/api/chat/ui", body)).chunks(); text != "on" {
		t.Errorf("says %q", text)
	}
	b.alive()
}
