package sqlstore

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/rows"
	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
)

// Retitle replaces a conversation's automatic title from by to, unless the user
// has set one meanwhile, the same one included.
func (s *Store) Retitle(ctx context.Context, user, id, from, to string, entry audit.Entry) error {
	return s.write(ctx, "retitle", forUser(user), func(ctx context.Context, tx bun.IDB) error {
		done, err := tx.NewRaw("UPDATE chat_conversations SET title = ?, updated_at = ? WHERE user_id = ? AND id = ? AND title = ? AND NOT title_by_user",
			to, rows.Time(entry.CreatedAt), user, id, from).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return err
		}
		return insertEntries(ctx, tx, owned(entry, user))
	})
}

// AddUsage counts what was used for a user beside their replies, on the day of at.
func (s *Store) AddUsage(ctx context.Context, user string, tokens, micros int64, at time.Time) error {
	return s.write(ctx, "add_usage", forUser(user), func(ctx context.Context, tx bun.IDB) error {
		return s.pipe.Exec(ctx, tx, addUsage(user, chat.UsageChange{Day: access.Day(at), Tokens: tokens, Micros: micros}))
	})
}
