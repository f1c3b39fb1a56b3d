package sqlstore

import (
	"context"
	"fmt"
	"strings"

	"github.com/uptrace/bun"

	"parley/domain/audit"
	"parley/domain/fault"
)

// scope is whose rows a transaction sees where row-level security is on: the
// second fence, behind the user that every statement names. The zero value
// sees nothing.
type scope struct {
	user string
	all  bool
	lock bool // lock the user's row, if there is one, on the way in
}

// of is the scope of one user.
func of(user string) scope { return scope{user: user} }

// locking is the scope of one user whose row is locked from the beginning.
func locking(user string) scope { return scope{user: user, lock: true} }

// everyone is the scope of what looks after the runs, the audit and the
// expiry of all users.
var everyone = scope{all: true}

// ofEntries is the narrowest scope of audit entries. Those of strangers have
// no user.
func ofEntries(entries []audit.Entry) scope {
	for _, e := range entries {
		if e.UserID == "" || e.UserID != entries[0].UserID {
			return everyone
		}
	}
	return of(entries[0].UserID)
}

// statements declare the scope for the rest of a transaction. Whatever session
// a pool gives to the next one, it is forgotten there.
func (c scope) statements() []statement {
	set := func(name, value string) statement { return say("SELECT set_config(?, ?, true)", name, value) }
	if c.all {
		return []statement{set("parley.scope", "all")}
	}
	return []statement{set("parley.scope", "user"), set("parley.user_id", c.user)}
}

// everybodys declares the scope of everyone, for a transaction that somebody
// else has begun.
const everybodys = "SET LOCAL parley.scope = 'all'"

// beyond runs fn, which asks about all users, in the transaction of one.
func (s *Store) beyond(ctx context.Context, tx bun.IDB, fn func() error) error {
	if !s.fence {
		return fn()
	}
	if _, err := tx.ExecContext(ctx, everybodys); err != nil {
		return err
	}
	if err := fn(); err != nil {
		return err // the transaction ends
	}
	_, err := tx.ExecContext(ctx, "SET LOCAL parley.scope = 'user'")
	return err
}

// fencedTables are the tables that the policy stands on.
var fencedTables = []string{"chat_users", "chat_conversations", "chat_messages", "chat_runs", "chat_usage", "chat_api_keys", "audit_logs"}

// CheckRowSecurity enables row-level security, if the store was opened with
// it, and reports whether the database role is held to it. Superusers and roles
// with BYPASSRLS are not: serving as one would give no protection.
func (s *Store) CheckRowSecurity(ctx context.Context) error {
	if !s.fence {
		return nil
	}
	open, err := s.unprotectedTables(ctx)
	if err != nil || len(open) == 0 {
		return err
	}
	var bypass bool
	err = s.read(ctx, "check_row_security", everyone, func(ctx context.Context, db bun.IDB) error {
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
	return fmt.Errorf("DB_RLS: the database role is not held to row-level security of %s: it is a superuser or has BYPASSRLS",
		strings.Join(open, ", "))
}

// unprotectedTables lists the tables whose policy does not hold this role.
func (s *Store) unprotectedTables(ctx context.Context) (open []string, err error) {
	err = s.read(ctx, "check_row_security", everyone, func(ctx context.Context, db bun.IDB) error {
		open = nil
		return db.NewRaw("SELECT t FROM unnest(ARRAY[?]) AS t WHERE NOT row_security_active(t)", bun.List(fencedTables)).Scan(ctx, &open)
	})
	return open, err
}

// enableRowSecurity turns the policies on, for all sessions. The application's
// role can, by a function that has the rights of the tables' owner.
func (s *Store) enableRowSecurity(ctx context.Context) error {
	err := s.write(ctx, "enable_row_security", everyone, func(ctx context.Context, tx bun.IDB) error {
		_, err := tx.ExecContext(ctx, "SELECT chat_enable_row_security()")
		if sqlState(err) == "42501" {
			return fault.Wrap(redact(err), fault.Internal,
				"DB_RLS: this role may not enable row-level security; run deploy/postgres/roles.sql again as the owner of the tables")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("enable row-level security: %w", err)
	}
	return nil
}
