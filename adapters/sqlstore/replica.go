package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/pipeline"
	"parley/domain/fault"
)

// replica is one standby.
type replica struct {
	store  *Store
	name   string // host:port
	db     *bun.DB
	checks *bun.DB // one connection, so that a check does not wait for reads
	pipe   *pipeline.Pipeline

	seen      atomic.Pointer[ReplicaLag]
	suspended atomic.Pointer[suspension]

	mu         sync.Mutex
	readmitted time.Time
	hold       time.Duration // at least so long it stays suspended
}

// suspension is why a replica is not used.
type suspension struct {
	why   readReason
	err   error
	since time.Time
}

func (s *Store) openReplica(opt Replica) (*replica, error) {
	if opt.ExecMode == "" {
		opt.ExecMode = "auto"
	}
	if opt.MaxConns <= 0 {
		opt.MaxConns = s.opt.MaxConns
	}
	config, err := postgresConfig(opt.URL, opt.ExecMode)
	if err != nil {
		return nil, err
	}
	config.ConnectTimeout = replicaAnswer
	open := func(conns int) *bun.DB {
		db := openPool(config, conns, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
			return s.identifySession(ctx, conn, opt.ExecMode)
		}))
		db.SetConnMaxLifetime(time.Hour)
		return withHooks(db, opt.Hooks)
	}
	r := &replica{store: s, name: net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port))), db: open(opt.MaxConns), checks: open(1)}
	r.pipe = &pipeline.Pipeline{DB: r.db, Hooks: opt.Hooks}
	return r, nil
}

// replicaAnswer is how long a replica may take until its first answer, the
// establishment of a connection included.
const replicaAnswer = 500 * time.Millisecond

var errNoAnswer = fmt.Errorf("no answer in %s", replicaAnswer)

// run calls fn with a connection to the replica on which everything up to a position
// is visible. Whether it is, is found out on that connection and, behind a pooler, in
// the same transaction: another one may lead to another server. An error other than
// onReplica's has to do with the replica, and not with what was read.
func (r *replica) run(ctx context.Context, db *bun.DB, at position, who rlsScope, fn func(ctx context.Context, db bun.IDB) error) (readReason, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	unanswered := time.AfterFunc(replicaAnswer, func() { cancel(errNoAnswer) })
	defer unanswered.Stop()
	conn, err := db.Conn(ctx)
	if err != nil {
		why, err := classify(ctx, err)
		if stats := db.Stats(); why == unreachable && stats.OpenConnections >= stats.MaxOpenConnections {
			why = busy
		}
		return why, err
	}
	defer conn.Close()
	session := r.store.session(conn)
	synced := func(ctx context.Context, db bun.IDB) error {
		var seen standby
		if err := r.await(ctx, db, at, &seen, r.store.lookAtStandby(session, &seen), func() { unanswered.Stop() }); err != nil {
			return err
		}
		return fn(ctx, db)
	}
	switch {
	case session.direct && !r.store.rls:
		err = r.pipe.RunWithoutTx(ctx, conn, session.Session, synced)
	case r.store.rls:
		err = r.pipe.RunPipelined(ctx, conn, session.Session, pipeline.Begin{Scope: who.statements()}, synced)
	default:
		err = r.pipe.RunPipelined(ctx, conn, session.Session, pipeline.Begin{}, synced)
	}
	return classify(ctx, err)
}

// classify returns what an error of run has to do with the replica.
func classify(ctx context.Context, err error) (readReason, error) {
	var (
		late  laggingError
		other refusedError
	)
	code := sqlState(err)
	switch {
	case err == nil, fault.As(err) != nil: // a fault is a decision about what the replica answered
		return onReplica, err
	case errors.Is(context.Cause(ctx), errNoAnswer):
		return unreachable, errNoAnswer
	case errors.As(err, &late):
		return lagging, err
	case errors.As(err, &other):
		return refused, err
	case ctx.Err() != nil:
		return slow, err
	case strings.HasPrefix(code, "40"), code == "57014": // to replay a change, it cancels what is in the way
		return conflicting, redact(err)
	case lostConnection(err):
		return unreachable, redact(err)
	case code != "":
		return failing, redact(err)
	}
	return onReplica, err
}

// await waits until the replica has replayed the WAL up to a position, for
// Options.ReplicaMaxLag at most. look reads what is seen; answered is called when that
// has been answered.
func (r *replica) await(ctx context.Context, db bun.IDB, at position, seen *standby, look pipeline.Stmt, answered func()) error {
	began := time.Now()
	for wait := time.Millisecond / 2; ; wait = min(2*wait, 10*time.Millisecond) {
		if err := r.store.pipe.Exec(ctx, db, look); err != nil {
			return err
		}
		answered()
		err := seen.follows(at)
		if err != nil {
			return err
		}
		r.seen.Store(seen.lag(at))
		switch {
		case seen.replayed >= at.lsn:
			return nil
		case time.Since(began) > r.store.opt.ReplicaMaxLag:
			return laggingError{at.lsn - seen.replayed}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// laggingError is that of a replica that has not replayed so many bytes of the WAL.
type laggingError struct{ bytes int64 }

func (e laggingError) Error() string {
	return fmt.Sprintf("it is %d bytes of WAL behind the primary", e.bytes)
}

// refusedError is that of a server that is no replica of the primary.
type refusedError struct{ what string }

func (e refusedError) Error() string { return e.what }

// A replica that fails again within probation is not used for twice as long each time,
// maxHold at most.
const (
	probation = 10 * time.Second
	maxHold   = 30 * time.Second
)

// note records a read that the replica did not answer. If the next one would not fare
// better, the replica is not used until a check succeeds.
func (r *replica) note(why readReason, err error) {
	if !why.suspends() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	next := &suspension{why: why, err: err, since: now}
	if before := r.suspended.Load(); before != nil {
		next.since = before.since
	} else if now.Sub(r.readmitted) < probation {
		r.hold = min(max(2*r.hold, replicaInterval), maxHold)
	} else {
		r.hold = 0
	}
	r.suspended.Store(next)
}

// readmit has the replica be used again, after a check that succeeded.
func (r *replica) readmit() {
	if r.suspended.Load() == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if left := r.suspended.Load(); left != nil && time.Since(left.since) >= r.hold {
		r.readmitted = time.Now()
		r.suspended.Store(nil)
	}
}
