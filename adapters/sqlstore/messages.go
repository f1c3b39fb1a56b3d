package sqlstore

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/pipeline"
	"parley/adapters/sqlstore/rows"
	"parley/domain/chat"
	"parley/ports"
)

// Messages lists a thread: a page of it as Page asks, oldest first. The newest
// page of a linear conversation takes one statement.
func (s *Store) Messages(ctx context.Context, user, conversation string, page ports.Page) (list []chat.Message, more bool, err error) {
	err = s.readReplicated(ctx, "messages", forUser(user), func(ctx context.Context, db bun.IDB) error {
		further := page
		further.Limit = max(page.Limit, 1) + 1
		bounds, order := pageClause(further, "m.created_at", "m.id")
		found, rated := make([]chat.Message, 0, further.Limit+1), false
		err := s.pipe.Exec(ctx, db, stmt(selectPage, user, user, ofThread("m", conversation), bounds, order).
			ScanRow(scanPage(user, conversation, &rated, func(m chat.Message) { found = append(found, m) })))
		if err != nil {
			return err
		}
		if len(found) == 0 && conversation != "" {
			if _, err := s.selectConversation(ctx, db, user, conversation); err != nil {
				return err
			}
		}
		if page.Before != nil || page.After != nil || page.Offset > 0 {
			list, more = trimPage(found, page)
			reverse(list)
			return s.siblings(ctx, db, user, conversation, list)
		}
		reverse(found)
		newest, whole := chat.NewTree(found, nil), len(found) <= further.Limit
		more = len(found) >= further.Limit
		list = found[max(0, len(found)-further.Limit+1):]
		if !fillSiblings(list, newest, whole) {
			return s.siblings(ctx, db, user, conversation, list)
		}
		if rated {
			return s.pipe.Exec(ctx, db, s.feedback(user, list))
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return list, more, nil
}

// fillSiblings fills in the siblings of messages from a tree of the newest
// messages of their thread, if it surely holds them all.
func fillSiblings(list []chat.Message, newest chat.Tree, whole bool) bool {
	for i, m := range list {
		if !whole && !newest.HoldsSiblings(m.ID) {
			return false
		}
		list[i].Siblings = newest.Siblings(m.ID)
	}
	return true
}

// selectPage reads messages, and whether their user has given any feedback.
const selectPage = `SELECT m.id, m.parent_id, m.role, m.content, m.parts, m.metadata, m.created_at,
	EXISTS (SELECT 1 FROM chat_feedback AS f WHERE f.user_id = ?) FROM chat_messages AS m WHERE m.user_id = ? AND ? AND ? ?`

// scanPage scans rows of selectPage.
func scanPage(user, conversation string, rated *bool, found func(chat.Message)) func(scan func(...any) error) error {
	var (
		row   = rows.Message{UserID: user, ConversationID: conversation}
		text  = func(dest *string) any { return rows.NullText{Dest: dest} }
		dests = []any{text(&row.ID), text(&row.ParentID), text(&row.Role), text(&row.Content), text(&row.Parts), text(&row.Metadata), &row.CreatedAt, rated}
	)
	return func(scan func(...any) error) error {
		if err := scan(dests...); err != nil {
			return err
		}
		m, err := row.Domain()
		found(m)
		return err
	}
}

// scanMessage scans columns of messages.
func scanMessage(columns rows.Columns, found func(chat.Message)) func(scan func(...any) error) error {
	return func(scan func(...any) error) error {
		var row rows.Message
		if err := scan(columns.Dests(&row)...); err != nil {
			return err
		}
		m, err := row.Domain()
		found(m)
		return err
	}
}

// Branch lists the end of a branch, oldest first.
func (s *Store) Branch(ctx context.Context, user, conversation, leaf string, limit int) (list []chat.Message, more bool, err error) {
	limit = max(limit, 1)
	err = s.readReplicated(ctx, "branch", forUser(user), func(ctx context.Context, db bun.IDB) error {
		current, err := s.currentLeaf(ctx, db, user, conversation)
		if err != nil {
			return err
		}
		end := leaf
		if leaf == "current" {
			if end = current; end == "" {
				list, more = []chat.Message{}, false
				return nil
			}
		}
		if list, err = s.loadBranch(ctx, db, user, conversation, end, limit+1); err != nil {
			return err
		}
		if len(list) == 0 {
			return chat.MessageNotFound()
		}
		if more = len(list) > limit; more {
			list = list[1:]
		}
		return s.siblings(ctx, db, user, conversation, list)
	})
	if err != nil {
		return nil, false, err
	}
	return list, more, nil
}

// Message returns one message.
func (s *Store) Message(ctx context.Context, user, id string) (m chat.Message, err error) {
	err = s.read(ctx, "message", forUser(user), func(ctx context.Context, db bun.IDB) error {
		known := false
		err := s.pipe.Exec(ctx, db, messagesWhere(user, stmt("m.id = ?", id), func(found chat.Message) { m, known = found, true }))
		if err == nil && !known {
			err = chat.MessageNotFound()
		}
		return err
	})
	return m, err
}

// currentLeaf returns where a thread's current branch ends, "" when the thread
// is empty.
func (s *Store) currentLeaf(ctx context.Context, db bun.IDB, user, conversation string) (string, error) {
	if conversation != "" {
		row, err := s.selectConversation(ctx, db, user, conversation)
		return row.LeafID, err
	}
	var found []rows.User
	err := db.NewRaw("SELECT user_id, leaf_id FROM chat_users WHERE user_id = ?", user).Scan(ctx, &found)
	if err != nil || len(found) == 0 {
		return "", err
	}
	return found[0].LeafID, nil
}

// branch reads at most limit messages from id towards the root, the newest
// first. On the way it passes over replies that are still being made: a message
// that follows one belongs to the branch already. A client's id of a message is
// looked for in this thread first. A thread that id is not part of has none.
func (s *Store) branch(user, conversation, id string, limit int, found func(chat.Message)) pipeline.Stmt {
	return stmt(`WITH RECURSIVE branch (id, n) AS (
			SELECT CAST(COALESCE((SELECT s.id FROM chat_messages AS s WHERE s.user_id = ? AND s.id = ?), ?) AS text), 1
			UNION ALL
			SELECT COALESCE(
				(SELECT m.parent_id FROM chat_messages AS m WHERE m.user_id = ? AND m.id = b.id),
				(SELECT r.parent_id FROM chat_runs AS r WHERE r.user_id = ? AND r.id = b.id)), b.n + 1
			FROM branch AS b WHERE b.id IS NOT NULL AND b.n < ?)
		SELECT `+rows.MessageColumns.List("m.")+` FROM branch AS b JOIN chat_messages AS m ON m.user_id = ? AND m.id = b.id
		WHERE ? ORDER BY b.n LIMIT ?`,
		user, chat.ScopedID(conversation, id), id, user, user, 2*limit+1, user, ofThread("m", conversation), limit,
	).ScanRow(scanMessage(rows.MessageColumns, found))
}

// loadBranch runs branch. The list is oldest first.
func (s *Store) loadBranch(ctx context.Context, db bun.IDB, user, conversation, id string, limit int) (list []chat.Message, err error) {
	err = s.pipe.Exec(ctx, db, s.branch(user, conversation, id, limit, func(m chat.Message) { list = append(list, m) }))
	slices.Reverse(list)
	return list, err
}

// siblings fills in which messages stand beside each of a list: under the same
// parent, with the same role, oldest first; and the feedback on each.
func (s *Store) siblings(ctx context.Context, db bun.IDB, user, conversation string, list []chat.Message) error {
	if len(list) == 0 {
		return nil
	}
	var parents []string
	root := false
	for _, m := range list {
		if m.ParentID == "" {
			root = true
		} else {
			parents = append(parents, m.ParentID)
		}
	}
	slices.Sort(parents)
	under := stmt("m.parent_id IN ("+s.dialect.elements+")", jsonText(slices.Compact(parents)))
	if root {
		under = stmt("(? OR m.parent_id IS NULL AND ?)", under, ofThread("m", conversation))
	}
	var beside []chat.Message
	columns := rows.MessageColumns.Only("id", "parent_id", "role")
	err := s.pipe.Exec(ctx, db, stmt("SELECT "+columns.List("m.")+" FROM chat_messages AS m WHERE m.user_id = ? AND ? ORDER BY m.created_at, m.id", user, under).
		ScanRow(scanMessage(columns, func(m chat.Message) { beside = append(beside, m) })), s.feedback(user, list))
	tree := chat.NewTree(beside, nil)
	for i, m := range list {
		list[i].Siblings = tree.Siblings(m.ID)
	}
	return err
}

// jsonText is a list of ids as JSON.
func jsonText(ids []string) string {
	if ids == nil {
		ids = []string{}
	}
	text, _ := json.Marshal(ids) // strings can always be
	return string(text)
}

// messagesWhere reads the messages for which a condition holds.
func messagesWhere(user string, which pipeline.Stmt, found func(chat.Message)) pipeline.Stmt {
	return stmt("SELECT "+rows.MessageColumns.List("m.")+" FROM chat_messages AS m WHERE m.user_id = ? AND ?", user, which).
		ScanRow(scanMessage(rows.MessageColumns, found))
}

func reverse[T any](list []T) { slices.Reverse(list) }
