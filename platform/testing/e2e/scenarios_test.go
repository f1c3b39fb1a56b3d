//go:build e2e

package e2e_test

import (
	"net/http"
	"slices"
	"strings"

	"parley/adapters/providers/stub"
)

// scenarios are what users do with a chat. Replies quote the messages of the user
// that the model was sent, so that the expected texts also show what it has seen.
var scenarios = []struct {
	name        string
	useChatOnly bool // assistant-ui has no such act
	run         func(u *user)
}{
	{name: "Send", run: func(u *user) {
		p := u.open("")
		p.shows("ready")
		p.send("one")
		p.settled("one", "one #1")
		text := "zwei — 二 🙂\n<b>&amp;</b>\n```\n\ttab  \n```"
		p.send(text)
		p.settled("one", "one #1", text, "one + "+text+" #1")
	}},
	{name: "Stream", run: func(u *user) {
		open := u.gate()
		p := u.open("")
		p.shows("ready")
		p.send("one")
		p.shows("streaming", "one", "one ")
		open()
		p.settled("one", "one #1")
	}},
	{name: "ReloadInMidStream", run: func(u *user) {
		open := u.gate()
		p := u.open("")
		p.shows("ready")
		p.send("one")
		chat := p.shows("streaming", "one", "one ").ID
		p.load(chat)
		p.shows("streaming", "one", "one ")
		open()
		p.settled("one", "one #1")
		p.load(chat) // there is nothing to resume
		p.settled("one", "one #1")
		p.send("two")
		p.settled("one", "one #1", "two", "one + two #1")
	}},
	{name: "ReloadOfNewChat", run: func(u *user) {
		p := u.open("made-by-the-app")
		p.shows("ready")
		p.send("one")
		p.settled("one", "one #1")
	}},
	{name: "Stop", run: func(u *user) {
		open := u.gate()
		p := u.open("")
		p.shows("ready")
		p.send("one")
		p.shows("streaming", "one", "one ")
		p.act("stop")
		chat := p.settled("one", "one ").ID
		open()
		p.send("two")
		p.settled("one", "one ", "two", "one + two #1")
		p.load(chat)
		p.settled("one", "one ", "two", "one + two #1")
	}},
	{name: "HangUp", run: func(u *user) { // the SDK's own stop: the reply goes on
		open := u.gate()
		p := u.open("")
		p.shows("ready")
		p.send("one")
		chat := p.shows("streaming", "one", "one ").ID
		p.act("hangUp")
		p.shows("ready", "one", "one ")
		other := u.open(chat)
		other.shows("streaming", "one", "one ")
		u.w.provider.behave(u.name, stub.Reply{})
		p.send("two") // interrupts it
		p.settled("one", "one ", "two", "one + two #1")
		other.shows("ready", "one", "one ")
		other.load(chat)
		other.settled("one", "one ", "two", "one + two #1")
		open()
	}},
	{name: "RetryAfter429", run: func(u *user) {
		p := u.open("")
		p.shows("ready")
		p.send("one")
		p.settled("one", "one #1")
		end := u.occupy()
		p.send("two")
		p.refused("one", "one #1", "two")
		p.act("retry")
		p.refused("one", "one #1", "two")
		end()
		p.act("retry")
		p.settled("one", "one #1", "two", "one + two #1")
	}},
	{name: "RetryOfTheFirstAfter429", run: func(u *user) {
		p := u.open("")
		p.shows("ready")
		end := u.occupy()
		p.send("one")
		p.refused("one")
		end()
		p.act("retry")
		p.settled("one", "one #1")
	}},
	{name: "SendTheRefusedFirstAgain", run: func(u *user) {
		p := u.open("")
		p.shows("ready")
		end := u.occupy()
		p.send("one")
		p.refused("one")
		end()
		act := "editByID"
		if u.frontEnd == "assistant-ui" {
			act = "editByTrimming"
		}
		p.edit(act, 0, "uno")
		p.settled("uno", "uno #1")
		p.send("two")
		p.settled("uno", "uno #1", "two", "uno + two #1")
	}},
	{name: "RetryAfterTheProviderRefused", run: func(u *user) {
		p := u.open("")
		p.shows("ready")
		u.w.provider.behave(u.name, stub.Refuse(http.StatusTooManyRequests, "rate_limit_exceeded"))
		p.send("one")
		p.refused("one")
		u.w.provider.behave(u.name, stub.Reply{})
		p.act("retry")
		p.settled("one", "one #1")
	}},
	{name: "RetryAfterTheProviderFailed", run: func(u *user) {
		p := u.open("")
		p.shows("ready")
		u.w.provider.behave(u.name, stub.Reply{Cut: stub.Overload, After: 1})
		p.send("one")
		p.refused("one", "one ")
		u.w.provider.behave(u.name, stub.Reply{})
		p.act("retry")
		p.settled("one", "one #2")
	}},
	{name: "EditByID", useChatOnly: true, run: func(u *user) { u.editMessages("editByID") }},
	{name: "EditInPlace", useChatOnly: true, run: func(u *user) { u.editMessages("editInPlace") }},
	{name: "EditByTrimming", run: func(u *user) { u.editMessages("editByTrimming") }},
	{name: "RemoveTheLastTurnAndSend", run: func(u *user) {
		p := u.twoTurns()
		p.act("remove", 3)
		p.shows("ready", "one", "one #1", "two")
		p.act("remove", 2)
		p.shows("ready", "one", "one #1")
		p.send("three")
		p.settled("one", "one #1", "three", "one + three #1")
	}},
	{name: "RemoveAReplyAndSend", run: func(u *user) {
		p := u.twoTurns()
		p.act("remove", 3)
		p.shows("ready", "one", "one #1", "two")
		p.send("three")
		p.settled("one", "one #1", "two", "three", "one + two + three #1")
	}},
	{name: "RemoveAnEarlierTurnAndSend", run: func(u *user) { // the model would see it: refused
		p := u.twoTurns()
		p.send("three")
		p.settled("one", "one #1", "two", "one + two #1", "three", "one + two + three #1")
		p.act("remove", 3)
		p.shows("ready", "one", "one #1", "two", "three", "one + two + three #1")
		p.act("remove", 2)
		chat := p.shows("ready", "one", "one #1", "three", "one + two + three #1").ID
		p.send("four")
		p.refused("one", "one #1", "three", "one + two + three #1", "four")
		p.load(chat)
		p.settled("one", "one #1", "two", "one + two #1", "three", "one + two + three #1")
	}},
	{name: "RegenerateTheLast", run: func(u *user) {
		p := u.twoTurns()
		p.act("regenerate", 3)
		p.settled("one", "one #1", "two", "one + two #2")
		p.act("retry")
		p.settled("one", "one #1", "two", "one + two #3")
		p.send("three")
		p.settled("one", "one #1", "two", "one + two #3", "three", "one + two + three #1")
	}},
	{name: "RegenerateAnEarlierOne", run: func(u *user) {
		p := u.twoTurns()
		p.act("regenerate", 1)
		p.settled("one", "one #2")
		p.send("two")
		p.settled("one", "one #2", "two", "one + two #2")
	}},
	{name: "RegenerateByTrimming", useChatOnly: true, run: func(u *user) {
		p := u.twoTurns()
		p.act("regenerateByTrimming", 1)
		p.settled("one", "one #2")
		p.send("two")
		p.settled("one", "one #2", "two", "one + two #2")
	}},
	{name: "TwoTabs", run: func(u *user) {
		open := u.gate()
		p := u.open("")
		p.shows("ready")
		p.send("one")
		chat := p.shows("streaming", "one", "one ").ID
		other := u.open(chat)
		other.shows("streaming", "one", "one ")
		open()
		p.settled("one", "one #1")
		other.settled("one", "one #1")
		other.send("two")
		other.settled("one", "one #1", "two", "one + two #1")
		p.send("three") // its page does not have the message two
		p.settled("one", "one #1", "three", "one + three #1")
		other.load(chat)
		other.settled("one", "one #1", "three", "one + three #1")
	}},
	{name: "Image", run: func(u *user) {
		p := u.open("")
		p.shows("ready")
		p.act("sendImage", mark("one", u.name))
		chat := p.settled("one", "one #1").ID
		p.showsImage()
		p.load(chat)
		if f := p.settled("one", "one #1").messages()[0].Files; len(f) != 1 || !strings.HasPrefix(f[0].URL, "/api/chat/files/") {
			u.t.Errorf("after a reload the page has the files %v", f)
		}
		p.showsImage()
		p.send("two")
		p.settled("one", "one #1", "two", "one + two #1")
		if got := u.w.provider.images(u.name); got != 2 {
			u.t.Errorf("the model was sent the image %d times, want 2", got)
		}
	}},
	{name: "LongHistory", run: func(u *user) {
		u.fill("long", 125)
		p := u.open("long")
		all := func(count int) func(pageState) bool {
			return func(s pageState) bool { return s.Status == "ready" && len(s.Messages) == count }
		}
		p.compare(p.until("250 messages", all(250)))
		p.send("more")
		p.compare(p.until("252 messages", all(252)))
		p.edit("editByTrimming", 10, "less")
		p.settled(append(p.until("12 messages", all(12)).texts()[:10], "less", "1 + 2 + 3 + 4 + 5 + less #1")...)
	}},
}

// twoTurns opens a new chat with two messages and their replies.
func (u *user) twoTurns() *tab {
	u.t.Helper()
	p := u.open("")
	p.shows("ready")
	p.send("one")
	p.settled("one", "one #1")
	p.send("two")
	p.settled("one", "one #1", "two", "one + two #1")
	return p
}

// editMessages edits the last message and the first, in one of the ways of the
// front end, and goes on.
func (u *user) editMessages(act string) {
	u.t.Helper()
	p := u.twoTurns()
	p.edit(act, 2, "zwei")
	p.settled("one", "one #1", "zwei", "one + zwei #1")
	p.edit(act, 2, "deux") // the edited one again
	p.settled("one", "one #1", "deux", "one + deux #1")
	p.edit(act, 0, "uno")
	p.settled("uno", "uno #1")
	p.send("dos")
	chat := p.settled("uno", "uno #1", "dos", "uno + dos #1").ID
	p.act("retry")
	p.settled("uno", "uno #1", "dos", "uno + dos #2")
	p.load(chat)
	p.settled("uno", "uno #1", "dos", "uno + dos #2")
}

// refused waits until the page shows an error, which a person can read. A reply
// without any text may be there, of which nothing came.
func (p *tab) refused(texts ...string) {
	p.t.Helper()
	state := p.until("error "+strings.Join(quoted(texts), " "), func(s pageState) bool {
		shown := s.texts()
		if last := len(shown) - 1; last >= 0 && shown[last] == "" {
			shown = shown[:last]
		}
		return s.Status == "error" && slices.Equal(shown, texts)
	})
	if state.Error == "" || strings.HasPrefix(state.Error, "{") {
		p.t.Errorf("the user reads this error: %q", state.Error)
	}
}

func (p *tab) showsImage() {
	p.t.Helper()
	p.until("one image", func(s pageState) bool { return s.Images == 1 })
}
