//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// pageTab is Parley's own page in a tab of a user's browser.
type pageTab struct {
	*tab
	at string // URL of the server of the page
}

// watch runs before the page's own scripts. Whatever the page must not do is a
// problem: errors, violations of its policy, dialogs that a message has opened.
const watch = `window.problems = []; window.longTasks = [];
const problem = (what) => { if (!/^There is no connection|AbortError/.test(what)) problems.push(String(what).slice(0, 500)) };
addEventListener('error', (e) => problem('error: ' + (e.message || e.target?.src)));
addEventListener('unhandledrejection', (e) => problem('rejection: ' + (e.reason?.stack || e.reason)));
addEventListener('securitypolicyviolation', (e) => problem('policy: ' + e.violatedDirective + ' ' + e.blockedURI + ' ' + e.sample));
for (const name of ['alert', 'confirm', 'prompt', 'print']) window[name] = () => problem('dialog: ' + name);
new PerformanceObserver((list) => { for (const e of list.getEntries()) longTasks.push(Math.round(e.duration)) }).observe({ type: 'longtask', buffered: true });`

// openPage signs the user in and opens the page; address is "/" or one with a
// conversation.
func (u *user) openPage(address string) *pageTab {
	u.t.Helper()
	return u.openPageAt(u.w.api, address)
}

func (u *user) openPageAt(server, address string) *pageTab {
	u.t.Helper()
	p := &pageTab{u.openTab(), server}
	if _, err := chromedp.Call(p.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watch}); err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() {
		p.checkProblems()
		if u.t.Failed() {
			p.screenshot("failed-" + strings.ReplaceAll(u.t.Name(), "/", "-"))
		}
	})
	p.viewport(1100, 800)
	p.session(u.cookie)
	p.visit(address)
	p.wait("the page to start", "!!document.querySelector('#send .icon') && !document.querySelector('.skeleton')")
	return p
}

// session gives the browser a session cookie.
func (p *pageTab) session(cookie string) {
	p.t.Helper()
	name, value, _ := strings.Cut(cookie, "=")
	if _, err := chromedp.Call(p.ctx, network.SetCookie, network.SetCookieParams{Name: name, Value: value, URL: p.at, HTTPOnly: new(true)}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pageTab) visit(address string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, waitLimit)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Navigate(p.at+address)); err != nil {
		p.t.Fatalf("%s: %v", address, err)
	}
}

func (p *pageTab) reload() {
	p.t.Helper()
	p.checkProblems()
	p.visit(strings.TrimPrefix(get[string](p, "location.href"), p.at))
}

// get evaluates an expression on the page, and awaits it.
func get[T any](p *pageTab, script string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, waitLimit)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", script, err)
	}
	return value
}

// wait waits until an expression is true on the page.
func (p *pageTab) wait(what, condition string) {
	p.t.Helper()
	for end := time.Now().Add(waitLimit); time.Now().Before(end); time.Sleep(25 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(p.ctx, waitLimit)
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+condition+")"))
		cancel()
		if err == nil && ok {
			return
		}
	}
	p.t.Fatalf("the page does not get there: %s\n%s\nit shows %q, trouble %q", what, condition, p.texts(), get[string](p, "document.querySelector('#trouble').innerText"))
}

func (p *pageTab) checkProblems() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, waitLimit)
	defer cancel()
	if problems, err := chromedp.Run(ctx, chromedp.Evaluate[[]string]("window.problems ?? []")); err == nil && len(problems) > 0 {
		p.t.Errorf("on the page: %q", problems)
	}
}

func quote(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

// click clicks the last visible element that a selector finds, as a user would.
func (p *pageTab) click(selector string) {
	p.t.Helper()
	visible := "[...document.querySelectorAll(" + quote(selector) + ")].filter((e) => e.checkVisibility() && !e.disabled).at(-1)"
	p.wait("a visible "+selector, visible)
	p.evaluate("{ const e = " + visible + "; e.scrollIntoView({block: 'nearest'}); e.click() }")
}

// button clicks the last button with a name.
func (p *pageTab) button(name string) {
	p.t.Helper()
	visible := "[...document.querySelectorAll('button')].filter((e) => (e.getAttribute('aria-label') ?? e.textContent.trim()) === " + quote(name) + " && e.checkVisibility() && !e.disabled).at(-1)"
	p.wait("a button "+name, visible)
	p.evaluate(visible + ".click()")
}

// press types into what has the focus.
func (p *pageTab) press(keys string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, waitLimit)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.KeyEvent(keys)); err != nil {
		p.t.Fatal(err)
	}
}

// write writes a message and presses Enter.
func (p *pageTab) write(text string) {
	p.t.Helper()
	p.compose(mark(text, p.name))
	p.enter()
}

// paste pastes files into the text; files are arguments of a call in JavaScript.
func (p *pageTab) paste(files string) {
	p.t.Helper()
	p.evaluate("{ const d = new DataTransfer(); for (const file of [" + files + "]) d.items.add(file); " +
		"document.querySelector('#text').dispatchEvent(new ClipboardEvent('paste', {clipboardData: d, bubbles: true, cancelable: true})) }")
}

// enter presses Enter. Unlike KeyEvent it leaves the line break to the page, as a
// keyboard does.
func (p *pageTab) enter() {
	p.t.Helper()
	for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeRawKeyDown, input.DispatchKeyEventTypeKeyUp} {
		if _, err := chromedp.Call(p.ctx, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: kind, Key: "Enter", Code: "Enter", WindowsVirtualKeyCode: 13}); err != nil {
			p.t.Fatal(err)
		}
	}
}

// compose puts a text into the message box.
func (p *pageTab) compose(text string) {
	p.t.Helper()
	p.evaluate("{ const t = document.querySelector('#text'); t.focus(); t.value = " + quote(text) + "; t.dispatchEvent(new InputEvent('input', {bubbles: true})) }")
}

// texts returns the texts of the messages, without the user's mark.
func (p *pageTab) texts() []string {
	p.t.Helper()
	list := get[[]string](p, "[...document.querySelectorAll('#messages > .message')].map((m) => (m.querySelector('.text') ?? m.querySelector('.body')).innerText.trim())")
	for i := range list {
		list[i], _ = splitMark(list[i])
	}
	return list
}

// shows waits until the messages have exactly these texts, and no reply is being
// written.
func (p *pageTab) shows(texts ...string) {
	p.t.Helper()
	p.showsNow(true, texts...)
}

// showsLive is shows while a reply is being written.
func (p *pageTab) showsLive(texts ...string) {
	p.t.Helper()
	p.showsNow(false, texts...)
}

func (p *pageTab) showsNow(ended bool, texts ...string) {
	p.t.Helper()
	want := fmt.Sprintf("%q", texts)
	got := ""
	for end := time.Now().Add(waitLimit); time.Now().Before(end); time.Sleep(25 * time.Millisecond) {
		got = fmt.Sprintf("%q", p.texts())
		if got == want && get[bool](p, "!document.querySelector('.streaming')") == ended {
			return
		}
	}
	p.t.Fatalf("the page shows\n%s\nwant\n%s\ntrouble: %q", got, want, get[string](p, "document.querySelector('#trouble').innerText"))
}

// conversation returns the id of the conversation that is open.
func (p *pageTab) conversation() string {
	p.t.Helper()
	p.wait("a conversation in the address", "new URLSearchParams(location.search).get('c')")
	return get[string](p, "new URLSearchParams(location.search).get('c')")
}

// matches compares what is shown with the current branch of the conversation.
func (p *pageTab) matches() {
	p.t.Helper()
	stored := p.branch(p.conversation())
	var want []string
	for _, m := range stored {
		text, _ := splitMark(m.Text)
		want = append(want, strings.TrimSpace(text))
	}
	if got := p.texts(); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		p.t.Errorf("the page shows\n%q\nParley has\n%q", got, want)
	}
}

func (p *pageTab) viewport(width, height int64) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, chromedp.EmulateViewport(width, height)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pageTab) colours(scheme string) {
	p.t.Helper()
	if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pageTab) offline(off bool) {
	p.t.Helper()
	if _, err := chromedp.Call(p.ctx, network.OverrideNetworkState, network.OverrideNetworkStateParams{Offline: off, DownloadThroughput: -1, UploadThroughput: -1}); err != nil {
		p.t.Fatal(err)
	}
}

// screenshot keeps a picture of the page in bin/e2e.
func (p *pageTab) screenshot(name string) {
	ctx, cancel := context.WithTimeout(p.ctx, waitLimit)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		if err = os.MkdirAll("../../../bin/e2e", 0o755); err == nil {
			err = os.WriteFile(filepath.Join("../../../bin/e2e", name+".png"), picture, 0o644)
		}
	}
	if err != nil {
		p.t.Logf("screenshot %s: %v", name, err)
	}
}

// stream sends a request whose answer is a stream, and reads it to its end.
func (u *user) stream(path string, body any) {
	u.t.Helper()
	content, err := json.Marshal(body)
	if err != nil {
		u.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(u.t.Context(), "POST", u.w.api+path, bytes.NewReader(content))
	if err != nil {
		u.t.Fatal(err)
	}
	req.Header.Set("Cookie", u.cookie)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		u.t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		u.t.Fatalf("%s: %s %v %s", path, resp.Status, err, answer)
	}
}

// relay is a connection to Parley that can be cut.
type relay struct {
	url string

	mu   sync.Mutex
	cut  bool
	open map[net.Conn]bool
}

func startRelay(t *testing.T, api string) *relay {
	t.Helper()
	target, err := url.Parse(api)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	r := &relay{url: "http://" + l.Addr().String(), open: map[net.Conn]bool{}}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target.Host)
			if err != nil || !r.add(in, out) {
				in.Close()
				continue
			}
			go func() { io.Copy(out, in); out.Close(); in.Close() }()
			go func() { io.Copy(in, out); out.Close(); in.Close() }()
		}
	}()
	return r
}

func (r *relay) add(list ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range list {
		if r.cut {
			c.Close()
		} else {
			r.open[c] = true
		}
	}
	return !r.cut
}

// set cuts all connections and refuses new ones, or lets them through again.
func (r *relay) set(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = cut
	if cut {
		for c := range r.open {
			c.Close()
		}
		r.open = map[net.Conn]bool{}
	}
}
