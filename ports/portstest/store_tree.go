package portstest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

func treeTests(b *storeBench) {
	b.run("RegenerateARunWithoutMessage", func(b *storeBench) {
		conv := b.conversation()
		failed := b.admit(b.sending(conv, "why"))
		b.finish(failed.Run, chat.Failed, "")
		out := b.admit(b.again(chat.Regeneration, failed.Run.ID))
		b.want("parent", out.Run.ParentID, failed.UserMessage.ID)
		b.finish(out.Run, chat.Completed, "because")
		b.want("branch", contents(b.current(conv)), "why | because")
	})

	b.run("Continue", func(b *storeBench) {
		conv := b.conversation()
		cut := b.admit(b.sending(conv, "count"))
		b.refused(b.again(chat.Continuation, cut.Run.ID), fault.Conflict)
		b.finish(cut.Run, chat.Interrupted, "one two")
		out := b.admit(b.again(chat.Continuation, cut.Run.ID))
		b.want("prefix", []any{out.Run.Prefix, out.Run.Output, out.Run.ParentID}, []any{chat.TextOutput("one two"), chat.TextOutput("one two"), cut.UserMessage.ID})
		kept := b.stored(out.Run.ID)
		b.want("stored", []any{kept.Prefix, kept.Output, kept.Seen()}, []any{chat.TextOutput("one two"), chat.TextOutput("one two"), false})
		b.finish(out.Run, chat.Completed, "one two three")
		b.want("branch", contents(b.current(conv)), "count | one two three")
		b.refused(b.again(chat.Continuation, out.Run.ID), fault.Conflict) // whole
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

func with(a chat.AdmitRequest, change func(*chat.AdmitRequest)) chat.AdmitRequest {
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
				a.EditOf = target
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
		path, _ := chat.NewTree(history, nil).Path(out.UserMessage.ID, len(history))
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
		path, _ = chat.NewTree(history, nil).Path(leaf, len(history))
		b.want("branch", messageIDs(b.current(conv)), messageIDs(path))
		if b.Failed() {
			b.Fatalf("at step %d", step)
		}
	}
	tree := chat.NewTree(history, nil)
	list := b.all(conv)
	b.want("all", messageIDs(list), messageIDs(history))
	for limit := 1; limit <= len(list); limit++ {
		page, _, err := b.History.Messages(b.ctx(), b.user, conv, ports.Page{Limit: limit})
		if err != nil {
			b.Fatal(err)
		}
		for _, m := range page {
			b.want(fmt.Sprint("siblings of ", m.ID, " among ", limit), m.Siblings, tree.Siblings(m.ID))
		}
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
