package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/rows"
	"parley/domain/audit"
	"parley/domain/fault"
)

// StopRuns asks a user's live runs to stop and ends those that wait.
func (s *Store) StopRuns(ctx context.Context, user string, at time.Time) (live int, err error) {
	err = s.write(ctx, "stop_runs", forUser(user), func(ctx context.Context, tx bun.IDB) error {
		err := batch(ctx, tx, s.db.QueryGen(),
			tx.NewRaw("UPDATE chat_runs SET stop_requested = TRUE WHERE user_id = ? AND state = 'running' AND NOT stop_requested", user),
			tx.NewRaw("UPDATE chat_runs SET state = 'stopped', ended_at = ? WHERE user_id = ? AND state = 'queued'", rows.Time(at), user))
		if err != nil {
			return err
		}
		return tx.NewRaw("SELECT count(*) FROM chat_runs WHERE user_id = ? AND state = 'running'", user).Scan(ctx, &live)
	})
	return live, err
}

// DeclareErasure destroys the user's key and says so in the chain.
func (s *Store) DeclareErasure(ctx context.Context, user string, at time.Time, link func(last, erased audit.Link) audit.Link) (known bool, err error) {
	if user == "" {
		return false, fault.New(fault.Invalid, "A user id is required")
	}
	err = s.write(ctx, "declare_erasure", forUser(user), func(ctx context.Context, tx bun.IDB) error {
		if _, err := s.lockChain(ctx, tx, true); err != nil {
			return err
		}
		var declared bool
		var subject sql.NullString
		err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM audit_erasures WHERE user_id = ?0),
			EXISTS (SELECT 1 FROM chat_users WHERE user_id = ?0) OR EXISTS (SELECT 1 FROM audit_logs WHERE user_id = ?0),
			(SELECT subject FROM audit_keys WHERE user_id = ?0)`, user).Scan(&declared, &known, &subject)
		if err != nil || declared {
			known = known || declared
			return err
		}
		if known = known || subject.Valid; !known {
			return nil
		}
		if !subject.Valid { // nothing of the user is in the chain yet
			subject.String = audit.NewSubject().ID
		}
		last, err := s.lastLink(ctx, tx)
		if err != nil {
			return err
		}
		erased := link(last, audit.Link{Subject: subject.String, Kind: audit.Erased, SealedAt: at})
		return lastBatch(ctx, tx, s.db.QueryGen(),
			tx.NewInsert().Model(&rows.Erasure{UserID: user, Subject: subject.String, DeclaredAt: rows.Time(at)}),
			tx.NewRaw("DELETE FROM audit_keys WHERE user_id = ?", user),
			insertLinks(tx, []audit.Link{erased}))
	})
	return known, err
}

// erasable are the tables of which a user may have many rows, in the order in
// which references allow to empty them. The other tables of a user refer to
// chat_users, and their rows go with the user's.
var erasable = []string{"chat_messages", "chat_runs", "chat_conversations"}

// EraseSome deletes at most n rows of each table, and at last the user. It
// deletes nothing of a user whose erasure is not declared, or no longer: who
// comes back after an erasure is somebody new.
func (s *Store) EraseSome(ctx context.Context, user string, n int) (more bool, err error) {
	err = s.write(ctx, "erase", forUser(user), func(ctx context.Context, tx bun.IDB) error {
		more = false
		if declared, err := s.lockDeclaration(ctx, tx, user); err != nil || !declared {
			return err
		}
		for _, table := range erasable {
			done, err := tx.NewRaw("DELETE FROM ?0 WHERE user_id = ?1 AND id IN (SELECT id FROM ?0 WHERE user_id = ?1 LIMIT ?2)",
				bun.Ident(table), user, n).Exec(ctx)
			if err != nil {
				return err
			}
			if gone, err := done.RowsAffected(); err != nil || gone >= int64(n) {
				more = true
				return err
			}
		}
		// A user who goes on writing must not be able to stay.
		gone, err := s.eraseEntries(ctx, tx, user, n)
		if more = gone >= int64(n); err != nil || more {
			return err
		}
		return s.eraseUser(ctx, tx, user)
	})
	return more, err
}

// lockDeclaration keeps a second eraser of the same user waiting.
func (s *Store) lockDeclaration(ctx context.Context, tx bun.IDB, user string) (declared bool, err error) {
	var found string
	err = tx.QueryRowContext(ctx, "SELECT user_id FROM audit_erasures WHERE user_id = ?"+s.dialect.lockRow, user).Scan(&found)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// eraseEntries deletes entries of the log. On Postgres the application's role
// may not, so a function does that may.
func (s *Store) eraseEntries(ctx context.Context, tx bun.IDB, user string, n int) (gone int64, err error) {
	if s.dialect.name == "postgres" {
		err = tx.QueryRowContext(ctx, "SELECT audit_erase(?, ?)", user, n).Scan(&gone)
		return gone, err
	}
	done, err := tx.NewRaw("DELETE FROM audit_logs WHERE user_id = ?0 AND id IN (SELECT id FROM audit_logs WHERE user_id = ?0 LIMIT ?1)", user, n).Exec(ctx)
	if err != nil {
		return 0, err
	}
	return done.RowsAffected()
}

// eraseUser deletes what has come since the last batch, the user and the
// declaration. A new request of the user waits and then makes a new user; an
// entry that commits from now on is the new user's.
func (s *Store) eraseUser(ctx context.Context, tx bun.IDB, user string) error {
	var found string
	lock := ""
	if s.dialect.name == "postgres" {
		lock = " FOR UPDATE"
	}
	err := tx.QueryRowContext(ctx, "SELECT user_id FROM chat_users WHERE user_id = ?"+lock, user).Scan(&found)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if _, err := s.eraseEntries(ctx, tx, user, 1<<31); err != nil {
		return err
	}
	return lastBatch(ctx, tx, s.db.QueryGen(),
		tx.NewRaw("DELETE FROM chat_users WHERE user_id = ?", user),
		tx.NewRaw("DELETE FROM audit_erasures WHERE user_id = ?", user))
}

// Erasures lists the users whose erasure has been going on for longer than age.
func (s *Store) Erasures(ctx context.Context, age time.Duration) (users []string, err error) {
	err = s.read(ctx, "erasures", allUsers, func(ctx context.Context, db bun.IDB) error {
		users = nil
		return db.NewRaw("SELECT e.user_id FROM audit_erasures AS e WHERE "+s.since("e.declared_at")+" > ? ORDER BY e.declared_at",
			age.Seconds()).Scan(ctx, &users)
	})
	return users, err
}
