package chat

import (
	"slices"
	"time"

	"parley/domain/fault"
)

// resolveTarget finds the conversation of the run and, for a request that
// names a message or a reply, what the run answers.
func (a *admission) resolveTarget() error {
	if a.Message != nil {
		m := *a.Message
		a.message = &m
	}
	switch {
	case a.EditOf != "":
		return a.resolveEdit()
	case a.View != nil && a.message != nil:
		return a.resolveView()
	case a.Message != nil:
		return nil
	case a.Source == "":
		return a.resolveEnd()
	}
	return a.resolveSource(a.Source)
}

// resolveEdit puts the new message beside the one that it replaces.
func (a *admission) resolveEdit() error {
	_, edited, err := a.find(a.EditOf)
	if err != nil {
		return err
	}
	if edited.Role != User || !a.within(edited.ConversationID) {
		return MessageNotFound()
	}
	if a.message == nil {
		return fault.New(fault.Invalid, "An edit needs a message")
	}
	a.run.ConversationID = edited.ConversationID
	a.message.ParentID = edited.ParentID
	return nil
}

// resolveEnd takes the end of the conversation as the source.
func (a *admission) resolveEnd() error {
	if a.run.ConversationID == "" || a.state.Thread.Conversation == nil {
		return ConversationNotFound()
	}
	if a.Source = a.state.Thread.Conversation.LeafID; a.Source == "" {
		return MessageNotFound()
	}
	return a.resolveSource(a.Source)
}

// resolveSource finds what the run answers: what its source answered, a reply
// or a run that left none, or the source itself, a user message.
func (a *admission) resolveSource(name string) error {
	id, source, err := a.find(name)
	if err != nil {
		return err
	}
	if !a.within(source.ConversationID) {
		return MessageNotFound()
	}
	a.Source = id
	state, parent := source.State, source.ParentID
	switch {
	case state != "":
	case source.Role == User && a.run.Kind == Regeneration:
		parent = id
	case source.Role == Assistant && parent != "":
		state = Completed
	default:
		return MessageNotFound()
	}
	if a.run.Kind == Continuation {
		if len(source.Parts) == 0 || state != Interrupted && state != Stopped {
			return fault.New(fault.Conflict, "Only a reply that was stopped or interrupted can be continued")
		}
		a.run.Prefix = OutputOf(source.Parts...)
		a.run.Output = a.run.Prefix
	}
	a.run.ConversationID, a.run.ParentID = source.ConversationID, parent
	return nil
}

// within reports whether a conversation is the one that the request names, if
// it names one.
func (a *admission) within(conversation string) bool {
	return a.run.ConversationID == "" || a.run.ConversationID == conversation
}

// checkThread finds or makes the run's conversation.
func (a *admission) checkThread() error {
	id := a.run.ConversationID
	thread := a.state.Thread
	if thread == nil || thread.ID != id {
		return &Needs{Thread: true, ThreadID: id}
	}
	a.live = thread.Live
	switch {
	case id == "":
	case thread.Conversation != nil:
		a.conv = *thread.Conversation
	case !a.CreateConversation || a.message == nil:
		return ConversationNotFound()
	default:
		a.created = true
		a.conv = Conversation{UserID: a.run.UserID, ID: id, CreatedAt: a.now}
	}
	return nil
}

// linkParent finds the message that the new one follows, and the branch that the
// provider will get.
func (a *admission) linkParent() (err error) {
	if a.message == nil {
		a.branch, err = a.branchTo(a.run.ParentID, max(a.Context, 1))
		if err == nil && (len(a.branch) == 0 || a.branch[len(a.branch)-1].ID != a.run.ParentID) {
			err = MessageNotFound()
		}
		if err == nil {
			err = a.checkShown()
		}
		return err
	}
	m := a.message
	for _, p := range m.AllParts() {
		if err := ValidateText(p.Text); err != nil { // it could not be given back as it was
			return err
		}
	}
	m.UserID, m.ConversationID, m.Role = a.run.UserID, a.run.ConversationID, User
	switch {
	case a.EditOf != "", a.placed:
	case a.Leaf != "":
		if m.ParentID, err = a.resolveLeaf(); err != nil {
			return err
		}
	default:
		m.ParentID = a.defaultParent()
	}
	for _, end := range a.plan.End { // which this admission ends: what follows it moves up
		if m.ParentID == end.RunID {
			m.ParentID = end.Reparent
		}
	}
	if m.ParentID != "" {
		if a.branch, err = a.branchTo(m.ParentID, max(a.Context-1, 1)); err != nil {
			return err
		}
		if err = a.checkShown(); err != nil {
			return err
		}
	}
	if m.CreatedAt = micros(m.CreatedAt); m.CreatedAt.IsZero() {
		m.CreatedAt = a.now
	}
	if n := len(a.branch); n > 0 {
		m.CreatedAt = after(m.CreatedAt, a.branch[n-1].CreatedAt)
		a.branch = a.branch[max(0, n+1-max(a.Context, 1)):]
	}
	a.run.ParentID = m.ID
	branch := make([]Message, len(a.branch)+1, len(a.branch)+2) // with room for the reply
	copy(branch, a.branch)
	branch[len(a.branch)] = *m
	branch[len(a.branch)].Metadata = nil
	a.branch = branch
	return nil
}

// defaultParent is what a message follows that names nothing: the reply that is
// being made, unless a message follows that already, or else the current leaf.
func (a *admission) defaultParent() string {
	for _, r := range slices.Backward(a.live) {
		if !r.Followed {
			return r.ID
		}
	}
	if a.run.ConversationID == "" {
		return a.state.Account.Leaf
	}
	return a.conv.LeafID
}

// resolveLeaf checks that Leaf is a message of the thread, or a reply that is
// being made in it, and returns its id.
func (a *admission) resolveLeaf() (string, error) {
	if slices.ContainsFunc(a.state.Thread.Live, func(r LiveRun) bool { return r.ID == a.Leaf }) {
		return a.Leaf, nil
	}
	for _, id := range a.forms(a.Leaf) {
		if slices.ContainsFunc(a.state.Thread.Recent, func(m Message) bool { return m.ID == id }) {
			return id, nil
		}
	}
	id, n, err := a.find(a.Leaf)
	if err != nil {
		return "", err
	}
	if n.Role == "" || n.ConversationID != a.run.ConversationID {
		return "", MessageNotFound()
	}
	return id, nil
}

// branchTo returns at most n messages from id towards the root, oldest first.
// Most branches are the end of their thread, which is loaded with it.
func (a *admission) branchTo(id string, n int) ([]Message, error) {
	thread := a.state.Thread
	if path, whole := endOf(thread.Recent, id, n); whole {
		return path, nil
	}
	if path, whole := NewTree(thread.Recent, thread.Live).Path(id, n); whole {
		return path, nil
	}
	if b := a.state.Branch; b != nil && b.Leaf == id {
		return b.Messages[max(0, len(b.Messages)-n):], nil
	}
	return nil, &Needs{Branch: id}
}

// endOf is Tree.Path for messages that are the branch at id itself, oldest first:
// the usual case, without a tree.
func endOf(list []Message, id string, n int) (path []Message, whole bool) {
	for i := len(list) - 1; i >= 0 && list[i].ID == id; i-- {
		if id = list[i].ParentID; id == "" || len(list)-i == n {
			return list[i:], true
		}
	}
	return nil, false
}

// micros is t in whole microseconds of UTC, which is how times are stored.
func micros(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(time.Microsecond)
}

// after returns t, or the first moment after earlier that can be told apart,
// whichever is later: clocks of instances differ, the order of a branch must
// not.
func after(t, earlier time.Time) time.Time {
	if t.After(earlier) {
		return t
	}
	return earlier.Add(time.Microsecond)
}
