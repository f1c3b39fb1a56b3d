package sqlstore

import (
	"context"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/rows"
	"parley/domain/access"
	"parley/domain/audit"
	"parley/ports"
)

var _ ports.Switches = (*Store)(nil)

// Disabled implements ports.Switches.
func (s *Store) Disabled(ctx context.Context) (list []access.Disabled, err error) {
	err = s.read(ctx, "disabled", allUsers, func(ctx context.Context, db bun.IDB) error {
		var found []rows.Switch
		if err := db.NewSelect().Model(&found).Order("provider").Scan(ctx); err != nil {
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

// Disable implements ports.Switches. The audit entry belongs to no user.
func (s *Store) Disable(ctx context.Context, d access.Disabled, entry audit.Entry) error {
	if err := access.ValidateSwitchReason(d.Reason); err != nil {
		return err
	}
	return s.write(ctx, "disable", allUsers, func(ctx context.Context, tx bun.IDB) error {
		_, err := tx.NewRaw(`INSERT INTO chat_switches (provider, reason, disabled_at) VALUES (?, ?, ?)
			ON CONFLICT (provider) DO UPDATE SET reason = excluded.reason`, d.Provider, d.Reason, rows.Time(d.Since)).Exec(ctx)
		if err != nil {
			return err
		}
		return insertEntries(ctx, tx, owned(entry, ""))
	})
}

// Enable implements ports.Switches. The audit entry belongs to no user.
func (s *Store) Enable(ctx context.Context, provider string, entry audit.Entry) (changed bool, err error) {
	err = s.write(ctx, "enable", allUsers, func(ctx context.Context, tx bun.IDB) error {
		changed = false
		done, err := tx.NewRaw("DELETE FROM chat_switches WHERE provider = ?", provider).Exec(ctx)
		if err != nil {
			return err
		}
		n, err := done.RowsAffected()
		if err != nil || n == 0 {
			return err
		}
		changed = true
		return insertEntries(ctx, tx, owned(entry, ""))
	})
	return changed, err
}
