package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"
)

// Workload is what waits in the database, for metrics.
type Workload struct {
	Queued       int           // replies that no instance makes at the moment
	OldestQueued time.Duration // how long the oldest of those that could be started has waited
	LockWaits    int           // sessions whose statement takes longer than shortestLockWait and waits for a lock; 0 on SQLite
	OldestLock   time.Duration // how long the first of these statements takes
}

// shortestLockWait is how long a session must wait for a lock to be counted.
const shortestLockWait = 500 * time.Millisecond

// Locks counts the sessions that wait for a lock, and reads no table, so that it
// answers while tables are locked. Queue reads the queue of replies.
//
// Both have a connection of their own, because a lock also uses up the pool.
func (s *Store) Locks(ctx context.Context) (w Workload, err error) {
	if s.dialect.name != "postgres" {
		return w, nil
	}
	ctx, cancel := s.begin(ctx, "locks")
	defer cancel()
	err = s.runOnce(ctx, s.monitor, false, allUsers, nil, func(ctx context.Context, db bun.IDB) error {
		var seconds float64
		// Of sessions of another role the start is not shown, and they are not counted.
		err := db.QueryRowContext(ctx, `SELECT count(*), COALESCE(EXTRACT(EPOCH FROM clock_timestamp() - min(query_start)), 0)::float8
			FROM pg_stat_activity WHERE datname = current_database() AND query_start < ?
			AND pid IN (SELECT pid FROM pg_locks WHERE NOT granted)`,
			s.dialect.clock(-shortestLockWait)).Scan(&w.LockWaits, &seconds)
		w.OldestLock = time.Duration(seconds * float64(time.Second))
		return err
	})
	return w, translate(ctx, err)
}

// Queue reads how many replies wait to be made: queued ones, and those whose
// instance has stopped.
func (s *Store) Queue(ctx context.Context) (w Workload, err error) {
	ctx, cancel := s.begin(ctx, "queue")
	defer cancel()
	err = s.runOnce(ctx, s.monitor, s.rls, allUsers, nil, func(ctx context.Context, db bun.IDB) error {
		var oldest time.Time
		var startable bool
		// Which ones can be started is the condition of claim.
		err := db.QueryRowContext(ctx, `SELECT count(*) OVER (), r.created_at, r.state = 'running' OR r.conversation_id IS NULL OR NOT EXISTS (
				SELECT 1 FROM chat_runs AS o
				WHERE o.user_id = r.user_id AND o.ended_at IS NULL AND o.conversation_id = r.conversation_id
				AND (o.state = 'running' OR (o.created_at, o.id) < (r.created_at, r.id))) AS startable
			FROM chat_runs AS r WHERE r.ended_at IS NULL AND (r.state = 'queued' OR r.lease_until <= ?)
			ORDER BY startable DESC, r.created_at LIMIT 1`, s.dialect.clock(0)).Scan(&w.Queued, &oldest, &startable)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if startable {
			w.OldestQueued = max(0, s.opt.Now().Sub(oldest))
		}
		return err
	})
	return w, translate(ctx, err)
}
