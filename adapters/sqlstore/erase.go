package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"

	"parley/adapters/sqlstore/pipeline"
	"parley/adapters/sqlstore/rows"
	"parley/adapters/sqlstore/textsearch"
	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/fault"
	"parley/ports"
)

// StopRuns asks a user's running replies to stop and ends those that wait, which
// gives back what they hold of the user's budget. It returns how many are running.
func (s *Store) StopRuns(ctx context.Context, user string, at time.Time) (running int, err error) {
	err = s.write(ctx, "stop_runs", forStop(user), func(ctx context.Context, tx bun.IDB) error {
		running, err = s.stopRuns(ctx, tx, user, stmt("TRUE"), at)
		return err
	})
	return running, err
}

// DeclareErasure ends the user's credentials, destroys the user's key and says
// so in the chain, in one transaction.
func (s *Store) DeclareErasure(ctx context.Context, e ports.Erasure, link func(last, erased audit.Link) audit.Link) (known bool, err error) {
	if e.UserID == "" || e.UserHash == "" {
		return false, fault.New(fault.Invalid, "A user id is required")
	}
	err = s.write(ctx, "declare_erasure", forUser(e.UserID), func(ctx context.Context, tx bun.IDB) error {
		if _, err := s.lockChain(ctx, tx, true); err != nil {
			return err
		}
		var declared bool
		var subject sql.NullString
		err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM audit_erasures WHERE user_id = ?0),
			EXISTS (SELECT 1 FROM chat_users WHERE user_id = ?0) OR EXISTS (SELECT 1 FROM audit_logs WHERE user_id = ?0),
			(SELECT subject FROM audit_keys WHERE user_id = ?0)`, e.UserID).Scan(&declared, &known, &subject)
		if err != nil {
			return err
		}
		known = known || declared || subject.Valid
		statements := []schema.QueryAppender{insertErasedUser(e)}
		if known && !declared {
			if !subject.Valid { // nothing of the user is in the chain yet
				subject.String = audit.NewSubject().ID
			}
			last, err := s.lastLink(ctx, tx)
			if err != nil {
				return err
			}
			erased := link(last, audit.Link{Subject: subject.String, Kind: audit.Erased, SealedAt: e.At})
			statements = append(statements, s.declare(tx, e, erased)...)
		}
		return s.pipe.ExecTextAndCommit(ctx, tx, statements...)
	})
	return known, err
}

// declare is the declaration, its link and the end of the user's key. On
// Postgres the application's role may do none of these, but call a function
// that does all.
func (s *Store) declare(tx bun.IDB, e ports.Erasure, link audit.Link) []schema.QueryAppender {
	if s.dialect.name == "postgres" {
		return []schema.QueryAppender{tx.NewRaw("SELECT audit_declare_erasure(?, ?, ?, ?, ?, ?)",
			e.UserID, link.Subject, link.Seq, link.Prev[:], link.Hash[:], link.SealedAt)}
	}
	return []schema.QueryAppender{
		tx.NewInsert().Model(&rows.Erasure{UserID: e.UserID, Subject: link.Subject, DeclaredAt: rows.Time(e.At)}),
		insertLinks(tx, []audit.Link{link}),
		tx.NewRaw("DELETE FROM audit_keys WHERE user_id = ?", e.UserID),
	}
}

// insertErasedUser remembers that the credentials of a user have ended, without
// the user's id. An erasure that comes again moves the end.
func insertErasedUser(e ports.Erasure) pipeline.Stmt {
	return stmt(`INSERT INTO chat_erased_users (user_hash, erased_at, sessions, expires_at) VALUES (?, ?, ?, ?)
		ON CONFLICT (user_hash) DO UPDATE SET erased_at = excluded.erased_at, sessions = excluded.sessions, expires_at = excluded.expires_at
		WHERE chat_erased_users.erased_at <= excluded.erased_at`,
		e.UserHash, rows.Time(e.At), strings.Join(e.Sessions, " "), rows.Time(e.At.Add(access.LongestSession)))
}

// erasable are the tables of which a user may have many rows, in the order in
// which references allow to empty them. The other tables of a user refer to
// chat_users, and their rows are deleted with the user's. Shares come first: what
// is being erased is not shown any more.
var erasable = []string{"chat_shares", "chat_messages", "chat_files", "chat_runs", "chat_conversations", "chat_webhook_events"}

// EraseSome deletes at most n rows of each table, and at last the user. It
// deletes nothing of a user whose erasure is not declared, or no longer: a user
// who comes back after an erasure is a new user.
func (s *Store) EraseSome(ctx context.Context, e ports.Erasure, n int) (more bool, err error) {
	err = s.write(ctx, "erase", forUser(e.UserID), func(ctx context.Context, tx bun.IDB) error {
		more = false
		if declared, err := s.lockErasure(ctx, tx, e.UserID); err != nil || !declared {
			return err
		}
		if err := s.pipe.Exec(ctx, tx, chargeHolds(e)...); err != nil {
			return err
		}
		for _, table := range erasable {
			done, err := tx.NewRaw("DELETE FROM ?0 WHERE user_id = ?1 AND id IN (SELECT id FROM ?0 WHERE user_id = ?1 LIMIT ?2)",
				bun.Ident(table), e.UserID, n).Exec(ctx)
			if err != nil {
				return err
			}
			if gone, err := done.RowsAffected(); err != nil || gone >= int64(n) {
				more = true
				return err
			}
		}
		if err := s.pipe.Exec(ctx, tx, deleteLostOutput(e.UserID)); err != nil {
			return err
		}
		// The words of messages leave the search index with them; a segment has a
		// thousand rows.
		done, err := tx.NewRaw("DELETE FROM chat_search_segments WHERE user_id = ?0 AND segment IN (SELECT segment FROM chat_search_segments WHERE user_id = ?0 LIMIT ?1)",
			e.UserID, max(n/textsearch.Buckets, 1)).Exec(ctx)
		if err != nil {
			return err
		}
		if segments, err := done.RowsAffected(); err != nil || segments >= int64(max(n/textsearch.Buckets, 1)) {
			more = true
			return err
		}
		// A user who goes on writing must not be able to stay.
		gone, err := s.eraseEntries(ctx, tx, e.UserID, n)
		if more = gone >= int64(n); err != nil || more {
			return err
		}
		return s.eraseUser(ctx, tx, e)
	})
	return more, err
}

// erasureLock is the class of the advisory locks of erasures.
const erasureLock = 0x65726173

// lockErasure makes a second eraser of the same user wait, and reports whether
// there is anything to do.
func (s *Store) lockErasure(ctx context.Context, tx bun.IDB, user string) (declared bool, err error) {
	if s.dialect.name == "postgres" {
		if _, err := tx.NewRaw("SELECT pg_advisory_xact_lock(?, hashtext(?))", erasureLock, user).Exec(ctx); err != nil {
			return false, err
		}
	}
	err = tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM audit_erasures WHERE user_id = ?)", user).Scan(&declared)
	return declared, err
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
func (s *Store) eraseUser(ctx context.Context, tx bun.IDB, e ports.Erasure) error {
	var found string
	lock := ""
	if s.dialect.name == "postgres" {
		lock = " FOR UPDATE"
	}
	err := tx.QueryRowContext(ctx, "SELECT user_id FROM chat_users WHERE user_id = ?"+lock, e.UserID).Scan(&found)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if err := s.pipe.Exec(ctx, tx, chargeHolds(e)...); err != nil { // of runs that have come since the last batch
		return err
	}
	day, month := access.Day(e.At), access.Month(e.At)
	statements := []schema.QueryAppender{
		keepUsage(e, month, month+"-01", month+"-31", access.NextMonth(e.At)),
		keepUsage(e, day, day, day, access.NextDay(e.At)),
		tx.NewRaw("DELETE FROM chat_users WHERE user_id = ?", e.UserID),
		tx.NewRaw("DELETE FROM chat_webhook_events WHERE user_id = ?", e.UserID), // has no reference to the user
		deleteLostOutput(e.UserID),
	}
	if s.dialect.name == "postgres" {
		statements = append(statements, tx.NewRaw("SELECT audit_end_erasure(?)", e.UserID))
	} else {
		statements = append(statements, tx.NewRaw("DELETE FROM audit_logs WHERE user_id = ?", e.UserID),
			tx.NewRaw("DELETE FROM audit_erasures WHERE user_id = ?", e.UserID))
	}
	return s.pipe.ExecTextAndCommit(ctx, tx, statements...)
}

// keepUsage adds what a user has used on the days from one to another to what is
// remembered of erased users, as one period.
func keepUsage(e ports.Erasure, period, from, to string, end time.Time) pipeline.Stmt {
	return stmt(`INSERT INTO chat_erased_usage (user_hash, period, tokens, cost_micros, replies, expires_at)
		SELECT ?, ?, sum(tokens), sum(cost_micros), sum(replies), ? FROM chat_usage WHERE user_id = ? AND day BETWEEN ? AND ? HAVING count(*) > 0
		ON CONFLICT (user_hash, period) DO UPDATE SET
			tokens = chat_erased_usage.tokens + excluded.tokens,
			cost_micros = chat_erased_usage.cost_micros + excluded.cost_micros,
			replies = chat_erased_usage.replies + excluded.replies`,
		e.UserHash, period, rows.Time(end), e.UserID, from, to)
}

// chargeHolds counts as used what the live runs of a user hold, before they are
// deleted: their replies may still cost that much.
func chargeHolds(e ports.Erasure) []pipeline.Stmt {
	return []pipeline.Stmt{
		stmt(`INSERT INTO chat_usage (user_id, day, tokens, cost_micros)
			SELECT ?, ?, sum(hold_tokens), sum(hold_micros) FROM chat_runs WHERE user_id = ? AND ended_at IS NULL HAVING sum(hold_tokens) + sum(hold_micros) > 0
			ON CONFLICT (user_id, day) DO UPDATE SET
				tokens = chat_usage.tokens + excluded.tokens, cost_micros = chat_usage.cost_micros + excluded.cost_micros`,
			e.UserID, access.Day(e.At), e.UserID),
		stmt("UPDATE chat_runs SET hold_tokens = 0, hold_micros = 0 WHERE user_id = ? AND ended_at IS NULL", e.UserID),
	}
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
