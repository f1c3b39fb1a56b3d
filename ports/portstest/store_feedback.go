package portstest

import (
	"time"

	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

func feedbackTests(b *storeBench) {
	rate := func(b *storeBench, message string, f chat.Feedback) (provider, model string, entry audit.Entry) {
		b.Helper()
		b.tick()
		entry = b.entry(audit.ActionFeedbackGiven)
		provider, model, err := b.Feedback.SetFeedback(b.ctx(), b.user, message, f, entry)
		if err != nil {
			b.Fatal(err)
		}
		return provider, model, entry
	}
	// given returns the feedback on each message of a thread, as every list has it.
	given := func(b *storeBench, conversation string) (list []chat.Feedback) {
		b.Helper()
		all := b.all(conversation)
		b.want("in a branch", b.current(conversation), all)
		for _, m := range all {
			f := chat.Feedback{}
			if m.Feedback != nil {
				f = *m.Feedback
			}
			list = append(list, f)
		}
		return list
	}
	bad := chat.Feedback{Rating: chat.Down, Reason: "wrong: 1 < 2 & \"ß\" 😀"}

	b.run("SetAndReplace", func(b *storeBench) {
		for _, conversation := range []string{b.conversation(), ""} {
			_, first := b.say(conversation, "one")
			_, second := b.say(conversation, "two")
			provider, model, entry := rate(b, first.ID, bad)
			b.want("who made it", []string{provider, model}, []string{"demo", "parrot"})
			b.want("audit", b.audited(entry.ID), entry)
			b.want("given", given(b, conversation), []chat.Feedback{{}, bad, {}, {}})
			rate(b, first.ID, chat.Feedback{Rating: chat.Up})
			rate(b, second.ID, bad)
			b.want("replaced", given(b, conversation), []chat.Feedback{{}, {Rating: chat.Up}, {}, bad})
		}
	})

	b.run("Delete", func(b *storeBench) {
		conversation := b.conversation()
		_, run := b.say(conversation, "one")
		rate(b, run.ID, bad)
		entry := b.entry(audit.ActionFeedbackDeleted)
		if err := b.Feedback.DeleteFeedback(b.ctx(), b.user, run.ID, entry); err != nil {
			b.Fatal(err)
		}
		b.want("given", given(b, conversation), []chat.Feedback{{}, {}})
		b.want("audit", b.audited(entry.ID), entry)
		before := len(b.Entries(b.T, b.user))
		if err := b.Feedback.DeleteFeedback(b.ctx(), b.user, run.ID, b.entry("a")); err != nil {
			b.Errorf("twice: %v", err)
		}
		b.want("nothing was done", len(b.Entries(b.T, b.user)), before)
	})

	b.run("OnlyOnOwnReplies", func(b *storeBench) {
		conversation := b.conversation()
		asked, run := b.say(conversation, "one")
		other := newStoreBench(b.T, b.StoreBundle)
		live := b.admit(b.sending("", "not answered"))
		refused := func(what, user, message string, kind fault.Kind) {
			b.Helper()
			_, _, err := b.Feedback.SetFeedback(b.ctx(), user, message, bad, b.entry("a"))
			b.wantKind(what, err, kind)
		}
		refused("a user's message", b.user, asked.ID, fault.Invalid)
		refused("another user's reply", other.user, run.ID, fault.NotFound)
		refused("a reply that has not ended", b.user, live.Run.ID, fault.NotFound)
		refused("an unknown message", b.user, "nothing", fault.NotFound)
		b.wantKind("delete another user's", b.Feedback.DeleteFeedback(b.ctx(), other.user, run.ID, other.entry("a")), fault.NotFound)
		b.want("given", given(b, conversation), []chat.Feedback{{}, {}})
		b.want("audit of the other", len(b.Entries(b.T, other.user)), 0)
	})

	b.run("EndsWithTheMessage", func(b *storeBench) {
		conversation := b.conversation()
		_, run := b.say(conversation, "one")
		rate(b, run.ID, bad)
		if err := b.History.DeleteConversation(b.ctx(), b.user, conversation, b.entry(audit.ActionConversationDeleted)); err != nil {
			b.Fatal(err)
		}
		_, _, err := b.Feedback.SetFeedback(b.ctx(), b.user, run.ID, bad, b.entry("a"))
		b.wantKind("after the deletion", err, fault.NotFound)
		b.wantKind("delete after it", b.Feedback.DeleteFeedback(b.ctx(), b.user, run.ID, b.entry("a")), fault.NotFound)
	})

	b.run("NotOnOthersOfAPage", func(b *storeBench) {
		conversation := b.conversation()
		_, run := b.say(conversation, "one")
		rate(b, run.ID, bad)
		again := b.admit(b.again(chat.Regeneration, run.ID))
		b.finish(again.Run, chat.Completed, "better")
		list, _, err := b.History.Messages(b.ctx(), b.user, conversation, ports.Page{Limit: 1, After: &ports.Position{At: again.Run.CreatedAt.Add(-time.Nanosecond), ID: "zzz"}})
		if err != nil || len(list) != 1 || list[0].ID != again.Run.ID || list[0].Feedback != nil || len(list[0].Siblings) != 2 {
			b.Errorf("the other reply: %+v, %v", list, err)
		}
	})
}
