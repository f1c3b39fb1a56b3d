package sqlstore

import (
	"context"
	"time"

	"github.com/uptrace/bun/schema"

	"parley/adapters/sqlstore/rows"
	"parley/domain/access"
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
	insert := in.tx.NewInsert().Model(&row)
	if run.State == chat.Running {
		insert = insert.Value("lease_until", "?", in.s.dialect.clock(in.Lease))
	}
	statements := in.pre
	if m := in.message; m != nil {
		kept, err := rows.FromMessage(*m)
		if err != nil {
			return err
		}
		statements = append(statements, in.touch(kept)...)
		statements = append(statements, in.tx.NewInsert().Model(&kept))
	}
	statements = append(statements, insert, in.tx.NewInsert().Model(&entry),
		setAside(in.tx, run.UserID, run.Hold, in.now))
	return lastBatch(ctx, in.tx, in.s.db.QueryGen(), statements...)
}

// touch makes the new message the end of its thread.
func (in *admission) touch(m rows.Message) []schema.QueryAppender {
	if m.ConversationID == "" {
		return []schema.QueryAppender{in.tx.NewRaw("UPDATE chat_users SET leaf_id = ? WHERE user_id = ?", m.ID, m.UserID)}
	}
	in.conv.LeafID, in.conv.LastMessageAt, in.conv.UpdatedAt = m.ID, m.CreatedAt, in.now
	if in.conv.Title == "" {
		in.conv.Title = chat.TitleFrom(m.Content)
	}
	if in.newConv {
		conv := in.conv
		return []schema.QueryAppender{in.tx.NewInsert().Model(&conv)}
	}
	return []schema.QueryAppender{in.tx.NewRaw(`UPDATE chat_conversations
		SET leaf_id = ?, last_message_at = ?, updated_at = ?, title = COALESCE(title, ?) WHERE user_id = ? AND id = ?`,
		m.ID, m.CreatedAt, in.now, in.conv.Title, m.UserID, m.ConversationID)}
}

// entry is the audit entry with what only the store knows.
func (in *admission) entry() access.Entry {
	e := in.Audit
	e.ID, e.UserID, e.Status = in.run.AuditID, in.run.UserID, access.Pending
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
