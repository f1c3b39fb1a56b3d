package portstest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
)

func treeTests(b *storeBench) {
	b.run("Regenerate", func(b *storeBench) {
		conv := b.conversation()
		asked, first := b.say(conv, "why")
		out := b.admit(b.again(chat.Regeneration, first.ID))
		b.want("place", []any{out.Run.ParentID, out.Run.ConversationID, out.UserMessage.ID}, []any{asked.ID, conv, asked.ID})
		b.want("context", contents(out.Context), "why")
		b.finish(out.Run, chat.Completed, "because")
		b.want("current branch", contents(b.current(conv)), "why | because")
		list := b.all(conv)
		b.want("all", contents(list), "why | re: why | because")
		b.want("siblings", list[2].Siblings, []string{first.ID, out.Run.ID})
		b.want("of the other", list[1].Siblings, []string{first.ID, out.Run.ID})
		b.want("of the question", list[0].Siblings, []string{asked.ID})
	})

	b.run("RegenerateFailedKeepsTheReply", func(b *storeBench) {
		conv := b.conversation()
		_, first := b.say(conv, "why")
		out := b.admit(b.again(chat.Regeneration, first.ID))
		b.finish(out.Run, chat.Failed, "")
		b.want("current branch", contents(b.current(conv)), "why | re: why")
	})

	b.run("RegenerateARunWithoutMessage", func(b *storeBench) {
		conv := b.conversation()
		failed := b.admit(b.sending(conv, "why"))
		b.finish(failed.Run, chat.Failed, "")
		out := b.admit(b.again(chat.Regeneration, failed.Run.ID))
		b.want("parent", out.Run.ParentID, failed.UserMessage.ID)
		b.finish(out.Run, chat.Completed, "because")
		b.want("branch", contents(b.current(conv)), "why | because")
	})

	b.run("RegenerateByTheQuestion", func(b *storeBench) {
		conv := b.conversation()
		failed := b.admit(b.sending(conv, "why"))
		b.finish(failed.Run, chat.Failed, "")
		for _, answer := range []string{"because", "for no reason"} { // the first one there is, and another
			out := b.admit(b.again(chat.Regeneration, failed.UserMessage.ID))
			b.want("place", []any{out.Run.ParentID, out.Run.ConversationID, out.UserMessage.ID}, []any{failed.UserMessage.ID, conv, failed.UserMessage.ID})
			b.want("context", contents(out.Context), "why")
			b.finish(out.Run, chat.Completed, answer)
			b.want("branch", contents(b.current(conv)), "why | "+answer)
		}
	})

	b.run("RegenerateTheLast", func(b *storeBench) {
		conv := b.conversation()
		b.say(conv, "one")
		asked, _ := b.say(conv, "two")
		last := b.again(chat.Regeneration, "")
		last.Run.ConversationID, last.Run.IdempotencyKey, last.Run.Fingerprint = conv, newID("key"), "f"
		out := b.admit(last)
		b.want("place", []any{out.Run.ParentID, out.Run.ConversationID}, []any{asked.ID, conv})
		b.finish(out.Run, chat.Completed, "2'")
		b.want("branch", contents(b.current(conv)), "one | re: one | two | 2'")
		repeated := last // the end is another one by now
		repeated.Run.ID = newID("run")
		again := b.admit(repeated)
		b.want("repeated", []any{again.Replayed, again.Run.ID}, []any{true, out.Run.ID})
	})

	b.run("RegenerateWhileBusy", func(b *storeBench) {
		conv := b.conversation()
		_, first := b.say(conv, "why")
		live := b.admit(b.sending(conv, "and"))
		b.refused(b.again(chat.Regeneration, first.ID), fault.Busy)
		b.finish(live.Run, chat.Completed, "so")
		b.admit(b.again(chat.Regeneration, first.ID))
	})

	b.run("MessageDuringARegeneration", func(b *storeBench) {
		conv := b.conversation()
		_, first := b.say(conv, "why")
		again := b.admit(b.again(chat.Regeneration, first.ID))
		a := b.sending(conv, "and")
		a.WhenBusy = chat.Queue
		b.admit(a)
		b.finish(again.Run, chat.Completed, "because")
		b.want("follows the new reply", contents(b.current(conv)), "why | because | and")
	})

	b.run("Continue", func(b *storeBench) {
		conv := b.conversation()
		cut := b.admit(b.sending(conv, "count"))
		b.refused(b.again(chat.Continuation, cut.Run.ID), fault.Conflict)
		b.finish(cut.Run, chat.Interrupted, "one two")
		out := b.admit(b.again(chat.Continuation, cut.Run.ID))
		b.want("prefix", []any{out.Run.Prefix, out.Run.Output, out.Run.ParentID}, []any{"one two", chat.Output{Text: "one two"}, cut.UserMessage.ID})
		kept := b.stored(out.Run.ID)
		b.want("stored", []any{kept.Prefix, kept.Output, kept.Seen()}, []any{"one two", chat.Output{Text: "one two"}, false})
		b.finish(out.Run, chat.Completed, "one two three")
		b.want("branch", contents(b.current(conv)), "count | one two three")
		b.refused(b.again(chat.Continuation, out.Run.ID), fault.Conflict) // whole
	})

	b.run("ContinueNothing", func(b *storeBench) {
		stopped := b.admit(b.sending("", "count"))
		b.finish(stopped.Run, chat.Stopped, "")
		b.refused(b.again(chat.Continuation, stopped.Run.ID), fault.Conflict)
	})

	b.run("Edit", func(b *storeBench) {
		conv := b.conversation()
		b.say(conv, "one")
		asked, _ := b.say(conv, "two")
		a := b.sending("", "deux")
		a.ParentOf = asked.ID
		out := b.admit(a)
		b.want("place", []any{out.UserMessage.ParentID, out.UserMessage.ConversationID, out.Run.ConversationID},
			[]any{asked.ParentID, conv, conv})
		b.want("context", contents(out.Context), "one | re: one | deux")
		b.finish(out.Run, chat.Completed, "2")
		b.want("current", contents(b.current(conv)), "one | re: one | deux | 2")
		old, _, err := b.History.Branch(b.ctx(), b.user, conv, asked.ID, 10)
		if err != nil {
			b.Fatal(err)
		}
		b.want("the old branch is there", contents(old), "one | re: one | two")
		b.want("siblings", old[2].Siblings, []string{asked.ID, out.UserMessage.ID})
	})

	b.run("EditTheFirst", func(b *storeBench) {
		conv := b.conversation()
		asked, _ := b.say(conv, "one")
		b.say(b.conversation(), "another root of the same user")
		a := b.sending("", "uno")
		a.ParentOf = asked.ID
		out := b.admit(a)
		b.want("root", out.UserMessage.ParentID, "")
		b.want("siblings", b.all(conv)[0].Siblings, []string{asked.ID, out.UserMessage.ID})
	})

	b.run("Leaf", func(b *storeBench) {
		conv := b.conversation()
		_, first := b.say(conv, "one")
		b.say(conv, "two")
		a := b.sending(conv, "other two")
		a.Leaf = first.ID
		out := b.admit(a)
		b.want("context", contents(out.Context), "one | re: one | other two")
		b.finish(out.Run, chat.Completed, "2'")
		b.want("current", contents(b.current(conv)), "one | re: one | other two | 2'")
	})

	b.run("WrongPlaces", func(b *storeBench) {
		conv, elsewhere := b.conversation(), b.conversation()
		asked, run := b.say(conv, "one")
		for name, a := range map[string]chat.Admission{
			"unknown source": b.again(chat.Regeneration, "nothing"),
			"source is a user message of another conversation": with(b.again(chat.Regeneration, asked.ID), func(a *chat.Admission) { a.Run.ConversationID = elsewhere }),
			"unknown target":             with(b.sending("", "x"), func(a *chat.Admission) { a.ParentOf = "nothing" }),
			"target is a reply":          with(b.sending("", "x"), func(a *chat.Admission) { a.ParentOf = run.ID }),
			"unknown leaf":               with(b.sending(conv, "x"), func(a *chat.Admission) { a.Leaf = "nothing" }),
			"leaf elsewhere":             with(b.sending(elsewhere, "x"), func(a *chat.Admission) { a.Leaf = run.ID }),
			"leaf in default thread":     with(b.sending("", "x"), func(a *chat.Admission) { a.Leaf = run.ID }),
			"source elsewhere":           with(b.again(chat.Regeneration, run.ID), func(a *chat.Admission) { a.Run.ConversationID = elsewhere }),
			"target elsewhere":           with(b.sending(elsewhere, "x"), func(a *chat.Admission) { a.ParentOf = asked.ID }),
			"the last of nothing":        with(b.again(chat.Regeneration, ""), func(a *chat.Admission) { a.Run.ConversationID = b.conversation() }),
			"answers nothing":            with(b.again(chat.Reply, ""), func(a *chat.Admission) { a.Run.ParentID = "nothing" }),
			"answers an assistant":       with(b.again(chat.Reply, ""), func(a *chat.Admission) { a.Run.ParentID = run.ID }),
			"continue an unknown source": b.again(chat.Continuation, "nothing"),
			"continue a user message":    b.again(chat.Continuation, asked.ID),
		} {
			out, err := b.Runs.Admit(b.ctx(), a)
			if !fault.Is(err, fault.NotFound) {
				b.Errorf("%s: got %+v, %v; want %s", name, out.Run, err, fault.NotFound)
				continue
			}
			b.want(name, fault.As(err).Message, "Message not found or access denied")
		}
		b.want("unchanged", len(b.all(conv)), 2)
	})

	b.run("Branch", func(b *storeBench) {
		conv := b.conversation()
		list, more, err := b.History.Branch(b.ctx(), b.user, conv, "current", 10)
		if err != nil || more || len(list) != 0 {
			b.Errorf("empty: %v, %v, %v", list, more, err)
		}
		if list, more, err = b.History.Branch(b.ctx(), b.user, "", "current", 10); err != nil || more || len(list) != 0 {
			b.Errorf("empty default thread: %v, %v, %v", list, more, err)
		}
		for i := range 3 {
			b.say(conv, fmt.Sprint(i))
		}
		for limit, want := range map[int]string{1: "re: 2", 2: "2 | re: 2", 5: "re: 0 | 1 | re: 1 | 2 | re: 2", 6: "0 | re: 0 | 1 | re: 1 | 2 | re: 2", 7: "0 | re: 0 | 1 | re: 1 | 2 | re: 2"} {
			list, more, err := b.History.Branch(b.ctx(), b.user, conv, "current", limit)
			if err != nil {
				b.Fatal(err)
			}
			b.want(fmt.Sprintf("limit %d", limit), contents(list), want)
			b.want(fmt.Sprintf("limit %d, more", limit), more, limit < 6)
		}
		_, _, err = b.History.Branch(b.ctx(), b.user, conv, "nothing", 10)
		b.wantKind("unknown leaf", err, fault.NotFound)
		_, _, err = b.History.Branch(b.ctx(), b.user, "nowhere", "current", 10)
		b.wantKind("unknown conversation", err, fault.NotFound)
		_, _, err = b.History.Branch(b.ctx(), b.user, b.conversation(), lastID(b.all(conv)), 10)
		b.wantKind("leaf of another conversation", err, fault.NotFound)
	})

	b.run("RandomWalk", randomWalk)
}

func lastID(list []chat.Message) string { return list[len(list)-1].ID }

func with(a chat.Admission, change func(*chat.Admission)) chat.Admission {
	change(&a)
	return a
}

// randomWalk does anything that a user may do to a conversation, and compares
// each branch and all siblings with those of a tree kept by the domain's rules.
func randomWalk(b *storeBench) {
	seed := uint64(time.Now().UnixNano())
	b.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	conv := b.conversation()
	var (
		history []chat.Message
		replies []chat.Run
		leaf    string
	)
	pick := func(role chat.Role) string {
		var ids []string
		for _, m := range history {
			if m.Role == role {
				ids = append(ids, m.ID)
			}
		}
		if len(ids) == 0 {
			return ""
		}
		return ids[rng.IntN(len(ids))]
	}
	for step := range 60 {
		a := b.sending(conv, fmt.Sprint("q", step))
		a.Context = 1 + rng.IntN(6)
		parent := leaf
		switch rng.IntN(6) {
		case 0:
			if target := pick(chat.User); target != "" {
				a.ParentOf = target
				parent = parentOf(history, target)
			}
		case 1:
			if id := pick(chat.Assistant); id != "" {
				a.Leaf, parent = id, id
			}
		case 2, 3:
			if len(replies) > 0 {
				source := replies[rng.IntN(len(replies))]
				a = b.again(chat.Regeneration, source.ID)
				a.Context = 1 + rng.IntN(6)
				parent = source.ParentID
			}
		}
		out := b.admit(a)
		if a.Message != nil {
			b.want("parent", out.UserMessage.ParentID, parent)
			history = append(history, out.UserMessage)
			leaf = out.UserMessage.ID
		}
		path := chat.NewTree(history).Path(out.UserMessage.ID)
		b.want("context", messageIDs(out.Context), messageIDs(path[max(0, len(path)-a.Context):]))
		state, text := chat.Completed, fmt.Sprint("a", step)
		if rng.IntN(4) == 0 {
			state, text = chat.Failed, ""
		}
		b.finish(out.Run, state, text)
		replies = append(replies, out.Run)
		if text != "" {
			m, err := b.History.Message(b.ctx(), b.user, out.Run.ID)
			if err != nil {
				b.Fatal(err)
			}
			history, leaf = append(history, m), m.ID
		}
		b.want("branch", messageIDs(b.current(conv)), messageIDs(chat.NewTree(history).Path(leaf)))
		if b.Failed() {
			b.Fatalf("at step %d", step)
		}
	}
	tree := chat.NewTree(history)
	list := b.all(conv)
	b.want("all", messageIDs(list), messageIDs(history))
	for _, m := range list {
		b.want("siblings of "+m.ID, m.Siblings, tree.Siblings(m.ID))
	}
	for _, e := range b.Entries(b.T, b.user) {
		if e.Status == audit.Pending {
			b.Errorf("entry %s is still pending", e.ID)
		}
	}
}

func parentOf(list []chat.Message, id string) string {
	for _, m := range list {
		if m.ID == id {
			return m.ParentID
		}
	}
	return ""
}
