package chat

import (
	"slices"

	"parley/domain/audit"
	"parley/domain/fault"
)

// MaxShown is how many messages of a View are read.
const MaxShown = 100

// View is the end of a thread as a client shows it, without the message that is
// to be answered. Clients change what they show on their own: they cut messages
// off, and give a message another text under the same id. A request with a view
// is decided by its ids, so that the model reads what the client shows: the
// message is new, replaces one that is stored, or is stored and answered again.
type View struct {
	// Before are the messages that are shown before the message, oldest first.
	Before []Shown
	// LastOnly: what is shown before the message is not known.
	LastOnly bool
	// Edit: the client says that the message replaces the one with its id.
	Edit bool
	// Again: the client asks for another reply. Like Edit, it makes two equal
	// requests two replies, not one.
	Again bool
	// Reply names the reply that is to be replaced, with Again; "": none.
	Reply string
}

// Shown is a message in a client's list. Its id may be one that only the client
// knows.
type Shown struct {
	ID   string
	Role Role
	Text string // of a message of the user: clients edit messages without a request
}

// resolveView finds what a request with a view asks for: a new message, or
// another reply to a stored one.
func (a *admission) resolveView() error {
	if a.state.Thread == nil || a.state.Thread.ID != a.run.ConversationID {
		return &Needs{Thread: true, ThreadID: a.run.ConversationID}
	}
	view := *a.View
	view.Before = view.Before[max(0, len(view.Before)-MaxShown):]
	if a.Leaf != "" {
		view.LastOnly = true // the caller has decided what the message follows
	}
	a.View = &view
	if known, err := a.resolveReplaced(); known || err != nil {
		return err
	}
	id, stored, err := a.findShown(a.message.ID)
	if err != nil {
		return err
	}
	if stored != nil && stored.Role != User {
		return errOtherThread()
	}
	parent, known, err := a.shownParent(stored)
	if err != nil || !known {
		return err
	}
	if stored != nil && !a.View.Edit {
		// At the beginning of what is shown, older messages may be left out.
		if sameMessage(stored.Parts, *a.message) && (stored.ParentID == parent || len(a.View.Before) == 0) {
			return a.answerAgain(id)
		}
		edited, err := a.storedAs(parent, func(m Message) bool { return sameMessage(m.AllParts(), *a.message) })
		if err != nil {
			return err
		}
		if edited != "" {
			return a.answerAgain(edited)
		}
	}
	if stored != nil {
		a.message.ID = a.FreshID
	}
	a.message.ParentID, a.placed = parent, true
	return nil
}

// resolveReplaced handles a request for another reply instead of one that it
// names. The question of that reply is answered again, if it is what is shown.
func (a *admission) resolveReplaced() (known bool, err error) {
	if a.View.Reply == "" {
		return false, nil
	}
	id, reply, err := a.findShown(a.View.Reply)
	if err != nil || reply == nil {
		return false, err
	}
	question := reply
	if reply.Role != User {
		id = reply.ParentID
		if err := a.need(id); err != nil {
			return false, err
		}
		question = a.state.Nodes[id]
	}
	if question == nil || question.Role != User || !sameMessage(question.Parts, *a.message) {
		return false, nil
	}
	return true, a.answerAgain(id)
}

// answerAgain makes the request one for another reply to a stored message.
func (a *admission) answerAgain(question string) error {
	a.message, a.Source = nil, question
	a.run.Kind, a.run.ParentID = Regeneration, question
	return nil
}

// findShown returns the message or run that a client shows, if it is one of
// this thread.
func (a *admission) findShown(name string) (id string, n *Node, err error) {
	if !ValidID(name) {
		return "", nil, nil
	}
	forms := a.forms(name)
	if err := a.need(forms...); err != nil {
		return "", nil, err
	}
	for _, id := range forms {
		if n := a.state.Nodes[id]; n != nil && n.ConversationID == a.run.ConversationID {
			return id, n, nil
		}
	}
	return "", nil, nil
}

// shownParent finds the message that the shown one follows; "" is the root.
// known is false when the default applies: the end of the thread. stored is the
// message with the id of the shown one.
func (a *admission) shownParent(stored *Node) (parent string, known bool, err error) {
	switch {
	case a.Leaf != "":
		parent, err = a.resolveLeaf()
		return parent, true, err
	case a.View.LastOnly && stored != nil:
		return stored.ParentID, true, nil
	case a.View.LastOnly:
		return "", false, nil
	}
	// Most often the first one is known. If not, all are looked up together.
	list := a.View.Before
	unknownReply := false
	for i, shown := range slices.Backward(list) {
		if i == len(list)-2 {
			if err := a.needShown(list); err != nil {
				return "", false, err
			}
		}
		id, n, err := a.findShown(shown.ID)
		switch {
		case err != nil:
			return "", false, err
		case n != nil && shown.Role == User && n.Role == User && ContentOf(n.Parts) != shown.Text:
			if id, err = a.storedAs(n.ParentID, func(m Message) bool { return m.Content == shown.Text }); err != nil {
				return "", false, err
			}
			if id == "" {
				if unknownReply {
					return "", false, errOtherThread()
				}
				continue // an edit that was refused
			}
			fallthrough
		case n != nil:
			parent, err = a.parentAt(id, n, unknownReply)
			return parent, true, err
		case shown.Role == Assistant:
			unknownReply = true
		case shown.Role == User && unknownReply:
			return "", false, errOtherThread() // both are unknown: the model would not see what is shown
		}
		// A message of the user that is unknown was refused. An unknown one of
		// the assistant without a question is a greeting.
	}
	return "", true, nil
}

// needShown asks for the nodes of all messages of a list that have not been
// looked up.
func (a *admission) needShown(list []Shown) error {
	var ids []string
	for _, shown := range list {
		if !ValidID(shown.ID) {
			continue
		}
		for _, id := range a.forms(shown.ID) {
			if _, known := a.state.Nodes[id]; !known {
				ids = append(ids, id)
			}
		}
	}
	if len(ids) > 0 {
		return &Needs{Nodes: ids}
	}
	return nil
}

// parentAt returns the message that follows what is shown if its last known
// message or run is n. unknownReply: an assistant message that is not known is
// shown behind it.
func (a *admission) parentAt(id string, n *Node, unknownReply bool) (string, error) {
	switch {
	case n.Role == Assistant, n.Role == "" && !n.State.Terminal():
		return id, nil
	case n.Role == "": // a run that left no message
		return n.ParentID, nil
	case unknownReply:
		return a.newestReply(id)
	}
	return id, nil
}

// newestReply returns the newest reply to a message, or the message if it has
// none: some clients give replies ids of their own.
func (a *admission) newestReply(question string) (string, error) {
	if err := a.needBranches(); err != nil {
		return "", err
	}
	thread := a.state.Thread
	for _, r := range slices.Backward(thread.Live) {
		if r.ParentID == question {
			return r.ID, nil
		}
	}
	if thread.Conversation != nil && thread.Conversation.LeafID == question {
		return question, nil // its last reply left no text
	}
	var newest Message
	recent := false
	for _, m := range thread.Recent {
		recent = recent || m.ID == question
		if m.ParentID == question && m.Role == Assistant && m.CreatedAt.After(newest.CreatedAt) {
			newest = m
		}
	}
	switch {
	case newest.ID != "":
		return newest.ID, nil
	case recent:
		return question, nil
	}
	return "", errOtherThread()
}

// storedAs returns the id of the newest message of the user below parent that
// is the one in question, if there is one: a client keeps the id of a message
// that it edits.
func (a *admission) storedAs(parent string, is func(Message) bool) (id string, err error) {
	if err := a.needBranches(); err != nil {
		return "", err
	}
	var newest Message
	for _, m := range a.state.Thread.Recent {
		if m.ParentID == parent && m.Role == User && is(m) && m.CreatedAt.After(newest.CreatedAt) {
			newest = m
		}
	}
	return newest.ID, nil
}

// needBranches asks for messages of all branches of the thread.
func (a *admission) needBranches() error {
	if a.state.Thread.OneBranch {
		return &Needs{Thread: true, ThreadID: a.run.ConversationID, Branches: true}
	}
	return nil
}

// sameMessage reports whether a model would read the same in a message as in
// parts that are stored.
func sameMessage(parts []Part, m Message) bool {
	return ContentOf(parts) == m.Content && slices.Equal(Message{Parts: parts}.Files(), m.Files())
}

// checkShown refuses a request whose view leaves out messages from the middle
// of the branch: the model would read them.
func (a *admission) checkShown() error {
	v := a.View
	if v == nil || v.LastOnly {
		return nil
	}
	branch := a.branch
	if a.message == nil { // the branch ends with the message that is answered again
		branch = branch[:max(0, len(branch)-1)]
	}
	end := len(branch) // of the part that has not been found among the shown ones
	skipped := map[Role]int{}
	for _, shown := range slices.Backward(v.Before) {
		at := lastIndex(branch[:end], func(m Message) bool { return slices.Contains(a.forms(shown.ID), m.ID) })
		if shown.Role == User {
			if at >= 0 && branch[at].Content != shown.Text {
				return errOtherThread()
			}
			if at < 0 { // it may be stored as an edit
				at = lastIndex(branch[:end], func(m Message) bool { return m.Role == User && m.Content == shown.Text })
			}
		}
		if at < 0 {
			skipped[shown.Role]++ // refused, or known to the client only
			continue
		}
		for _, m := range branch[at+1 : end] {
			if skipped[m.Role]--; skipped[m.Role] < 0 {
				return errOtherThread()
			}
		}
		end, skipped = at, map[Role]int{}
	}
	return nil
}

func lastIndex(list []Message, is func(Message) bool) int {
	for i, m := range slices.Backward(list) {
		if is(m) {
			return i
		}
	}
	return -1
}

func errOtherThread() error {
	return fault.New(fault.Conflict, "The messages shown are not the stored ones; please reload the chat")
}

// action is the action of the request's audit entry: only the decision knows
// what a request with a view does.
func (a *admission) action() string {
	switch {
	case a.View == nil:
		return a.Audit.Action
	case a.message == nil:
		return audit.ActionReplyRegenerated
	case a.message.ID == a.FreshID:
		return audit.ActionMessageEdited
	}
	return audit.ActionMessageSent
}
