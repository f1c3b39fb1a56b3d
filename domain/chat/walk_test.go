package chat_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
)

// Whatever users do at once in three threads, each thread stays a tree without
// a hole, times follow the order of branches, and everything adds up.
func TestAdmit_RandomWalk(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		threads := []string{"", w.conversation(), w.conversation()}
		asked := map[string]int{}
		steps := rapid.IntRange(1, 40).Draw(rt, "steps")
		for step := range steps {
			thread := rapid.SampledFrom(threads).Draw(rt, "thread")
			switch rapid.IntRange(0, 6).Draw(rt, "act") {
			case 0, 1, 2:
				r := w.drawRequest(rt, thread, step)
				if _, err := w.admit(r); err == nil && r.Message != nil {
					asked[thread]++
				} else if err != nil && !fault.Is(err, fault.Busy) && !fault.Is(err, fault.Conflict) {
					rt.Fatalf("admit: %v", err)
				}
			case 3, 4:
				if live := w.live(thread); len(live) > 0 {
					w.drawEnd(rt, rapid.SampledFrom(live).Draw(rt, "run"))
				}
			case 5:
				w.claim(thread)
			case 6:
				if live := w.live(thread); len(live) > 0 {
					run := rapid.SampledFrom(live).Draw(rt, "run")
					if plan := chat.Stop(run, w.tick()); plan.End != nil {
						w.end(*plan.End)
					} else {
						w.run(run.ID).StopRequested = true
					}
				}
			}
			w.check(rt, threads)
		}
		for range steps + 1 { // nothing is left to be made
			for _, thread := range threads {
				for _, run := range w.live(thread) {
					if run.State == chat.Running {
						w.drawEnd(rt, run)
					}
				}
				w.claim(thread)
			}
		}
		w.check(rt, threads)
		for _, thread := range threads {
			said := 0
			for _, m := range w.thread(thread) {
				if m.Role == chat.User {
					said++
				}
			}
			if said != asked[thread] {
				rt.Fatalf("%d messages of %d are stored", said, asked[thread])
			}
		}
		replies := int64(0)
		for _, s := range w.usage {
			replies += s.Replies
		}
		if replies != int64(len(w.runs)) {
			rt.Fatalf("%d replies are counted, of %d runs", replies, len(w.runs))
		}
		for id, e := range w.entries {
			if e.Status == audit.Pending {
				rt.Fatalf("entry %s is pending", id)
			}
		}
	})
}

// drawRequest draws anything that a user may ask of a thread.
func (w *world) drawRequest(rt *rapid.T, thread string, step int) chat.AdmitRequest {
	list := w.thread(thread)
	pick := func(role chat.Role) string {
		var ids []string
		for _, m := range list {
			if m.Role == role {
				ids = append(ids, m.ID)
			}
		}
		if len(ids) == 0 {
			return ""
		}
		return rapid.SampledFrom(ids).Draw(rt, "message")
	}
	r := w.sending(thread, fmt.Sprint("q", step))
	switch rapid.IntRange(0, 6).Draw(rt, "kind") {
	case 0:
		r.EditOf = pick(chat.User)
	case 1:
		r.Leaf = pick(chat.Assistant)
	case 2, 3:
		source := pick(rapid.SampledFrom([]chat.Role{chat.User, chat.Assistant}).Draw(rt, "role"))
		if source != "" {
			r = w.again(chat.Regeneration, source)
			r.Run.ConversationID = thread
		}
	case 4:
		if source := pick(chat.Assistant); source != "" {
			r = w.again(chat.Continuation, source)
		}
	}
	r.WhenBusy = rapid.SampledFrom([]chat.WhenBusy{chat.Reject, chat.Queue, chat.Supersede}).Draw(rt, "busy")
	r.Context = rapid.IntRange(1, 6).Draw(rt, "context")
	if rapid.Bool().Draw(rt, "background") {
		r.Owner = ""
	}
	return r
}

// drawEnd ends a run in one of the ways in which it can.
func (w *world) drawEnd(rt *rapid.T, run chat.LiveRun) {
	state := rapid.SampledFrom(states[2:]).Draw(rt, "end")
	if !run.State.CanBecome(state) {
		return
	}
	text := ""
	if state == chat.Completed || rapid.Bool().Draw(rt, "text") {
		text = "a" + run.ID
	}
	if err := w.finish(run.ID, state, text); err != nil {
		rt.Fatalf("finish: %v", err)
	}
}

// check holds what is always true.
func (w *world) check(rt *rapid.T, threads []string) {
	for _, thread := range threads {
		list, live := w.thread(thread), w.live(thread)
		tree := chat.NewTree(list, live)
		running := 0
		for _, r := range live {
			if r.State == chat.Running {
				running++
			}
		}
		if thread != "" && running > 1 {
			rt.Fatalf("%d replies are made at once in %s", running, thread)
		}
		for _, m := range list {
			path, whole := tree.Path(m.ID, len(list))
			if !whole || len(path) == 0 || path[len(path)-1].ID != m.ID {
				rt.Fatalf("the branch to %s has a hole: %v", m.ID, ids(path))
			}
			for i := 1; i < len(path); i++ {
				earlier := path[i-1]
				if path[i].Role == chat.User && earlier.Role == chat.Assistant { // which may have been made since
					earlier = path[max(0, i-2)]
				}
				if !path[i].CreatedAt.After(earlier.CreatedAt) {
					rt.Fatalf("%s is not later than %s", path[i].ID, earlier.ID)
				}
			}
			if !slices.Contains(tree.Siblings(m.ID), m.ID) {
				rt.Fatalf("%s is not among its siblings", m.ID)
			}
		}
		checkNewest(rt, list, tree)
		if current := w.current(thread); len(list) > 0 && len(current) == 0 {
			rt.Fatalf("a thread of %d messages has no end", len(list))
		}
	}
}

// checkNewest compares the siblings that the newest messages of a thread tell with
// those that the whole thread tells.
func checkNewest(rt *rapid.T, list []chat.Message, whole chat.Tree) {
	list = slices.SortedFunc(slices.Values(list), func(a, b chat.Message) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	for n := range list {
		newest := chat.NewTree(list[n:], nil)
		for _, m := range list[n:] {
			got, want := newest.Siblings(m.ID), whole.Siblings(m.ID)
			slices.Sort(got)
			slices.Sort(want)
			if newest.HoldsSiblings(m.ID) && !slices.Equal(got, want) {
				rt.Fatalf("beside %s the newest %d messages have %v, the thread has %v", m.ID, len(list)-n, got, want)
			}
		}
	}
}

// A path is what walking from parent to parent gives, and is not whole exactly
// when the walk meets a message that the tree lacks.
func TestTree_Path(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(rt, "messages")
		parents := map[string]string{}
		var messages []chat.Message
		var live []chat.LiveRun
		for i := range n {
			parent := ""
			if at := rapid.IntRange(-1, i-1).Draw(rt, "parent"); at >= 0 {
				parent = fmt.Sprint(at)
			}
			id := fmt.Sprint(i)
			parents[id] = parent
			switch rapid.IntRange(0, 5).Draw(rt, "is") {
			case 0:
				live = append(live, chat.LiveRun{ID: id, ParentID: parent})
			case 1: // not in the tree
			default:
				messages = append(messages, chat.Message{ID: id, ParentID: parent})
			}
		}
		stored := func(id string) bool {
			return slices.ContainsFunc(messages, func(m chat.Message) bool { return m.ID == id })
		}
		leaf, most := fmt.Sprint(n-1), rapid.IntRange(1, 20).Draw(rt, "most")
		var walked []string
		complete := true
		for id := leaf; id != "" && len(walked) < most; id = parents[id] {
			switch {
			case stored(id):
				walked = append(walked, id)
			case !slices.ContainsFunc(live, func(r chat.LiveRun) bool { return r.ID == id }):
				complete = false
			}
		}
		slices.Reverse(walked)
		path, whole := chat.NewTree(messages, live).Path(leaf, most)
		if whole != complete || whole && !slices.Equal(ids(path), walked) {
			rt.Fatalf("got %v, whole %v; walked %v, complete %v", ids(path), whole, walked, complete)
		}
	})
}
