package sqlstore

import (
	"context"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/pipeline"
	"parley/adapters/sqlstore/rows"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

var _ ports.Feedback = (*Store)(nil)

// SetFeedback sets the feedback on a reply.
func (s *Store) SetFeedback(ctx context.Context, user, message string, f chat.Feedback, entry audit.Entry) (provider, model string, err error) {
	err = s.write(ctx, "set_feedback", forUser(user), func(ctx context.Context, tx bun.IDB) error {
		role, err := s.lockMessage(ctx, tx, user, message)
		switch {
		case err != nil:
			return err
		case role != chat.Assistant:
			return fault.New(fault.Invalid, "Feedback is given on replies only")
		}
		row, err := rows.FromEntry(owned(entry, user))
		if err != nil {
			return err
		}
		return s.pipe.ExecAndCommit(ctx, tx,
			stmt("SELECT provider, model FROM chat_runs WHERE user_id = ? AND id = ?", user, message).
				ScanRow(func(scan func(...any) error) error {
					return scan(rows.NullText{Dest: &provider}, rows.NullText{Dest: &model})
				}),
			stmt(`INSERT INTO chat_feedback (user_id, message_id, rating, reason, created_at) VALUES (?, ?, ?, ?, ?)
				ON CONFLICT (user_id, message_id) DO UPDATE SET rating = excluded.rating, reason = excluded.reason, created_at = excluded.created_at`,
				user, message, string(f.Rating), f.Reason, rows.Time(entry.CreatedAt)),
			insertEntry(row))
	})
	return provider, model, err
}

// DeleteFeedback removes the feedback on a message.
func (s *Store) DeleteFeedback(ctx context.Context, user, message string, entry audit.Entry) error {
	return s.write(ctx, "delete_feedback", forUser(user), func(ctx context.Context, tx bun.IDB) error {
		if _, err := s.lockMessage(ctx, tx, user, message); err != nil {
			return err
		}
		found := false
		err := s.pipe.Exec(ctx, tx, stmt("DELETE FROM chat_feedback WHERE user_id = ? AND message_id = ? RETURNING message_id", user, message).
			ScanRow(func(func(...any) error) error { found = true; return nil }))
		if err != nil || !found {
			return err
		}
		return insertEntries(ctx, tx, owned(entry, user))
	})
}

// lockMessage locks a message, so that it is not deleted before the transaction
// has ended, and returns its role.
func (s *Store) lockMessage(ctx context.Context, tx bun.IDB, user, id string) (role chat.Role, err error) {
	err = s.pipe.Exec(ctx, tx, stmt("SELECT role FROM chat_messages WHERE user_id = ? AND id = ?"+s.dialect.lockRow, user, id).
		ScanRow(func(scan func(...any) error) error { return scan((*string)(&role)) }))
	if err == nil && role == "" {
		err = chat.MessageNotFound()
	}
	return role, err
}

// feedback reads the feedback on the replies among a list of messages.
func (s *Store) feedback(user string, list []chat.Message) pipeline.Stmt {
	replies := map[string]*chat.Message{}
	ids := make([]string, 0, len(list))
	for i, m := range list {
		if m.Role == chat.Assistant {
			replies[m.ID] = &list[i]
			ids = append(ids, m.ID)
		}
	}
	return stmt("SELECT message_id, rating, reason FROM chat_feedback WHERE user_id = ? AND message_id IN ("+s.dialect.elements+")", user, jsonText(ids)).
		ScanRow(func(scan func(...any) error) error {
			var (
				id string
				f  chat.Feedback
			)
			err := scan(&id, (*string)(&f.Rating), &f.Reason)
			if m := replies[id]; m != nil {
				m.Feedback = &f
			}
			return err
		})
}
