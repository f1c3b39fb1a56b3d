//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
)

// waitLimit bounds every wait: the machine may be busy with something else.
const waitLimit = time.Minute

// message is a message of the AI SDK or of Parley's API, as far as it is compared.
type message struct {
	ID, Role, Text string
	Files          []file
}

type file struct{ Name, MediaType, URL string }

// pageState is what a page says of itself; see publish in testdata/page.jsx.
type pageState struct {
	ID, Status, Error string
	Images            int // that are visible
	Problems          []string
	Asked             bool // whether there is a reply to follow, and has the answer
	Messages          []struct {
		ID, Role string
		Parts    []struct{ Type, Text, Filename, MediaType, URL string }
	}
}

// messages returns the messages of the page.
func (s pageState) messages() []message {
	out := []message{}
	for _, m := range s.Messages {
		shown := message{ID: m.ID, Role: m.Role}
		for _, p := range m.Parts {
			switch p.Type {
			case "text":
				shown.Text += p.Text
			case "file":
				shown.Files = append(shown.Files, file{p.Filename, p.MediaType, p.URL})
			}
		}
		out = append(out, shown)
	}
	return out
}

// texts returns the texts of the page's messages, without the user's mark.
func (s pageState) texts() []string {
	out := []string{}
	for _, m := range s.messages() {
		text, _ := splitMark(m.Text)
		out = append(out, text)
	}
	return out
}

// tab is a page in a user's browser.
type tab struct {
	*user
	ctx context.Context
	// reused are ids that the page has kept for messages with another text. Parley
	// stores an edited message as a new one; the page learns its id with the history.
	reused map[string]bool
}

// open opens a chat in a new tab; "" is a new chat.
func (u *user) open(chat string) *tab {
	u.t.Helper()
	p := u.openTab()
	p.load(chat)
	return p
}

// openTab opens an empty tab. The tabs of a user share a session.
func (u *user) openTab() *tab {
	u.t.Helper()
	option := chromedp.WithNewBrowserContext()
	if u.tabs != nil {
		option = chromedp.WithExistingBrowserContext(chromedp.FromContext(u.tabs[0].ctx).BrowserContextID)
	}
	ctx, cancel := chromedp.NewContext(u.w.browser, option)
	u.t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		u.t.Fatal(err)
	}
	p := &tab{user: u, ctx: ctx}
	u.tabs = append(u.tabs, p)
	return p
}

// load loads the page of a chat, again if it is the one that the tab shows.
func (p *tab) load(chat string) {
	p.t.Helper()
	page := "/pages/" + p.frontEnd
	if chat != "" {
		page += "?chat=" + url.QueryEscape(chat)
	}
	p.reused = nil
	p.navigate("/session?user=" + url.QueryEscape(p.name) + "&next=" + url.QueryEscape(page))
}

func (p *tab) navigate(page string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, waitLimit)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Navigate(p.w.pages+page)); err != nil {
		p.t.Fatalf("%s: %v", page, err)
	}
}

// act does what a user can do on the page (see testdata), and waits for nothing.
func (p *tab) act(name string, args ...any) {
	p.t.Helper()
	list, err := json.Marshal(append([]any{}, args...))
	if err != nil {
		p.t.Fatal(err)
	}
	p.evaluate("void acts." + name + "(..." + string(list) + ")")
}

func (p *tab) evaluate(script string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, waitLimit)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Evaluate[chromedp.Void](script)); err != nil {
		p.t.Fatalf("%s: %v", script, err)
	}
}

// send sends a message.
func (p *tab) send(text string) {
	p.t.Helper()
	p.act("send", mark(text, p.name))
}

// edit gives a message another text, in one of the ways of the front end.
func (p *tab) edit(act string, at int, text string) {
	p.t.Helper()
	if act != "editByTrimming" {
		if p.reused == nil {
			p.reused = map[string]bool{}
		}
		state := p.until("the message", func(s pageState) bool { return len(s.Messages) > at })
		p.reused[state.Messages[at].ID] = true
	}
	p.act(act, at, mark(text, p.name))
}

// until waits until the page is as it should be, and returns its state.
func (p *tab) until(want string, is func(pageState) bool) pageState {
	p.t.Helper()
	var state pageState
	for end := time.Now().Add(waitLimit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(p.ctx, waitLimit)
		read, err := chromedp.Run(ctx, chromedp.Evaluate[*pageState]("window.state ? state() : null"))
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if err != nil || read == nil { // the page is being loaded
			continue
		}
		if state = *read; len(state.Problems) > 0 {
			p.t.Fatalf("errors on the page: %q", state.Problems)
		}
		if (state.Asked || state.Status != "ready") && is(state) {
			return state
		}
	}
	p.t.Fatalf("the page does not get there:\nwant %s\ngot  %s %q %q, %d images", want, state.Status, state.texts(), state.Error, state.Images)
	return state
}

// shows waits until the page has the status and exactly these texts.
func (p *tab) shows(status string, texts ...string) pageState {
	p.t.Helper()
	want := status + " " + strings.Join(quoted(texts), " ")
	return p.until(want, func(s pageState) bool { return s.Status == status && slices.Equal(s.texts(), texts) })
}

// settled waits until the page is ready with exactly these texts, and compares
// it with the current branch of the chat.
func (p *tab) settled(texts ...string) pageState {
	p.t.Helper()
	state := p.shows("ready", texts...)
	p.compare(state)
	return state
}

// compare holds the page to the current branch of the chat.
func (p *tab) compare(state pageState) {
	p.t.Helper()
	stored, shown := p.branch(state.ID), state.messages()
	for i := range shown {
		if p.reused[shown[i].ID] && i < len(stored) {
			shown[i].ID = stored[i].ID
		}
		// A file that the page has sent is still in its address there.
		for j := range shown[i].Files {
			if f := &shown[i].Files[j]; strings.HasPrefix(f.URL, "data:") && i < len(stored) && j < len(stored[i].Files) {
				f.URL = stored[i].Files[j].URL
			}
		}
	}
	if diff := cmp.Diff(stored, shown); diff != "" {
		p.t.Fatalf("the page shows another conversation than Parley has (-Parley +page):\n%s", diff)
	}
}
