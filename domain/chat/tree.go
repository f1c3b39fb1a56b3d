package chat

import "slices"

// Tree is messages of one thread by id, for questions about branches. It may
// hold a part of the thread only.
type Tree struct {
	messages []Message
	byID     map[string]int    // index of a message
	first    map[string]int    // by parent: index of its first child, in the order given
	next     []int             // index of the next child of the same parent, 0 for none
	live     map[string]string // parents of replies that are being made
}

// NewTree builds a tree from messages in any order, and from the live runs of
// their thread: a message that follows an unfinished reply belongs to the
// branch of the message that the reply answers. It keeps the messages.
func NewTree(messages []Message, live []LiveRun) Tree {
	t := Tree{
		messages: messages,
		byID:     make(map[string]int, len(messages)),
		first:    make(map[string]int, len(messages)),
		next:     make([]int, len(messages)),
		live:     make(map[string]string, len(live)),
	}
	for i, m := range slices.Backward(messages) {
		t.byID[m.ID] = i
		t.next[i] = t.first[m.ParentID] // 0 is nobody's next
		t.first[m.ParentID] = i
	}
	for _, r := range live {
		t.live[r.ID] = r.ParentID
	}
	return t
}

// Path returns the end of the branch at leaf, oldest first, at most n messages.
// whole is false when the tree lacks a message on the way there.
func (t Tree) Path(leaf string, n int) (path []Message, whole bool) {
	for id, steps := leaf, 0; id != "" && len(path) < n; steps++ {
		i, stored := t.byID[id]
		parent, live := t.live[id]
		switch {
		case steps > len(t.byID)+len(t.live): // a circle
			return nil, false
		case stored:
			path = append(path, t.messages[i])
			id = t.messages[i].ParentID
		case live:
			id = parent
		default:
			return nil, false
		}
	}
	slices.Reverse(path)
	return path, true
}

// Siblings returns the ids of the messages beside a message (same parent, same
// role), itself included, in the order in which the tree was given them.
func (t Tree) Siblings(id string) (ids []string) {
	i, ok := t.byID[id]
	if !ok {
		return nil
	}
	m := &t.messages[i]
	for at, more := t.first[m.ParentID], true; more; at, more = t.next[at], t.next[at] > 0 {
		if t.messages[at].Role == m.Role {
			ids = append(ids, t.messages[at].ID)
		}
	}
	return ids
}

// HoldsSiblings reports whether a tree of the newest messages of a thread surely
// holds all siblings of one of them. A message is newer than the one that it was
// added under: its parent or, under a reply that was being made, the message that
// the reply answers. So if that one is in the tree, all that was added is.
func (t Tree) HoldsSiblings(id string) bool {
	i, ok := t.byID[id]
	if !ok {
		return false
	}
	if i, ok = t.byID[t.messages[i].ParentID]; ok && t.messages[i].Role == Assistant {
		_, ok = t.byID[t.messages[i].ParentID]
	}
	return ok
}
