//go:build e2e

package e2e_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"parley/adapters/providers/stub"
)

// user is a user of Parley with a browser, in one scenario.
type user struct {
	t        *testing.T
	w        *world
	frontEnd string
	name     string
	cookie   string
	tabs     []*tab
}

func newUser(t *testing.T, w *world, frontEnd string) *user {
	u := &user{t: t, w: w, frontEnd: frontEnd}
	_, path, _ := strings.Cut(t.Name(), "/")
	u.name = strings.ReplaceAll(cmp.Or(path, t.Name()), "/", "-")
	name, value, err := w.cookie(u.name)
	if err != nil {
		t.Fatal(err)
	}
	u.cookie = name + "=" + value
	return u
}

// call calls Parley's API as the user and decodes the answer into out.
func (u *user) call(method, path string, body, out any) {
	u.t.Helper()
	content, err := json.Marshal(body)
	if err != nil {
		u.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(u.t.Context(), method, u.w.api+path, bytes.NewReader(content))
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
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		u.t.Fatalf("%s %s: %s %v\n%s", method, path, resp.Status, err, answer)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		u.t.Fatalf("%s %s: %v\n%s", method, path, err, answer)
	}
}

// outside is the page's name of the messages that are in no conversation.
const outside = "/"

// branch returns the current branch of a chat.
func (u *user) branch(chat string) []message {
	u.t.Helper()
	out := []message{}
	for leaf := "current"; leaf != ""; {
		var page struct {
			Messages []struct {
				ID, Role, Content, ParentID string
				Parts                       []struct{ Type, Name, MediaType, URL string }
			}
		}
		query := url.Values{"leaf": {leaf}, "limit": {"100"}}
		if chat != outside {
			query.Set("conversationId", chat)
		}
		u.call("GET", "/api/chat/messages?"+query.Encode(), nil, &page)
		older := []message{}
		for _, m := range page.Messages {
			stored := message{ID: m.ID, Role: m.Role, Text: m.Content}
			for _, p := range m.Parts {
				if p.Type == "file" {
					stored.Files = append(stored.Files, file{p.Name, p.MediaType, p.URL})
				}
			}
			older = append(older, stored)
		}
		out = append(older, out...)
		leaf = ""
		if len(page.Messages) > 0 {
			leaf = page.Messages[0].ParentID
		}
	}
	return out
}

// ended waits until a chat has so many messages.
func (u *user) ended(chat string, messages int) {
	u.t.Helper()
	for end := time.Now().Add(waitLimit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if len(u.branch(chat)) == messages {
			return
		}
	}
	u.t.Fatalf("chat %s has %d messages, want %d", chat, len(u.branch(chat)), messages)
}

// gate makes the provider stop after one word of each reply until open is called.
func (u *user) gate() (open func()) {
	gate := make(chan struct{})
	u.w.provider.behave(u.name, stub.Reply{Gate: gate, After: 1})
	return func() {
		u.w.provider.behave(u.name, stub.Reply{})
		close(gate)
	}
}

// occupy begins a reply in another chat, so that further messages of the user
// are refused with 429 until end is called.
func (u *user) occupy() (end func()) {
	u.t.Helper()
	other := u.name + "-other"
	u.w.provider.behave(other, stub.Reply{Gate: make(chan struct{})})
	var begun struct{ RunID string }
	u.call("POST", "/api/chat/messages", map[string]any{"content": mark("other", other), "background": true}, &begun)
	return func() {
		u.t.Helper()
		u.call("POST", "/api/chat/messages/"+begun.RunID+"/stop", nil, new(any))
		// Following it ends when it has ended.
		req, err := http.NewRequestWithContext(u.t.Context(), "GET", u.w.api+"/api/chat/messages/"+begun.RunID+"/stream", nil)
		if err != nil {
			u.t.Fatal(err)
		}
		req.Header.Set("Cookie", u.cookie)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			u.t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			u.t.Fatal(err)
		}
	}
}

// fill stores turns of a chat without a page.
func (u *user) fill(chat string, turns int) {
	u.t.Helper()
	u.call("POST", "/api/chat/conversations", map[string]any{"id": chat}, new(any))
	for i := range turns {
		u.call("POST", "/api/chat/messages", map[string]any{"conversationId": chat, "content": mark(strconv.Itoa(i+1), u.name)}, new(any))
	}
}

func quoted(texts []string) []string {
	out := make([]string, len(texts))
	for i, text := range texts {
		out[i] = fmt.Sprintf("%q", text)
	}
	return out
}
