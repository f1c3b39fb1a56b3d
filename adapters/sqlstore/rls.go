package sqlstore

import (
	"context"
	"fmt"
	"strings"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/pipeline"
	"parley/domain/audit"
	"parley/domain/fault"
)

// rlsScope says whose rows a transaction may see and change where row-level
// security is on, in addition to the user that every statement names. The zero
// value permits no rows.
type rlsScope struct {
	user  string
	users []string // of a group; none contains userSeparator
	all   bool
	lock  bool // lock the user's row, if it exists, when the transaction begins
}

// forUser is the scope of one user.
func forUser(user string) rlsScope { return rlsScope{user: user} }

// allUsers is the scope of what works on the rows of all users: claiming runs,
// sealing the audit log, expiry.
var allUsers = rlsScope{all: true}

// forEntries is the narrowest scope that permits all of the audit entries.
// Entries of unauthenticated callers have no user.
func forEntries(entries []audit.Entry) rlsScope {
	for _, e := range entries {
		if e.UserID == "" || e.UserID != entries[0].UserID {
			return allUsers
		}
	}
	return forUser(entries[0].UserID)
}

// statements set the scope for the rest of a transaction. It ends with the
// transaction, so that a pooler cannot hand it to another one.
func (c rlsScope) statements() []pipeline.Stmt {
	const one, two = "SELECT set_config(?, ?, true)", "SELECT set_config(?, ?, true), set_config(?, ?, true)"
	switch {
	case c.all:
		return []pipeline.Stmt{stmt(one, "parley.scope", "all")}
	case c.users != nil:
		return []pipeline.Stmt{stmt(two, "parley.scope", "user", "parley.user_ids", strings.Join(c.users, userSeparator))}
	}
	return []pipeline.Stmt{stmt(two, "parley.scope", "user", "parley.user_id", c.user)}
}

// userSeparator stands between the users of parley.user_ids.
const userSeparator = "\x1f"

// setAllUsers declares the scope of all users, in a transaction that began with
// another scope.
const setAllUsers = "SET LOCAL parley.scope = 'all'"

// withAllUsersScope returns statements about all users, for the transaction of
// one user, whose scope is set again afterwards.
func (s *Store) withAllUsersScope(statements ...pipeline.Stmt) []pipeline.Stmt {
	if !s.rls {
		return statements
	}
	return append(append([]pipeline.Stmt{stmt(setAllUsers)}, statements...), stmt("SET LOCAL parley.scope = 'user'"))
}

// rlsTables are the tables that have the policy.
var rlsTables = []string{
	"chat_users", "chat_conversations", "chat_messages", "chat_runs", "chat_run_output", "chat_usage", "chat_api_keys",
	"chat_files", "chat_message_files", "chat_feedback", "chat_shares",
	"chat_search_segments", "chat_search_buckets", "chat_search_late", "audit_logs",
	"chat_webhook_events",
}

// CheckRowSecurity enables row-level security, if the store was opened with it,
// and returns an error if it does not apply to the database role. It does not
// apply to superusers and roles with BYPASSRLS.
func (s *Store) CheckRowSecurity(ctx context.Context) error {
	if !s.rls {
		return nil
	}
	open, err := s.unprotectedTables(ctx)
	if err != nil || len(open) == 0 {
		return err
	}
	var bypass bool
	err = s.read(ctx, "check_row_security", allUsers, func(ctx context.Context, db bun.IDB) error {
		return db.QueryRowContext(ctx, "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user").Scan(&bypass)
	})
	if err != nil {
		return err
	}
	if !bypass {
		if err := s.enableRowSecurity(ctx); err != nil {
			return err
		}
		if open, err = s.unprotectedTables(ctx); err != nil || len(open) == 0 {
			return err
		}
	}
	return fmt.Errorf("DB_RLS: row-level security of %s does not apply to the database role: it is a superuser or has BYPASSRLS",
		strings.Join(open, ", "))
}

// unprotectedTables lists the tables whose policy does not apply to this role.
func (s *Store) unprotectedTables(ctx context.Context) (open []string, err error) {
	err = s.read(ctx, "check_row_security", allUsers, func(ctx context.Context, db bun.IDB) error {
		open = nil
		return db.NewRaw("SELECT t FROM unnest(ARRAY[?]) AS t WHERE NOT row_security_active(t)", bun.List(rlsTables)).Scan(ctx, &open)
	})
	return open, err
}

// enableRowSecurity enables the policies, for all sessions. It calls a function
// that runs with the rights of the tables' owner, so that the application's role
// may do it.
func (s *Store) enableRowSecurity(ctx context.Context) error {
	err := s.whileLocked(ctx, func() error {
		return s.write(ctx, "enable_row_security", allUsers, func(ctx context.Context, tx bun.IDB) error {
			_, err := tx.ExecContext(ctx, "SET LOCAL lock_timeout = '"+migrationLockTimeout+"'; SELECT chat_enable_row_security()")
			if sqlState(err) == "42501" {
				return fault.Wrap(redact(err), fault.Internal,
					"DB_RLS: this role may not enable row-level security; run deploy/postgres/roles.sql again as the owner of the tables")
			}
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("enable row-level security: %w", err)
	}
	return nil
}
