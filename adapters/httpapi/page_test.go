package httpapi_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports/portstest"
)

// page is what useChat keeps of a chat: its list of messages, which it changes on
// its own, and sends whole.
type page struct {
	b    *bench
	chat string
	list []map[string]any
}

func said(id, text string) map[string]any {
	return map[string]any{"id": id, "role": "user", "parts": []any{map[string]any{"type": "text", "text": text}}}
}

// body is what the page sends.
func (p *page) body(trigger, messageID string) string {
	body := map[string]any{"id": p.chat, "trigger": trigger, "messages": p.list, "tools": map[string]any{}, "selectedChatModel": "x"}
	if messageID != "" {
		body["messageId"] = messageID
	}
	raw, _ := json.Marshal(body)
	return string(raw)
}

// ask sends the list and adds the reply to it, as the SDK does.
func (p *page) ask(trigger, messageID string) {
	p.b.t.Helper()
	s := p.b.open(p.b.request("ann", "POST", "/api/chat", p.body(trigger, messageID)))
	reply := map[string]any{"role": "assistant"}
	parts := []any{}
	var open map[string]any
	for _, e := range s.rest() {
		switch kind := e.kind(); kind {
		case "start":
			reply["id"] = e.data["messageId"]
		case "start-step":
			parts = append(parts, map[string]any{"type": "step-start"})
		case "text-start", "reasoning-start":
			open = map[string]any{"type": strings.TrimSuffix(kind, "-start"), "text": "", "state": "streaming"}
			parts = append(parts, open)
		case "text-delta", "reasoning-delta":
			open["text"] = open["text"].(string) + e.data["delta"].(string)
		case "text-end", "reasoning-end":
			open["state"] = "done"
		case "finish":
			reply["metadata"] = e.data["messageMetadata"]
		case "source-url", "file":
			parts = append(parts, e.data)
		}
	}
	reply["parts"] = parts
	p.list = append(p.list, reply)
}

func (p *page) say(id, text string) {
	p.b.t.Helper()
	p.list = append(p.list, said(id, text))
	p.ask("submit-message", "")
}

// stored is the chat as the page would load it.
func (p *page) stored(query string) answer {
	p.b.t.Helper()
	return p.b.do("ann", "GET", "/api/chat/"+p.chat+"/messages"+query, "").must(200)
}

// check asserts that the page's list is what is stored, ids of edited messages
// excepted.
func (p *page) check(what string) {
	p.b.t.Helper()
	var shown, stored []any
	for _, m := range p.list {
		shown = append(shown, without(m, "user"))
	}
	for _, m := range p.stored("").get("messages").([]any) {
		stored = append(stored, without(m.(map[string]any), "user"))
	}
	if d := cmp.Diff(stored, shown); d != "" {
		p.b.t.Errorf("%s: the page (+) is not what is stored (-):\n%s", what, d)
	}
}

func without(m map[string]any, role string) map[string]any {
	out := map[string]any{"role": m["role"], "parts": m["parts"], "metadata": m["metadata"]}
	if m["role"] != role {
		out["id"] = m["id"]
	}
	return out
}

// After each act of a page, its list is the chat's current branch.
func TestPage_ShowsWhatIsStored(t *testing.T) { onBoth(t, pageShowsWhatIsStored) }

func pageShowsWhatIsStored(t *testing.T, b *bench) {
	p := &page{b: b, chat: "c1"}
	p.check("new")
	for _, n := range []string{"1", "2", "3"} {
		p.say("q"+n, "!echo r"+n)
	}
	p.check("three")

	b.do("ann", "POST", "/api/chat", p.body("submit-message", "")).refused(400, "INVALID_INPUT", "The last message must be the user's")
	p.check("refused")

	p.list = p.list[:5]
	p.ask("regenerate-message", "")
	p.check("regenerate the last")

	p.list = p.list[:3]
	p.ask("regenerate-message", "was cut off")
	p.check("regenerate an earlier one")

	p.list = append(p.list[:2], said("q2", "!echo edited"))
	p.ask("submit-message", "q2")
	p.check("edit by id")

	p.list = append(p.list[:2], said("q2", "!echo edited again"))
	p.ask("regenerate-message", "")
	p.check("the same id with another text")

	p.list = p.list[:3]
	p.ask("regenerate-message", "")
	p.check("regenerate what was edited")

	p.list = p.list[:2]
	p.say("q4", "!echo trimmed")
	p.check("edit by trimming")

	p.list = p.list[:3]
	p.say("q5", "!echo after a deleted reply")
	p.check("delete the reply and send")

	p.list = nil
	p.say("q6", "!echo anew")
	p.check("delete all and send")

	p.list = append([]map[string]any{{"id": "hello", "role": "assistant", "parts": []any{}}}, p.list...)
	p.say("q7", "!echo greeted")
	p.list = p.list[1:]
	p.check("a greeting of the page's own")

	rows := b.rows()
	p.list = append([]map[string]any{}, p.list[0], p.list[3], said("q8", "!echo x"))
	b.do("ann", "POST", "/api/chat", p.body("submit-message", "")).refused(409, "CONFLICT", "The messages shown are not the stored ones; please reload the chat")
	if after := b.rows(); after != rows {
		t.Errorf("something is stored: %s, then %s", rows, after)
	}
}

// A message whose send was refused stays on the page. Sent again, it is new: the
// question before it is not answered in its place.
func TestPage_AsksAgainAfterRefusal(t *testing.T) {
	for name, first := range map[string]bool{"First": true, "Later": false} {
		t.Run(name, func(t *testing.T) {
			b := setup(t, func(s *settings) { s.limits = access.Limits{access.Authenticated: 2} })
			p := &page{b: b, chat: "c1"}
			if !first {
				p.say("q1", "!echo one")
			}
			for range 2 {
				b.do("ann", "POST", "/api/chat", `{}`)
			}
			p.list = append(p.list, said("q2", "!echo two"))
			a := b.do("ann", "POST", "/api/chat", p.body("submit-message", "")).refused(429, "RATE_LIMITED", "Rate limit exceeded. Please try again later.")
			for _, name := range []string{"Retry-After", "X-Error-Limit", "X-Error-Reset", "X-Request-Id", "X-Ratelimit-Remaining"} {
				if a.header.Get(name) == "" {
					t.Errorf("no %s in %v", name, a.header)
				}
			}
			b.gate.SetLimits(access.Limits{access.Authenticated: 1000})
			p.ask("regenerate-message", "")
			p.check("again")
		})
	}
}

// A chat may have any name that an address of the API has, too.
func TestChatIDs_LikeAddresses(t *testing.T) {
	b := setup(t)
	for _, id := range []string{"messages", "stream", "live", "ui", "text", "usage", "models", "export", "account", "stop", "a%b", "%2e"} {
		p := &page{b: b, chat: id}
		p.list = []map[string]any{said("q1", "!echo "+id)}
		p.ask("submit-message", "")
		target := strings.ReplaceAll(id, "%", "%25")
		if n := len(b.do("ann", "GET", "/api/chat/"+target+"/messages", "").must(200).get("messages").([]any)); n != 2 {
			t.Errorf("%s has %d messages", id, n)
		}
		b.do("ann", "GET", "/api/chat/"+target+"/stream", "").must(204)
		b.do("ann", "POST", "/api/chat/"+target+"/stop", `{"activeStreamId":"x"}`).must(200)
	}
	for _, route := range b.api.Routes() { // what a literal hides is reserved
		segments := strings.Split(route.Path, "/")
		if route.Method != "GET" || len(segments) != 5 || !strings.HasPrefix(segments[4], "{") {
			continue
		}
		b.do("ann", "POST", "/api/chat", uiBody(segments[3], "q1", "x")).refused(400, "INVALID_INPUT", "")
	}
	// Other methods of such addresses are what they were.
	b.do("ann", "PATCH", "/api/chat/messages/stream", `{"content":"x"}`).refused(404, "NOT_FOUND", "")
	if a := b.do("ann", "DELETE", "/api/chat/messages/stream", "").refused(405, "METHOD_NOT_ALLOWED", ""); a.header.Get("Allow") != "GET, OPTIONS, PATCH" {
		t.Errorf("Allow: %s", a.header.Get("Allow"))
	}
}

// A long history is read in pages, from its end.
func TestPage_LongHistory(t *testing.T) {
	b := setup(t)
	p := &page{b: b, chat: "long"}
	for i := range 125 {
		p.say(fmt.Sprint("q", i), fmt.Sprint("!echo r", i))
	}
	var all []any
	query, pages := "", 0
	for {
		a := p.stored(query)
		all = append(append([]any{}, a.get("messages").([]any)...), all...)
		if pages++; a.get("pagination", "hasMore") != true {
			break
		}
		query = "?before=" + a.text("pagination", "before")
	}
	if len(all) != 250 || pages != 3 {
		t.Fatalf("%d messages on %d pages", len(all), pages)
	}
	for i, m := range all {
		if m.(map[string]any)["id"] != p.list[i]["id"] {
			t.Fatalf("message %d is %v, want %v", i, m, p.list[i])
		}
	}
	if n := len(p.stored("?limit=500").get("messages").([]any)); n != 250 {
		t.Errorf("%d messages on one page", n)
	}
	// A page that has loaded the end only goes on.
	p.list = p.list[150:]
	p.say("next", "!echo on")
	if n := len(p.stored("?limit=500").get("messages").([]any)); n != 252 {
		t.Errorf("%d messages afterwards", n)
	}
	b.do("ann", "GET", "/api/chat/long/messages?before=nope", "").refused(404, "NOT_FOUND", "")
	b.do("ann", "GET", "/api/chat/long/messages?limit=501", "").refused(400, "INVALID_INPUT", "Limit must be between 1 and 500")
}

// While a reply is made, the history ends with its question, also where it
// replaces another one: the stream brings the reply, whenever it ends.
func TestPage_HistoryWhileAReplyIsMade(t *testing.T) { onBoth(t, historyWhileMade, scripted) }

func historyWhileMade(t *testing.T, b *bench) {
	p := &page{b: b, chat: "c1"}
	s := b.open(b.request("ann", "POST", "/api/chat", uiBody("c1", "q1", "x")))
	b.finish("first")
	s.chunks()
	s = b.open(b.request("ann", "POST", "/api/chat", `{"id":"c1","trigger":"regenerate-message","messages":[]}`))
	call := b.model.Next()
	call.Say("second")
	b.hears(s, "second")
	a := p.stored("")
	if n := len(a.get("messages").([]any)); n != 1 {
		t.Errorf("%d messages: %s", n, a.raw)
	}
	runs := a.get("runs").([]any)
	if len(runs) != 1 {
		t.Fatalf("made are %s", a.raw)
	}
	run := runs[0].(map[string]any)["runId"].(string)
	call.Done()
	s.chunks()
	b.do("ann", "GET", "/api/chat/c1/stream", "").must(204)
	late := b.open(b.request("ann", "GET", "/api/chat/c1/stream?runId="+run, ""))
	if _, text := late.chunks(); text != "second" {
		t.Errorf("the reply that has ended is %q", text)
	}
	b.do("ann", "GET", "/api/chat/other/stream?runId="+run, "").refused(404, "NOT_FOUND", "")
	if n := len(p.stored("").get("messages").([]any)); n != 2 {
		t.Errorf("%d messages at the end", n)
	}
}

// Every part of a reply is in the stream, and in the history as the page has it.
func TestPage_Parts(t *testing.T) { onBoth(t, pageParts, scripted) }

func pageParts(t *testing.T, b *bench) {
	p := &page{b: b, chat: "c1"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		call := b.model.Next()
		call.Think("Hm.")
		call.Say("one")
		call.Show(chat.Part{Kind: chat.SourcePart, ID: "s1", URL: "https://example.com/", Title: "Example"})
		call.Think("Hm again.")
		call.Say("two")
		call.Done()
	}()
	p.list = []map[string]any{{"id": "q1", "role": "user", "parts": []any{
		map[string]any{"type": "text", "text": "look"}, map[string]any{"type": "data-place", "id": "d1", "data": map[string]any{"lat": 1.5}},
	}}}
	p.ask("submit-message", "")
	<-done
	p.check("parts")
	if n := len(p.list[1]["parts"].([]any)); n != 6 {
		t.Errorf("%d parts: %v", n, p.list[1])
	}
}

// Plain text is what TextStreamChatTransport reads: a failure before the first
// word is a status, a later one breaks the connection. Its page has ids of its
// own for replies.
func TestText(t *testing.T) { onBoth(t, plainText, scripted) }

func plainText(t *testing.T, b *bench) {
	open := func(id, before string) *stream {
		t.Helper()
		body := fmt.Sprintf(`{"id":"c1","messages":[%s{"id":%q,"role":"user","parts":[{"type":"text","text":%q}]}]}`, before, id, id)
		s := b.open(b.request("ann", "POST", "/api/chat/text", body, "Accept", "*/*"))
		if got := s.res.Header.Get("Content-Type"); got != "text/plain; charset=utf-8" || s.res.Header.Get("X-Run-Id") == "" {
			t.Errorf("%v", s.res.Header)
		}
		return s
	}
	calls := make(chan *portstest.Call, 1)
	next := func(steps ...func(*portstest.Call)) {
		go func() {
			call := b.model.Next()
			for _, step := range steps {
				step(call)
			}
			calls <- call
		}()
	}
	think := func(c *portstest.Call) { c.Think("Hm.") }
	say := func(text string) func(*portstest.Call) { return func(c *portstest.Call) { c.Say(text) } }
	fail := func(c *portstest.Call) { c.Fail(fault.Wrap(errSecret, fault.AIFailed, "x")) }

	next(think, say("one "), say("“zwei”"), (*portstest.Call).Done)
	raw, err := io.ReadAll(open("q1", "").lines)
	if <-calls; string(raw) != "one “zwei”" || err != nil {
		t.Errorf("%q, %v", raw, err)
	}
	next(say("half"), fail)
	before := `{"id":"q1","role":"user","parts":[{"type":"text","text":"q1"}]},{"id":"of-the-page","role":"assistant","parts":[]},`
	raw, err = io.ReadAll(open("q2", before).lines)
	if <-calls; string(raw) != "half" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q, %v", raw, err)
	}
	if got := b.branch("ann", "c1"); got != "q1 | one “zwei” | q2 | half" {
		t.Error(got)
	}
	next(fail)
	a := b.do("ann", "POST", "/api/chat/text", uiBody("c1", "q3", "q3")).refused(502, "AI_FAILED", "The AI could not finish its reply; your message is kept")
	if <-calls; strings.Contains(a.raw, "secret") {
		t.Error(a.raw)
	}
	b.do("ann", "GET", "/api/chat/text/c1/stream", "").must(http.StatusNoContent)
	next(say("live"))
	s := open("q4", `{"id":"q3","role":"user","parts":[{"type":"text","text":"q3"}]},`)
	call := <-calls
	resumed := b.open(b.request("ann", "GET", "/api/chat/text/c1/stream", ""))
	call.Done()
	for _, s := range []*stream{s, resumed} {
		if raw, err := io.ReadAll(s.lines); string(raw) != "live" || err != nil {
			t.Errorf("%q, %v", raw, err)
		}
	}
}

// A script of a listed origin may send any header, and read those of our answers.
func TestCORS_EchoesHeaders(t *testing.T) {
	b := setup(t, func(s *settings) { s.AllowedOrigins = []string{"https://app.example.com"} })
	preflight := func(origin string, requested ...string) http.Header {
		req := b.request("", "OPTIONS", "/api/chat", "", "Origin", origin, "Access-Control-Request-Method", "POST")
		req.Header["Access-Control-Request-Headers"] = requested
		res, err := b.server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.Header
	}
	const ours = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Request-Id"
	for requested, want := range map[string]string{
		"":                                 ours,
		"x-session-id":                     ours + ", x-session-id",
		"content-type,traceparent,baggage": ours + ", traceparent, baggage",
		"user-agent, sentry-trace":         ours + ", user-agent, sentry-trace",
		"a b, x:y, (z), \u00e9, ok":        ours + ", ok",
		strings.Repeat("x", 3000):          ours,
	} {
		if got := preflight("https://app.example.com", requested).Get("Access-Control-Allow-Headers"); got != want {
			t.Errorf("%.40q: %s", requested, got)
		}
		if h := preflight("https://evil.example", requested); h.Get("Access-Control-Allow-Headers") != "" {
			t.Errorf("another origin: %v", h)
		}
	}
	if vary := preflight("https://app.example.com", "x-a").Values("Vary"); !slices.Contains(vary, "Access-Control-Request-Headers") {
		t.Errorf("Vary: %v", vary)
	}
	exposed := b.do("ann", "GET", "/api/chat/models", "", "Origin", "https://app.example.com").must(200).header.Get("Access-Control-Expose-Headers")
	for _, name := range []string{"X-Request-Id", "X-Run-Id", "X-Error-Code", "X-Budget-Remaining-Tokens", "X-Budget-Remaining-Usd", "X-Budget-Reset", "Retry-After", "RateLimit"} {
		if !strings.Contains(exposed, name) {
			t.Errorf("%s is not exposed", name)
		}
	}
}

// A file that a page attaches as a data: URL is stored once, however often the
// page sends it, and is shown again from its address.
func TestPage_Files(t *testing.T) { onBoth(t, pageFiles) }

func pageFiles(t *testing.T, b *bench) {
	const png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
	picture := func(url string) map[string]any {
		return map[string]any{"id": "q1", "role": "user", "parts": []any{
			map[string]any{"type": "file", "mediaType": "image/png", "filename": "dot.png", "url": url},
			map[string]any{"type": "text", "text": "!echo seen"},
		}}
	}
	p := &page{b: b, chat: "c1"}
	p.list = []map[string]any{picture("data:image/png;base64," + png)}
	p.ask("submit-message", "")
	stored := p.stored("").get("messages").([]any)[0].(map[string]any)
	part := stored["parts"].([]any)[0].(map[string]any)
	url, _ := part["url"].(string)
	if want := picture(url)["parts"].([]any); !strings.HasPrefix(url, "/api/chat/files/") || !cmp.Equal(stored["parts"], any(want)) {
		t.Fatalf("stored as %v", stored)
	}
	raw, _ := base64.StdEncoding.DecodeString(png)
	if a := b.do("ann", "GET", url, "").must(200); a.raw != string(raw) || a.header.Get("Content-Type") != "image/png" {
		t.Errorf("read back as %q", a.raw)
	}
	b.do("bob", "GET", url, "").refused(404, "NOT_FOUND", "")
	files := b.stored()

	p.list = p.list[:1] // with its data: URL
	p.ask("regenerate-message", "")
	if got := b.branch("ann", "c1"); !strings.HasPrefix(got, "!echo seen | seen") || strings.Count(got, "|") != 1 {
		t.Errorf("regenerated: %s", got)
	}
	p.list[0] = picture(url) // as loaded
	p.list = p.list[:1]
	p.ask("regenerate-message", "")
	p.check("regenerated after a reload")
	if n := b.stored(); n != files {
		t.Errorf("%d files, then %d", files, n)
	}
	if rows := b.rows(); rows != "chat_conversations 1, chat_messages 4, chat_runs 3" {
		t.Error(rows) // one question
	}
	p.list = []map[string]any{picture(url), p.list[1]}
	p.list[0]["parts"] = p.list[0]["parts"].([]any)[:1]
	p.list[0]["id"] = "q2"
	p.list = p.list[:1] // a file alone is a message
	p.ask("submit-message", "")
	p.check("without text")
	p.list = p.list[:1]
	b.do("bob", "POST", "/api/chat", p.body("submit-message", "")).refused(404, "NOT_FOUND", "")
	before := b.stored()
	for _, content := range []string{"MZ\x90\x00 a program", "\x00\x01\x02"} {
		p.list[0] = picture("data:image/png;base64," + base64.StdEncoding.EncodeToString([]byte(content)))
		if a := b.do("ann", "POST", "/api/chat", p.body("submit-message", "")).refused(415, "UNSUPPORTED_MEDIA_TYPE", ""); !strings.Contains(a.raw, "image/png") {
			t.Error(a.raw)
		}
	}
	if after := b.stored(); after != before {
		t.Errorf("%d files, then %d", before, after)
	}
}
