package sqlstore

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/rows"
	"parley/domain/access"
	"parley/domain/audit"
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

// AddUsage counts what was used for a user beside their replies, in the day and
// the month of at.
func (s *Store) AddUsage(ctx context.Context, user string, tokens, micros int64, at time.Time) error {
	return s.write(ctx, "add_usage", forUser(user), func(ctx context.Context, tx bun.IDB) error {
		// The month before the day, as everywhere: two that wait for each other's
		// row would be a deadlock.
		_, err := tx.NewRaw(`INSERT INTO chat_usage (user_id, period, tokens, cost_micros) VALUES (?, ?, ?, ?), (?, ?, ?, ?)
			ON CONFLICT (user_id, period) DO UPDATE SET
				tokens = chat_usage.tokens + excluded.tokens, cost_micros = chat_usage.cost_micros + excluded.cost_micros`,
			user, access.Month(at), tokens, micros, user, access.Day(at), tokens, micros).Exec(ctx)
		return err
	})
}
