package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"parley/adapters/sqlstore/rows"
	"parley/domain/chat"
	"parley/domain/fault"
)

// place finds where the run belongs when the request names a message rather
// than a conversation.
func (in *admission) place(ctx context.Context) error {
	switch {
	case in.Source != "":
		return in.placeBeside(ctx)
	case in.ParentOf != "":
		edited, err := selectMessage(ctx, in.tx, in.run.UserID, in.ParentOf)
		if err != nil {
			return err
		}
		if edited.Role != chat.User || !in.within(edited.ConversationID) {
			return noMessage()
		}
		in.run.ConversationID = edited.ConversationID
		if in.Message == nil {
			return fault.New(fault.Invalid, "An edit needs a message")
		}
		m := *in.Message
		m.ParentID = edited.ParentID
		in.message = &m
	case in.Message != nil:
		m := *in.Message
		in.message = &m
	case in.run.ParentID == "": // whatever is the end of the conversation
		conv, err := in.s.selectConversation(ctx, in.tx, in.run.UserID, in.run.ConversationID)
		if err != nil {
			return err
		}
		in.Source, in.Audit.ResourceID = conv.LeafID, conv.LeafID
		return in.placeBeside(ctx)
	default:
		asked, err := selectMessage(ctx, in.tx, in.run.UserID, in.run.ParentID)
		if err != nil {
			return err
		}
		if asked.Role != chat.User || !in.within(asked.ConversationID) {
			return noMessage()
		}
		in.run.ConversationID = asked.ConversationID
	}
	return nil
}

// placeBeside puts the run beside the reply that it repeats or continues: an
// assistant message, or a run that left none. A message of the user's stands
// for the reply to it.
func (in *admission) placeBeside(ctx context.Context) error {
	source, err := in.s.selectRun(ctx, in.tx, "r.user_id = ? AND r.id = ?", in.run.UserID, in.Source)
	if errors.Is(err, sql.ErrNoRows) { // a message that no run here has made
		m, err := selectMessage(ctx, in.tx, in.run.UserID, in.Source)
		if err != nil {
			return err
		}
		switch {
		case m.Role == chat.User && in.run.Kind == chat.Regeneration:
			source = chat.Run{ConversationID: m.ConversationID, ParentID: m.ID}
		case m.Role == chat.Assistant && m.ParentID != "":
			source = chat.Run{ConversationID: m.ConversationID, ParentID: m.ParentID, State: chat.Completed, Output: chat.Output{Text: m.Content}}
		default:
			return noMessage()
		}
	} else if err != nil {
		return err
	}
	if !in.within(source.ConversationID) {
		return noMessage()
	}
	if in.run.Kind == chat.Continuation {
		if source.Output.Text == "" || source.State != chat.Interrupted && source.State != chat.Stopped {
			return fault.New(fault.Conflict, "Only a reply that was stopped or interrupted can be continued")
		}
		in.run.Prefix, in.run.Output = source.Output.Text, chat.Output{Text: source.Output.Text}
	}
	in.run.ConversationID, in.run.ParentID = source.ConversationID, source.ParentID
	return nil
}

// within reports whether a conversation is the one that the request names, if
// it names one.
func (in *admission) within(conversation string) bool {
	return in.run.ConversationID == "" || in.run.ConversationID == conversation
}

// conversation finds or makes the run's conversation.
func (in *admission) conversation(ctx context.Context) error {
	id := in.run.ConversationID
	if !in.found.looked || in.found.id != id { // the request named a message, and now we know where it is
		if err := in.s.send(ctx, in.tx, in.lookAround(id)...); err != nil {
			return err
		}
	}
	switch {
	case id == "":
	case in.found.conv != nil:
		in.conv = *in.found.conv
	case !in.CreateConversation || in.message == nil:
		return noConversation()
	default:
		in.newConv = true
		in.conv = rows.Conversation{UserID: in.run.UserID, ID: id, CreatedAt: in.now}
	}
	return nil
}

// attach finds the message that the new one follows, and reads the branch that
// the provider will get.
func (in *admission) attach(ctx context.Context) error {
	if in.message == nil {
		branch, err := in.branchTo(ctx, in.run.ParentID, max(in.Context, 1))
		if err != nil {
			return err
		}
		if len(branch) == 0 || branch[len(branch)-1].ID != in.run.ParentID {
			return noMessage()
		}
		in.branch = branch
		return nil
	}
	m := in.message
	if err := chat.ValidateText(m.Content); err != nil { // it could not be given back as it was
		return err
	}
	m.UserID, m.ConversationID, m.Role = in.run.UserID, in.run.ConversationID, chat.User
	switch {
	case in.ParentOf != "":
	case in.Leaf != "":
		if err := in.findLeaf(ctx); err != nil {
			return err
		}
		m.ParentID = in.Leaf
	default:
		m.ParentID = in.end()
	}
	if m.ParentID != "" {
		branch, err := in.branchTo(ctx, m.ParentID, max(in.Context-1, 1))
		if err != nil {
			return err
		}
		in.branch = branch
	}
	m.CreatedAt = rows.Time(m.CreatedAt)
	if m.CreatedAt.IsZero() {
		m.CreatedAt = in.now
	}
	if n := len(in.branch); n > 0 {
		m.CreatedAt = after(m.CreatedAt, in.branch[n-1].CreatedAt)
		in.branch = in.branch[max(0, n+1-max(in.Context, 1)):]
	}
	in.run.ParentID = m.ID
	in.branch = append(in.branch, *m)
	return nil
}

// end is where an unplaced message goes: behind the reply that is being made,
// unless something stands there already, or else behind the current leaf.
func (in *admission) end() string {
	for _, r := range slices.Backward(in.found.live) {
		if !r.Followed {
			return r.ID
		}
	}
	if in.run.ConversationID == "" {
		return in.leaf
	}
	return in.conv.LeafID
}

// findLeaf checks that Leaf is a message of the thread, or a reply that is
// being made in it.
func (in *admission) findLeaf(ctx context.Context) error {
	for _, r := range in.found.live {
		if r.ID == in.Leaf {
			return nil
		}
	}
	m, err := selectMessage(ctx, in.tx, in.run.UserID, in.Leaf)
	if err != nil {
		return err
	}
	if m.ConversationID != in.run.ConversationID {
		return noMessage()
	}
	return nil
}
