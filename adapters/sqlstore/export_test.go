package sqlstore

import (
	"context"
	"io/fs"
)

// MigrateFrom migrates from other files than the embedded ones.
func (s *Store) MigrateFrom(ctx context.Context, files fs.FS) ([]string, error) {
	return s.migrate(ctx, files)
}
