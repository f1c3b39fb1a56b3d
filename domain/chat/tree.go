package chat

// Tree is the messages of one thread by id, for questions about branches.
type Tree struct {
	byID     map[string]Message
	children map[string][]string // by parent, in the order given
}

// NewTree builds a tree from messages in their order of creation.
func NewTree(messages []Message) Tree {
	t := Tree{byID: make(map[string]Message, len(messages)), children: map[string][]string{}}
	for _, m := range messages {
		t.byID[m.ID] = m
		t.children[m.ParentID] = append(t.children[m.ParentID], m.ID)
	}
	return t
}

// Path returns the branch that ends at leaf, oldest first; nil when leaf is unknown.
func (t Tree) Path(leaf string) []Message {
	var path []Message
	for id := leaf; id != "" && len(path) <= len(t.byID); {
		m, ok := t.byID[id]
		if !ok {
			break
		}
		path = append(path, m)
		id = m.ParentID
	}
	for i, j := 0, len(path)-1; i < j; i, j = i+1, j-1 {
		path[i], path[j] = path[j], path[i]
	}
	return path
}

// Siblings returns the ids of the messages that stand where id stands (same
// parent, same role), itself included, in order of creation.
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
