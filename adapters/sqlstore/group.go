package sqlstore

import (
	linked "container/list"
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/pipeline"
	"parley/domain/fault"
)

// turn is an admission or the end of a run: state is loaded, a decision is made
// by it, and the result is saved, in one transaction.
type turn struct {
	name string // of the port's method
	user string
	end  bool // of a run: it goes before admissions
	lock bool // the user's row, before anything is loaded
	// since is when a user without a row became one; zero: no row is made.
	since time.Time
	// load forgets what was loaded before, and returns the statements that the
	// first decision needs.
	load func() []pipeline.Stmt
	// decide returns statements that load more, for the next decision, or else
	// those that save the result, if it changes anything.
	decide func(grouped bool) (more, save []pipeline.Stmt, err error)

	queued *linked.Element // in the list that it waits in; nil: it does not wait
	group  chan []*turn    // that it is to lead; nil: it was in one
	err    error           // of the group, or its own in it
	alone  bool            // the group did nothing for it
	locked bool            // the group has locked the user's row
	save   []pipeline.Stmt
}

// errAlone is returned by decisions that cannot be made in a group.
var errAlone = errors.New("this turn is decided alone")

// groupLockTimeout bounds how long a group waits for a lock that one of its turns
// needs. Then each of them goes on alone.
const groupLockTimeout = "100ms"

// turnQueue has one turn executed at a time. Those that come meanwhile are
// executed together afterwards, by the first of them. No turn waits for others to
// come. Ends of runs go first: what has been admitted is finished before more is
// admitted, so that under overload admissions are refused and replies are not
// late.
type turnQueue struct {
	mu         sync.Mutex
	busy       bool
	ends       linked.List // of turns that wait, the oldest in front
	admissions linked.List // the same
}

// waiting is the list that a turn waits in.
func (q *turnQueue) waiting(t *turn) *linked.List {
	if t.end {
		return &q.ends
	}
	return &q.admissions
}

// turnSeed spreads users over queues.
var turnSeed = maphash.MakeSeed()

// turn executes a turn, together with those that waited for the same queue. Where
// statements are not prepared, as behind a pooler, each one that returns rows is a
// round trip, so that a group would make many where its turns make a few at once.
func (s *Store) turn(ctx context.Context, t *turn) error {
	if s.opt.Ungrouped || s.pooled.Load() || strings.Contains(t.user, userSeparator) {
		return s.turnAlone(ctx, t)
	}
	queue := &s.turns[maphash.String(turnSeed, t.user)%uint64(len(s.turns))]
	group := []*turn{t}
	if !queue.enter(t) {
		began := time.Now()
		wait, cancel := context.WithTimeout(ctx, s.opt.AcquireTimeout)
		defer cancel()
		select {
		case group = <-t.group:
		case <-wait.Done():
			if queue.leave(t) {
				return s.gaveUp(ctx, began)
			}
			group = <-t.group // it is in one already, which has a time limit
		}
	}
	if group != nil {
		s.lead(ctx, queue, group)
	}
	if t.alone {
		return s.turnAlone(ctx, t)
	}
	return t.err
}

// gaveUp is the error of a call that waited in vain since began, as acquire tells
// an overload from an outage.
func (s *Store) gaveUp(ctx context.Context, began time.Time) error {
	switch {
	case ctx.Err() != nil:
		return translate(ctx, ctx.Err())
	case s.answers.since(began):
		return overloaded(context.DeadlineExceeded)
	}
	return unavailable(context.DeadlineExceeded)
}

// enter reports whether the turn can be executed at once. Else it waits for a
// group.
func (q *turnQueue) enter(t *turn) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.busy {
		q.busy = true
		return true
	}
	t.group = make(chan []*turn, 1)
	t.queued = q.waiting(t).PushBack(t)
	return false
}

// take takes a turn that waits out of its list. The queue is locked.
func (q *turnQueue) take(t *turn) {
	q.waiting(t).Remove(t.queued)
	t.queued = nil
}

// leave takes a turn out of the queue; false: it is in a group already.
func (q *turnQueue) leave(t *turn) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.queued == nil {
		return false
	}
	q.take(t)
	return true
}

// next has the first of those that wait lead the next group: as many as it may
// have, but one turn of each user, since the second one depends on the first.
func (q *turnQueue) next(most int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ends.Len()+q.admissions.Len() == 0 {
		q.busy = false
		return
	}
	var group []*turn
	users := make(map[string]bool, min(most, q.ends.Len()+q.admissions.Len()))
	for _, waiting := range []*linked.List{&q.ends, &q.admissions} {
		for e := waiting.Front(); e != nil && len(group) < most; {
			t := e.Value.(*turn)
			e = e.Next()
			if !users[t.user] {
				users[t.user] = true
				q.take(t)
				group = append(group, t)
			}
		}
	}
	group[0].group <- group
}

// lead executes a group, for the first of its turns, and says in each what has
// become of it.
func (s *Store) lead(ctx context.Context, queue *turnQueue, group []*turn) {
	others, told := slices.Clone(group[1:]), false
	defer func() {
		queue.next(s.dialect.maxGroup)
		for _, t := range others {
			t.alone = t.alone || !told // a panic: the group is not stored
			t.group <- nil
		}
	}()
	name := "turns"
	if len(group) == 1 {
		name = group[0].name
	}
	// The client of the first one may leave; those of the others are still there.
	ctx, cancel := s.begin(context.WithoutCancel(ctx), name)
	defer cancel()
	// All instances take the locks of several users in the same order.
	slices.SortFunc(group, func(a, b *turn) int { return strings.Compare(a.user, b.user) })
	err := s.executeGroup(ctx, group)
	again := err != nil && s.rolledBack(ctx, err)
	for _, t := range group {
		switch {
		case t.alone || t.err != nil: // by itself
		case again:
			t.alone = true
		default:
			t.err = translate(ctx, err)
		}
	}
	told = true
}

// executeGroup executes turns of different users in one transaction. What one of
// them is refused for is its own. A turn whose user is locked elsewhere does not
// take part.
func (s *Store) executeGroup(ctx context.Context, group []*turn) error {
	users := make([]string, len(group))
	for i, t := range group {
		users[i] = t.user
	}
	return s.runOnce(ctx, s.db, true, rlsScope{users: users}, func() (lists [][]pipeline.Stmt) {
		if s.dialect.groupSettings != "" {
			lists = append(lists, []pipeline.Stmt{stmt(s.dialect.groupSettings)})
		}
		lock := "SELECT user_id FROM chat_users WHERE user_id = ?" + s.dialect.lockRow
		if s.dialect.lockRow != "" {
			lock += " SKIP LOCKED"
		}
		for _, t := range group {
			t.err, t.alone, t.locked, t.save = nil, false, !t.lock, nil
			var list []pipeline.Stmt
			if t.lock {
				list = append(list, stmt(lock, t.user).
					ScanRow(func(scan func(...any) error) error { t.locked = true; return scan(new(string)) }))
			}
			lists = append(lists, append(list, t.load()...))
		}
		return lists
	}, func(ctx context.Context, tx bun.IDB) error {
		open := group
		for range maxLoads {
			var load [][]pipeline.Stmt
			var next []*turn
			for _, t := range open {
				if t.alone = !t.locked; t.alone {
					continue
				}
				more, save, err := t.decideInGroup(len(group) > 1)
				switch {
				case errors.Is(err, errAlone):
					t.alone = true
				case err != nil:
					t.err = err
				case more != nil:
					load = append(load, more)
					next = append(next, t)
				default:
					t.save = save
				}
			}
			if open = next; len(open) == 0 {
				break
			}
			if err := s.pipe.ExecMerged(ctx, tx, load...); err != nil {
				return err
			}
		}
		for _, t := range open {
			t.err = tooManyLoads()
		}
		var save [][]pipeline.Stmt
		for _, t := range group {
			if len(t.save) > 0 {
				save = append(save, t.save)
			}
		}
		return s.pipe.ExecMergedAndCommit(ctx, tx, save...)
	})
}

// decideInGroup is decide for the goroutine of another turn: one that panics does
// so again alone, in its own.
func (t *turn) decideInGroup(grouped bool) (more, save []pipeline.Stmt, err error) {
	defer func() {
		if recover() != nil {
			err = errAlone
		}
	}()
	return t.decide(grouped)
}

// turnAlone executes a turn in a transaction of its own. It waits for locks.
func (s *Store) turnAlone(ctx context.Context, t *turn) error {
	who := rlsScope{user: t.user, lock: t.lock}
	load := func() [][]pipeline.Stmt { return [][]pipeline.Stmt{t.load()} }
	return s.writeWithPrelude(ctx, t.name, who, load, func(ctx context.Context, tx bun.IDB) error {
		if !t.since.IsZero() && !pipeline.Locked(tx) { // a new user, or SQLite
			if err := s.lockUser(ctx, tx, t.user, t.since); err != nil {
				return err
			}
			if s.dialect.lockRow != "" { // what was read was read without a lock
				if err := s.pipe.Exec(ctx, tx, t.load()...); err != nil {
					return err
				}
			}
		}
		for range maxLoads {
			more, save, err := t.decide(false)
			switch {
			case err != nil:
				return err
			case more == nil && len(save) == 0:
				return nil
			case more == nil:
				return s.pipe.ExecAndCommit(ctx, tx, save...)
			}
			if err := s.pipe.Exec(ctx, tx, more...); err != nil {
				return err
			}
		}
		return tooManyLoads()
	})
}

// maxLoads bounds how often a decision may ask for more state.
const maxLoads = 8

func tooManyLoads() error {
	return fault.New(fault.Internal, "A decision asked for state too often")
}

// rolledBack reports whether a group failed so that nothing of it is stored, for a
// reason that may concern one of its turns only.
func (s *Store) rolledBack(ctx context.Context, err error) bool {
	code := sqlState(err)
	lockTimeout := code == "55P03" && s.dialect.groupSettings != ""
	return retryable(ctx, err) || lockTimeout || code != "" && !transient(code)
}
