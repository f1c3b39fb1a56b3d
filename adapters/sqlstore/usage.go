package sqlstore

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/pipeline"
	"parley/domain/access"
	"parley/domain/chat"
)

// Usage returns what a user has used and set aside at a moment.
func (s *Store) Usage(ctx context.Context, user string, at time.Time) (u access.Usage, err error) {
	err = s.readReplicated(ctx, "usage", forUser(user), func(ctx context.Context, db bun.IDB) error {
		u = access.Usage{}
		return s.pipe.Exec(ctx, db, s.usageOf(user, at, &u))
	})
	return u, err
}

// SetUserHash says by what erased users are remembered. Until it is called, what
// was used before an erasure does not count. Call it before the first Admit.
func (s *Store) SetUserHash(hash func(user string) string) { s.userHash = hash }

// usageOf adds to u what a user has used in a day and its month, and what live
// runs hold. It is one statement, so that a run that ends meanwhile counts as
// either. What the user had used before an erasure in the same day or month counts
// too.
func (s *Store) usageOf(user string, at time.Time, u *access.Usage) pipeline.Stmt {
	day, month := access.Day(at), access.Month(at)
	query := stmt(`SELECT '' AS day, hold_tokens, hold_micros, 0 FROM chat_runs WHERE user_id = ? AND ended_at IS NULL
		UNION ALL SELECT day, tokens, cost_micros, replies FROM chat_usage WHERE user_id = ? AND day BETWEEN ? AND ?`,
		user, user, month+"-01", month+"-31")
	if s.userHash != nil { // of erased users, the sum of a month is kept beside the day
		query = stmt("? UNION ALL SELECT 'erased ' || period, tokens, cost_micros, replies FROM chat_erased_usage WHERE user_hash = ? AND period IN (?, ?)",
			query, s.userHash(user), day, month)
	}
	return query.ScanRow(func(scan func(...any) error) error {
		var period string
		var spent access.Spent
		if err := scan(&period, &spent.Tokens, &spent.Micros, &spent.Replies); err != nil {
			return err
		}
		switch period {
		case "":
			*u = u.Add(access.Hold{Tokens: spent.Tokens, Micros: spent.Micros})
		case "erased " + month:
			u.Month = u.Month.Plus(spent)
		case "erased " + day:
			u.Day = u.Day.Plus(spent)
		case day:
			u.Day = u.Day.Plus(spent)
			u.Month = u.Month.Plus(spent)
		default:
			u.Month = u.Month.Plus(spent)
		}
		return nil
	})
}

// addUsage adds to what a user has used on a day.
func addUsage(user string, c chat.UsageChange) pipeline.Stmt {
	return stmt(`INSERT INTO chat_usage (user_id, day, tokens, cost_micros, replies) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (user_id, day) DO UPDATE SET
			tokens = chat_usage.tokens + excluded.tokens,
			cost_micros = chat_usage.cost_micros + excluded.cost_micros,
			replies = chat_usage.replies + excluded.replies`, user, c.Day, c.Tokens, c.Micros, c.Replies)
}
