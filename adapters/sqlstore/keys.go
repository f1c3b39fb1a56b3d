package sqlstore

import (
	"context"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/rows"
	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/fault"
)

// CreateKey stores an API key.
func (s *Store) CreateKey(ctx context.Context, k access.Key, entry audit.Entry) error {
	if k.UserID == "" {
		return fault.New(fault.Unauthenticated, "Authentication required")
	}
	return s.write(ctx, "create_key", forUser(k.UserID), func(ctx context.Context, tx bun.IDB) error {
		if err := s.lockUser(ctx, tx, k.UserID, k.CreatedAt); err != nil {
			return err
		}
		row := rows.FromKey(k)
		if _, err := tx.NewInsert().Model(&row).Exec(ctx); err != nil {
			return err
		}
		return insertEntries(ctx, tx, owned(entry, k.UserID))
	})
}

// Keys lists a user's API keys, oldest first.
func (s *Store) Keys(ctx context.Context, user string) (list []access.Key, err error) {
	err = s.read(ctx, "keys", forUser(user), func(ctx context.Context, db bun.IDB) error {
		var found []rows.Key
		if err := db.NewSelect().Model(&found).Where("user_id = ?", user).Order("created_at", "id").Scan(ctx); err != nil {
			return err
		}
		list = nil
		for _, row := range found {
			list = append(list, row.Domain())
		}
		return nil
	})
	return list, err
}

// Key returns an API key, revoked or not.
func (s *Store) Key(ctx context.Context, user, id string) (key access.Key, err error) {
	err = s.read(ctx, "key", forUser(user), func(ctx context.Context, db bun.IDB) error {
		var row rows.Key
		err := db.NewSelect().Model(&row).Where("user_id = ? AND id = ?", user, id).Scan(ctx)
		key = row.Domain()
		return mapNoRows(err, fault.New(fault.NotFound, "API key not found"))
	})
	return key, err
}

// RevokeKey revokes an API key. Revoking it again changes nothing.
func (s *Store) RevokeKey(ctx context.Context, user, id string, at time.Time, entry audit.Entry) error {
	return s.write(ctx, "revoke_key", forUser(user), func(ctx context.Context, tx bun.IDB) error {
		done, err := tx.NewRaw("UPDATE chat_api_keys SET revoked_at = COALESCE(revoked_at, ?) WHERE user_id = ? AND id = ?",
			rows.Time(at), user, id).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return fault.New(fault.NotFound, "API key not found")
		}
		return insertEntries(ctx, tx, owned(entry, user))
	})
}

// RevokeSessions ends every session and every API key of a user that was issued
// until at, and the sessions in the app's database whose digests are given.
func (s *Store) RevokeSessions(ctx context.Context, user string, at time.Time, sessions []string, entry audit.Entry) (r access.Revocation, err error) {
	err = s.write(ctx, "revoke_sessions", forUser(user), func(ctx context.Context, tx bun.IDB) error {
		if err := s.lockUser(ctx, tx, user, at); err != nil {
			return err
		}
		r = access.Revocation{UserID: user, At: rows.Time(at), Sessions: sessions}
		err := tx.NewRaw(`UPDATE chat_users SET session_version = session_version + 1, revoked_at = ?, revoked_sessions = ?
			WHERE user_id = ? RETURNING session_version`, r.At, strings.Join(sessions, " "), user).Scan(ctx, &r.Version)
		if err != nil {
			return err
		}
		if _, err := tx.NewRaw("UPDATE chat_api_keys SET revoked_at = ? WHERE user_id = ? AND revoked_at IS NULL AND created_at <= ?",
			r.At, user, r.At).Exec(ctx); err != nil {
			return err
		}
		return insertEntries(ctx, tx, owned(entry, user))
	})
	return r, err
}

// Revocations lists the revocations since a time, those of erased users included.
func (s *Store) Revocations(ctx context.Context, since time.Time) (list []access.Revocation, err error) {
	err = s.read(ctx, "revocations", allUsers, func(ctx context.Context, db bun.IDB) error {
		list = nil
		var users []rows.User
		err := db.NewSelect().Model(&users).Column("user_id", "session_version", "revoked_at", "revoked_sessions").
			Where("revoked_at > ?", rows.Time(since)).Scan(ctx)
		if err != nil {
			return err
		}
		for _, u := range users {
			list = append(list, access.Revocation{UserID: u.UserID, Version: u.SessionVersion, At: rows.Time(u.RevokedAt),
				Sessions: strings.Fields(u.RevokedSessions)})
		}
		// Read after the users, so that a user who is erased in between is found.
		var erased []rows.ErasedUser
		err = db.NewSelect().Model(&erased).Column("user_hash", "erased_at", "sessions").
			Where("expires_at > ?", rows.Time(since.Add(access.LongestSession))).Scan(ctx)
		for _, e := range erased {
			list = append(list, access.Revocation{UserHash: e.UserHash, At: rows.Time(e.ErasedAt), Sessions: strings.Fields(e.Sessions)})
		}
		return err
	})
	return list, err
}
