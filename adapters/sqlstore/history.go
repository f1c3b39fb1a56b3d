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

// CreateConversation makes a conversation. Conflict: the user has one of that id.
func (s *Store) CreateConversation(ctx context.Context, c chat.Conversation, auditEntry audit.Entry) (chat.Conversation, error) {
	if c.UserID == "" {
		return chat.Conversation{}, fault.New(fault.Unauthenticated, "Authentication required")
	}
	row := rows.FromConversation(c)
	if row.LastMessageAt.IsZero() {
		row.LastMessageAt = row.CreatedAt
	}
	if row.UpdatedAt.IsZero() {
		row.UpdatedAt = row.CreatedAt
	}
	err := s.write(ctx, "create_conversation", forUser(c.UserID), func(ctx context.Context, tx bun.IDB) error {
		if err := s.lockUser(ctx, tx, c.UserID, c.CreatedAt); err != nil {
			return err
		}
		entry, err := rows.FromEntry(owned(auditEntry, c.UserID))
		if err != nil {
			return err
		}
		return s.pipe.ExecTextAndCommit(ctx, tx, tx.NewInsert().Model(&row), tx.NewInsert().Model(&entry))
	})
	if err != nil {
		return chat.Conversation{}, err
	}
	return row.Domain(), nil
}

// UpdateConversation sets what is not nil; "" takes a setting away.
func (s *Store) UpdateConversation(ctx context.Context, user, id string, change ports.ConversationChange, entry audit.Entry) (chat.Conversation, error) {
	var row rows.Conversation
	err := s.write(ctx, "update_conversation", forUser(user), func(ctx context.Context, tx bun.IDB) error {
		q := tx.NewUpdate().Model(&row).Set("updated_at = ?", rows.Time(change.Now)).
			Where("user_id = ? AND id = ?", user, id).Returning("?Columns")
		for _, set := range []struct {
			column string
			value  *string
		}{{"title", change.Title}, {"system", change.System}, {"model", change.Model}} {
			if set.value != nil {
				q = q.Set("? = ?", bun.Ident(set.column), orNull(*set.value))
			}
		}
		if change.Title != nil {
			q = q.Set("title_by_user = ?", *change.Title != "")
		}
		if _, err := q.Exec(ctx); err != nil {
			return mapNoRows(err, chat.ConversationNotFound())
		}
		if row.ID == "" {
			return chat.ConversationNotFound()
		}
		return insertEntries(ctx, tx, owned(entry, user))
	})
	if err != nil {
		return chat.Conversation{}, err
	}
	return row.Domain(), nil
}

// DeleteConversation removes a conversation with all that it holds. Of its live
// runs, the audit entries are completed and the holds settled, since their owners
// cannot any more.
func (s *Store) DeleteConversation(ctx context.Context, user, id string, auditEntry audit.Entry) error {
	defer s.tails.forget(user, id)
	return s.write(ctx, "delete_conversation", forUser(user), func(ctx context.Context, tx bun.IDB) error {
		if err := s.lockUser(ctx, tx, user, auditEntry.CreatedAt); err != nil {
			return err
		}
		var (
			live        []chat.LiveRun
			promptBytes int64
			known       bool
		)
		// Live runs first, and then the conversation: Finish takes them in this order.
		err := s.pipe.Exec(ctx, tx,
			s.liveRuns(user, ofThread("r", id), true, func(r chat.LiveRun) { live = append(live, r) }),
			stmt(`SELECT octet_length(content) FROM chat_messages WHERE user_id = ? AND conversation_id = ?
				ORDER BY created_at DESC, id DESC LIMIT ?`, user, id, promptMessages,
			).ScanRow(func(scan func(...any) error) error {
				var n int64
				err := scan(&n)
				promptBytes += n
				return err
			}),
			stmt("DELETE FROM chat_conversations WHERE user_id = ? AND id = ? RETURNING id", user, id).
				ScanRow(func(func(...any) error) error { known = true; return nil }))
		if err != nil {
			return err
		}
		if !known {
			return chat.ConversationNotFound()
		}
		entry, err := rows.FromEntry(owned(auditEntry, user))
		if err != nil {
			return err
		}
		statements := []pipeline.Stmt{deleteLostOutput(user), insertEntry(entry)}
		for _, end := range chat.Delete(live, promptBytes, auditEntry.CreatedAt) {
			statements = append(statements, s.settleRun(user, end)...)
		}
		return s.pipe.ExecAndCommit(ctx, tx, statements...)
	})
}

// promptMessages is how many of the newest messages of a conversation count as
// the prompt of a reply that is deleted while it is made.
const promptMessages = 50

// Conversation returns one conversation.
func (s *Store) Conversation(ctx context.Context, user, id string) (chat.Conversation, error) {
	var row rows.Conversation
	err := s.readReplicated(ctx, "conversation", forUser(user), func(ctx context.Context, db bun.IDB) error {
		var err error
		row, err = s.selectConversation(ctx, db, user, id)
		return err
	})
	if err != nil {
		return chat.Conversation{}, err
	}
	return row.Domain(), nil
}

// Conversations lists a user's conversations, newest message first. Before
// asks for older ones than a position, After for newer ones, the nearest first
// to be kept.
func (s *Store) Conversations(ctx context.Context, user string, page ports.Page) (list []chat.Conversation, more bool, err error) {
	err = s.readReplicated(ctx, "conversations", forUser(user), func(ctx context.Context, db bun.IDB) error {
		list = make([]chat.Conversation, 0, page.Limit+1)
		bounds, order := pageClause(page, "c.last_message_at", "c.id")
		err := s.pipe.Exec(ctx, db, conversationsWhere(user, stmt("c.expires_at IS NULL AND ? ?", bounds, order), func(row rows.Conversation) {
			list = append(list, row.Domain())
		}))
		list, more = trimPage(list, page)
		return err
	})
	return list, more, err
}

// pageClause bounds a list to a page and one row more, newest first; for After,
// oldest first.
func pageClause(page ports.Page, at, id string) (bounds, order pipeline.Stmt) {
	limit := max(page.Limit, 1) + 1
	switch {
	case page.Before != nil:
		bounds = stmt("("+at+", "+id+") < (?, ?)", rows.Time(page.Before.At), page.Before.ID)
	case page.After != nil:
		return stmt("("+at+", "+id+") > (?, ?)", rows.Time(page.After.At), page.After.ID),
			stmt("ORDER BY "+at+", "+id+" LIMIT ?", limit)
	default:
		bounds = stmt("TRUE")
	}
	return bounds, stmt("ORDER BY "+at+" DESC, "+id+" DESC LIMIT ? OFFSET ?", limit, max(page.Offset, 0))
}

// trimPage takes off the row beyond the page and puts the rest newest first.
func trimPage[T any](found []T, page ports.Page) (kept []T, more bool) {
	if n := max(page.Limit, 1); len(found) > n {
		found, more = found[:n], true
	}
	if page.After != nil {
		reverse(found)
	}
	return found, more
}

// conversationsWhere reads those of a user's for which a condition holds.
func conversationsWhere(user string, which pipeline.Stmt, found func(rows.Conversation)) pipeline.Stmt {
	return stmt(selectConversationText, user, which).
		ScanRow(func(scan func(...any) error) error {
			var c rows.Conversation
			err := scan(rows.ConversationColumns.Dests(&c)...)
			found(c)
			return err
		})
}

func (s *Store) selectConversation(ctx context.Context, db bun.IDB, user, id string) (row rows.Conversation, err error) {
	known := false
	err = s.pipe.Exec(ctx, db, conversationsWhere(user, stmt("c.id = ?", id), func(c rows.Conversation) { row, known = c, true }))
	if err == nil && !known {
		err = chat.ConversationNotFound()
	}
	return row, err
}

// owned is the entry with its user.
func owned(e audit.Entry, user string) audit.Entry {
	e.UserID = user
	return e
}
