package sqlstore

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/pipeline"
	"parley/adapters/sqlstore/rows"
	"parley/domain/access"
	"parley/domain/chat"
)

// Usage returns what a user has used and set aside at a moment.
func (s *Store) Usage(ctx context.Context, user string, at time.Time) (u access.Usage, err error) {
	err = s.read(ctx, "usage", forUser(user), func(ctx context.Context, db bun.IDB) error {
		u = access.Usage{}
		return s.pipe.Exec(ctx, db, s.usageOf(user, at, &u), countLive(user, &u))
	})
	return u, err
}

// SetUserHash says by what erased users are remembered. Until it is called, what
// was used before an erasure does not count. Call it before the first Admit.
func (s *Store) SetUserHash(hash func(user string) string) { s.userHash = hash }

// usageOf reads a user's day and month into u, which must be zero. What the user
// had used before an erasure in the same day or month counts too.
func (s *Store) usageOf(user string, at time.Time, u *access.Usage) pipeline.Stmt {
	day, month := access.Day(at), access.Month(at)
	query := stmt("SELECT "+usageColumns.List("")+" FROM chat_usage WHERE user_id = ? AND period IN (?, ?)", user, day, month)
	if s.userHash != nil {
		query = stmt("? UNION ALL SELECT period, tokens, cost_micros, 0, 0, replies FROM chat_erased_usage WHERE user_hash = ? AND period IN (?, ?)",
			query, s.userHash(user), day, month)
	}
	return query.ScanRow(func(scan func(...any) error) error {
		var row rows.Usage
		if err := scan(usageColumns.Dests(&row)...); err != nil {
			return err
		}
		if row.Period == day {
			u.Day = u.Day.Plus(row.Domain())
		} else {
			u.Month = u.Month.Plus(row.Domain())
		}
		return nil
	})
}

// countLive counts a user's replies that have not ended.
func countLive(user string, u *access.Usage) pipeline.Stmt {
	return stmt("SELECT count(*) FROM chat_runs WHERE user_id = ? AND ended_at IS NULL", user).
		ScanRow(func(scan func(...any) error) error { return scan(&u.Live) })
}

var usageColumns = rows.UsageColumns.Only("period", "tokens", "cost_micros", "held_tokens", "held_micros", "replies")

// reserveUsage adds a hold to the user's account.
func reserveUsage(user string, c chat.UsageChange) pipeline.Stmt {
	row := stmt("(?, ?, ?, ?)", user, c.Periods[0], c.Held.Tokens, c.Held.Micros)
	for _, period := range c.Periods[1:] {
		row = stmt("?, (?, ?, ?, ?)", row, user, period, c.Held.Tokens, c.Held.Micros)
	}
	return stmt(`INSERT INTO chat_usage (user_id, period, held_tokens, held_micros) VALUES ?
		ON CONFLICT (user_id, period) DO UPDATE SET
			held_tokens = chat_usage.held_tokens + excluded.held_tokens,
			held_micros = chat_usage.held_micros + excluded.held_micros`, row)
}

// settleUsage replaces a hold with what was used.
func settleUsage(user string, c chat.UsageChange) (statements []pipeline.Stmt) {
	for _, period := range c.Periods {
		statements = append(statements, stmt(`UPDATE chat_usage SET tokens = tokens + ?, cost_micros = cost_micros + ?, replies = replies + ?,
			held_tokens = held_tokens + ?, held_micros = held_micros + ? WHERE user_id = ? AND period = ?`,
			c.Tokens, c.Micros, c.Replies, c.Held.Tokens, c.Held.Micros, user, period))
	}
	return statements
}
