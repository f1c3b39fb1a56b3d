package replies_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"parley/adapters/memory"
	"parley/adapters/sqlstore"
	"parley/app/replies"
	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/platform/testing/testdb"
	"parley/ports"
	"parley/ports/portstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ann = access.Principal{UserID: "ann", Tier: access.Authenticated}

// bench is a real store and a scripted model, and as many instances on them as
// a test wants.
type bench struct {
	t     testing.TB
	store *sqlstore.Store
	model *portstest.Scripted
	facts chan any
}

func setup(t testing.TB) *bench {
	t.Helper()
	store, err := sqlstore.Open(t.Context(), sqlstore.Options{URL: testdb.SQLite(t), Timeout: time.Minute, AcquireTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if _, err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, store: store, model: portstest.NewScripted(t), facts: make(chan any, 4096)}
}

// Observe collects facts.
func (b *bench) Observe(_ context.Context, event any) {
	select {
	case b.facts <- event:
	default:
	}
}

// quick are options with which a test sees within milliseconds what takes
// seconds in production. Leases stay long unless a test is about them.
func quick() replies.Options {
	return replies.Options{
		Heartbeat: 20 * time.Millisecond, Sweep: 30 * time.Millisecond, Checkpoint: 20 * time.Millisecond,
		Eager: 5 * time.Millisecond, Poll: 20 * time.Millisecond, ShutdownTimeout: time.Second, Lease: 20 * time.Second,
	}
}

// instance is one Parley among several on the same store.
type instance struct {
	*replies.Service
	stop func() // SIGTERM: returns when it has drained
}

// start runs an instance with a feed of its own.
func (b *bench) start(opt replies.Options, change ...func(*replies.Deps)) instance {
	b.t.Helper()
	s := b.instance(opt, change...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(ctx) }()
	stop := func() { cancel(); <-done }
	b.t.Cleanup(stop)
	return instance{s, stop}
}

// dead is an instance that admits and asks, and then never renews a lease,
// records output or ends anything: as if killed, but still writing late.
func (b *bench) dead(opt replies.Options, change ...func(*replies.Deps)) *replies.Service {
	opt.ShutdownTimeout = 100 * time.Millisecond
	s := b.instance(opt, change...)
	b.t.Cleanup(func() { // bury it: its tasks must not outlive the test
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Serve(ctx)
	})
	return s
}

func (b *bench) instance(opt replies.Options, change ...func(*replies.Deps)) *replies.Service {
	opt.Owner = uuid.NewString()
	deps := replies.Deps{
		Store: b.store, Model: b.model, Feed: memory.NewFeed(), Observer: b, Now: time.Now,
		Tokens: func(s string) int { return len(s) / 4 },
		NewID:  func() string { return uuid.Must(uuid.NewV7()).String() },
	}
	for _, f := range change {
		f(&deps)
	}
	return replies.New(deps, opt)
}

func (b *bench) send(s *replies.Service, in replies.Send) replies.Accepted {
	b.t.Helper()
	turn, err := s.Send(b.t.Context(), with(in))
	if err != nil {
		b.t.Fatal(err)
	}
	return turn
}

func with(in replies.Send) replies.Send {
	if in.Principal.UserID == "" {
		in.Principal = ann
	}
	if in.Content == "" {
		in.Content = "Hello"
	}
	return in
}

// conversation makes one for ann.
func (b *bench) conversation() string {
	b.t.Helper()
	id := uuid.NewString()
	now := time.Now()
	_, err := b.store.CreateConversation(b.t.Context(),
		chat.Conversation{ID: id, UserID: ann.UserID, LastMessageAt: now, CreatedAt: now, UpdatedAt: now},
		audit.Entry{ID: uuid.NewString(), UserID: ann.UserID, Action: audit.ActionConversationCreated,
			Resource: audit.ResourceConversation, ResourceID: id, Status: audit.Success, CreatedAt: now, UpdatedAt: now})
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

// run returns a run of ann as the store has it.
func (b *bench) run(id string) chat.Run {
	b.t.Helper()
	run, err := b.store.Run(b.t.Context(), ann.UserID, id)
	if err != nil {
		b.t.Fatal(err)
	}
	return run
}

// until waits until a run of ann is in the state.
func (b *bench) until(id string, state chat.State) chat.Run {
	b.t.Helper()
	var run chat.Run
	b.eventually(func() error {
		if run = b.run(id); run.State != state {
			return fmt.Errorf("run is %s, want %s (failure %q)", run.State, state, run.Failure)
		}
		return nil
	})
	return run
}

func (b *bench) eventually(holds func() error) {
	b.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// reader follows a run as a client would, and keeps what it has seen.
type reader struct {
	b      *bench
	id     string
	cursor chat.Cursor
	got    chat.OutputLog
	kinds  []replies.EventKind
	end    replies.Event
}

func (b *bench) reader(id string) *reader { return &reader{b: b, id: id, cursor: chat.Before} }

// read takes events until enough says so, the run has ended, or the instance lets go.
func (r *reader) read(s *replies.Service, enough func() bool) {
	r.b.t.Helper()
	ctx, cancel := context.WithTimeout(r.b.t.Context(), time.Minute)
	defer cancel()
	next, stop := iter.Pull2(s.Follow(ctx, ann, r.id, r.cursor))
	defer stop()
	for {
		e, err, ok := next()
		if err != nil {
			r.b.t.Fatal(err)
		}
		if ctx.Err() != nil {
			r.b.t.Fatalf("still following after a minute; seen %q", r.got.Output())
		}
		if !ok {
			return
		}
		if e.Kind == replies.EventIdle {
			continue
		}
		if e.Cursor < r.cursor || (e.Cursor == r.cursor && e.Kind != replies.EventReconnect) {
			r.b.t.Fatalf("cursor went from %d to %d with %s", r.cursor, e.Cursor, e.Kind)
		}
		r.cursor = e.Cursor
		r.kinds = append(r.kinds, e.Kind)
		switch e.Kind {
		case replies.EventDelta:
			r.got.Append(e.Delta)
		case replies.EventEnd:
			r.end = e
		}
		if enough != nil && enough() {
			return
		}
	}
}

func (r *reader) hasSeen(text string) func() bool {
	return func() bool { return strings.HasPrefix(r.got.Output().Text(), text) }
}

// flaky fails some calls of a real store, as a database does that goes away.
type flaky struct {
	replies.Store
	finish     chan error // each takes one Finish call
	checkpoint chan error
}

func (f flaky) Finish(ctx context.Context, o chat.Outcome, decide ports.FinishDecision) (bool, error) {
	select {
	case err := <-f.finish:
		return false, err
	default:
		return f.Store.Finish(ctx, o, decide)
	}
}

func (f flaky) Checkpoint(ctx context.Context, owner string, points []chat.Checkpoint) ([]string, error) {
	select {
	case err := <-f.checkpoint:
		return nil, err
	default:
		return f.Store.Checkpoint(ctx, owner, points)
	}
}

var errAway = errors.New("connection refused")

var _ ports.Observer = (*bench)(nil)
