package sqlstore

import (
	"context"
	"slices"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/rows"
	"parley/domain/chat"
	"parley/ports"
)

// Messages lists a thread: a page of it as Page asks, oldest first.
func (s *Store) Messages(ctx context.Context, user, conversation string, page ports.Page) (list []chat.Message, more bool, err error) {
	err = s.read(ctx, "messages", of(user), func(ctx context.Context, db bun.IDB) error {
		if conversation != "" {
			if _, err := selectConversation(ctx, db, user, conversation); err != nil {
				return err
			}
		}
		var found []rows.Message
		q := db.NewSelect().Model(&found).Where("m.user_id = ? AND ?", user, ofThread("m", conversation))
		if err := paged(q, page, "m.created_at", "m.id").Scan(ctx); err != nil {
			return err
		}
		found, more = cut(found, page)
		reverse(found)
		if list, err = messages(found); err != nil {
			return err
		}
		return siblings(ctx, db, user, conversation, list)
	})
	if err != nil {
		return nil, false, err
	}
	return list, more, nil
}

// Branch lists the end of a branch, oldest first.
func (s *Store) Branch(ctx context.Context, user, conversation, leaf string, limit int) (list []chat.Message, more bool, err error) {
	limit = max(limit, 1)
	err = s.read(ctx, "branch", of(user), func(ctx context.Context, db bun.IDB) error {
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
		return siblings(ctx, db, user, conversation, list)
	})
	if err != nil {
		return nil, false, err
	}
	return list, more, nil
}

// Message returns one message.
func (s *Store) Message(ctx context.Context, user, id string) (m chat.Message, err error) {
	err = s.read(ctx, "message", of(user), func(ctx context.Context, db bun.IDB) error {
		m, err = selectMessage(ctx, db, user, id)
		return err
	})
	return m, err
}

// currentLeaf returns where a thread's current branch ends, "" when the thread
// is empty.
func (s *Store) currentLeaf(ctx context.Context, db bun.IDB, user, conversation string) (string, error) {
	if conversation != "" {
		row, err := selectConversation(ctx, db, user, conversation)
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
func siblings(ctx context.Context, db bun.IDB, user, conversation string, list []chat.Message) error {
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
	parents = slices.Compact(parents)
	q := db.NewSelect().Model((*rows.Message)(nil)).Column("m.id", "m.parent_id", "m.role").
		Where("m.user_id = ?", user).OrderExpr("m.created_at, m.id")
	switch {
	case root && len(parents) > 0:
		q = q.Where("(m.parent_id IN (?) OR m.parent_id IS NULL AND ?)", bun.List(parents), ofThread("m", conversation))
	case root:
		q = q.Where("m.parent_id IS NULL AND ?", ofThread("m", conversation))
	default:
		q = q.Where("m.parent_id IN (?)", bun.List(parents))
	}
	var found []rows.Message
	if err := q.Scan(ctx, &found); err != nil {
		return err
	}
	type place struct{ parent, role string }
	beside := map[place][]string{}
	for _, m := range found {
		at := place{m.ParentID, m.Role}
		beside[at] = append(beside[at], m.ID)
	}
	for i, m := range list {
		list[i].Siblings = beside[place{m.ParentID, string(m.Role)}]
	}
	return nil
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
