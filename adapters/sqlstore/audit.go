package sqlstore

import (
	"context"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/rows"
	"parley/domain/audit"
)

// Record writes audit entries that belong to no other transaction. An entry whose
// id exists is not changed.
func (s *Store) Record(ctx context.Context, entries ...audit.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	return s.write(ctx, "record", forEntries(entries), func(ctx context.Context, tx bun.IDB) error {
		return insertEntries(ctx, tx, entries...)
	})
}

func insertEntries(ctx context.Context, tx bun.IDB, entries ...audit.Entry) error {
	list := make([]rows.Entry, 0, len(entries))
	for _, e := range entries {
		row, err := rows.FromEntry(e)
		if err != nil {
			return err
		}
		list = append(list, row)
	}
	_, err := tx.NewInsert().Model(&list).On("CONFLICT (user_id, id) DO NOTHING").Exec(ctx)
	return err
}
