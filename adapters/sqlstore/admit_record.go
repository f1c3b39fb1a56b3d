package sqlstore

import (
	"context"
	"time"

	"parley/adapters/sqlstore/rows"
	"parley/domain/audit"
	"parley/domain/chat"
)

// record writes everything in one round trip.
func (in *admission) record(ctx context.Context) error {
	run := &in.run
	run.CreatedAt = in.now
	run.StopRequested, run.Attempt, run.Owner, run.LeaseUntil = false, 0, "", time.Time{}
	if run.State == chat.Running {
		run.Attempt, run.Owner, run.StartedAt = 1, in.Owner, in.now
		run.LeaseUntil = in.now.Add(in.Lease)
	}
	entry, err := rows.FromEntry(in.entry())
	if err != nil {
		return err
	}
	row, err := rows.FromRun(*run)
	if err != nil {
		return err
	}
	statements := in.pre
	if m := in.message; m != nil {
		kept, err := rows.FromMessage(*m)
		if err != nil {
			return err
		}
		statements = append(statements, in.touch(kept), insertMessage(kept))
	}
	statements = append(statements, in.insertRun(row), insertEntry(entry), setAside(run.UserID, run.Hold, in.now))
	return in.s.sendLast(ctx, in.tx, statements...)
}

// insertRun leaves out what a run has only later.
func (in *admission) insertRun(r rows.Run) statement {
	lease := say("NULL")
	if in.run.State == chat.Running {
		lease = say("?", in.s.dialect.clock(in.Lease))
	}
	return say(`INSERT INTO chat_runs (user_id, id, conversation_id, parent_id, kind, state, attempt, owner, lease_until, background,
		params, prefix, text, hold_tokens, hold_micros, idempotency_key, fingerprint, audit_id, metadata, created_at, started_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		r.UserID, r.ID, orNull(r.ConversationID), r.ParentID, r.Kind, r.State, r.Attempt, orNull(r.Owner), lease, r.Background,
		r.Params, r.Prefix, r.Text, r.HoldTokens, r.HoldMicros, orNull(r.IdempotencyKey), r.Fingerprint, r.AuditID, orNull(r.Metadata),
		r.CreatedAt, whenOrNull(r.StartedAt))
}

func insertMessage(m rows.Message) statement {
	return say(`INSERT INTO chat_messages (user_id, id, conversation_id, parent_id, role, content, metadata, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		m.UserID, m.ID, orNull(m.ConversationID), orNull(m.ParentID), m.Role, m.Content, orNull(m.Metadata), m.CreatedAt)
}

func insertEntry(e rows.Entry) statement {
	return say(`INSERT INTO audit_logs (user_id, id, action, resource, resource_id, metadata, ip_address, user_agent, status, error_message, created_at, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		e.UserID, e.ID, e.Action, e.Resource, orNull(e.ResourceID), orNull(e.Metadata), orNull(e.IPAddress), orNull(e.UserAgent),
		e.Status, orNull(e.ErrorMessage), e.CreatedAt, e.UpdatedAt)
}

// touch makes the new message the end of its thread.
func (in *admission) touch(m rows.Message) statement {
	if m.ConversationID == "" {
		return say("UPDATE chat_users SET leaf_id = ? WHERE user_id = ?", m.ID, m.UserID)
	}
	in.conv.LeafID, in.conv.LastMessageAt, in.conv.UpdatedAt = m.ID, m.CreatedAt, in.now
	if in.conv.Title == "" {
		in.conv.Title = chat.TitleFrom(m.Content)
	}
	if in.newConv {
		c := in.conv
		return say(`INSERT INTO chat_conversations (user_id, id, title, leaf_id, last_message_at, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			c.UserID, c.ID, orNull(c.Title), c.LeafID, c.LastMessageAt, c.CreatedAt, c.UpdatedAt)
	}
	return say(`UPDATE chat_conversations
		SET leaf_id = ?, last_message_at = ?, updated_at = ?, title = COALESCE(title, ?) WHERE user_id = ? AND id = ?`,
		m.ID, m.CreatedAt, in.now, orNull(in.conv.Title), m.UserID, m.ConversationID)
}

// entry is the audit entry with what only the store knows.
func (in *admission) entry() audit.Entry {
	e := in.Audit
	e.ID, e.UserID, e.Status = in.run.AuditID, in.run.UserID, audit.Pending
	if e.ID == "" {
		e.ID = in.run.ID
		in.run.AuditID = e.ID
	}
	metadata := map[string]any{"conversationId": nil, "role": string(chat.User)}
	for k, v := range e.Metadata {
		metadata[k] = v
	}
	if in.run.ConversationID != "" {
		metadata["conversationId"] = in.run.ConversationID
	}
	if in.newConv {
		metadata["conversationCreated"] = true
	}
	e.Metadata = metadata
	if e.ResourceID == "" {
		e.ResourceID = in.run.ParentID
	}
	if e.CreatedAt.IsZero() {
		e.CreatedAt, e.UpdatedAt = in.now, in.now
	}
	return e
}

// after returns t, or the first moment after earlier that the store can tell
// apart, whichever is later: clocks of instances differ, the order of a branch
// must not.
func after(t, earlier time.Time) time.Time {
	if t.After(earlier) {
		return t
	}
	return earlier.Add(time.Microsecond)
}
