package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
)

// Replica is a standby of the Postgres at Options.URL. Its tables are in the schemas
// of Options.SearchPath.
type Replica struct {
	URL      string
	ExecMode string // as Options.ExecMode; default "auto"
	MaxConns int    // bounds its pool; default Options.MaxConns. Checks use one more
	Hooks    []bun.QueryHook
}

// replicaInterval is how often replicas are checked.
const replicaInterval = time.Second

// readReason is why a read went to the primary.
type readReason int

const (
	onReplica   readReason = iota
	unreachable            // the replica does not answer, or not in time
	lagging                // it has not replayed in time what the read must see
	refused                // it is not a standby of the primary, or row-level security does not apply to its role
	failing                // a statement failed there that should not have
	conflicting            // it cancelled the read, to replay a change
	slow                   // the read took too long there
	busy                   // all its connections are in use
	noPosition             // the primary does not say what it has committed
	readReasons            // their number
)

var readReasonNames = [readReasons]string{
	"", "unreachable", "lagging", "refused", "failing", "conflict", "slow", "busy", "no_position",
}

func (r readReason) String() string { return readReasonNames[r] }

// suspends reports whether a replica is not used after such a read until a check
// succeeds. Else the next read may succeed.
func (r readReason) suspends() bool { return r >= unreachable && r <= failing }

// replicas decides which reads a replica answers, and which one. A read that begins at
// some moment sees everything that was committed before, wherever it is answered: the
// primary is asked for its position in the WAL after the read has begun, and a replica
// answers when it has replayed up to there (docs/adr/0071).
type replicas struct {
	store     *Store
	list      []*replica
	positions positions
	primary   *bun.DB // one connection, for positions
	unknown   atomic.Bool
	next      atomic.Uint32
	reads     [readReasons]atomic.Int64
	stop      context.CancelFunc
	stopped   chan struct{}
}

func (s *Store) openReplicas() error {
	if len(s.opt.Replicas) == 0 {
		return nil
	}
	if s.dialect.name != "postgres" {
		return errors.New("read replicas need a PostgreSQL as primary")
	}
	config, err := postgresConfig(s.opt.URL, s.opt.ExecMode)
	if err != nil {
		return fmt.Errorf("read database URL: %w", err)
	}
	config.ConnectTimeout = s.opt.AcquireTimeout
	rs := &replicas{store: s, stopped: make(chan struct{})}
	rs.primary = withHooks(openPool(config, 1, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		return s.identifySession(ctx, conn, s.opt.ExecMode)
	}), stdlib.OptionResetSession(s.resetSession)), s.opt.Hooks)
	rs.primary.SetConnMaxLifetime(time.Minute) // so that another synchronous_commit takes effect: see selectPosition
	rs.positions.ask = rs.askPosition
	for i, opt := range s.opt.Replicas {
		r, err := s.openReplica(opt)
		if err != nil {
			return fmt.Errorf("read URL of replica %d: %w", i+1, err)
		}
		rs.list = append(rs.list, r)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.replicas, rs.stop = rs, stop
	go rs.watch(ctx)
	return nil
}

func (rs *replicas) close() error {
	rs.stop()
	<-rs.stopped
	err := rs.primary.Close()
	for _, r := range rs.list {
		err = errors.Join(err, r.db.Close(), r.checks.Close())
	}
	return err
}

// readReplicated is read for what a replica may answer: reads on which no decision and
// no write depends. fn may run more than once.
func (s *Store) readReplicated(ctx context.Context, name string, who rlsScope, fn func(ctx context.Context, db bun.IDB) error) error {
	return s.readReplicatedWithin(ctx, name, s.opt.Timeout, who, fn)
}

// readReplicatedWithin is readReplicated with another timeout; 0: none.
func (s *Store) readReplicatedWithin(ctx context.Context, name string, timeout time.Duration, who rlsScope, fn func(ctx context.Context, db bun.IDB) error) error {
	if s.replicas != nil {
		if answered, err := s.replicas.read(ctx, name, timeout, who, fn); answered {
			return err
		}
	}
	return s.readWithin(ctx, name, timeout, who, fn)
}

// read runs fn on a replica. answered is false if the primary has to be read instead,
// which then has the whole timeout.
func (rs *replicas) read(ctx context.Context, name string, timeout time.Duration, who rlsScope, fn func(ctx context.Context, db bun.IDB) error) (answered bool, err error) {
	r, why := rs.choose()
	if r != nil {
		tried, cancel := withTimeout(context.WithValue(ctx, statementKey{}, name), timeout/2)
		defer cancel()
		at, failed := rs.positions.get(tried)
		if why = noPosition; failed == nil {
			why, err = r.run(tried, r.db, at, who, fn)
		}
		switch {
		case why == onReplica:
			rs.reads[onReplica].Add(1)
			return true, translate(ctx, err)
		case ctx.Err() != nil:
			return true, translate(ctx, ctx.Err())
		case why == noPosition:
			rs.unknown.Store(true)
		default:
			r.note(why, err)
		}
	}
	rs.reads[why].Add(1)
	return false, nil
}

// choose returns one of the replicas in use, or why there is none.
func (rs *replicas) choose() (*replica, readReason) {
	if rs.unknown.Load() {
		return nil, noPosition
	}
	why, first := noPosition, int(rs.next.Add(1)%uint32(len(rs.list)))
	for i := range rs.list {
		r := rs.list[(first+i)%len(rs.list)]
		left := r.suspended.Load()
		if left == nil {
			return r, onReplica
		}
		why = left.why
	}
	return nil, why
}

// watch checks all replicas again and again: those in use are left if they fail, and
// the others are used again.
func (rs *replicas) watch(ctx context.Context) {
	defer close(rs.stopped)
	tick := time.NewTicker(replicaInterval)
	defer tick.Stop()
	for {
		rs.check(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (rs *replicas) check(ctx context.Context) {
	ctx = context.WithValue(ctx, statementKey{}, "check_replica")
	bounded, cancel := context.WithTimeout(ctx, replicaAnswer)
	at, err := rs.positions.get(bounded)
	cancel()
	if ctx.Err() != nil {
		return
	}
	rs.unknown.Store(err != nil)
	if err != nil {
		return
	}
	var all sync.WaitGroup
	for _, r := range rs.list {
		all.Go(func() {
			switch why, err := r.run(ctx, r.checks, at, allUsers, func(context.Context, bun.IDB) error { return nil }); {
			case ctx.Err() != nil:
			case why == onReplica:
				r.readmit()
			default:
				r.note(why, err)
			}
		})
	}
	all.Wait()
}

// ReplicaState is the state of one replica, for health, metrics and diagnosis.
type ReplicaState struct {
	Name   string // host:port
	Used   bool
	Reason string      // if not: as the reads are counted by
	Err    error       // if not
	Lag    *ReplicaLag // as last seen; nil if the replica has not answered
	DB     *sql.DB     // its pool, for statistics
}

// ReplicaLag is how far a replica was behind the primary.
type ReplicaLag struct {
	Bytes int64         // of WAL
	Age   time.Duration // of the last transaction that it had replayed; 0 if it had all of them
}

// Replicas lists the replicas, in the order of Options.Replicas.
func (s *Store) Replicas() (list []ReplicaState) {
	if s.replicas == nil {
		return nil
	}
	for _, r := range s.replicas.list {
		state := ReplicaState{Name: r.name, Used: true, Lag: r.seen.Load(), DB: r.db.DB}
		if left := r.suspended.Load(); left != nil {
			state.Used, state.Reason, state.Err = false, left.why.String(), left.err
		}
		list = append(list, state)
	}
	return list
}

// ReplicatedReads counts the reads that a replica may answer: by the reason why the
// primary was read, "" being those that a replica answered. It is empty without
// replicas.
func (s *Store) ReplicatedReads() map[string]int64 {
	if s.replicas == nil {
		return nil
	}
	counts := make(map[string]int64, readReasons)
	for why := range readReasons {
		counts[why.String()] = s.replicas.reads[why].Load()
	}
	return counts
}
