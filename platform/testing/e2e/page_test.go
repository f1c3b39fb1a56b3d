//go:build e2e

package e2e_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"parley/adapters/providers/stub"
	"parley/domain/chat"
	"parley/platform/testing/testenv"
)

// TestPage drives Parley's own page.
func TestPage(t *testing.T) {
	installPackages(t)
	browser := startBrowser(t)
	w := startScripted(t, "", browser)
	for _, s := range []struct {
		name string
		run  func(*user)
	}{
		{"Chat", pageChat}, {"ReloadInMidStream", pageReload}, {"Branches", pageBranches}, {"StopAndContinue", pageStop}, {"TwoTabs", pageTwoTabs}, {"OtherDevice", pageOtherDevice}, {"OutsideConversations", pageOutside},
		{"OfflineAndBack", pageOffline}, {"Files", pageFiles}, {"BusyUpload", pageBusyUpload}, {"Parts", pageParts}, {"ProviderTrouble", pageProviderTrouble},
		{"Conversations", pageConversations}, {"Search", pageSearch}, {"Share", pageShare}, {"Feedback", pageFeedback}, {"Keyboard", pageKeyboard}, {"XSS", pageXSS}, {"SignedOut", pageSignedOut},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.run(newUser(t, w, ""))
		})
	}
	t.Run("Development", func(t *testing.T) { t.Parallel(); pageDevelopment(t, browser) })
	t.Run("Unavailable", func(t *testing.T) { t.Parallel(); pageUnavailable(t, browser) })
	t.Run("RateLimit", func(t *testing.T) { t.Parallel(); pageRateLimit(t, browser) })
}

func pageChat(u *user) {
	u.w.provider.behave(u.name, stub.Reply{Text: "Some **bold** text.\n\n```go\nfunc main() { println(\"hi\") } // done\n```\n\n- one\n- two", Pace: 5 * time.Millisecond})
	p := u.openPage("/")
	p.wait("the greeting", "document.querySelector('#empty h2').checkVisibility()")
	p.write("Hello")
	p.wait("the rendered reply", "document.querySelector('.assistant:not(.streaming) .text strong')?.textContent === 'bold'")
	p.wait("highlighted code", "document.querySelector('.assistant .tok-keyword')?.textContent === 'func' && document.querySelector('.assistant .tok-comment')")
	p.wait("the list", "document.querySelectorAll('.assistant .text ul li').length === 2")
	p.wait("the conversation in the list, with its title", "document.querySelector('#conversations a[aria-current] .name')?.textContent.startsWith('Hello')")
	p.wait("its announcement", "document.querySelector('#announce').textContent.startsWith('Reply: Some')")
	p.stores("Hello", u.w.provider.moods[u.name].Text)
	p.click(".code .icon-button")
	p.reload()
	p.wait("the same after a reload", "document.querySelector('.assistant .tok-keyword')?.textContent === 'func'")
	p.screenshot("chat")
}

// stores compares the stored messages with what was sent and said.
func (p *pageTab) stores(texts ...string) {
	p.t.Helper()
	var got []string
	for _, m := range p.branch(p.conversation()) {
		text, _ := splitMark(m.Text)
		got = append(got, text)
	}
	if !slices.Equal(got, texts) {
		p.t.Errorf("stored %q, want %q", got, texts)
	}
}

// A reload in mid-stream neither loses nor repeats a word.
func pageReload(u *user) {
	words := stub.Words(60)
	gate := make(chan struct{})
	u.w.provider.behave(u.name, stub.Reply{Text: words, Gate: gate, After: 20})
	p := u.openPage("/")
	p.write("Count")
	p.showsLive("Count", stub.Words(20))
	p.reload()
	p.showsLive("Count", stub.Words(20))
	p.wait("a button that stops", "document.querySelector('#stop').checkVisibility()")
	close(gate)
	p.shows("Count", words)
	p.matches()
	p.reload()
	p.shows("Count", words)
}

func pageBranches(u *user) {
	p := u.openPage("/")
	p.write("one")
	p.shows("one", "one #1")
	p.button("Regenerate")
	p.shows("one", "one #2")
	p.wait("its version", "document.querySelector('.assistant .versions span')?.textContent === '2/2'")
	p.write("two")
	p.shows("one", "one #2", "two", "one + two #1")
	p.click(".assistant [aria-label='Earlier version']")
	p.shows("one", "one #1")
	p.click(".assistant [aria-label='Later version']")
	p.shows("one", "one #2", "two", "one + two #1") // down to the end of the branch
	p.evaluate("document.querySelector('.user [aria-label=Edit]').click()")
	p.wait("the text to edit", "document.activeElement.className === 'edit-text'")
	p.evaluate("document.activeElement.value = " + quote(mark("changed", p.name)))
	p.enter()
	p.shows("changed", "changed #1")
	p.wait("its version", "document.querySelector('.user .versions span')?.textContent === '2/2'")
	p.matches()
	p.click(".user [aria-label='Earlier version']")
	p.shows("one", "one #2", "two", "one + two #1")
	p.write("three") // on the branch that is shown
	p.shows("one", "one #2", "two", "one + two #1", "three", "one + two + three #1")
	p.matches()
	p.screenshot("branches")
}

func pageStop(u *user) {
	p := u.openPage("/")
	u.w.provider.behave(u.name, stub.Reply{Text: stub.Words(30), Gate: make(chan struct{}), After: 10})
	p.write("Count")
	p.showsLive("Count", stub.Words(10))
	p.click("#stop")
	p.shows("Count", stub.Words(10))
	p.wait("what happened", "document.querySelector('.state.stopped')")
	u.w.provider.behave(u.name, stub.Reply{Text: "and the rest"})
	p.button("Continue")
	p.wait("the whole reply", "document.querySelector('.assistant:not(.streaming) .text')?.innerText.endsWith('and the rest')")
	p.matches()
	p.wait("its version", "document.querySelector('.assistant .versions span')?.textContent === '2/2'")
	u.w.provider.behave(u.name, stub.Reply{Text: stub.Words(30), Gate: make(chan struct{}), After: 1})
	p.write("Again")
	p.wait("a live reply", "document.querySelector('.streaming .text')?.innerText.startsWith('word1')")
	p.press("\x1b")
	p.wait("an end by Escape", "!document.querySelector('.streaming') && !document.querySelector('#stop').checkVisibility()")
}

func pageTwoTabs(u *user) {
	a := u.openPage("/")
	a.write("one")
	a.shows("one", "one #1")
	b := u.openPage("/?c=" + a.conversation())
	b.shows("one", "one #1")
	open := u.gate()
	a.write("two")
	a.showsLive("one", "one #1", "two", "one")
	b.showsLive("one", "one #1", "two", "one") // while it is written
	open()
	a.shows("one", "one #1", "two", "one + two #1")
	b.shows("one", "one #1", "two", "one + two #1")
	b.write("three")
	a.shows("one", "one #1", "two", "one + two #1", "three", "one + two + three #1")
	a.click("#rename")
	a.evaluate("document.querySelector('#title-input').value = 'Renamed'")
	a.press("\r")
	b.wait("the new title", "document.querySelector('#title').textContent === 'Renamed' && document.querySelector('#conversations .name').textContent === 'Renamed'")
	a.click("#delete")
	a.button("Delete")
	a.wait("the deletion", "document.querySelector('#title').textContent === 'New conversation'")
	b.wait("the deletion", "document.querySelectorAll('#conversations li').length === 0 && /no such conversation/.test(document.querySelector('#empty').innerText)")
}

// The TypeScript client reads what the page has sent, and the page shows what the
// client sends.
func pageOtherDevice(u *user) {
	script := filepath.Join(u.t.TempDir(), "device.mjs")
	run(u.t, "node_modules/.bin/esbuild", "device.ts", "--bundle", "--format=esm", "--platform=node", "--log-level=warning", "--outfile="+script)
	p := u.openPage("/")
	p.write("one")
	p.shows("one", "one #1")
	_, token, _ := strings.Cut(u.cookie, "=")
	out, err := exec.Command(testenv.Binary(u.t, "node"), script, u.w.api, token, p.conversation(), mark("two", u.name)).Output()
	if err != nil {
		u.t.Fatalf("the client: %v", err)
	}
	var device struct {
		Read  []string
		Reply string
	}
	if err := json.Unmarshal(out, &device); err != nil {
		u.t.Fatalf("the client printed %q: %v", out, err)
	}
	p.shows("one", "one #1", "two", device.Reply)
	p.matches()
	if want := []string{mark("one", u.name), "one #1"}; !slices.Equal(device.Read, want) || device.Reply != "one + two #1" {
		u.t.Errorf("the client read %q and got %q, want %q", device.Read, device.Reply, want)
	}
}

// An upload that the server is too busy for is made again.
func pageBusyUpload(u *user) {
	p := u.openPage("/")
	p.evaluate(`{ let busy = 2; const send = XMLHttpRequest.prototype.send; XMLHttpRequest.prototype.send = function (...body) {
		if (busy-- <= 0) return send.apply(this, body)
		Object.defineProperties(this, { status: { value: 503 }, response: { value: { error: { code: 'OVERLOADED' } } } })
		setTimeout(() => this.onload())
	} }`)
	p.paste("new File(['text'], 'a.txt', {type: 'text/plain'})")
	p.wait("the file", "document.querySelector('.attachment.done')")
}

// Messages of an app that knows no conversations have a place, too.
func pageOutside(u *user) {
	say := func(text string) {
		u.call("POST", "/api/chat/messages", map[string]any{"content": mark(text, u.name)}, new(any))
	}
	say("one")
	p := u.openPage("/")
	p.wait("its place", "document.querySelector('#conversations .name')?.textContent === 'Outside conversations'")
	p.click("#conversations a")
	p.shows("one", "one #1")
	p.wait("no rename, share and delete", "!document.querySelector('#top-actions').checkVisibility()")
	p.write("two")
	p.shows("one", "one #1", "two", "one + two #1")
	p.button("Regenerate")
	p.shows("one", "one #1", "two", "one + two #2")
	say("three") // by the app
	p.shows("one", "one #1", "two", "one + two #2", "three", "one + two + three #1")
	p.matches()
	p.reload()
	p.shows("one", "one #1", "two", "one + two #2", "three", "one + two + three #1")
	p.evaluate("document.querySelector('#search').value = 'three'; document.querySelector('#search').dispatchEvent(new Event('input', {bubbles: true}))")
	p.wait("it is found", "document.querySelector('#results .name')?.textContent === 'Outside conversations'")
}

// A broken connection loses no word, and a message that was written meanwhile is
// sent once.
func pageOffline(u *user) {
	relay := startRelay(u.t, u.w.api)
	p := u.openPageAt(relay.url, "/")
	words := stub.Words(40)
	gate := make(chan struct{})
	u.w.provider.behave(u.name, stub.Reply{Text: words, Gate: gate, After: 15})
	p.write("Count")
	p.showsLive("Count", stub.Words(15))
	p.offline(true)
	relay.set(true)
	p.wait("what is wrong", "/offline|no connection/.test(document.querySelector('#trouble').innerText)")
	p.screenshot("offline")
	close(gate)
	u.ended(p.conversation(), 2)
	relay.set(false)
	p.offline(false)
	p.shows("Count", words)
	p.wait("no trouble", "!document.querySelector('#trouble').checkVisibility()")
	p.matches()

	relay.set(true)
	u.w.provider.behave(u.name, stub.Reply{Text: "Here."})
	p.write("Are you there?")
	p.wait("what is wrong", "/offline|no connection/.test(document.querySelector('#trouble').innerText)")
	relay.set(false)
	p.shows("Count", words, "Are you there?", "Here.")
	p.matches()

	// A reload before it was sent keeps it: it is in the box, or it was sent after all.
	relay.set(true)
	p.write("Still there?")
	p.wait("what is wrong", "/offline|no connection/.test(document.querySelector('#trouble').innerText)")
	relay.set(false)
	p.reload()
	p.wait("the message, once", "[...document.querySelectorAll('.user .text'), document.querySelector('#text')].filter((e) => (e.value ?? e.innerText).startsWith('Still there?')).length === 1")
}

func pageFiles(u *user) {
	u.w.provider.behave(u.name, stub.Reply{Text: "I see."})
	p := u.openPage("/")
	picture := filepath.Join(u.t.TempDir(), "dot.png")
	if err := os.WriteFile(picture, dot(u.t), 0o644); err != nil {
		u.t.Fatal(err)
	}
	if err := chromedp.Do(p.ctx, chromedp.SetUploadFiles(chromedp.CSS("#files"), []string{picture})); err != nil {
		u.t.Fatal(err)
	}
	p.wait("an upload", "document.querySelectorAll('.attachment.done').length === 1")
	transfer := "const d = new DataTransfer(); d.items.add(new File([Uint8Array.from(atob('" + base64.StdEncoding.EncodeToString(dot(u.t)) + "'), (c) => c.charCodeAt(0))], '%s', {type: 'image/png'}));"
	p.evaluate("{" + fmt.Sprintf(transfer, "dropped.png") + "for (const e of ['dragenter', 'dragover', 'drop']) document.querySelector('#log').dispatchEvent(new DragEvent(e, {dataTransfer: d, bubbles: true, cancelable: true})) }")
	p.wait("a dropped file", "document.querySelectorAll('.attachment.done').length === 2")
	p.evaluate("{" + fmt.Sprintf(transfer, "pasted.png") + "document.querySelector('#text').dispatchEvent(new ClipboardEvent('paste', {clipboardData: d, bubbles: true, cancelable: true})) }")
	p.wait("a pasted file", "document.querySelectorAll('.attachment.done').length === 3")
	p.paste("new File(['<html></html>'], 'page.html', {type: 'text/html'})")
	p.wait("a refused file, with the reason", "document.querySelector('.attachment.failed small')?.textContent.length > 10")
	p.screenshot("files")
	p.button("Remove page.html")
	p.button("Remove pasted.png")
	p.write("Two pictures")
	p.wait("the pictures", "[...document.querySelectorAll('.user .picture img')].filter((i) => i.complete && i.naturalWidth).length === 2")
	p.wait("the reply", "document.querySelector('.assistant:not(.streaming) .text')?.innerText === 'I see.'")
	if got := u.w.provider.images(u.name); got != 2 {
		u.t.Errorf("the model was sent %d images, want 2", got)
	}
	p.reload()
	p.wait("the pictures again", "[...document.querySelectorAll('.user .picture img')].filter((i) => i.complete && i.naturalWidth).length === 2")
}

// Reasoning is folded, sources are listed, parts that the page does not know are named.
func pageParts(u *user) {
	u.w.provider.behave(u.name, stub.Reply{Output: []chat.Part{
		{Kind: chat.ReasoningPart, Text: "Let me think."}, {Kind: chat.TextPart, Text: "It is known."},
		{Kind: chat.SourcePart, URL: "https://example.com/page", Title: "A page"},
	}})
	p := u.openPage("/")
	p.write("Why?")
	check := func() {
		u.t.Helper()
		p.wait("the text", "document.querySelector('.assistant:not(.streaming) .text')?.innerText === 'It is known.'")
		p.wait("folded reasoning", "document.querySelector('.assistant details.reasoning:not([open])')?.textContent.includes('Let me think.')")
		p.wait("the source", "document.querySelector('.assistant .sources a')?.href === 'https://example.com/page'")
	}
	check()
	p.reload()
	check()
	// The AI SDK's route stores data of the app.
	u.stream("/api/chat", map[string]any{"id": p.conversation(), "messages": []any{map[string]any{"id": "d-1", "role": "user", "parts": []any{
		map[string]any{"type": "text", "text": mark("With data", u.name)}, map[string]any{"type": "data-weather", "data": map[string]any{"sky": "blue"}},
	}}}})
	p.visit("/?c=" + p.conversation())
	p.wait("the data's name", "document.querySelector('.user .other summary')?.textContent === 'Data: weather'")
}

func pageProviderTrouble(u *user) {
	p := u.openPage("/")
	u.w.provider.behave(u.name, stub.Refuse(400, "invalid_request_error"))
	p.write("Hello")
	p.wait("the trouble in plain words", "/model/.test(document.querySelector('#trouble').innerText)")
	p.screenshot("trouble")
	u.w.provider.behave(u.name, stub.Reply{Text: "Here again."})
	p.wait("the message is kept", "document.querySelectorAll('.message.user').length === 1")
	p.button("Try again")
	p.shows("Hello", "Here again.")
	p.matches()
}

func pageRateLimit(t *testing.T, browser context.Context) {
	provider := startProvider(t)
	w := startWorld(t, "", browser, "OPENAI_API_KEY=sk-e2e", "OPENAI_BASE_URL="+provider.OpenAIURL(), "OPENAI_MODEL=scripted,"+vectors[1], "RATE_LIMIT_AUTHENTICATED=2", "BUDGET_TOKENS_DAY=100000")
	w.provider = provider
	u := newUser(t, w, "")
	p := u.openPage("/")
	p.wait("the models", "[...document.querySelector('#model').options].map((o) => o.text).join('|') === "+quote("scripted|"+vectors[1]))
	p.evaluate("{ const m = document.querySelector('#model'); m.selectedIndex = 1; m.dispatchEvent(new Event('change')) }")
	p.write("one")
	p.shows("one", "one #1")
	p.wait("the model's name", "document.querySelector('.assistant .who span').textContent === "+quote(vectors[1]))
	p.write("two")
	p.shows("one", "one #1", "two", "one + two #1")
	p.write("three")
	p.wait("a countdown", `/\d:\d\d/.test(document.querySelector('#trouble .clock')?.textContent)`)
	p.shows("one", "one #1", "two", "one + two #1")
	p.wait("the text is kept, and cannot be sent yet", "document.querySelector('#text').value.startsWith('three') && document.querySelector('#send').disabled")
	before := get[string](p, "document.querySelector('#trouble .clock').textContent")
	p.wait("the countdown goes on", "document.querySelector('#trouble .clock')?.textContent !== "+quote(before))
	p.screenshot("rate-limit")
	p.wait("what is left", "/% of the budget left/.test(document.querySelector('#usage').textContent)")
	p.click("#usage")
	p.wait("the usage", "/100,000/.test(document.querySelector('dialog').innerText)")
	p.screenshot("usage")
	p.press("\x1b")
	p.wait("it can be sent again", "!document.querySelector('#trouble').checkVisibility()")
	p.evaluate("document.querySelector('#text').focus()")
	p.enter()
	p.shows("one", "one #1", "two", "one + two #1", "three", "one + two + three #1")
}

// A provider that asks to wait is waited for, visibly.
func pageUnavailable(t *testing.T, browser context.Context) {
	provider := startProvider(t)
	w := startWorld(t, "", browser, "OPENAI_API_KEY=sk-e2e", "OPENAI_BASE_URL="+provider.OpenAIURL(), "OPENAI_MODEL=scripted", "AI_RETRY_WAIT=1ms")
	w.provider = provider
	u := newUser(t, w, "")
	p := u.openPage("/")
	provider.behave(u.name, stub.Refuse(429, "rate_limit_exceeded", "Retry-After", "4"))
	p.write("one")
	p.wait("what is wrong", "/cannot be reached/.test(document.querySelector('#trouble').innerText)")
	provider.behave(u.name, stub.Reply{})
	p.screenshot("unavailable")
	p.button("Try again")
	p.wait("the reply", "document.querySelector('.assistant:not(.streaming) .text')?.innerText.startsWith('one #')")
}

func pageConversations(u *user) {
	p := u.openPage("/")
	p.write("first")
	p.shows("first", "first #1")
	first := p.conversation()
	p.button("New conversation")
	p.wait("an empty page", "document.querySelector('#empty').checkVisibility() && location.search === ''")
	p.evaluate("document.querySelector('#temporary').click()")
	p.write("secret")
	p.shows("secret", "secret #1")
	p.wait("only the first in the list", "document.querySelectorAll('#conversations li').length === 1")
	if p.conversation() == first {
		u.t.Error("the temporary conversation is the first one")
	}
	p.click("#conversations a")
	p.shows("first", "first #1")
	p.evaluate("history.back()")
	p.shows("secret", "secret #1")
	p.evaluate("history.forward()")
	p.shows("first", "first #1")
	exported := get[string](p, "fetch(document.querySelector('#export').href).then((r) => r.text())")
	if !strings.Contains(exported, "first #1") {
		u.t.Errorf("exported %q", exported)
	}
	p.compose("a draft")
	p.button("New conversation")
	p.wait("no draft here", "document.querySelector('#text').value === ''")
	p.click("#conversations a")
	p.wait("the draft there", "document.querySelector('#text').value === 'a draft'")
	p.visit("/?c=unknown")
	p.wait("that it is unknown", "/no such conversation/.test(document.querySelector('#empty').innerText)")
}

func pageSearch(u *user) {
	p := u.openPage("/")
	p.write("the lighthouse keeper")
	p.shows("the lighthouse keeper", "the lighthouse keeper #1")
	found := p.conversation()
	p.button("New conversation")
	p.write("something else")
	p.shows("something else", "something else #1")
	p.wait("the search", "document.querySelector('#search').checkVisibility()")
	p.evaluate("{ const s = document.querySelector('#search'); s.focus(); s.value = 'lighthouse'; s.dispatchEvent(new InputEvent('input', {bubbles: true})) }")
	p.wait("a marked result", "document.querySelector('#results a .snippet mark')?.textContent === 'lighthouse'")
	p.screenshot("search")
	p.evaluate("[...document.querySelectorAll('#results a')].find((a) => a.querySelector('.snippet')).click()")
	p.shows("the lighthouse keeper", "the lighthouse keeper #1")
	if got := p.conversation(); got != found {
		u.t.Errorf("opened %s, want %s", got, found)
	}
	p.wait("the message that was found", "document.querySelector('.message:focus')")
	p.evaluate("{ const s = document.querySelector('#search'); s.focus(); s.value = 'nothing like it'; s.dispatchEvent(new InputEvent('input', {bubbles: true})) }")
	p.wait("that there is nothing", "/Nothing found/.test(document.querySelector('#results').innerText)")
	p.press("\x1b")
	p.wait("the list again", "document.querySelector('#conversations').checkVisibility() && !document.querySelector('#results').checkVisibility()")
}

// A link shows the conversation as it was, to a reader without a session, until it
// is revoked.
func pageShare(u *user) {
	p := u.openPage("/")
	picture := filepath.Join(u.t.TempDir(), "dot.png")
	if err := os.WriteFile(picture, dot(u.t), 0o644); err != nil {
		u.t.Fatal(err)
	}
	if err := chromedp.Do(p.ctx, chromedp.SetUploadFiles(chromedp.CSS("#files"), []string{picture})); err != nil {
		u.t.Fatal(err)
	}
	p.wait("an upload", "document.querySelectorAll('.attachment.done').length === 1")
	p.write("look at this")
	p.shows("look at this", "look at this #1")
	u.call("PATCH", "/api/chat/conversations/"+p.conversation(), map[string]any{"title": vectors[1]}, new(any))
	p.click("#share")
	p.evaluate("document.querySelector('#share-expiry').value = '7'")
	p.button("Make a link")
	p.wait("the link", "document.querySelector('.made input')?.value.includes('/share/')")
	p.wait("its place in the list", "/until/.test(document.querySelector('.links li')?.innerText)")
	p.screenshot("share-dialog")
	link := strings.TrimPrefix(get[string](p, "document.querySelector('.made input').value"), p.at)

	reader := &user{t: u.t, w: u.w, name: "reader", cookie: "unrelated=1"}
	r := reader.openTab()
	shared := &pageTab{r, u.w.api}
	shared.viewport(1100, 800)
	shared.visit(link)
	shared.shows("look at this", "look at this #1")
	shared.wait("the title", "document.querySelector('#title').textContent === "+quote(vectors[1]))
	shared.wait("the picture", "document.querySelector('.user .picture img')?.naturalWidth > 0")
	shared.wait("nothing to write with", "!document.querySelector('#text').checkVisibility() && !document.querySelector('#sidebar').checkVisibility() && !document.querySelector('.tools')")
	shared.screenshot("shared")
	p.press("\x1b")
	p.write("later")
	p.wait("the reply", "document.querySelectorAll('.assistant:not(.streaming)').length === 2")
	shared.visit(link)
	shared.shows("look at this", "look at this #1")
	p.click("#share")
	p.button("Revoke this link")
	p.wait("the revocation", "document.querySelector('.links') && !document.querySelector('.links li')")
	shared.visit(link)
	shared.wait("that it is gone", "/leads nowhere/.test(document.querySelector('#empty').innerText)")
}

func pageFeedback(u *user) {
	p := u.openPage("/")
	p.write("one")
	p.shows("one", "one #1")
	pressed := func(name string) string {
		return "document.querySelector('.assistant [aria-label=\"" + name + "\"]')?.getAttribute('aria-pressed') === 'true'"
	}
	p.button("Good reply")
	p.wait("the rating", pressed("Good reply"))
	p.reload()
	p.wait("the rating after a reload", pressed("Good reply"))
	p.button("Poor reply")
	p.wait("a question for the reason", "document.activeElement.closest('.reason')")
	p.evaluate("document.activeElement.value = 'too short'")
	p.press("\r")
	p.wait("thanks", "/Thank you/.test(document.querySelector('.reason')?.innerText)")
	p.reload()
	p.wait("the other rating", pressed("Poor reply")+" && !("+pressed("Good reply")+")")
	var page struct {
		Messages []struct {
			Feedback *struct{ Rating, Reason string }
		}
	}
	u.call("GET", "/api/chat/messages?leaf=current&conversationId="+p.conversation(), nil, &page)
	if f := page.Messages[1].Feedback; f == nil || f.Rating != "down" || f.Reason != "too short" {
		u.t.Errorf("stored %+v", f)
	}
	p.button("Poor reply")
	p.wait("no rating", "!("+pressed("Poor reply")+")")
}

// The page can be used without a pointer.
func pageKeyboard(u *user) {
	p := u.openPage("/")
	p.wait("the message box has the focus", "document.activeElement.id === 'text'")
	p.press(mark("typed", u.name))
	p.enter()
	p.shows("typed", "typed #1")
	p.press("\t") // from the message box on
	names := []string{}
	for range 40 {
		name := get[string](p, "(document.activeElement.getAttribute('aria-label') ?? document.activeElement.labels?.[0]?.textContent ?? document.activeElement.textContent).trim().slice(0, 40)")
		if name == "" {
			u.t.Errorf("an element without a name has the focus: %s", get[string](p, "document.activeElement.outerHTML.slice(0, 200)"))
		}
		visible := get[bool](p, "document.activeElement === document.body || document.activeElement.checkVisibility({visibilityProperty: true})")
		if !visible {
			u.t.Errorf("%s has the focus and is not visible", name)
		}
		names = append(names, name)
		p.press("\t")
	}
	for _, want := range []string{"Skip to the message box", "New conversation", "Usage and settings", "Rename the conversation", "Delete the conversation", "Messages", "Copy", "Edit", "Regenerate", "Message", "Attach files"} {
		if !slices.Contains(names, want) {
			u.t.Errorf("%s cannot be reached with the keyboard: %q", want, names)
		}
	}
	p.evaluate("document.querySelector('#text').focus()")
	p.press(kb.ArrowUp)
	p.wait("the last message to edit", "document.activeElement.className === 'edit-text'")
	p.press("\x1b")
	p.wait("the focus is back on the message", "document.activeElement.getAttribute('aria-label') === 'Edit'")
}

// vectors are texts that a page must show, not obey.
var vectors = []string{
	`<script>alert(1)</script>`, `<img src=x onerror=alert(1)>`, `<svg onload=alert(1)>`, `"><script>alert(1)</script>`, `'-alert(1)-'`,
	`[click](javascript:alert(1))`, `[click](JaVaScRiPt:alert(1))`, `![x](x" onerror="alert(1))`, `[x](data:text/html,<script>alert(1)</script>)`,
	`<a href="javascript:alert(1)">x</a>`, `<iframe srcdoc="<script>alert(1)</script>"></iframe>`, `<math><mtext></table><img src=x onerror=alert(1)>`,
	`<style>*{display:none}</style>`, "```\"onmouseover=alert(1) x\ncode\n```", "```html\n<script>alert(1)</script>\n```", `<details open ontoggle=alert(1)>`,
	`{{constructor.constructor('alert(1)')()}}`, `<form action=javascript:alert(1)><button>x</button></form>`, `<base href="https://evil.example/">`,
	`<meta http-equiv=refresh content="0;url=https://evil.example">`, `<mark onclick=alert(1)>x</mark>`, `<input autofocus onfocus=alert(1)>`, `<x id=messages>`,
	`&lt;script&gt;alert(1)&lt;/script&gt;`, "\u202e<b>reversed", `<noscript><p title="</noscript><img src=x onerror=alert(1)>">`,
}

func pageXSS(u *user) {
	all := strings.Join(vectors, "\n\n")
	u.w.provider.behave(u.name, stub.Reply{Output: []chat.Part{
		{Kind: chat.ReasoningPart, Text: all}, {Kind: chat.TextPart, Text: all}, {Kind: chat.SourcePart, URL: "javascript:alert(1)", Title: vectors[1]},
	}})
	p := u.openPage("/")
	id := "xss-" + u.name
	for i, v := range vectors {
		u.call("POST", "/api/chat/conversations", map[string]any{"title": v, "id": fmt.Sprint(id, i)}, new(any))
	}
	p.visit("/?c=" + id + "0")
	p.wait("the titles", fmt.Sprintf("document.querySelectorAll('#conversations li').length >= %d", len(vectors)))
	if got := get[string](p, "document.querySelector('#title').textContent"); got != vectors[0] {
		u.t.Errorf("the title is %q", got)
	}
	// Names of files, as the server keeps them and as the browser has them.
	p.paste("..." + must(vectors[:4]) + ".map((name) => new File(['text'], name + '.txt', {type: 'text/plain'}))")
	p.wait("the files", "document.querySelectorAll('.attachment.done').length === 4")
	p.write(all)
	p.wait("the reply", "document.querySelector('.assistant:not(.streaming) .text')")
	for range 2 {
		p.wait("the user's text", "document.querySelector('.user .text').innerText.includes('<script>alert(1)</script>')")
		p.wait("the reply's text", "document.querySelector('.assistant .text').innerText.includes('<img src=x onerror=alert(1)>')")
		p.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
		bad := get[[]string](p, `[...document.querySelectorAll('#messages *, #conversations *, #title, #attachments *')].flatMap((e) => [
			...(['SCRIPT', 'STYLE', 'IFRAME', 'FORM', 'BASE', 'META', 'INPUT', 'OBJECT', 'EMBED', 'MATH'].includes(e.tagName.toUpperCase()) ? [e.outerHTML] : []),
			...[...e.attributes].filter((a) => /^on|^style$|^srcdoc$/.test(a.name) || /^\s*(javascript|data):/i.test(a.value)).map((a) => a.name + '=' + a.value),
		])`)
		if len(bad) > 0 {
			u.t.Errorf("on the page: %q", bad)
		}
		p.evaluate("for (const a of document.querySelectorAll('#messages a[href]:not([target]):not([download])')) problems.push('a link in the same tab: ' + a.outerHTML)")
		p.checkProblems()
		p.reload()
	}
	// Details of errors.
	u.w.provider.behave(u.name, func() stub.Reply {
		r := stub.Refuse(400, "invalid_request_error")
		r.Raw = `{"error":{"message":` + quote(all) + `,"type":"` + "<img src=x onerror=alert(1)>" + `"}}`
		return r
	}())
	p.visit("/?c=" + url.QueryEscape(`"><img src=x onerror=alert(1)>`))
	p.wait("that it is unknown", "document.querySelector('#empty').checkVisibility()")
	p.visit("/?c=" + id + "1")
	p.write("fails")
	p.wait("the trouble", "document.querySelector('#trouble').checkVisibility()")
	p.visit("/share/" + url.PathEscape(vectors[1]))
	p.wait("no such link", "document.querySelector('#empty').checkVisibility()")
}

func must(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// A session that has ended is said, and what was written is kept.
func pageSignedOut(u *user) {
	p := u.openPage("/")
	p.write("one")
	p.shows("one", "one #1")
	name, _, _ := strings.Cut(u.cookie, "=")
	p.session(name + "=broken")
	p.compose("unsent")
	p.enter()
	p.wait("that there is no session", "/not signed in/.test(document.querySelector('#empty').innerText)")
	p.screenshot("signed-out")
	p.session(u.cookie)
	p.visit(strings.TrimPrefix(get[string](p, "location.href"), p.at))
	p.shows("one", "one #1")
	p.wait("what was written", "document.querySelector('#text').value === 'unsent'")
}

// pageDevelopment is the first minute of a newcomer: the page signs itself in.
func pageDevelopment(t *testing.T, browser context.Context) {
	w := startWorld(t, "", browser, "DEMO_DELAY=1ms")
	u := newUser(t, w, "")
	u.cookie = "unrelated=1"
	p := u.openPage("/")
	p.write("!echo hello")
	p.wait("a reply", "document.querySelector('.assistant:not(.streaming) .text')?.innerText.startsWith('hello')")
	p.wait("that the demo is no AI", "/not AI/.test(document.querySelector('#model').innerText)")
}

// TestPageLong opens a conversation of 5,000 messages without a stall, and scrolls
// through its older pages.
func TestPageLong(t *testing.T) {
	browser := startBrowser(t)
	w := startScripted(t, "", browser)
	u := newUser(t, w, "")
	u.w.provider.behave(u.name, stub.Reply{Text: "A reply with **Markdown**, `code` and more.\n\n```go\nfunc main() { println(1) }\n```\n\n" + stub.Words(40)})
	u.fill("long", 2500)
	p := u.openPage("/")
	paint := 1e9
	var opening, scrolling []int
	for try := range 5 {
		p.visit("/?c=long")
		p.wait("the newest messages", "document.querySelectorAll('.message').length >= 30 && document.querySelector('.message:last-child .tok-keyword')")
		p.wait("the end of the log", "(() => { const l = document.querySelector('#log'); return l.scrollHeight - l.scrollTop - l.clientHeight < 90 })()")
		opening = append(opening, worst(p))
		paint = min(paint, get[float64](p, "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 1e9"))
		p.evaluate("longTasks.length = 0")
		for page := range 4 {
			p.evaluate("document.querySelector('#log').scrollTop = 0")
			p.wait("older messages", fmt.Sprintf("document.querySelectorAll('.message').length >= %d", 80+50*page))
		}
		if first := get[string](p, "document.querySelectorAll('#messages > .message')[0].querySelector('.text').textContent"); first == "" {
			t.Error("the first message is empty")
		}
		scrolling = append(scrolling, worst(p))
		t.Logf("try %d: first paint %.0f ms, longest tasks %d ms opening, %d ms scrolling", try, paint, opening[try], scrolling[try])
		if paint <= 100 && slices.Min(opening) <= 50 && slices.Min(scrolling) <= 50 {
			break // the machine was idle once; what else ran then does not matter
		}
	}
	if slices.Min(opening) > 50 || slices.Min(scrolling) > 50 {
		t.Errorf("longest tasks in ms: %v opening, %v scrolling; want at most 50", opening, scrolling)
	}
	if paint > 100 {
		t.Errorf("first paint after %.0f ms, want at most 100", paint)
	}
	p.visit("/?c=long&m=" + get[string](p, "document.querySelectorAll('#messages > .message')[10].dataset.id"))
	p.wait("the message that was asked for", "document.querySelector('.message:focus')")
}

// worst returns the longest task since the page was loaded, in milliseconds; 0 if
// none was longer than 50.
func worst(p *pageTab) int {
	p.t.Helper()
	return get[int](p, "Math.max(0, ...longTasks)")
}

// TestPageAccessible holds every state of the page to axe, in light and dark, on
// narrow and wide screens.
func TestPageAccessible(t *testing.T) {
	installPackages(t)
	axe, err := os.ReadFile("testdata/node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	browser := startBrowser(t)
	provider := startProvider(t)
	w := startWorld(t, "", browser, "OPENAI_API_KEY=sk-e2e", "OPENAI_BASE_URL="+provider.OpenAIURL(), "OPENAI_MODEL=scripted,other", "OPENAI_FILES=images",
		"BUDGET_TOKENS_DAY=200000", "RATE_LIMIT_AUTHENTICATED=1000", "AI_FIRST_TOKEN_TIMEOUT=10m", "AI_IDLE_TIMEOUT=10m")
	w.provider = provider
	u := newUser(t, w, "")
	p := u.openPage("/")
	check := func(state string) {
		t.Helper()
		for _, scheme := range []string{"light", "dark"} {
			p.colours(scheme)
			for _, width := range []int64{1440, 768, 320} {
				p.viewport(width, 800)
				if wide := get[int](p, "document.documentElement.scrollWidth"); int64(wide) > width {
					t.Errorf("%s at %d px is %d px wide", state, width, wide)
				}
				p.evaluate(string(axe))
				violations := get[[]string](p, `axe.run(document).then((r) => (r.passes.length < 15 ? [{id: 'axe did not run', nodes: []}] : r.violations).map((v) => v.id + ': ' + v.nodes.slice(0, 3).map((n) => n.html + ' ' + n.failureSummary).join(' | ')))`)
				for _, v := range violations {
					t.Errorf("%s, %s, %d px: %s", state, scheme, width, v)
				}
				p.screenshot(fmt.Sprintf("%s-%s-%d", state, scheme, width))
			}
		}
		p.viewport(1100, 800)
	}
	check("empty")
	provider.behave(u.name, stub.Reply{Output: []chat.Part{
		{Kind: chat.ReasoningPart, Text: "The user asks for everything."},
		{Kind: chat.TextPart, Text: "# Title\n\nText with `code`, **bold**, a [link](https://example.com) and a list:\n\n1. one\n2. two\n\n### Deeper\n\n```go\n// Add adds.\nfunc Add(a, b int) int { return a + b + 40 } // and a line that is so long that it has to be scrolled, even on a wide screen, to be read to its end\nvar s = \"text\"\n```\n\n| A | B |\n|---|--:|\n| a long cell with words | 1 |\n\n> Quoted.\n\n~~gone~~"},
		{Kind: chat.SourcePart, URL: "https://example.com/a", Title: "A source"},
	}})
	p.write("Show me everything")
	p.wait("the reply", "document.querySelector('.assistant:not(.streaming) .sources')")
	p.button("Regenerate")
	p.wait("two versions", "document.querySelector('.assistant:not(.streaming) .versions')")
	p.evaluate("document.querySelector('details').open = true")
	check("chat")
	p.click("#usage")
	p.wait("the usage", "document.querySelector('dialog .meter')")
	check("usage")
	p.press("\x1b")
	p.evaluate("document.querySelector('.user [aria-label=Edit]').click()")
	check("edit")
	p.press("\x1b")
	provider.behave(u.name, stub.Reply{Text: stub.Words(30), Gate: make(chan struct{}), After: 10})
	p.write("Slowly")
	p.wait("a live reply", "document.querySelector('.streaming .text')?.innerText.startsWith('word1')")
	check("streaming")
	p.click("#stop")
	p.wait("the end", "document.querySelector('.state.stopped')")
	check("stopped")
	provider.behave(u.name, stub.Refuse(400, "invalid_request_error"))
	p.write("Refused")
	p.wait("the trouble", "document.querySelector('#trouble').checkVisibility()")
	check("trouble")
	p.click("#delete")
	p.wait("the question", "document.querySelector('dialog')")
	check("delete")
	p.press("\x1b")
	p.click("#share")
	p.button("Make a link")
	p.wait("the link", "document.querySelector('.links li')")
	link := strings.TrimPrefix(get[string](p, "document.querySelector('.made input').value"), p.at)
	check("share-dialog")
	p.press("\x1b")
	p.wait("no dialog", "!document.querySelector('dialog')")
	p.evaluate("{ const s = document.querySelector('#search'); s.value = 'everything'; s.dispatchEvent(new InputEvent('input', {bubbles: true})) }")
	p.wait("results", "document.querySelector('#results mark')")
	check("search")
	p.viewport(320, 800)
	p.click("#open-sidebar")
	p.wait("the drawer", "document.activeElement.id === 'close-sidebar'")
	p.evaluate(string(axe))
	for _, v := range get[[]string](p, `axe.run().then((r) => r.violations.map((v) => v.id + ': ' + v.nodes[0].html))`) {
		t.Errorf("drawer: %s", v)
	}
	p.screenshot("drawer-320")
	p.visit("/?c=unknown")
	p.wait("that it is unknown", "/no such conversation/.test(document.querySelector('#empty').innerText)")
	check("unknown")
	p.visit(link)
	p.wait("the shared conversation", "document.querySelector('.assistant .sources')")
	check("shared")
	p.visit("/share/unknown")
	p.wait("that it is gone", "/leads nowhere/.test(document.querySelector('#empty').innerText)")
	check("shared-unknown")
}

// TestPagePicture takes the picture of the README: bin/e2e/readme.png, which
// docs/img/page.png is a copy of.
func TestPagePicture(t *testing.T) {
	browser := startBrowser(t)
	provider := startProvider(t)
	w := startWorld(t, "", browser, "OPENAI_API_KEY=sk-e2e", "OPENAI_BASE_URL="+provider.OpenAIURL(), "OPENAI_MODEL=gpt-5.2,gpt-5.2-mini", "BUDGET_TOKENS_DAY=120000")
	w.provider = provider
	u := newUser(t, w, "")
	for _, title := range []string{"A name for the ferry", "Reading list for the winter", "Sourdough, third attempt", "Why tides come twice a day", "Postgres: index or not"} {
		u.call("POST", "/api/chat/conversations", map[string]any{"title": title}, new(any))
	}
	provider.behave("", stub.Reply{Output: []chat.Part{
		{Kind: chat.ReasoningPart, Text: "A token bucket is the simplest thing that allows bursts."},
		{Kind: chat.TextPart, Text: "A **token bucket** fills at a steady rate. Each request takes one token out; when the bucket is empty, it has to wait:\n\n```go\n// Allow reports whether a request may go on now.\nfunc (b *Bucket) Allow(now time.Time) bool {\n\tb.fill(now)\n\tif b.tokens < 1 {\n\t\treturn false // tell the caller when: Retry-After\n\t}\n\tb.tokens--\n\treturn true\n}\n```\n\n- `rate` says how many tokens come in a second\n- `burst` says how many the bucket can hold"},
		{Kind: chat.SourcePart, URL: "https://www.rfc-editor.org/rfc/rfc9110", Title: "HTTP Semantics: Retry-After"},
	}})
	p := u.openPage("/")
	p.viewport(1280, 960)
	p.compose("How do rate limits allow short bursts? Show me in Go.")
	p.enter()
	p.wait("the reply", "document.querySelector('.assistant:not(.streaming) .sources')")
	p.button("Regenerate")
	p.wait("two versions", "document.querySelector('.assistant:not(.streaming) .versions')")
	u.call("PATCH", "/api/chat/conversations/"+p.conversation(), map[string]any{"title": "Rate limits that allow bursts"}, new(any))
	p.visit("/?c=" + p.conversation())
	p.wait("the rating's buttons", "document.querySelector('.thumb')")
	p.button("Good reply")
	p.wait("the rating", "document.querySelector('.thumb.on')")
	p.evaluate("document.querySelector('#log').scrollTop = 0; document.querySelector('#text').focus()")
	p.wait("the announcement", "document.querySelector('#announce').textContent")
	p.screenshot("readme")
}
