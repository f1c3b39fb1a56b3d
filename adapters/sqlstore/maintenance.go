package sqlstore

import (
	"context"
	"time"

	"github.com/uptrace/bun"
)

// Maintenance is what makes a PostgreSQL server fail over days rather than at once, for
// metrics. All of it is 0 on SQLite.
type Maintenance struct {
	RetainedWAL       int64         // bytes of WAL that the replication slot furthest behind keeps on disk
	TransactionIDs    int64         // transactions since the oldest row that is not frozen; PostgreSQL refuses writes before 2^31
	OldestTransaction time.Duration // how long the oldest transaction has been open, of those that the role may see
}

// Maintenance reads the state of the server, and none of Parley's tables. It has a
// connection of its own.
func (s *Store) Maintenance(ctx context.Context) (m Maintenance, err error) {
	if s.dialect.name != "postgres" {
		return m, nil
	}
	ctx, cancel := s.begin(ctx, "maintenance")
	defer cancel()
	err = s.runOnce(ctx, s.monitor, false, allUsers, nil, func(ctx context.Context, db bun.IDB) error {
		var seconds float64
		err := db.QueryRowContext(ctx, `SELECT
			CASE WHEN pg_is_in_recovery() THEN 0 ELSE COALESCE((SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)) FROM pg_replication_slots), 0) END::bigint,
			(SELECT max(age(datfrozenxid)) FROM pg_database)::bigint,
			COALESCE((SELECT EXTRACT(EPOCH FROM clock_timestamp() - min(xact_start)) FROM pg_stat_activity
				WHERE datname = current_database() AND backend_type = 'client backend'), 0)::float8`).
			Scan(&m.RetainedWAL, &m.TransactionIDs, &seconds)
		m.OldestTransaction = time.Duration(seconds * float64(time.Second))
		return err
	})
	return m, translate(ctx, err)
}
