package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/uptrace/bun"

	"parley/adapters/sqlstore"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/platform/testing/testdb"
	"parley/ports"
)

// groups is a store whose queues can be held, so that what comes meanwhile is
// executed in groups.
type groups struct {
	*sqlstore.Store
	t       *testing.T
	grouped atomic.Int64 // queries in transactions of several turns
	broken  atomic.Bool  // the next query of a group panics
	open    chan struct{}
	release func()
}

// eachGroups runs a test on all kinds of stores.
func eachGroups(t *testing.T, test func(t *testing.T, g *groups)) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T, hook bun.QueryHook) *sqlstore.Store{
		"SQLite": func(t *testing.T, hook bun.QueryHook) *sqlstore.Store {
			return migrated(t, sqlstore.Options{URL: testdb.SQLite(t), Hooks: []bun.QueryHook{hook}})
		},
		"Postgres": func(t *testing.T, hook bun.QueryHook) *sqlstore.Store {
			return migrated(t, sqlstore.Options{URL: testdb.Postgres(t), Hooks: []bun.QueryHook{hook}})
		},
		"RowSecurity": func(t *testing.T, hook bun.QueryHook) *sqlstore.Store {
			store, _ := openRowSecurity(t, hook)
			return store
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := &groups{t: t, open: make(chan struct{})}
			g.Store = open(t, g)
			test(t, g)
		})
	}
}

// BeforeQuery implements bun.QueryHook.
func (g *groups) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context {
	if sqlstore.StatementName(ctx) == "turns" {
		g.grouped.Add(1)
		if g.broken.CompareAndSwap(true, false) {
			panic(errBroken)
		}
	}
	return ctx
}

// AfterQuery implements bun.QueryHook.
func (g *groups) AfterQuery(context.Context, *bun.QueryEvent) {}

// users makes users who have a conversation "c" each.
func (g *groups) users(users ...string) {
	g.t.Helper()
	for _, user := range users {
		g.turn(user, "first")
	}
}

// turn admits and ends one run in a user's conversation "c".
func (g *groups) turn(user, id string) {
	g.t.Helper()
	out, err := g.admit(g.t.Context(), user, id)
	if err == nil {
		err = g.end(out.Run)
	}
	if err != nil {
		g.t.Errorf("turn %s of %s: %v", id, user, err)
	}
}

func (g *groups) request(user, id string) chat.AdmitRequest {
	a := sending(user, "question "+id+" of "+user)
	a.Run.ID, a.Run.AuditID, a.Message.ID = "r-"+id, "a-"+id+user, "m-"+id
	a.Run.ConversationID, a.CreateConversation, a.WhenBusy = "c", true, chat.Reject
	return a
}

func (g *groups) admit(ctx context.Context, user, id string) (chat.Admitted, error) {
	return g.Admit(ctx, g.request(user, id), chat.Admit)
}

func (g *groups) end(run chat.Run) error {
	return end(g.t.Context(), g.Store, chat.Outcome{
		UserID: run.UserID, RunID: run.ID, Attempt: run.Attempt, ConversationID: run.ConversationID, State: chat.Completed,
		Output: chat.TextOutput("answer " + run.ID + " of " + run.UserID), Usage: chat.Usage{Input: 1, Output: 1}, At: time.Now(),
	})
}

// hold keeps all queues busy until release is called.
func (g *groups) hold() {
	g.t.Helper()
	const holders = 20 // enough to have one in each queue
	for i := range holders {
		g.users(fmt.Sprintf("holder-%d", i))
	}
	var group sync.WaitGroup
	g.open = make(chan struct{})
	g.release = sync.OnceFunc(func() { close(g.open); group.Wait() })
	g.t.Cleanup(g.release)
	for i := range holders {
		group.Go(func() {
			defer func() {
				r := recover()
				if err, ok := r.(error); r != nil && (!ok || !errors.Is(err, errBroken)) { // unless it led the group that a test breaks
					panic(r)
				}
			}()
			_, err := g.Admit(context.Background(), g.request(fmt.Sprintf("holder-%d", i), "held"), func(r chat.AdmitRequest, s chat.AdmitState) (chat.AdmitPlan, error) {
				if s.Account == nil {
					return chat.Admit(r, s)
				}
				<-g.open
				return chat.AdmitPlan{}, errHeld
			})
			if !errors.Is(err, errHeld) {
				g.t.Errorf("a holder of a queue: %v", err)
			}
		})
		g.waitFor("the next holder", func() bool { busy, waiting := sqlstore.Queued(g.Store); return busy+waiting == i+1 })
		if busy, _ := sqlstore.Queued(g.Store); busy == sqlstore.TurnQueues(g.Store) {
			return
		}
	}
	g.t.Fatal("no user came to one of the queues")
}

var errBroken = errors.New("a bug beside the decisions")

var errHeld = fault.New(fault.Invalid, "held")

func (g *groups) waitFor(what string, done func() bool) {
	g.t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			g.t.Fatalf("%s did not come", what)
		}
	}
}

// together has calls wait for the queues, in that order, and then be executed in
// groups. It returns their errors when release has returned and all are done.
func (g *groups) together(calls ...func() error) []error {
	g.t.Helper()
	g.hold()
	errs := make([]error, len(calls))
	var group sync.WaitGroup
	_, before := sqlstore.Queued(g.Store)
	for i, call := range calls {
		group.Go(func() { errs[i] = call() })
		g.waitFor("a call in the queue", func() bool { _, waiting := sqlstore.Queued(g.Store); return waiting == before+i+1 })
	}
	was := g.grouped.Load()
	g.release()
	group.Wait()
	if g.grouped.Load() == was {
		g.t.Error("there was no group")
	}
	return errs
}

// Many users at once, each with one conversation: what each finds in the end, and
// what each turn is told, is their own.
func TestGroup_ManyUsers(t *testing.T) {
	eachGroups(t, func(t *testing.T, g *groups) {
		const users, turns = 12, 6
		var group sync.WaitGroup
		for u := range users {
			group.Go(func() {
				user, asked := fmt.Sprintf("user-%d", u), ""
				for n := range turns {
					id := fmt.Sprintf("%d-%d", n, rand.Int())
					out, err := g.admit(t.Context(), user, id)
					if err != nil {
						t.Errorf("%s: admit %d: %v", user, n, err)
						return
					}
					asked += "question " + id + " of " + user + "\n"
					told := ""
					for _, m := range out.Context {
						told += m.Content + "\n"
					}
					if told != asked {
						t.Errorf("%s: turn %d is told %q, not %q", user, n, told, asked)
					}
					if err := g.end(out.Run); err != nil {
						t.Errorf("%s: end %d: %v", user, n, err)
						return
					}
					asked += "answer r-" + id + " of " + user + "\n"
				}
				stored := ""
				list, _, err := g.Messages(t.Context(), user, "c", ports.Page{Limit: 100})
				for _, m := range list {
					stored += m.Content + "\n"
				}
				if err != nil || stored != asked {
					t.Errorf("%s: stored, %v (-want +got):\n%s", user, err, cmp.Diff(asked, stored))
				}
				if usage, err := g.Usage(t.Context(), user, time.Now()); err != nil || usage.Day.Tokens != 2*turns || usage.Day.Replies != turns {
					t.Errorf("%s: used %+v, %v", user, usage.Day, err)
				}
				for _, e := range entries(t, g.Store, user) {
					if e.Status != "success" {
						t.Errorf("%s: entry %s is %s", user, e.ID, e.Status)
					}
				}
			})
		}
		group.Wait()
		if g.grouped.Load() == 0 {
			t.Error("there was no group")
		}
	})
}

// A group finds its rows by their keys, however small the tables are and however
// old what Postgres knows of them.
func TestGroup_ReadsNoTableWhole(t *testing.T) {
	t.Parallel()
	store, super := openRowSecurity(t)
	g := &groups{t: t, Store: store}
	const users = 12
	for i := range users {
		g.users(fmt.Sprint("user-", i))
	}
	if _, err := store.DB().Exec("ANALYZE"); err != nil {
		t.Fatal(err)
	}
	// scans is how often each table was read whole, once the sessions have reported
	// a number of runs that began and ended.
	scans := func(runs int) map[string]int {
		t.Helper()
		found := map[string]int{}
		g.waitFor("the sessions' report", func() (reported bool) {
			rows, err := super.DB().Query("SELECT relname, seq_scan, n_tup_ins = $1 AND n_tup_upd >= $1 FROM pg_stat_user_tables WHERE relname LIKE 'chat%'", runs)
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			for rows.Next() {
				var table string
				var n int
				var all bool
				if err := rows.Scan(&table, &n, &all); err != nil {
					t.Fatal(err)
				}
				found[table] = n
				reported = reported || table == "chat_runs" && all
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
			return reported
		})
		return found
	}
	before := scans(users)
	var group sync.WaitGroup
	for i := range users {
		group.Go(func() { g.turn(fmt.Sprint("user-", i), "second") })
	}
	group.Wait()
	if diff := cmp.Diff(before, scans(2*users)); diff != "" {
		t.Errorf("tables read whole, before and after:\n%s", diff)
	}
}

// Whatever fails in a group fails alone: a row that the database refuses, a
// decision that refuses, a second turn of the same user that finds it busy.
func TestGroup_FailsAlone(t *testing.T) {
	eachGroups(t, func(t *testing.T, g *groups) {
		g.users("ann", "bob", "cid", "dot", "eve")
		refused := fault.New(fault.OverBudget, "refused")
		admit := func(user, id string) func() error {
			return func() error { _, err := g.admit(t.Context(), user, id); return err }
		}
		errs := g.together(
			admit("ann", "second"),
			func() error {
				a := g.request("bob", "second")
				_, err := g.Admit(t.Context(), a, func(r chat.AdmitRequest, s chat.AdmitState) (chat.AdmitPlan, error) {
					plan, err := chat.Admit(r, s)
					plan.Audit.ID = "a-firstbob" // is taken
					return plan, err
				})
				return err
			},
			func() error {
				_, err := g.Admit(t.Context(), g.request("cid", "second"), func(r chat.AdmitRequest, s chat.AdmitState) (chat.AdmitPlan, error) {
					if s.Account == nil {
						return chat.Admit(r, s)
					}
					return chat.AdmitPlan{}, refused
				})
				return err
			},
			admit("dot", "second"),
			admit("dot", "third"),
			admit("new", "first"), // has no row yet
			admit("eve", "second"),
		)
		if errs[3] != nil { // of two turns of one user, either may be first
			errs[3], errs[4] = errs[4], errs[3]
		}
		for i, want := range []fault.Kind{"", fault.Conflict, fault.OverBudget, "", fault.Busy, "", ""} {
			if got := kindOf(errs[i]); got != want {
				t.Errorf("call %d: %v, want %q", i, errs[i], want)
			}
		}
		// Its id would be that of two users to row-level security.
		two := g.request("eve\x1fann", "first")
		two.Message.Content = "hi"
		if _, err := g.Admit(t.Context(), two, chat.Admit); err != nil {
			t.Error(err)
		}
		for user, want := range map[string]int{"ann": 3, "bob": 2, "cid": 2, "dot": 3, "new": 1, "eve": 3} {
			list, _, err := g.Messages(t.Context(), user, "c", ports.Page{Limit: 10})
			if err != nil || len(list) != want {
				t.Errorf("%s has %d messages, %v; want %d", user, len(list), err, want)
			}
		}
	})
}

func kindOf(err error) fault.Kind {
	if f := fault.As(err); f != nil {
		return f.Kind
	}
	if err != nil {
		return "error"
	}
	return ""
}

// caught is deferred: it counts a panic, and makes it errHeld.
func caught(panics *atomic.Int64, err *error) {
	if recover() != nil {
		panics.Add(1)
		*err = errHeld
	}
}

// A decision that panics does so in the goroutine of its own turn, and not in that
// of the turn that leads the group.
func TestGroup_Panic(t *testing.T) {
	eachGroups(t, func(t *testing.T, g *groups) {
		users := []string{"ann", "bob", "cid", "dot"}
		g.users(users...)
		var panics atomic.Int64
		var calls []func() error
		for i, user := range users {
			calls = append(calls, func() (err error) {
				defer caught(&panics, &err)
				_, err = g.Admit(t.Context(), g.request(user, "second"), func(r chat.AdmitRequest, s chat.AdmitState) (chat.AdmitPlan, error) {
					if i == 2 && s.Account != nil {
						panic("a bug")
					}
					return chat.Admit(r, s)
				})
				return err
			})
		}
		for i, err := range g.together(calls...) {
			if i == 2 && !errors.Is(err, errHeld) || i != 2 && err != nil {
				t.Errorf("%s: %v", users[i], err)
			}
		}
		if panics.Load() != 1 {
			t.Errorf("%d turns panicked", panics.Load())
		}
	})
}

// A panic beside the decisions ends the turn that leads the group, and no other: the
// others are not told that they are stored before they are.
func TestGroup_LeaderPanics(t *testing.T) {
	eachGroups(t, func(t *testing.T, g *groups) {
		users := []string{"ann", "bob", "cid", "dot", "eve", "fay"}
		g.users(users...)
		var panics atomic.Int64
		var calls []func() error
		for _, user := range users {
			calls = append(calls, func() (err error) {
				defer caught(&panics, &err)
				_, err = g.admit(t.Context(), user, "second")
				return err
			})
		}
		g.broken.Store(true)
		for i, err := range g.together(calls...) {
			list, _, listErr := g.Messages(t.Context(), users[i], "c", ports.Page{Limit: 10})
			want := 3
			if errors.Is(err, errHeld) {
				want, err = 2, nil
			}
			if err != nil || listErr != nil || len(list) != want {
				t.Errorf("%s: %v; %d messages, %v, want %d", users[i], err, len(list), listErr, want)
			}
		}
		if panics.Load() > 1 {
			t.Errorf("%d turns panicked", panics.Load())
		}
	})
}

// A client that leaves while its turn waits for the queue takes the turn away.
func TestGroup_WaitingClientLeaves(t *testing.T) {
	eachGroups(t, func(t *testing.T, g *groups) {
		g.users("ann")
		g.hold()
		_, before := sqlstore.Queued(g.Store)
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() { _, err := g.admit(ctx, "ann", "second"); left <- err }()
		g.waitFor("the turn in the queue", func() bool { _, waiting := sqlstore.Queued(g.Store); return waiting == before+1 })
		leave()
		if err := <-left; !fault.Is(err, fault.Canceled) {
			t.Errorf("got %v", err)
		}
		if _, waiting := sqlstore.Queued(g.Store); waiting != before {
			t.Errorf("%d turns wait, not %d", waiting, before)
		}
		g.release()
		if list, _, err := g.Messages(t.Context(), "ann", "c", ports.Page{Limit: 10}); err != nil || len(list) != 2 {
			t.Errorf("%d messages, %v", len(list), err)
		}
	})
}

// A client that leaves while its turn leads a group does not end those of others.
func TestGroup_LeadingClientLeaves(t *testing.T) {
	eachGroups(t, func(t *testing.T, g *groups) {
		users := []string{"ann", "bob", "cid", "dot", "eve", "fay"}
		g.users(users...)
		var calls []func() error
		for _, user := range users {
			ctx, leave := context.WithCancel(t.Context())
			calls = append(calls, func() error {
				defer leave()
				_, err := g.Admit(ctx, g.request(user, "second"), func(r chat.AdmitRequest, s chat.AdmitState) (chat.AdmitPlan, error) {
					if s.Account != nil {
						leave()
					}
					return chat.Admit(r, s)
				})
				return err
			})
		}
		for i, err := range g.together(calls...) {
			if err != nil {
				t.Errorf("%s: %v", users[i], err)
			}
		}
	})
}

// Users whose rows are locked elsewhere keep nobody waiting but themselves: neither
// by the row of the user, which admissions lock, nor by that of their conversation
// or run, for which a group waits a moment.
func TestGroup_DoesNotWaitForLocks(t *testing.T) {
	for name, lock := range map[string]string{
		"User":         "SELECT 1 FROM chat_users WHERE user_id = 'ann' FOR UPDATE",
		"Conversation": "SELECT 1 FROM chat_conversations WHERE user_id = 'ann' FOR UPDATE",
		"Run":          "SELECT 1 FROM chat_runs WHERE user_id = 'ann' FOR UPDATE",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := &groups{t: t}
			g.Store = migrated(t, sqlstore.Options{URL: testdb.Postgres(t), Hooks: []bun.QueryHook{g}})
			g.users("ann", "bob", "cid", "dot", "eve")
			live, err := g.admit(t.Context(), "ann", "live")
			if err != nil {
				t.Fatal(err)
			}
			tx, err := g.DB().Begin()
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback()
			if _, err := tx.Exec(lock); err != nil {
				t.Fatal(err)
			}
			var others sync.WaitGroup
			calls := []func() error{func() error { // of the locked user
				if name == "User" {
					_, err := g.admit(t.Context(), "ann", "second")
					if fault.Is(err, fault.Busy) {
						err = nil
					}
					return err
				}
				return g.end(live.Run)
			}}
			for _, user := range []string{"bob", "cid", "dot", "eve"} {
				others.Add(1)
				calls = append(calls, func() error {
					defer others.Done()
					_, err := g.admit(t.Context(), user, "second")
					return err
				})
			}
			go func() { // the lock ends only when the others are through
				others.Wait()
				tx.Rollback()
			}()
			if errs := g.together(calls...); !cmp.Equal(errs, make([]error, len(calls)), cmp.Comparer(errors.Is)) {
				t.Errorf("got %v", errs)
			}
		})
	}
}

// A run of the default thread that is stopped while an admission is about to put a
// message behind it: either comes first, and the message does not follow a run that
// has ended and left nothing.
func TestAdmit_BehindARunThatIsStopped(t *testing.T) {
	t.Parallel()
	for _, ungrouped := range []bool{false, true} {
		t.Run(fmt.Sprintf("Ungrouped=%v", ungrouped), func(t *testing.T) {
			g := &groups{t: t}
			g.Store = migrated(t, sqlstore.Options{URL: testdb.Postgres(t), Ungrouped: ungrouped})
			request := func(id string) chat.AdmitRequest {
				a := g.request("ann", id)
				a.Run.ConversationID, a.CreateConversation, a.Owner = "", false, ""
				return a
			}
			queued, err := g.Admit(t.Context(), request("queued"), chat.Admit)
			if err != nil {
				t.Fatal(err)
			}
			stopped := make(chan error, 1)
			var once sync.Once
			next, err := g.Admit(t.Context(), request("next"), func(r chat.AdmitRequest, s chat.AdmitState) (chat.AdmitPlan, error) {
				plan, err := chat.Admit(r, s)
				if err == nil {
					once.Do(func() {
						go func() {
							_, err := g.RequestStop(context.WithoutCancel(t.Context()), "ann", queued.Run.ID, entry("stop"))
							stopped <- err
						}()
						g.waitFor("the stop, or that it waits", func() bool { return g.waiting() > 0 || len(stopped) > 0 })
					})
				}
				return plan, err
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := <-stopped; err != nil {
				t.Fatal(err)
			}
			var parent string
			if err := g.DB().QueryRow("SELECT parent_id FROM chat_messages WHERE id = $1", next.UserMessage.ID).Scan(&parent); err != nil || parent == queued.Run.ID {
				t.Errorf("the message follows %q, %v, which has left nothing", parent, err)
			}
		})
	}
}

// The same for a page that shows a run which ends while the admission waits for it:
// what is known of the run is read behind its lock.
func TestAdmit_BehindAShownRunThatEnds(t *testing.T) {
	t.Parallel()
	g := &groups{t: t}
	g.Store = migrated(t, sqlstore.Options{URL: testdb.Postgres(t)})
	live, err := g.admit(t.Context(), "ann", "live")
	if err != nil {
		t.Fatal(err)
	}
	tx, err := g.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec("UPDATE chat_runs SET state = 'stopped', ended_at = now() WHERE id = $1", live.Run.ID); err != nil {
		t.Fatal(err)
	}
	next := g.request("ann", "next")
	next.FreshID = "m-fresh"
	next.View = &chat.View{Before: []chat.Shown{{ID: live.UserMessage.ID, Role: chat.User, Text: live.UserMessage.Content}, {ID: live.Run.ID, Role: chat.Assistant}}}
	admitted := make(chan chat.Admitted, 1)
	go func() {
		out, err := g.Admit(t.Context(), next, chat.Admit)
		if err != nil {
			t.Errorf("admit: %v", err)
		}
		admitted <- out
	}()
	g.waitFor("an admission that waits for the run", func() bool { return g.waiting() > 0 })
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if m := (<-admitted).UserMessage; m.ParentID != live.UserMessage.ID {
		t.Errorf("the message follows %q", m.ParentID)
	}
}

// Where each statement with rows is a round trip, turns are not grouped.
func TestGroup_NotWithoutPreparedStatements(t *testing.T) {
	t.Parallel()
	g := &groups{t: t}
	g.Store = migrated(t, sqlstore.Options{URL: testdb.Postgres(t), ExecMode: "exec", Hooks: []bun.QueryHook{g}})
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() { g.turn(fmt.Sprintf("user-%d", i), "first") })
	}
	all.Wait()
	if g.grouped.Load() > 0 {
		t.Errorf("%d queries of groups", g.grouped.Load())
	}
}

// waiting counts the sessions that wait for a lock in this database of Postgres.
func (g *groups) waiting() (n int) {
	err := g.DB().QueryRow("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&n)
	if err != nil {
		g.t.Error(err)
	}
	return n
}
