package sqlstore

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/rows"
	"parley/domain/chat"
	"parley/ports"
)

// Messages lists a thread: a page of it as Page asks, oldest first.
func (s *Store) Messages(ctx context.Context, user, conversation string, page ports.Page) (list []chat.Message, more bool, err error) {
	err = s.read(ctx, "messages", forUser(user), func(ctx context.Context, db bun.IDB) error {
		list = make([]chat.Message, 0, page.Limit+1)
		known := conversation == ""
		bounds, order := paged(page, "m.created_at", "m.id")
		statements := []statement{
			say(`SELECT m.id, m.conversation_id, m.parent_id, m.role, m.content, m.metadata, m.created_at
				FROM chat_messages AS m WHERE m.user_id = ? AND ? AND ? ?`, user, ofThread("m", conversation), bounds, order,
			).into(intoMessages(&list, user)),
		}
		if conversation != "" {
			statements = append(statements, say("SELECT 1 FROM chat_conversations WHERE user_id = ? AND id = ?", user, conversation).
				into(func(func(...any) error) error { known = true; return nil }))
		}
		if err := s.send(ctx, db, statements...); err != nil {
			return err
		}
		if !known {
			return noConversation()
		}
		list, more = cut(list, page)
		reverse(list)
		return s.siblings(ctx, db, user, conversation, list)
	})
	if err != nil {
		return nil, false, err
	}
	return list, more, nil
}

// intoMessages appends rows of id, conversation, parent, role, content,
// metadata and time to a list.
func intoMessages(list *[]chat.Message, user string) func(scan func(...any) error) error {
	return func(scan func(...any) error) error {
		row := rows.Message{UserID: user}
		err := scan(&row.ID, nullText{&row.ConversationID}, nullText{&row.ParentID}, &row.Role, &row.Content, nullText{&row.Metadata}, nullTime{&row.CreatedAt})
		if err != nil {
			return err
		}
		m, err := row.Domain()
		*list = append(*list, m)
		return err
	}
}

// Branch lists the end of a branch, oldest first.
func (s *Store) Branch(ctx context.Context, user, conversation, leaf string, limit int) (list []chat.Message, more bool, err error) {
	limit = max(limit, 1)
	err = s.read(ctx, "branch", forUser(user), func(ctx context.Context, db bun.IDB) error {
		current, err := s.currentLeaf(ctx, db, user, conversation)
		if err != nil {
			return err
		}
		if leaf == "current" {
			if leaf = current; leaf == "" {
				list = []chat.Message{}
				return nil
			}
		}
		if list, err = s.branch(ctx, db, user, conversation, leaf, limit+1); err != nil {
			return err
		}
		if len(list) == 0 {
			return noMessage()
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
		m, err = selectMessage(ctx, db, user, id)
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

// branch reads at most limit messages from id towards the root, oldest first.
// On the way it steps over replies that are still being made: a message that
// waits behind one belongs to the branch already. A thread that id is not part
// of gives nothing.
func (s *Store) branch(ctx context.Context, db bun.IDB, user, conversation, id string, limit int) ([]chat.Message, error) {
	var found []rows.Message
	err := db.NewRaw(`WITH RECURSIVE branch (id, n) AS (
			SELECT CAST(?0 AS text), 1
			UNION ALL
			SELECT COALESCE(
				(SELECT m.parent_id FROM chat_messages AS m WHERE m.user_id = ?1 AND m.id = b.id),
				(SELECT r.parent_id FROM chat_runs AS r WHERE r.user_id = ?1 AND r.id = b.id)), b.n + 1
			FROM branch AS b WHERE b.id IS NOT NULL AND b.n < ?2)
		SELECT m.user_id, m.id, m.conversation_id, m.parent_id, m.role, m.content, m.metadata, m.created_at
		FROM branch AS b JOIN chat_messages AS m ON m.user_id = ?1 AND m.id = b.id
		WHERE ?3 ORDER BY b.n LIMIT ?4`,
		id, user, 2*limit+1, ofThread("m", conversation), limit).Scan(ctx, &found)
	if err != nil {
		return nil, err
	}
	reverse(found)
	return messages(found)
}

// siblings fills in which messages stand beside each of a list: under the same
// parent, with the same role, oldest first.
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
	under := say("m.parent_id IN ("+s.dialect.elements+")", jsonText(slices.Compact(parents)))
	if root {
		under = say("(? OR m.parent_id IS NULL AND ?)", under, ofThread("m", conversation))
	}
	type place struct{ parent, role string }
	beside := map[place][]string{}
	err := s.send(ctx, db, say("SELECT m.id, m.parent_id, m.role FROM chat_messages AS m WHERE m.user_id = ? AND ? ORDER BY m.created_at, m.id", user, under).
		into(func(scan func(...any) error) error {
			var id string
			var at place
			err := scan(&id, nullText{&at.parent}, &at.role)
			beside[at] = append(beside[at], id)
			return err
		}))
	for i, m := range list {
		list[i].Siblings = beside[place{m.ParentID, string(m.Role)}]
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

func selectMessage(ctx context.Context, db bun.IDB, user, id string) (chat.Message, error) {
	var row rows.Message
	if err := db.NewSelect().Model(&row).Where("m.user_id = ? AND m.id = ?", user, id).Scan(ctx); err != nil {
		return chat.Message{}, one(err, noMessage())
	}
	return row.Domain()
}

func messages(found []rows.Message) ([]chat.Message, error) {
	list := make([]chat.Message, 0, len(found))
	for _, row := range found {
		m, err := row.Domain()
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

func reverse[T any](list []T) { slices.Reverse(list) }
