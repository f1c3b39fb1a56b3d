package httpapi_test

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSearch(t *testing.T) { onBoth(t, search) }

func search(t *testing.T, b *bench) {
	find := func(user, q, more string) (hits []map[string]any, next string) {
		t.Helper()
		a := b.do(user, "GET", "/api/chat/search?q="+url.QueryEscape(q)+more, "").must(200)
		for _, h := range a.body["results"].([]any) {
			hits = append(hits, h.(map[string]any))
		}
		return hits, a.text("nextCursor")
	}
	conversation := b.do("ann", "POST", "/api/chat/conversations", `{"title":"Needle \u003cb\u003e & \u0022co\u0022"}`).must(201)
	id := conversation.text("id")
	sent := b.do("ann", "POST", "/api/chat/messages", `{"content":"!echo a <i>NEEDLE</i> in a haystack","conversationId":"`+id+`","id":"q1"}`).must(201)
	b.do("bob", "POST", "/api/chat/messages", `{"content":"!echo the needle of bob"}`).must(201)

	hits, next := find("ann", "needle", "")
	title := `<mark>Needle</mark> &lt;b&gt; &amp; &#34;co&#34;`
	want := []map[string]any{
		{"conversationId": id, "conversationTitle": `Needle <b> & "co"`, "messageId": nil, "role": nil, "createdAt": conversation.text("createdAt"), "titleHtml": title, "snippetHtml": ""},
		{"conversationId": id, "conversationTitle": `Needle <b> & "co"`, "messageId": sent.text("assistantMessage", "id"), "role": "assistant", "createdAt": sent.text("assistantMessage", "createdAt"),
			"titleHtml": title, "snippetHtml": `a &lt;i&gt;<mark>NEEDLE</mark>&lt;/i&gt; in a haystack`},
		{"conversationId": id, "conversationTitle": `Needle <b> & "co"`, "messageId": "q1", "role": "user", "createdAt": sent.text("userMessage", "createdAt"),
			"titleHtml": title, "snippetHtml": `!echo a &lt;i&gt;<mark>NEEDLE</mark>&lt;/i&gt; in a haystack`},
	}
	if d := cmp.Diff(want, hits); d != "" || next != "" {
		t.Errorf("next %q\n%s", next, d)
	}
	if hits, _ := find("ann", "bob", ""); len(hits) != 0 {
		t.Errorf("of another user: %v", hits)
	}
	if hits, _ := find("ann", "-- ' OR \" ; DROP * %", ""); len(hits) != 0 {
		t.Errorf("%v", hits)
	}

	// Pages.
	var got []any
	for cursor := ""; ; {
		more := "&limit=1"
		if cursor != "" {
			more += "&cursor=" + cursor
		}
		page, next := find("ann", "needle", more)
		if len(page) != 1 {
			t.Fatalf("%d hits after %q", len(page), cursor)
		}
		got = append(got, page[0]["messageId"])
		if cursor = next; next == "" {
			break
		}
	}
	if d := cmp.Diff([]any{nil, sent.text("assistantMessage", "id"), "q1"}, got); d != "" {
		t.Error(d)
	}

	for query, sentence := range map[string]string{
		"":                                    "q is required",
		"q=":                                  "q is required",
		"q=%20%0a":                            "q is required",
		"q=" + strings.Repeat("x", 201):       "q cannot exceed 200 characters",
		"q=%00":                               "Text must not contain control characters",
		"q=%ff":                               "Text must be valid Unicode",
		"q=x&limit=0":                         "Limit must be between 1 and 50",
		"q=x&limit=51":                        "Limit must be between 1 and 50",
		"q=x&cursor=x":                        "Invalid cursor",
		"q=x&cursor=":                         "Invalid cursor",
		"q=x&cursor=" + rawCursor(`{"b":-1}`): "Invalid cursor",
		"q=x&cursor=" + rawCursor(`{"b":1,"bi":"a b"}`):           "Invalid cursor",
		"q=x&cursor=" + rawCursor(`{"e":9223372036854775807}`):    "Invalid cursor",
		"q=x&cursor=" + rawCursor(`{"li":"'; DROP TABLE x; --"}`): "Invalid cursor",
		"q=x&q=y": "q is given more than once",
	} {
		b.do("ann", "GET", "/api/chat/search?"+query, "").refused(400, "INVALID_INPUT", sentence)
	}
	b.do("ann", "GET", "/api/chat/search?q=x&cursor="+rawCursor(`{"b":1,"bi":"x","e":2,"ei":"y","s":-5,"l":3,"li":"z"}`), "").must(200)
}

func rawCursor(json string) string { return base64.RawURLEncoding.EncodeToString([]byte(json)) }

// Whatever a text holds, the only markup of its hit is <mark>.
func TestSearch_Escapes(t *testing.T) {
	b := setup(t)
	conversation := b.do("ann", "POST", "/api/chat/conversations", "").must(201).text("id")
	tags := regexp.MustCompile(`<[^>]*>?|&[^;]{0,6}`)
	for i, attack := range []string{
		`<script>alert(1)</script>`, `<img src=x onerror=alert(1)>`, `</mark><script>x</script>`, `<mark onclick=alert(1)>`, `"><svg/onload=alert(1)>`,
		`&lt;script&gt;`, `&#60;script&#62;`, `javascript:alert(1)`, `<scr<script>ipt>`, `<!--`, `]]>`, "\u2028<b>", `＜script＞`, `<ſcript>`, `ﬁ<i>`,
	} {
		raw := fmt.Sprintf("word%d %s word%d", i, attack, i)
		body := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(raw)
		b.do("ann", "PATCH", "/api/chat/conversations/"+conversation, `{"title":"`+body+`"}`).must(200)
		b.do("ann", "POST", "/api/chat/messages", `{"content":"`+body+`","conversationId":"`+conversation+`"}`)
		for _, q := range []string{fmt.Sprint("word", i), attack, "script", "mark", "i", "b", "lt"} {
			a := b.do("ann", "GET", "/api/chat/search?q="+url.QueryEscape(q), "").must(200)
			for _, h := range a.body["results"].([]any) {
				for _, member := range []string{"titleHtml", "snippetHtml"} {
					text := h.(map[string]any)[member].(string)
					open := 0
					for _, tag := range tags.FindAllString(text, -1) {
						switch tag {
						case "<mark>":
							open++
						case "</mark>":
							open--
						case "&lt", "&gt", "&amp", "&#34", "&#39":
						default:
							t.Errorf("%q of %q has %q", member, text, tag)
						}
						if open < 0 || open > 1 {
							t.Errorf("marks of %q are not in order", text)
						}
					}
				}
			}
		}
	}
}
