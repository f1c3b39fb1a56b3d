package sqlstore

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/pipeline"
	"parley/adapters/sqlstore/rows"
	"parley/ports"
)

// Expired lists conversations that have reached their own end, or whose last
// message was before a moment (zero: only the former), at most n.
func (s *Store) Expired(ctx context.Context, now, before time.Time, n int) (list []ports.Owned, err error) {
	err = s.read(ctx, "expired", allUsers, func(ctx context.Context, db bun.IDB) error {
		list = nil
		var found []rows.Conversation
		q := db.NewSelect().Model(&found).Column("user_id", "id").Where("expires_at < ?", rows.Time(now)).Limit(int64(n))
		if !before.IsZero() {
			q = q.WhereOr("last_message_at < ?", rows.Time(before))
		}
		if err := q.Scan(ctx); err != nil {
			return err
		}
		for _, c := range found {
			list = append(list, ports.Owned{UserID: c.UserID, ID: c.ID})
		}
		return nil
	})
	return list, err
}

// ExpireThreads deletes messages of default threads that are older than a
// moment, and the runs that answered them, at most n messages.
func (s *Store) ExpireThreads(ctx context.Context, before time.Time, n int) (gone int, err error) {
	err = s.write(ctx, "expire_threads", allUsers, func(ctx context.Context, tx bun.IDB) error {
		var old []rows.Message
		err := tx.NewRaw(`SELECT user_id, id FROM chat_messages WHERE conversation_id IS NULL AND created_at < ? LIMIT ?`,
			rows.Time(before), n).Scan(ctx, &old)
		if err != nil || len(old) == 0 {
			gone = 0
			return err
		}
		keys := make([][]string, len(old))
		for i, m := range old {
			keys[i] = []string{m.UserID, m.ID}
		}
		// What stands behind a message that goes begins its thread anew.
		for _, q := range []string{
			"UPDATE chat_messages SET parent_id = NULL WHERE (user_id, parent_id) IN (?)",
			"UPDATE chat_users SET leaf_id = NULL WHERE (user_id, leaf_id) IN (?)",
			"DELETE FROM chat_runs WHERE ended_at IS NOT NULL AND conversation_id IS NULL AND (user_id, parent_id) IN (?)",
			"DELETE FROM chat_messages WHERE (user_id, id) IN (?)",
		} {
			if _, err := tx.NewRaw(q, tuples(keys)).Exec(ctx); err != nil {
				return err
			}
		}
		users := map[string]bool{}
		var lost []pipeline.Stmt
		for _, m := range old {
			if !users[m.UserID] {
				users[m.UserID] = true
				lost = append(lost, deleteLostOutput(m.UserID))
			}
		}
		if err := s.pipe.Exec(ctx, tx, lost...); err != nil {
			return err
		}
		gone = len(old)
		return nil
	})
	return gone, err
}

// ExpireShares deletes shares that have expired.
func (s *Store) ExpireShares(ctx context.Context, now time.Time, n int) (gone int, err error) {
	err = s.write(ctx, "expire_shares", allUsers, func(ctx context.Context, tx bun.IDB) error {
		var due []rows.Share
		err := tx.NewSelect().Model(&due).Column("user_id", "id").Where("expires_at <= ?", rows.Time(now)).Limit(int64(n)).Scan(ctx)
		if gone = len(due); err != nil || gone == 0 {
			return err
		}
		keys := make([][]string, len(due))
		for i, share := range due {
			keys[i] = []string{share.UserID, share.ID}
		}
		_, err = tx.NewRaw("DELETE FROM chat_shares WHERE (user_id, id) IN (?)", tuples(keys)).Exec(ctx)
		return err
	})
	return gone, err
}

// ExpireErased deletes what is remembered of erased users and has expired.
func (s *Store) ExpireErased(ctx context.Context, now time.Time) (gone int, err error) {
	err = s.write(ctx, "expire_erased", allUsers, func(ctx context.Context, tx bun.IDB) error {
		gone = 0
		for _, table := range []string{"chat_erased_usage", "chat_erased_users"} {
			done, err := tx.NewRaw("DELETE FROM ? WHERE expires_at <= ?", bun.Ident(table), rows.Time(now)).Exec(ctx)
			if err != nil {
				return err
			}
			n, err := done.RowsAffected()
			if err != nil {
				return err
			}
			gone += int(n)
		}
		return nil
	})
	return gone, err
}

// tuples writes (a, b), (c, d); SQLite wants VALUES before such a list.
func tuples(keys [][]string) list {
	parts := make(list, len(keys))
	for i, k := range keys {
		parts[i] = bun.SafeQuery("(?, ?)", k[0], k[1])
	}
	if len(parts) > 0 {
		parts[0] = bun.SafeQuery("VALUES (?, ?)", keys[0][0], keys[0][1])
	}
	return parts
}
