package chat

import "slices"

// Tree is messages of one thread by id, for questions about branches. It may
// hold a part of the thread only.
type Tree struct {
	byID     map[string]Message
	children map[string][]string // by parent, in the order given
	live     map[string]string   // parents of replies that are being made
}

// NewTree builds a tree from messages in any order, and from the live runs of
// their thread: a message that follows an unfinished reply belongs to the
// branch of the message that the reply answers.
func NewTree(messages []Message, live []LiveRun) Tree {
	t := Tree{
		byID:     make(map[string]Message, len(messages)),
		children: make(map[string][]string, len(messages)),
		live:     make(map[string]string, len(live)),
	}
	for _, m := range messages {
		t.byID[m.ID] = m
		t.children[m.ParentID] = append(t.children[m.ParentID], m.ID)
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
		m, stored := t.byID[id]
		parent, live := t.live[id]
		switch {
		case steps > len(t.byID)+len(t.live): // a circle
			return nil, false
		case stored:
			path = append(path, m)
			id = m.ParentID
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
func (t Tree) Siblings(id string) []string {
	m, ok := t.byID[id]
	if !ok {
		return nil
	}
	var out []string
	for _, other := range t.children[m.ParentID] {
		if t.byID[other].Role == m.Role {
			out = append(out, other)
		}
	}
	return out
}
