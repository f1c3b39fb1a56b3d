package sqlstore

import (
	"context"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"

	"parley/adapters/sqlstore/rows"
	"parley/domain/access"
)

// Usage returns what a user has used and set aside at a moment.
func (s *Store) Usage(ctx context.Context, user string, at time.Time) (u access.Usage, err error) {
	err = s.read(ctx, "usage", of(user), func(ctx context.Context, db bun.IDB) error {
		u, err = selectUsage(ctx, db, user, at)
		return err
	})
	return u, err
}

func selectUsage(ctx context.Context, db bun.IDB, user string, at time.Time) (u access.Usage, err error) {
	day, month := access.Day(at), access.Month(at)
	var found []rows.Usage
	if err := db.NewSelect().Model(&found).Where("user_id = ? AND period IN (?, ?)", user, day, month).Scan(ctx); err != nil {
		return u, err
	}
	for _, row := range found {
		if row.Period == day {
			u.Day = row.Domain()
		} else {
			u.Month = row.Domain()
		}
	}
	err = db.NewRaw("SELECT count(*) FROM chat_runs WHERE user_id = ? AND ended_at IS NULL", user).Scan(ctx, &u.Live)
	return u, err
}

// afford refuses a run that the user's budget does not cover, and says what is
// left behind it. The user's lock makes check and hold one step.
func (in *admission) afford(ctx context.Context) error {
	if in.Budget == (access.Budget{}) {
		return nil
	}
	u, err := selectUsage(ctx, in.tx, in.run.UserID, in.now)
	if err != nil {
		return err
	}
	if err := in.Budget.Admits(u, in.run.Hold, in.now); err != nil {
		return err
	}
	in.left = in.Budget.Left(u.Add(in.run.Hold), in.now)
	return nil
}

// setAside puts a run's hold on the account. Everybody takes the month's row
// before the day's, so that two who do so at once do not wait for each other.
func setAside(tx bun.IDB, user string, h access.Hold, at time.Time) schema.QueryAppender {
	return tx.NewRaw(`INSERT INTO chat_usage (user_id, period, held_tokens, held_micros) VALUES (?0, ?1, ?3, ?4), (?0, ?2, ?3, ?4)
		ON CONFLICT (user_id, period) DO UPDATE SET
			held_tokens = chat_usage.held_tokens + excluded.held_tokens,
			held_micros = chat_usage.held_micros + excluded.held_micros`,
		user, access.Month(at), access.Day(at), h.Tokens, h.Micros)
}

// account gives a hold back for what was used. The periods are those of the
// admission, where the hold stands.
func account(tx bun.IDB, user string, h access.Hold, tokens, micros int64, admitted time.Time) schema.QueryAppender {
	settle := func(period string) schema.QueryAppender {
		return tx.NewRaw(`UPDATE chat_usage SET tokens = tokens + ?, cost_micros = cost_micros + ?, replies = replies + 1,
			held_tokens = held_tokens - ?, held_micros = held_micros - ? WHERE user_id = ? AND period = ?`,
			tokens, micros, h.Tokens, h.Micros, user, period)
	}
	return sequence{settle(access.Month(admitted)), settle(access.Day(admitted))}
}
