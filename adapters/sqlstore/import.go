package sqlstore

import (
	"context"
	"slices"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/rows"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/ports"
)

var _ ports.ImportStore = (*Store)(nil)

// Import stores a batch of what is imported in one transaction. It locks the users
// first, in the order in which groups of turns do.
func (s *Store) Import(ctx context.Context, request ports.ImportRequest, decide ports.ImportDecision) error {
	users := slices.Clone(request.Users)
	slices.Sort(users)
	users = slices.Compact(users)
	if request.DryRun {
		return s.read(ctx, "import_dry_run", allUsers, func(ctx context.Context, db bun.IDB) error {
			state, err := s.importState(ctx, db, users, "", request)
			if err == nil {
				decide(state)
			}
			return err
		})
	}
	var plan chat.ImportPlan
	err := s.write(ctx, "import", allUsers, func(ctx context.Context, tx bun.IDB) error {
		state, err := s.importState(ctx, tx, users, s.dialect.lockRow, request)
		if err != nil {
			return err
		}
		var entries []audit.Entry
		plan, entries = decide(state)
		return s.saveImport(ctx, tx, state, plan, entries)
	})
	for thread := range plan.Leaves {
		s.tails.forget(thread.UserID, thread.ID)
	}
	return err
}

// importState loads what a batch names. lock ends the statement that reads the users.
func (s *Store) importState(ctx context.Context, db bun.IDB, users []string, lock string, request ports.ImportRequest) (chat.ImportState, error) {
	state := chat.ImportState{
		Erased: map[string]bool{}, Leaves: map[chat.UserKey]string{}, Gone: map[chat.UserKey]bool{}, Messages: map[chat.UserKey]chat.Message{},
	}
	if len(users) == 0 {
		return state, nil
	}
	var known []rows.User
	err := db.NewRaw("SELECT user_id, leaf_id FROM chat_users WHERE user_id IN (?) ORDER BY user_id"+lock, bun.List(users)).Scan(ctx, &known)
	if err != nil {
		return state, err
	}
	for _, u := range known {
		state.Leaves[chat.UserKey{UserID: u.UserID}] = u.LeafID
	}
	if err := s.loadErased(ctx, db, users, state.Erased); err != nil {
		return state, err
	}
	if err := loadImportThreads(ctx, db, request.Conversations, state); err != nil {
		return state, err
	}
	return state, loadImportMessages(ctx, db, request.Messages, state)
}

// loadErased notes which of the users have been erased, or are being.
func (s *Store) loadErased(ctx context.Context, db bun.IDB, users []string, erased map[string]bool) error {
	var declared []rows.Erasure
	if err := db.NewRaw("SELECT user_id FROM audit_erasures WHERE user_id IN (?)", bun.List(users)).Scan(ctx, &declared); err != nil {
		return err
	}
	for _, e := range declared {
		erased[e.UserID] = true
	}
	if s.userHash == nil {
		return nil
	}
	byHash, hashes := make(map[string]string, len(users)), make([]string, 0, len(users))
	for _, user := range users {
		hash := s.userHash(user)
		byHash[hash], hashes = user, append(hashes, hash)
	}
	var remembered []rows.ErasedUser
	if err := db.NewRaw("SELECT user_hash FROM chat_erased_users WHERE user_hash IN (?)", bun.List(hashes)).Scan(ctx, &remembered); err != nil {
		return err
	}
	for _, e := range remembered {
		erased[byHash[e.UserHash]] = true
	}
	return nil
}

// loadImportThreads reads the ends of conversations, and which of those that are
// not there were deleted.
func loadImportThreads(ctx context.Context, db bun.IDB, keys []chat.UserKey, state chat.ImportState) error {
	if len(keys) == 0 {
		return nil
	}
	var found []rows.Conversation
	err := db.NewRaw("SELECT user_id, id, leaf_id FROM chat_conversations WHERE (user_id, id) IN (?)", keyTuples(keys)).Scan(ctx, &found)
	if err != nil {
		return err
	}
	for _, c := range found {
		state.Leaves[chat.UserKey{UserID: c.UserID, ID: c.ID}] = c.LeafID
	}
	absent := slices.DeleteFunc(slices.Clone(keys), func(key chat.UserKey) bool {
		_, exists := state.Leaves[key]
		return exists
	})
	if len(absent) == 0 {
		return nil
	}
	var ends []rows.Entry
	err = db.NewRaw("SELECT user_id, resource_id FROM audit_logs WHERE (user_id, resource_id) IN (?) AND action IN (?)",
		keyTuples(absent), bun.List([]string{audit.ActionConversationDeleted, audit.ActionConversationExpired})).Scan(ctx, &ends)
	for _, e := range ends {
		state.Gone[chat.UserKey{UserID: e.UserID, ID: e.ResourceID}] = true
	}
	return err
}

func loadImportMessages(ctx context.Context, db bun.IDB, keys []chat.UserKey, state chat.ImportState) error {
	if len(keys) == 0 {
		return nil
	}
	var found []rows.Message
	err := db.NewRaw("SELECT user_id, id, conversation_id, parent_id, role, content FROM chat_messages WHERE (user_id, id) IN (?)", keyTuples(keys)).Scan(ctx, &found)
	for _, row := range found {
		state.Messages[chat.UserKey{UserID: row.UserID, ID: row.ID}] = chat.Message{
			UserID: row.UserID, ID: row.ID, ConversationID: row.ConversationID, ParentID: row.ParentID, Role: chat.Role(row.Role), Content: row.Content,
		}
	}
	return err
}

// saveImport writes what a plan says. A thread's end that has moved since it was
// loaded stays: only that of a user who was new can have.
func (s *Store) saveImport(ctx context.Context, tx bun.IDB, state chat.ImportState, plan chat.ImportPlan, entries []audit.Entry) error {
	if len(plan.Conversations)+len(plan.Messages)+len(plan.Parents) == 0 {
		return nil
	}
	if err := insertImportUsers(ctx, tx, state, plan); err != nil {
		return err
	}
	if len(plan.Conversations) > 0 {
		list := make([]rows.Conversation, 0, len(plan.Conversations))
		for _, c := range plan.Conversations {
			list = append(list, rows.FromConversation(c))
		}
		if _, err := tx.NewInsert().Model(&list).On("CONFLICT (user_id, id) DO NOTHING").Exec(ctx); err != nil {
			return err
		}
	}
	if len(plan.Messages) > 0 {
		list := make([]rows.Message, 0, len(plan.Messages))
		for _, m := range plan.Messages {
			row, err := rows.FromMessage(m)
			if err != nil {
				return err
			}
			list = append(list, row)
		}
		if _, err := tx.NewInsert().Model(&list).On("CONFLICT (user_id, id) DO NOTHING").Exec(ctx); err != nil {
			return err
		}
	}
	for key, parent := range plan.Parents {
		if _, err := tx.NewRaw("UPDATE chat_messages SET parent_id = ? WHERE user_id = ? AND id = ?", parent, key.UserID, key.ID).Exec(ctx); err != nil {
			return err
		}
	}
	for thread, leaf := range plan.Leaves {
		update := tx.NewUpdate().Set("leaf_id = ?", leaf).Where("user_id = ?", thread.UserID)
		if thread.ID == "" {
			update = update.Table("chat_users")
		} else {
			update = update.Table("chat_conversations").Where("id = ?", thread.ID)
		}
		if was := state.Leaves[thread]; was == "" {
			update = update.Where("leaf_id IS NULL")
		} else {
			update = update.Where("leaf_id = ?", was)
		}
		if _, err := update.Exec(ctx); err != nil {
			return err
		}
	}
	if len(entries) == 0 {
		return nil
	}
	return insertEntries(ctx, tx, entries...)
}

// insertImportUsers makes the rows of users who have none. Parley knows them since
// the first thing that is imported of them.
func insertImportUsers(ctx context.Context, tx bun.IDB, state chat.ImportState, plan chat.ImportPlan) error {
	var list []rows.User
	add := func(user string, c rows.User) {
		if _, known := state.Leaves[chat.UserKey{UserID: user}]; !known {
			list = append(list, c)
		}
	}
	for _, c := range plan.Conversations {
		add(c.UserID, rows.User{UserID: c.UserID, CreatedAt: rows.Time(c.CreatedAt)})
	}
	for _, m := range plan.Messages {
		add(m.UserID, rows.User{UserID: m.UserID, CreatedAt: rows.Time(m.CreatedAt)})
	}
	slices.SortStableFunc(list, func(a, b rows.User) int {
		if a.UserID != b.UserID {
			if a.UserID < b.UserID {
				return -1
			}
			return 1
		}
		return a.CreatedAt.Compare(b.CreatedAt)
	})
	list = slices.CompactFunc(list, func(a, b rows.User) bool { return a.UserID == b.UserID })
	if len(list) == 0 {
		return nil
	}
	_, err := tx.NewInsert().Model(&list).On("CONFLICT (user_id) DO NOTHING").Exec(ctx)
	return err
}

// CountConversations returns how many of the conversations are stored.
func (s *Store) CountConversations(ctx context.Context, keys []chat.UserKey) (n int, err error) {
	return s.countKeys(ctx, "chat_conversations", keys)
}

// CountMessages returns how many of the messages are stored.
func (s *Store) CountMessages(ctx context.Context, keys []chat.UserKey) (n int, err error) {
	return s.countKeys(ctx, "chat_messages", keys)
}

func (s *Store) countKeys(ctx context.Context, table string, keys []chat.UserKey) (n int, err error) {
	if len(keys) == 0 {
		return 0, nil
	}
	err = s.read(ctx, "import_count", allUsers, func(ctx context.Context, db bun.IDB) error {
		return db.NewRaw("SELECT count(*) FROM ? WHERE (user_id, id) IN (?)", bun.Ident(table), keyTuples(keys)).Scan(ctx, &n)
	})
	return n, err
}

func keyTuples(keys []chat.UserKey) list {
	pairs := make([][]string, len(keys))
	for i, k := range keys {
		pairs[i] = []string{k.UserID, k.ID}
	}
	return tuples(pairs)
}
