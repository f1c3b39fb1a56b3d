package portstest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

func conversationTests(b *storeBench) {
	b.run("Create", func(b *storeBench) {
		now := b.tick()
		e := b.entry(audit.ActionConversationCreated)
		e.Metadata = map[string]any{"title": true}
		c, err := b.History.CreateConversation(b.ctx(), chat.Conversation{
			ID: "c", UserID: b.user, Title: "T", System: "S", Model: "p/m", LastMessageAt: now, CreatedAt: now, UpdatedAt: now,
		}, e)
		if err != nil {
			b.Fatal(err)
		}
		b.want("conversation", c, chat.Conversation{ID: "c", UserID: b.user, Title: "T", System: "S", Model: "p/m", LastMessageAt: now, CreatedAt: now, UpdatedAt: now})
		got, err := b.History.Conversation(b.ctx(), b.user, "c")
		if err != nil {
			b.Fatal(err)
		}
		b.want("stored", got, c)
		b.want("audit", b.audited(e.ID), e)
		_, err = b.History.CreateConversation(b.ctx(), c, b.entry(audit.ActionConversationCreated))
		b.wantKind("twice", err, fault.Conflict)
		other := newStoreBench(b.T, b.StoreBundle)
		c.UserID = other.user
		if _, err := b.History.CreateConversation(b.ctx(), c, other.entry(audit.ActionConversationCreated)); err != nil {
			b.Errorf("the id of another user's conversation: %v", err)
		}
	})

	b.run("Update", func(b *storeBench) {
		id := b.conversation()
		text, none := "x", ""
		now := b.tick()
		e := b.entry(audit.ActionConversationUpdated)
		c, err := b.History.UpdateConversation(b.ctx(), b.user, id, ports.ConversationChange{Title: &text, System: &text, Now: now}, e)
		if err != nil {
			b.Fatal(err)
		}
		b.want("changed", []any{c.ID, c.Title, c.System, c.Model, c.UpdatedAt}, []any{id, "x", "x", "", now})
		b.want("audit", b.audited(e.ID).Action, audit.ActionConversationUpdated)
		c, err = b.History.UpdateConversation(b.ctx(), b.user, id, ports.ConversationChange{System: &none, Model: &text, Now: b.tick()}, b.entry("a"))
		if err != nil {
			b.Fatal(err)
		}
		b.want("the rest stays", []any{c.Title, c.System, c.Model}, []any{"x", "", "x"})
		got, _ := b.History.Conversation(b.ctx(), b.user, id)
		b.want("stored", got, c)
		before := len(b.Entries(b.T, b.user))
		_, err = b.History.UpdateConversation(b.ctx(), b.user, "nothing", ports.ConversationChange{Title: &text, Now: now}, b.entry("a"))
		b.wantKind("unknown", err, fault.NotFound)
		b.want("not recorded", len(b.Entries(b.T, b.user)), before)
	})

	b.run("Delete", func(b *storeBench) {
		id, kept := b.conversation(), b.conversation()
		asked, run := b.say(id, "gone")
		b.say(kept, "kept")
		waiting := b.sending(id, "waits")
		waiting.Owner = ""
		b.admit(waiting)
		e := b.entry(audit.ActionConversationDeleted)
		if err := b.History.DeleteConversation(b.ctx(), b.user, id, e); err != nil {
			b.Fatal(err)
		}
		_, err := b.History.Conversation(b.ctx(), b.user, id)
		b.wantKind("conversation", err, fault.NotFound)
		_, err = b.History.Message(b.ctx(), b.user, asked.ID)
		b.wantKind("message", err, fault.NotFound)
		_, err = b.Runs.Run(b.ctx(), b.user, run.ID)
		b.wantKind("run", err, fault.NotFound)
		b.want("the other stays", len(b.all(kept)), 2)
		b.want("audit stays", []any{b.audited(run.AuditID).Status, b.audited(waiting.Run.AuditID).Status, b.audited(e.ID).Status},
			[]any{audit.Success, audit.Success, audit.Success})
		b.wantKind("twice", b.History.DeleteConversation(b.ctx(), b.user, id, b.entry("a")), fault.NotFound)
	})

	b.run("List", func(b *storeBench) {
		var ids []string
		at := b.tick()
		for i := range 7 {
			c := chat.Conversation{ID: newID("conv"), UserID: b.user, CreatedAt: at}
			c.LastMessageAt = at.Add(time.Duration(i/2) * time.Second) // pairs of equal times
			if _, err := b.History.CreateConversation(b.ctx(), c, b.entry("a")); err != nil {
				b.Fatal(err)
			}
			ids = append(ids, c.ID)
		}
		slices.Reverse(ids)
		pages(b, ids, func(p ports.Page) ([]string, []ports.Position, bool) {
			list, more, err := b.History.Conversations(b.ctx(), b.user, p)
			if err != nil {
				b.Fatal(err)
			}
			var got []string
			var at []ports.Position
			for _, c := range list {
				got, at = append(got, c.ID), append(at, ports.Position{At: c.LastMessageAt, ID: c.ID})
			}
			return got, at, more
		})

		b.now = at.Add(time.Minute)
		b.say(ids[6], "moves to the top")
		list, _, err := b.History.Conversations(b.ctx(), b.user, ports.Page{Limit: 2})
		if err != nil {
			b.Fatal(err)
		}
		b.want("by last message", []string{list[0].ID, list[1].ID}, []string{ids[6], ids[0]})
	})
}

func messageTests(b *storeBench) {
	b.run("Pages", func(b *storeBench) {
		for _, conv := range []string{b.conversation(), ""} {
			for i := range 4 {
				b.say(conv, fmt.Sprint(i))
			}
			ids := messageIDs(b.all(conv))
			slices.Reverse(ids)
			b.want("count", len(ids), 8)
			pages(b, ids, func(p ports.Page) ([]string, []ports.Position, bool) {
				list, more, err := b.History.Messages(b.ctx(), b.user, conv, p)
				if err != nil {
					b.Fatal(err)
				}
				slices.Reverse(list) // pages come oldest first
				var at []ports.Position
				for _, m := range list {
					at = append(at, ports.Position{At: m.CreatedAt, ID: m.ID})
				}
				return messageIDs(list), at, more
			})
		}
	})

	b.run("SiblingsBeyondThePage", func(b *storeBench) {
		conv := b.conversation()
		_, first := b.say(conv, "why")
		again := b.admit(b.again(chat.Regeneration, first.ID)).Run
		b.finish(again, chat.Completed, "because")
		list, more, err := b.History.Messages(b.ctx(), b.user, conv, ports.Page{Limit: 1})
		if err != nil {
			b.Fatal(err)
		}
		b.want("page", []any{messageIDs(list), list[0].Siblings, more}, []any{[]string{again.ID}, []string{first.ID, again.ID}, true})
	})

	b.run("ThreadsDoNotMix", func(b *storeBench) {
		conv := b.conversation()
		b.say(conv, "here")
		b.say("", "there")
		b.want("conversation", contents(b.all(conv)), "here | re: here")
		b.want("default thread", contents(b.all("")), "there | re: there")
		list, more, err := b.History.Messages(b.ctx(), newID("user"), "", ports.Page{Limit: 10})
		if err != nil || more || len(list) > 0 {
			b.Errorf("of a newcomer: %v, %v, %v", list, more, err)
		}
	})

	b.run("Unknown", func(b *storeBench) {
		_, _, err := b.History.Messages(b.ctx(), b.user, "nowhere", ports.Page{Limit: 10})
		b.wantKind("messages", err, fault.NotFound)
		b.want("sentence", fault.As(err).Message, "Conversation not found or access denied")
		_, err = b.History.Message(b.ctx(), b.user, "nothing")
		b.wantKind("message", err, fault.NotFound)
		b.want("sentence", fault.As(err).Message, "Message not found or access denied")
	})
}

// pages walks a list in every way a Page allows. ids is the whole list, newest
// first; read returns a page newest first.
func pages(b *storeBench, ids []string, read func(ports.Page) (got []string, at []ports.Position, more bool)) {
	b.Helper()
	n := len(ids)
	_, at, _ := read(ports.Page{Limit: n})
	for _, limit := range []int{1, 2, n - 1, n, n + 1} {
		for offset := range n + 2 {
			got, _, more := read(ports.Page{Limit: limit, Offset: offset})
			from, to := min(offset, n), min(offset+limit, n)
			b.want(fmt.Sprintf("limit %d offset %d", limit, offset), got, ids[from:to])
			b.want(fmt.Sprintf("limit %d offset %d, more", limit, offset), more, offset+limit < n)
		}
		for i := range n {
			got, _, more := read(ports.Page{Limit: limit, Before: &at[i]})
			b.want(fmt.Sprintf("limit %d before %d", limit, i), got, ids[i+1:min(i+1+limit, n)])
			b.want(fmt.Sprintf("limit %d before %d, more", limit, i), more, i+1+limit < n)
			got, _, more = read(ports.Page{Limit: limit, After: &at[i]})
			b.want(fmt.Sprintf("limit %d after %d", limit, i), got, ids[max(0, i-limit):i])
			b.want(fmt.Sprintf("limit %d after %d, more", limit, i), more, i-limit > 0)
		}
	}
}

// isolationTests hand every id of one user to another, at every place where an
// id can stand.
func isolationTests(b *storeBench) {
	conv := b.conversation()
	asked, done := b.say(conv, "secret")
	live := b.admit(b.sending("", "secret too"))
	before := len(b.Entries(b.T, b.user))

	spy := newStoreBench(b.T, b.StoreBundle)
	text := "mine now"
	for name, try := range map[string]func() error{
		"Conversation": func() error { _, err := spy.History.Conversation(spy.ctx(), spy.user, conv); return err },
		"Update": func() error {
			_, err := spy.History.UpdateConversation(spy.ctx(), spy.user, conv, ports.ConversationChange{Title: &text, Now: spy.now}, spy.entry("a"))
			return err
		},
		"Delete": func() error {
			return spy.History.DeleteConversation(spy.ctx(), spy.user, conv, spy.entry("a"))
		},
		"Messages": func() error {
			_, _, err := spy.History.Messages(spy.ctx(), spy.user, conv, ports.Page{Limit: 5})
			return err
		},
		"Branch": func() error {
			_, _, err := spy.History.Branch(spy.ctx(), spy.user, conv, "current", 5)
			return err
		},
		"BranchLeaf": func() error {
			_, _, err := spy.History.Branch(spy.ctx(), spy.user, "", asked.ID, 5)
			return err
		},
		"Message": func() error { _, err := spy.History.Message(spy.ctx(), spy.user, asked.ID); return err },
		"Run":     func() error { _, err := spy.Runs.Run(spy.ctx(), spy.user, done.ID); return err },
		"LiveRun": func() error { _, err := spy.Runs.Run(spy.ctx(), spy.user, live.Run.ID); return err },
		"Stop": func() error {
			_, err := spy.Runs.RequestStop(spy.ctx(), spy.user, live.Run.ID, spy.entry("a"))
			return err
		},
		"Resume": func() error {
			run := done
			run.UserID = spy.user
			_, _, err := spy.Runs.Resume(spy.ctx(), run, 5)
			return err
		},
		"Send": func() error { return admitError(spy, spy.sending(conv, "x")) },
		"Edit": func() error {
			return admitError(spy, with(spy.sending("", "x"), func(a *chat.AdmitRequest) { a.EditOf = asked.ID }))
		},
		"Regenerate": func() error { return admitError(spy, spy.again(chat.Regeneration, done.ID)) },
		"Continue":   func() error { return admitError(spy, spy.again(chat.Continuation, done.ID)) },
		"Leaf": func() error {
			return admitError(spy, with(spy.sending("", "x"), func(a *chat.AdmitRequest) { a.Leaf = done.ID }))
		},
	} {
		b.wantKind(name, try(), fault.NotFound)
	}
	stolen := b.outcome(live.Run, chat.Completed, "stolen")
	stolen.UserID = spy.user
	b.wantKind("Finish", spy.end(stolen), fault.Fenced)
	list, err := spy.Runs.Recent(spy.ctx(), spy.user, time.Time{})
	b.want("Recent", []any{len(list), err}, []any{0, nil})
	convs, _, err := spy.History.Conversations(spy.ctx(), spy.user, ports.Page{Limit: 5})
	b.want("Conversations", []any{len(convs), err}, []any{0, nil})
	b.want("nothing of the spy is stored", len(spy.all("")), 0)
	b.want("nor audited", len(spy.Entries(spy.T, spy.user)), 0)

	b.want("all is as it was", contents(b.all(conv)), "secret | re: secret")
	run := b.stored(live.Run.ID)
	b.want("the live run too", []any{run.State, run.StopRequested}, []any{chat.Running, false})
	b.want("and the audit", len(b.Entries(b.T, b.user)), before)

	_, err = b.Runs.Admit(b.ctx(), with(b.sending("", "x"), func(a *chat.AdmitRequest) { a.Run.UserID = "" }), chat.Admit)
	b.wantKind("nobody", err, fault.Unauthenticated)
}

func admitError(b *storeBench, a chat.AdmitRequest) error {
	_, err := b.Runs.Admit(b.ctx(), a, chat.Admit)
	return err
}

func auditTests(b *storeBench) {
	b.tick()
	e := b.entry(audit.ActionRateLimitExceeded)
	e.ResourceID, e.Status, e.Error = "POST /x", audit.Failure, "RATE_LIMITED"
	e.Metadata, e.Caller = map[string]any{"limit": 100.0}, access.Caller{IP: "2001:db8::1", UserAgent: "curl"}
	other := e
	other.ID = newID("audit")
	if err := b.Audit.Record(b.ctx(), e, other); err != nil {
		b.Fatal(err)
	}
	b.want("stored", b.Entries(b.T, b.user), []audit.Entry{e, other})
	again := e
	again.Error = "CHANGED"
	if err := b.Audit.Record(b.ctx(), again); err != nil {
		b.Errorf("an id that is known: %v", err)
	}
	b.want("left as it was", b.audited(e.ID), e)
	if err := b.Audit.Record(b.ctx()); err != nil {
		b.Errorf("nothing: %v", err)
	}
	nobody := e
	nobody.ID, nobody.UserID = newID("audit"), ""
	if err := b.Audit.Record(b.ctx(), nobody); err != nil {
		b.Errorf("of a stranger: %v", err)
	}
	ctx, cancel := context.WithCancel(b.ctx())
	cancel()
	b.wantKind("cancelled", b.Audit.Record(ctx, other), fault.Canceled)
}
