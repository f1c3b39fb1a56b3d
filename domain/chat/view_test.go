package chat_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
)

// shown makes the list of a client: "u:q1 a:r1" is a message of the user and one
// of the assistant.
func shown(list string) (out []chat.Shown) {
	roles := map[string]chat.Role{"u": chat.User, "a": chat.Assistant, "s": "system"}
	for item := range strings.FieldsSeq(list) {
		role, id, _ := strings.Cut(item, ":")
		text := ""
		if role == "u" {
			text = "question " + id[1:]
		}
		out = append(out, chat.Shown{ID: id, Role: roles[role], Text: text})
	}
	return out
}

// viewing is a request that is decided by what a client shows.
func (w *world) viewing(conversation, id, content string, v chat.View) chat.AdmitRequest {
	r := w.sending(conversation, content)
	r.Message.ID, r.View, r.FreshID, r.CreateConversation, r.WhenBusy = id, &v, w.id("fresh"), true, chat.Supersede
	return r
}

// chatOfThree is a conversation of three questions q1, q2, q3 and their replies
// r1, r2, r3, as a client with ids of its own makes it.
func chatOfThree(t tester) *world {
	w := newWorld(t)
	list := ""
	for _, n := range []string{"1", "2", "3"} {
		r := w.viewing("c", "q"+n, "question "+n, chat.View{Before: shown(list)})
		r.Run.ID = "r" + n
		out := w.must(r)
		if err := w.finish(out.Run.ID, chat.Completed, "reply "+n); err != nil {
			t.Fatal(err)
		}
		list += " u:q" + n + " a:r" + n
	}
	return w
}

// Every way in which a page changes its list, and what the request then means.
func TestAdmit_View(t *testing.T) {
	const all = "u:q1 a:r1 u:q2 a:r2 u:q3 a:r3"
	for name, c := range map[string]struct {
		before  string
		id      string
		content string
		view    chat.View
		branch  string // contents up to the question
		action  string
		stored  bool // the message keeps its id
	}{
		"New":           {all, "q4", "next", chat.View{}, "question 1 | reply 1 | question 2 | reply 2 | question 3 | reply 3 | next", audit.ActionMessageSent, true},
		"NewOnly":       {"", "q4", "next", chat.View{LastOnly: true}, "question 1 | reply 1 | question 2 | reply 2 | question 3 | reply 3 | next", audit.ActionMessageSent, true},
		"Trimmed":       {"u:q1 a:r1", "q4", "next", chat.View{}, "question 1 | reply 1 | next", audit.ActionMessageSent, true},
		"TrimmedToRoot": {"", "q4", "next", chat.View{}, "next", audit.ActionMessageSent, true},
		"ReplyDeleted":  {"u:q1 a:r1 u:q2", "q4", "next", chat.View{}, "question 1 | reply 1 | question 2 | next", audit.ActionMessageSent, true},
		"EndOfLongPage": {"u:q3 a:r3", "q4", "next", chat.View{}, "question 1 | reply 1 | question 2 | reply 2 | question 3 | reply 3 | next", audit.ActionMessageSent, true},

		"Edit":              {"u:q1 a:r1", "q2", "other", chat.View{Edit: true}, "question 1 | reply 1 | other", audit.ActionMessageEdited, false},
		"EditOfFirst":       {"", "q1", "other", chat.View{Edit: true}, "other", audit.ActionMessageEdited, false},
		"EditUnchanged":     {"u:q1 a:r1", "q2", "question 2", chat.View{Edit: true}, "question 1 | reply 1 | question 2", audit.ActionMessageEdited, false},
		"EditBySameID":      {"u:q1 a:r1", "q2", "other", chat.View{}, "question 1 | reply 1 | other", audit.ActionMessageEdited, false},
		"EditOnly":          {"", "q2", "other", chat.View{LastOnly: true}, "question 1 | reply 1 | other", audit.ActionMessageEdited, false},
		"EditOfUnknown":     {"u:q1 a:r1", "q9", "refused before", chat.View{Edit: true}, "question 1 | reply 1 | refused before", audit.ActionMessageSent, true},
		"EditOfUnknownOnly": {"", "q9", "refused before", chat.View{Edit: true, LastOnly: true}, "question 1 | reply 1 | question 2 | reply 2 | question 3 | reply 3 | refused before", audit.ActionMessageSent, true},

		"Again":              {"u:q1 a:r1 u:q2 a:r2", "q3", "question 3", chat.View{}, "question 1 | reply 1 | question 2 | reply 2 | question 3", audit.ActionReplyRegenerated, true},
		"AgainEarlier":       {"u:q1 a:r1", "q2", "question 2", chat.View{}, "question 1 | reply 1 | question 2", audit.ActionReplyRegenerated, true},
		"AgainFirst":         {"", "q1", "question 1", chat.View{}, "question 1", audit.ActionReplyRegenerated, true},
		"AgainOnly":          {"", "q2", "question 2", chat.View{LastOnly: true}, "question 1 | reply 1 | question 2", audit.ActionReplyRegenerated, true},
		"AgainFirstOfPage":   {"", "q2", "question 2", chat.View{}, "question 1 | reply 1 | question 2", audit.ActionReplyRegenerated, true},
		"AgainByReply":       {"u:q1 a:r1", "q2", "question 2", chat.View{Reply: "r2"}, "question 1 | reply 1 | question 2", audit.ActionReplyRegenerated, true},
		"AgainByQuestion":    {"u:q1 a:r1", "q2", "question 2", chat.View{Reply: "q2"}, "question 1 | reply 1 | question 2", audit.ActionReplyRegenerated, true},
		"AgainUnknownReply":  {"u:q1 a:r1", "q2", "question 2", chat.View{Reply: "made-by-the-page"}, "question 1 | reply 1 | question 2", audit.ActionReplyRegenerated, true},
		"AgainOtherQuestion": {"u:q1 a:r1", "q2", "other", chat.View{Reply: "r2"}, "question 1 | reply 1 | other", audit.ActionMessageEdited, false},
		"AgainRefused":       {all, "q9", "refused before", chat.View{}, "question 1 | reply 1 | question 2 | reply 2 | question 3 | reply 3 | refused before", audit.ActionMessageSent, true},
		"AgainElsewhere":     {"u:q1", "q3", "question 3", chat.View{}, "question 1 | question 3", audit.ActionMessageEdited, false},

		"AfterRefused":     {all + " u:q9", "q10", "next", chat.View{}, "question 1 | reply 1 | question 2 | reply 2 | question 3 | reply 3 | next", audit.ActionMessageSent, true},
		"Greeting":         {"a:hello", "q4", "next", chat.View{}, "next", audit.ActionMessageSent, true},
		"GreetingAndMore":  {"a:hello u:q1 a:r1", "q4", "next", chat.View{}, "question 1 | reply 1 | next", audit.ActionMessageSent, true},
		"SystemFirst":      {"s:sys u:q1 a:r1", "q4", "next", chat.View{}, "question 1 | reply 1 | next", audit.ActionMessageSent, true},
		"RepliesUnnamed":   {"u:q1 a:x1 u:q2 a:x2 u:q3 a:x3", "q4", "next", chat.View{}, "question 1 | reply 1 | question 2 | reply 2 | question 3 | reply 3 | next", audit.ActionMessageSent, true},
		"RepliesWithoutID": {"u:q1 a: u:q2 a:", "q4", "next", chat.View{}, "question 1 | reply 1 | question 2 | reply 2 | next", audit.ActionMessageSent, true},
		"NotAnID":          {"u:q1 a:r1 u:a/b", "q4", "next", chat.View{}, "question 1 | reply 1 | next", audit.ActionMessageSent, true},
		"InsertedByPage":   {all + " a:notice", "q4", "next", chat.View{}, "question 1 | reply 1 | question 2 | reply 2 | question 3 | reply 3 | next", audit.ActionMessageSent, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := chatOfThree(t)
			c.view.Before = shown(c.before)
			r := w.viewing("c", c.id, c.content, c.view)
			out := w.must(r)
			want(t, "context", contents(out.Context), c.branch)
			want(t, "keeps its id", out.UserMessage.ID == c.id, c.stored)
			e := w.entries[out.Run.AuditID]
			want(t, "audit", []any{e.Action, e.ResourceID}, []any{c.action, out.UserMessage.ID})
			kind := chat.Reply
			if c.action == audit.ActionReplyRegenerated {
				kind = chat.Regeneration
			}
			want(t, "kind", out.Run.Kind, kind)
			want(t, "the thread ends where the client does", contents(w.current("c")), c.branch)
			if w.loads > 4 {
				t.Errorf("%d loads", w.loads)
			}
		})
	}
}

// What a page shows and the store does not is refused, rather than answered
// with something else in mind.
func TestAdmit_ViewRefusals(t *testing.T) {
	for name, c := range map[string]struct{ before, id, content string }{
		"UnknownExchange":  {"u:x1 a:y1", "q4", "next"},
		"UnknownEnd":       {"u:q1 a:r1 u:x2 a:y2", "q4", "next"},
		"DeletedInMiddle":  {"u:q1 a:r1 a:r2", "q4", "next"},
		"ExchangeDeleted":  {"u:q1 a:r1 u:q3 a:r3", "q4", "next"},
		"ReplyOfMiddle":    {"u:q1 u:q2 a:r2", "q4", "next"},
		"OtherOrder":       {"u:q2 a:r2 u:q1 a:r1 u:q3 a:r3", "q4", "next"},
		"IDOfAReply":       {"u:q1 a:r1", "r2", "reply 2"},
		"AgainMiddleGone":  {"u:q1 a:r1 a:r2", "q3", "question 3"},
		"UnknownButTheEnd": {"u:x1 a:y1", "q3", "question 3 of another page"},
	} {
		t.Run(name, func(t *testing.T) {
			w := chatOfThree(t)
			before := len(w.messages)
			w.refused(w.viewing("c", c.id, c.content, chat.View{Before: shown(c.before)}), fault.Conflict)
			if len(w.messages) != before {
				t.Error("something is stored")
			}
		})
	}
	t.Run("NewChatWithHistory", func(t *testing.T) {
		w := newWorld(t)
		w.refused(w.viewing("c", "q2", "next", chat.View{Before: shown("u:q1 a:r1")}), fault.Conflict)
	})
}

// The ids of another chat are unknown in this one.
func TestAdmit_ViewCountsPerChat(t *testing.T) {
	w := chatOfThree(t)
	out := w.must(w.viewing("d", "q1", "question 1", chat.View{}))
	want(t, "stored", []any{out.UserMessage.ID, out.Run.Kind}, []any{"d/q1", chat.Reply})
	if err := w.finish(out.Run.ID, chat.Completed, "mine"); err != nil {
		t.Fatal(err)
	}
	out = w.must(w.viewing("d", "q2", "question 2", chat.View{Before: shown("u:q1 a:" + out.Run.ID)}))
	want(t, "branch", contents(out.Context), "question 1 | mine | question 2")
	out = w.must(w.viewing("d", "q1", "other", chat.View{}))
	want(t, "edited", []any{contents(out.Context), out.UserMessage.ID != "q1"}, []any{"other", true})
}

// A page whose reply was stopped before a word, or failed without text, has the
// id of a run that left no message.
func TestAdmit_ViewAfterRunWithoutMessage(t *testing.T) {
	for name, state := range map[string]chat.State{"Stopped": chat.Stopped, "Failed": chat.Failed} {
		t.Run(name, func(t *testing.T) {
			w := chatOfThree(t)
			out := w.must(w.viewing("c", "q4", "question 4", chat.View{Before: shown("a:r3")}))
			if err := w.finish(out.Run.ID, state, ""); err != nil {
				t.Fatal(err)
			}
			out = w.must(w.viewing("c", "q5", "on", chat.View{Before: shown("u:q3 a:r3 u:q4 a:" + out.Run.ID)}))
			want(t, "branch", contents(out.Context[4:]), "question 3 | reply 3 | question 4 | on")
		})
	}
}

// A client that sends while a reply is made takes its place, also where it does
// not show the reply: the thread ends with the new message's reply, whatever
// becomes of the old one.
func TestAdmit_ViewSupersedes(t *testing.T) {
	for name, c := range map[string]struct {
		shows bool
		text  string
		want  string
	}{
		"Shown":         {true, "as far", "question 3 | reply 3 | question 4 | as far | second"},
		"ShownNoText":   {true, "", "question 3 | reply 3 | question 4 | second"},
		"Unshown":       {false, "as far", "question 3 | reply 3 | question 4 | second"},
		"UnshownNoText": {false, "", "question 3 | reply 3 | question 4 | second"},
	} {
		t.Run(name, func(t *testing.T) {
			w := chatOfThree(t)
			first := w.must(w.viewing("c", "q4", "question 4", chat.View{Before: shown("a:r3")}))
			list := "a:r3 u:q4"
			if c.shows {
				list += " a:" + first.Run.ID
			}
			second := w.must(w.viewing("c", "q5", "second", chat.View{Before: shown(list)}))
			want(t, "superseded", second.Superseded, first.Run.ID)
			if err := w.finish(first.Run.ID, chat.Stopped, c.text); err != nil {
				t.Fatal(err)
			}
			w.claim("c")
			if err := w.finish(second.Run.ID, chat.Failed, ""); err != nil {
				t.Fatal(err)
			}
			want(t, "branch", contents(w.current("c")[4:]), c.want)
		})
	}
}

// page is a client like useChat: a list of messages that it changes on its own,
// with ids of which the store knows some.
type page struct {
	w    *world
	list []entry
	ids  int
}

type entry struct {
	id, text string
	role     chat.Role
	refused  bool // never stored
}

func (p *page) id() string { p.ids++; return fmt.Sprint("p", p.ids) }

func (p *page) shown() (out []chat.Shown) {
	for _, e := range p.list {
		out = append(out, chat.Shown{ID: e.id, Role: e.role, Text: e.text})
	}
	return out
}

// texts are those of the list, without what was refused and replies without text.
func (p *page) texts() string {
	var out []string
	for _, e := range p.list {
		if !e.refused && e.text != "" {
			out = append(out, e.text)
		}
	}
	return strings.Join(out, " | ")
}

// ask requests a reply to the last message of the list, and reads it.
func (p *page) ask(rt *rapid.T, v chat.View) {
	last := &p.list[len(p.list)-1]
	if rapid.IntRange(0, 9).Draw(rt, "limit") == 0 {
		return // refused: 429; a message that is new stays on the page
	}
	v.Before = p.shown()[:len(p.list)-1]
	r := p.w.viewing("c", last.id, last.text, v)
	r.Context = 1000
	out := p.w.must(r)
	last.refused = false
	if got := contents(out.Context); got != p.texts() {
		rt.Fatalf("the model reads %q, the page shows %q", got, p.texts())
	}
	reply := entry{id: out.Run.ID, text: "re " + p.id(), role: chat.Assistant}
	state := rapid.SampledFrom([]chat.State{chat.Completed, chat.Completed, chat.Stopped, chat.Failed}).Draw(rt, "end")
	if state != chat.Completed && rapid.Bool().Draw(rt, "without text") {
		reply.text = ""
	}
	for _, live := range p.w.live("c") { // those that it took the place of end first
		if live.ID != out.Run.ID {
			if err := p.w.finish(live.ID, chat.Stopped, "unseen"); err != nil {
				rt.Fatal(err)
			}
		}
	}
	p.w.claim("c")
	if rapid.IntRange(0, 9).Draw(rt, "left early") == 0 {
		return // stop() before anything came: the reply goes on, unseen
	}
	if err := p.w.finish(out.Run.ID, state, reply.text); err != nil {
		rt.Fatal(err)
	}
	if reply.text != "" || rapid.Bool().Draw(rt, "started") {
		if reply.text != "" && rapid.IntRange(0, 5).Draw(rt, "text transport") == 0 {
			reply.id = p.id()
		}
		p.list = append(p.list, reply)
	}
	if got := contents(p.w.current("c")); got != p.texts() {
		rt.Fatalf("stored is %q, the page shows %q", got, p.texts())
	}
}

// Whatever a page does to its list, the model reads what the page shows, and the
// thread's current branch is what the page shows.
func TestAdmit_ModelReadsWhatThePageShows(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		w.keepsEnds = rapid.Bool().Draw(rt, "keeps ends")
		p := &page{w: w}
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			users := []int{}
			for i, e := range p.list {
				if e.role == chat.User {
					users = append(users, i)
				}
			}
			act := rapid.IntRange(0, 6).Draw(rt, "act")
			if len(users) == 0 {
				act = 0
			}
			switch act {
			case 0, 1: // sendMessage
				p.list = append(p.list, entry{id: p.id(), text: "say " + p.id(), role: chat.User, refused: true})
				p.ask(rt, chat.View{})
			case 2: // sendMessage({messageId}), or the same id with another text and regenerate()
				i := rapid.SampledFrom(users).Draw(rt, "message")
				p.list = p.list[:i+1]
				p.list[i].text, p.list[i].refused = "edit "+p.id(), true
				p.ask(rt, chat.View{Edit: rapid.Bool().Draw(rt, "by id")})
			case 3: // cut, then send
				p.list = p.list[:rapid.IntRange(0, len(p.list)).Draw(rt, "cut")]
			case 4: // regenerate()
				i := rapid.SampledFrom(users).Draw(rt, "question")
				v := chat.View{}
				if i+1 < len(p.list) && p.list[i+1].role == chat.Assistant {
					v.Reply = p.list[i+1].id
				}
				p.list = p.list[:i+1]
				p.ask(rt, v)
			case 5: // reload
				p.list = nil
				for _, m := range w.current("c") {
					p.list = append(p.list, entry{m.ID, m.Content, m.Role, false})
				}
			case 6: // another tab cuts and sends
				other := &page{w: w, ids: p.ids + 1000}
				for _, m := range w.current("c") {
					other.list = append(other.list, entry{m.ID, m.Content, m.Role, false})
				}
				other.list = other.list[:rapid.IntRange(0, len(other.list)).Draw(rt, "cut")]
				other.list = append(other.list, entry{id: other.id(), text: "other tab " + other.id(), role: chat.User, refused: true})
				other.ask(rt, chat.View{})
				p.ids = other.ids
			}
		}
	})
}
