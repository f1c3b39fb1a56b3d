package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	nethtml "golang.org/x/net/html"

	"parley/platform/testing/testenv"
)

// vectors are texts that have run scripts somewhere. %0a is a line's end.
func vectors(t testing.TB) (out []string) {
	t.Helper()
	raw, err := os.ReadFile("testdata/xss.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		out = append(out, strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "%0a", "\n"))
	}
	if len(out) < 100 {
		t.Fatalf("only %d vectors", len(out))
	}
	return out
}

// rendered sends each text as a message and reads it back with its HTML.
func rendered(t testing.TB, texts []string) (out []string) {
	t.Helper()
	b := setup(t)
	for _, text := range texts {
		a := b.do("ann", "POST", "/api/chat/messages?render=html", body("content", text)).must(201)
		for _, who := range []string{"userMessage", "assistantMessage"} {
			if a.text(who, "contentHtml") == "" {
				t.Fatalf("%q: no HTML of the %s", text, who)
			}
		}
		if got := a.text("userMessage", "content"); got != text {
			t.Errorf("%q came back as %q", text, got)
		}
		out = append(out, a.text("userMessage", "contentHtml"))
	}
	return out
}

func TestContentHTML(t *testing.T) {
	cases := []struct{ markdown, want string }{
		{"Hello *you* & **me** ~~not~~", "<p>Hello <em>you</em> &amp; <strong>me</strong> <del>not</del></p>\n"},
		{"a <b>c</b> <script>alert(1)</script>", "<p>a &lt;b&gt;c&lt;/b&gt; &lt;script&gt;alert(1)&lt;/script&gt;</p>\n"},
		{"```go\nif a < b {}\n```", "<pre><code class=\"language-go\">if a &lt; b {}\n</code></pre>\n"},
		{"see https://example.com", `<p>see <a href="https://example.com" rel="nofollow noreferrer noopener" target="_blank">https://example.com</a></p>` + "\n"},
		{"![cat](https://example.com/c.png)", `<p><a href="https://example.com/c.png" rel="nofollow noreferrer noopener" target="_blank">cat</a></p>` + "\n"},
		{"[out](/logout) [x](javascript:y)", "<p>out x</p>\n"},
		{"|a|b|\n|:-|-:|\n|1|2|", "<table>\n<thead>\n<tr>\n<th align=\"left\">a</th>\n<th align=\"right\">b</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td align=\"left\">1</td>\n<td align=\"right\">2</td>\n</tr>\n</tbody>\n</table>\n"},
		{strings.Repeat(">", 51) + " <b>", "<pre>" + strings.Repeat("&gt;", 51) + " &lt;b&gt;</pre>"},
		{strings.Repeat("[", 1001), "<pre>" + strings.Repeat("[", 1001) + "</pre>"},
		{"3. c\n4. d", "<ol start=\"3\">\n<li>c</li>\n<li>d</li>\n</ol>\n"},
	}
	var texts []string
	for _, c := range cases {
		texts = append(texts, c.markdown)
	}
	for i, got := range rendered(t, texts) {
		if got != cases[i].want {
			t.Errorf("%q:\ngot  %q\nwant %q", texts[i], got, cases[i].want)
		}
	}
}

// TestContentHTML_Asked: history, streams and edits render too, and nothing
// does unasked.
func TestContentHTML_Asked(t *testing.T) {
	b := setup(t)
	plain := b.do("ann", "POST", "/api/chat/messages", `{"content":"*Hi*"}`).must(201)
	if strings.Contains(plain.raw, "contentHtml") {
		t.Errorf("%s", plain.raw)
	}
	id, reply := plain.text("userMessage", "id"), plain.text("assistantMessage", "id")
	const want = `"contentHtml":"\u003cp\u003e\u003cem\u003eHi\u003c/em\u003e\u003c/p\u003e\n"`
	for _, a := range []answer{
		b.do("ann", "GET", "/api/chat/messages?render=html", ""),
		b.do("ann", "GET", "/api/chat/messages?render=html&leaf="+reply, ""),
		b.do("ann", "GET", "/api/chat/messages/"+reply+"/stream?render=html", ""),
		b.do("ann", "POST", "/api/chat/stream?render=html", `{"content":"*Hi*"}`),
		b.do("ann", "POST", "/api/chat/messages?render=html", `{"content":"*Hi*","background":true}`),
		b.do("ann", "PATCH", "/api/chat/messages/"+id+"?render=html", `{"content":"*Hi*"}`),
	} {
		if !strings.Contains(a.raw, want) {
			t.Errorf("%d %s", a.status, a.raw)
		}
	}
	for _, target := range []string{"/api/chat/messages?render=pdf", "/api/chat/messages/" + reply + "/stream?render=HTML"} {
		b.do("ann", "GET", target, "").refused(400, "INVALID_INPUT", "render must be html")
	}
}

// TestContentHTML_Vectors renders everything that has run a script somewhere.
func TestContentHTML_Vectors(t *testing.T) {
	t.Parallel()
	texts := vectors(t)
	pieces := rendered(t, texts)
	// Read as a browser would, there is nothing but what a message may consist of.
	t.Run("AreHarmless", func(t *testing.T) {
		for i, piece := range pieces {
			harmless(t, texts[i], piece)
		}
	})
	// In a page of a real browser, as part of the document and by innerHTML, and
	// everything in it stirred, none runs. The same page with raw vectors shows
	// that scripts would be noticed.
	t.Run("InBrowser", func(t *testing.T) {
		if ran := scriptsRun(t, pieces); ran != "0" {
			t.Errorf("%s scripts ran", ran)
		}
		if ran := scriptsRun(t, texts[15:18]); ran == "0" {
			t.Error("not even raw vectors run: this test shows nothing")
		}
	})
}

// permitted are the elements of a rendered message, with their attributes.
var permitted = func() map[string][]string {
	out := map[string][]string{"a": {"href", "rel", "target"}, "code": {"class"}, "ol": {"start"}, "th": {"align"}, "td": {"align"}}
	for _, name := range strings.Fields("html head body p br hr h1 h2 h3 h4 h5 h6 em strong del pre blockquote ul li table thead tbody tr") {
		out[name] = nil
	}
	return out
}()

// harmless asserts that a piece of HTML consists of nothing else.
func harmless(t *testing.T, text, piece string) {
	t.Helper()
	root, err := nethtml.Parse(strings.NewReader(piece))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		if n.Type == nethtml.CommentNode {
			t.Errorf("%q: comment in %q", text, piece)
		}
		if n.Type != nethtml.ElementNode {
			continue
		}
		attributes, ok := permitted[n.Data]
		if !ok {
			t.Errorf("%q: <%s> in %q", text, n.Data, piece)
		}
		for _, a := range n.Attr {
			if !slices.Contains(attributes, a.Key) {
				t.Errorf("%q: attribute %s in %q", text, a.Key, piece)
			}
			if u, err := url.Parse(a.Val); a.Key == "href" && (err != nil || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "mailto") {
				t.Errorf("%q: link to %q", text, a.Val)
			}
		}
	}
}

// TestContentHTML_Large: what is hard on parsers is rendered to its end.
func TestContentHTML_Large(t *testing.T) {
	t.Parallel()
	var texts []string
	for _, unit := range []string{"[", "![", "*a ", "> ", "- ", "`", "<", "&#", "a@", "|", "~~", "_", "[a](", "[a]: <", "<a ", "http://", "\\", "1. \n "} {
		texts = append(texts, strings.Repeat(unit, 9_990/len(unit))+" end")
	}
	for i, got := range rendered(t, texts) {
		if !strings.Contains(got, "end") {
			t.Errorf("%.9q... has lost its end", texts[i])
		}
	}
}

// scriptsRun loads a page with these pieces and returns how many scripts of
// theirs have run.
func scriptsRun(t *testing.T, pieces []string) string {
	t.Helper()
	var page strings.Builder
	page.WriteString(`<!doctype html><html data-ran="0"><head><meta charset="utf-8"><script>
let ran = 0;
for (const name of ["alert", "confirm", "prompt", "print", "open"])
  window[name] = () => { ran++; document.documentElement.dataset.ran = ran; };
</script></head><body>`)
	for _, piece := range pieces {
		fmt.Fprintf(&page, "<div class=piece>%s</div><div class=copy data-piece=\"%s\"></div>\n", piece, html.EscapeString(piece))
	}
	page.WriteString(`<script>
for (const copy of document.querySelectorAll(".copy")) copy.innerHTML = copy.dataset.piece;
for (const e of document.querySelectorAll(".piece *, .copy *")) {
  for (const type of ["mouseover", "pointerover", "focus", "blur", "toggle", "load", "error", "animationstart"])
    e.dispatchEvent(new Event(type, {bubbles: true}));
  if (e.href && !/^(https?|mailto):/.test(e.href)) e.click();
  if (e.submit) e.submit();
}
document.documentElement.dataset.stirred = "yes";
</script></body></html>`)
	dir := t.TempDir()
	file := filepath.Join(dir, "page.html")
	if err := os.WriteFile(file, []byte(page.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--headless", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--disable-dev-shm-usage", "--no-first-run", "--user-data-dir=" + filepath.Join(dir, "profile"), "--host-resolver-rules=MAP * ~NOTFOUND",
		"--virtual-time-budget=2000", "--dump-dom", "file://" + file}
	if os.Geteuid() == 0 {
		args = append([]string{"--no-sandbox"}, args...)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, testenv.Binary(t, "chromium"), args...)
	cmd.WaitDelay = 5 * time.Second
	dom, err := cmd.Output()
	if err != nil {
		t.Fatalf("chromium: %v", err)
	}
	_, head, found := strings.Cut(string(dom), `data-ran="`)
	ran, _, _ := strings.Cut(head, `"`)
	if !found || !strings.Contains(head[:min(80, len(head))], `data-stirred="yes"`) {
		t.Fatalf("the page did not run to its end: %.300s", dom)
	}
	return ran
}

// body is a JSON object of one text.
func body(name, value string) string {
	raw, _ := json.Marshal(map[string]string{name: value})
	return string(raw)
}
