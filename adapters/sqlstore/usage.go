package sqlstore

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/rows"
	"parley/domain/access"
)

// Usage returns what a user has used and set aside at a moment.
func (s *Store) Usage(ctx context.Context, user string, at time.Time) (u access.Usage, err error) {
	err = s.read(ctx, "usage", forUser(user), func(ctx context.Context, db bun.IDB) error {
		u = access.Usage{}
		return s.send(ctx, db, s.spent(user, at, &u), live(user, &u))
	})
	return u, err
}

// SetUserHash says by what erased users are remembered. Until it is called, what
// was used before an erasure does not count. Call it before the first Admit.
func (s *Store) SetUserHash(hash func(user string) string) { s.userHash = hash }

// spent reads a user's day and month into u, which must be zero. What the user
// had used before an erasure in the same day or month counts too.
func (s *Store) spent(user string, at time.Time, u *access.Usage) statement {
	day, month := access.Day(at), access.Month(at)
	query := say("SELECT period, tokens, cost_micros, held_tokens, held_micros, replies FROM chat_usage WHERE user_id = ? AND period IN (?, ?)",
		user, day, month)
	if s.userHash != nil {
		query = say("? UNION ALL SELECT period, tokens, cost_micros, 0, 0, replies FROM chat_erased_usage WHERE user_hash = ? AND period IN (?, ?)",
			query, s.userHash(user), day, month)
	}
	return query.into(func(scan func(...any) error) error {
		var row rows.Usage
		if err := scan(&row.Period, &row.Tokens, &row.CostMicros, &row.HeldTokens, &row.HeldMicros, &row.Replies); err != nil {
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

// live counts a user's replies that have not ended.
func live(user string, u *access.Usage) statement {
	return say("SELECT count(*) FROM chat_runs WHERE user_id = ? AND ended_at IS NULL", user).
		into(func(scan func(...any) error) error { return scan(&u.Live) })
}

// afford refuses a run that the user's budget does not cover, and says what is
// left behind it. The user's lock makes check and hold one step.
func (in *admission) afford(context.Context) error {
	if in.Budget == (access.Budget{}) {
		return nil
	}
	if err := in.Budget.Admits(in.usage, in.run.Hold, in.now); err != nil {
		return err
	}
	in.left = in.Budget.Left(in.usage.Add(in.run.Hold), in.now)
	return nil
}

// setAside puts a run's hold on the account. Everybody takes the month's row
// before the day's, so that two who do so at once do not wait for each other.
func setAside(user string, h access.Hold, at time.Time) statement {
	return say(`INSERT INTO chat_usage (user_id, period, held_tokens, held_micros) VALUES (?, ?, ?, ?), (?, ?, ?, ?)
		ON CONFLICT (user_id, period) DO UPDATE SET
			held_tokens = chat_usage.held_tokens + excluded.held_tokens,
			held_micros = chat_usage.held_micros + excluded.held_micros`,
		user, access.Month(at), h.Tokens, h.Micros, user, access.Day(at), h.Tokens, h.Micros)
}

// account gives a hold back for what was used. The periods are those of the
// admission, where the hold stands.
func account(user string, h access.Hold, tokens, micros int64, admitted time.Time) []statement {
	settle := func(period string) statement {
		return say(`UPDATE chat_usage SET tokens = tokens + ?, cost_micros = cost_micros + ?, replies = replies + 1,
			held_tokens = held_tokens - ?, held_micros = held_micros - ? WHERE user_id = ? AND period = ?`,
			tokens, micros, h.Tokens, h.Micros, user, period)
	}
	return []statement{settle(access.Month(admitted)), settle(access.Day(admitted))}
}
