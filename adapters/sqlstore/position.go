package sqlstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/pipeline"
)

// position is a place in the WAL of a cluster of servers.
type position struct {
	system   int64 // the identifier that the primary and its standbys have in common
	timeline int64 // changes when a standby becomes the primary
	lsn      int64
}

// identifySession is prepareSession for a connection of which the system identifier is
// needed. To read it takes as long as the rest of what is read with it. Behind a pooler,
// where it may change, it is left unknown.
func (s *Store) identifySession(ctx context.Context, conn *pgx.Conn, execMode string) error {
	c, _, err := s.prepareSession(ctx, conn, execMode)
	if err != nil || !c.direct {
		return err
	}
	return conn.QueryRow(ctx, "SELECT "+selectSystem).Scan(&c.system)
}

const selectSystem = "(SELECT system_identifier FROM pg_control_system())"

// systemOf selects the system identifier of a session's server.
func systemOf(c session) string {
	if c.system != 0 {
		return strconv.FormatInt(c.system, 10) + "::bigint"
	}
	return selectSystem
}

// selectPosition reads the position behind everything that is committed. A commit is
// acknowledged, and visible to others, when it is flushed; with synchronous_commit
// off, when it is inserted into the WAL. That is not always taken: without commits,
// what vacuum inserts is flushed after some 200 ms only, and no replica could answer
// until then.
const selectPosition = `, pg_walfile_name(p), pg_wal_lsn_diff(p, '0/0')::bigint
	FROM (SELECT CASE current_setting('synchronous_commit') WHEN 'off' THEN pg_current_wal_insert_lsn() ELSE pg_current_wal_flush_lsn() END AS p) AS q`

// askPosition asks the primary for its position.
func (rs *replicas) askPosition(ctx context.Context) (at position, err error) {
	ctx, cancel := rs.store.begin(ctx, "read_position")
	defer cancel()
	conn, err := rs.store.acquire(ctx, rs.primary)
	if err != nil {
		return at, err
	}
	defer conn.Close()
	session := rs.store.session(conn)
	err = rs.store.pipe.RunWithoutTx(ctx, conn, session.Session, func(ctx context.Context, db bun.IDB) error {
		return rs.store.pipe.Exec(ctx, db, stmt("SELECT "+systemOf(session)+selectPosition).ScanRow(func(scan func(...any) error) error {
			var file string
			if err := scan(&at.system, &file, &at.lsn); err != nil {
				return err
			}
			if len(file) < 8 {
				return fmt.Errorf("the name of a WAL file is %q", file)
			}
			at.timeline, err = strconv.ParseInt(file[:8], 16, 64)
			return err
		}))
	})
	return at, err
}

// positions has the primary asked for its position, once for all reads that wait.
type positions struct {
	ask func(context.Context) (position, error)

	mu     sync.Mutex
	asking bool
	next   *positionQuestion // is asked when the one under way is answered
}

type positionQuestion struct {
	answered chan struct{} // closed when the rest is set
	at       position
	err      error
}

// get returns a position that the primary had after get was called.
func (p *positions) get(ctx context.Context) (position, error) {
	p.mu.Lock()
	if p.next == nil {
		p.next = &positionQuestion{answered: make(chan struct{})}
	}
	q := p.next
	if !p.asking {
		p.asking = true
		go p.askAll() //nolint:gosec // for all reads that wait, so that none of them may cancel it
	}
	p.mu.Unlock()
	select {
	case <-q.answered:
		return q.at, q.err
	case <-ctx.Done():
		return position{}, ctx.Err()
	}
}

// askAll asks as long as reads wait. A question is not sent before its last reader has
// come.
func (p *positions) askAll() {
	for {
		p.mu.Lock()
		q := p.next
		p.next = nil
		p.asking = q != nil
		p.mu.Unlock()
		if q == nil {
			return
		}
		q.at, q.err = p.ask(context.Background())
		close(q.answered)
	}
}

// standby is what a replica says of itself.
type standby struct {
	inRecovery bool
	system     int64
	timeline   int64
	replayed   int64 // everything up to here is visible
	age        float64
	secured    bool // row-level security applies to all tables of users
}

// The timeline is that of the last checkpoint, or the newer one that is received
// already, which is shown to roles with pg_read_all_stats only.
const selectStandby = `, pg_is_in_recovery(),
	greatest((SELECT timeline_id FROM pg_control_checkpoint()), (SELECT received_tli FROM pg_stat_wal_receiver))::bigint,
	coalesce(pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0'), 0)::bigint,
	coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0)::float8, `

// lookAtStandby is the statement that reads what a replica says of itself.
func (s *Store) lookAtStandby(on session, seen *standby) pipeline.Stmt {
	secured := "true"
	if s.rls {
		secured = "coalesce((SELECT bool_and(row_security_active(to_regclass(t))) FROM unnest(ARRAY['" + strings.Join(rlsTables, "', '") + "']) AS t), true)"
	}
	return stmt("SELECT " + systemOf(on) + selectStandby + secured).ScanRow(func(scan func(...any) error) error {
		return scan(&seen.system, &seen.inRecovery, &seen.timeline, &seen.replayed, &seen.age, &seen.secured)
	})
}

// follows returns why a server is no standby of the primary, and may have other data.
func (s *standby) follows(at position) error {
	switch {
	case s.system != at.system:
		return refusedError{"it belongs to another cluster: its system identifier is not that of the primary"}
	case !s.inRecovery:
		return refusedError{"it is not a standby: it was promoted, or is the primary itself"}
	case s.timeline != at.timeline:
		return refusedError{fmt.Sprintf("it is on timeline %d, and the primary on %d: it does not follow the present primary, or has made no checkpoint since it does", s.timeline, at.timeline)}
	case !s.secured:
		return refusedError{"row-level security does not apply to the role of its URL"}
	}
	return nil
}

// lag is how far the standby is behind a position.
func (s *standby) lag(at position) *ReplicaLag {
	if s.replayed >= at.lsn {
		return &ReplicaLag{}
	}
	return &ReplicaLag{Bytes: at.lsn - s.replayed, Age: time.Duration(s.age * float64(time.Second))}
}
