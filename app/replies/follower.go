package replies

import (
	"cmp"
	"context"
	"iter"
	"time"

	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// EventKind is the kind of an Event.
type EventKind string

const (
	EventStart     EventKind = "start"     // at cursor 0
	EventDelta     EventKind = "delta"     // at the cursor behind the piece
	EventEnd       EventKind = "end"       // one past the last byte: the terminal state
	EventIdle      EventKind = "idle"      // nothing new; a sign of life is due
	EventReconnect EventKind = "reconnect" // this instance lets go; ask again from the same cursor
	EventParked    EventKind = "parked"    // of FollowOrPark: go on with Event.Parked
)

// Event is one event of a followed run.
type Event struct {
	Kind        EventKind
	Cursor      chat.Cursor
	Delta       chat.Delta
	Run         chat.Run
	UserMessage chat.Message // Start: what is answered; zero when it is gone
	Message     chat.Message // End: what was made; zero when the run left no text
	Parked      *Parked      // Parked: the follower
}

// Follow yields what comes after a cursor in a run, up to and including its end. It
// yields nothing when the cursor is behind the end, and an error only instead of
// the first event: NotFound also for another user's run.
func (s *Service) Follow(ctx context.Context, p access.Principal, id string, after chat.Cursor) iter.Seq2[Event, error] {
	return s.followRun(ctx, p, id, after, false)
}

// FollowOrPark follows as Follow does. While the run is silent it yields an
// EventParked, and nothing after it: what comes then is yielded by the follower
// that the event holds, which needs little memory until then.
func (s *Service) FollowOrPark(ctx context.Context, p access.Principal, id string, after chat.Cursor) iter.Seq2[Event, error] {
	return s.followRun(ctx, p, id, after, true)
}

func (s *Service) followRun(ctx context.Context, p access.Principal, id string, after chat.Cursor, parks bool) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if !p.Known() || !chat.ValidID(id) {
			yield(Event{}, chat.MessageNotFound())
			return
		}
		run, err := s.Store.Run(ctx, p.UserID, id)
		if err != nil {
			yield(Event{}, err)
			return
		}
		reader, err := run.Reader(after)
		if err != nil {
			yield(Event{}, err)
			return
		}
		s.Observer.Observe(ctx, ports.RunJoined{Run: run})
		if run.State.Terminal() && after > run.Output.Len() {
			return
		}
		if after >= 0 {
			s.newFollower(ctx, run, reader, true, parks).follow(ctx, yield)
			return
		}
		// Best effort: the start event is valid without its message.
		message, _ := s.Store.Message(ctx, run.UserID, run.ParentID)
		s.fromStart(ctx, run, message, parks, yield)
	}
}

// FollowAccepted follows an admitted run from its start, as Follow does, without
// reading the store first.
func (s *Service) FollowAccepted(ctx context.Context, p access.Principal, turn Accepted) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if !p.Known() || turn.Run.UserID != p.UserID {
			yield(Event{}, chat.MessageNotFound())
			return
		}
		s.fromStart(ctx, turn.Run, turn.UserMessage, false, yield)
	}
}

func (s *Service) fromStart(ctx context.Context, run chat.Run, asked chat.Message, parks bool, yield func(Event, error) bool) {
	if yield(Event{Kind: EventStart, Run: run, UserMessage: asked}, nil) {
		s.newFollower(ctx, run, chat.Reader{}, false, parks).follow(ctx, yield)
	}
}

// follower is one request that follows a run. It repeats three steps: refresh
// takes the newest progress, deliver yields what the reader has not seen, and
// wait blocks until there may be more.
type follower struct {
	s      *Service
	run    chat.Run
	yield  func(Event, error) bool
	watch  ports.Watch
	leave  func()
	idle   *time.Timer // a heartbeat is due
	poll   *time.Timer // the store is to be asked
	reader chat.Reader // of the output; its cursor is what the client has
	view   ports.Progress

	inFeed       bool // the feed holds the run
	resumed      bool // the reader resumes, and gets a heartbeat if there is nothing else
	reconnecting bool // this instance ends the stream: the reader has to connect again
	parks        bool // it may be parked
	quiet        bool // nothing has come since the stream began, or since the last heartbeat
}

// newFollower returns a follower of what comes after the position of a reader, the
// start excepted. It has to follow, or to be closed.
func (s *Service) newFollower(ctx context.Context, run chat.Run, reader chat.Reader, resumed, parks bool) *follower {
	f := &follower{
		s: s, run: run, reader: reader, resumed: resumed, parks: parks, quiet: true,
		watch: s.Feed.Watch(ctx, run.UserID, run.ID), leave: s.countFollower(run),
	}
	f.setView(run)
	return f
}

// follow yields events until the run or the stream has ended, or the follower is
// parked.
func (f *follower) follow(ctx context.Context, yield func(Event, error) bool) {
	f.yield, f.idle, f.poll = yield, time.NewTimer(f.s.opt.Idle), time.NewTimer(f.s.opt.Poll)
	parked := false
	defer func() {
		f.idle.Stop()
		f.poll.Stop()
		f.yield, f.idle, f.poll = nil, nil, nil
		if !parked {
			f.close()
		}
	}()
	for {
		f.refresh(ctx)
		if !f.deliver(ctx) {
			return
		}
		if f.mayPark() {
			parked = true
			f.send(Event{Kind: EventParked, Cursor: f.reader.Cursor(), Parked: &Parked{f: f}})
			return
		}
		if !f.wait(ctx) {
			return
		}
	}
}

func (f *follower) close() {
	f.watch.Close()
	f.leave()
}

// send yields an event of the run, and reports whether the reader wants more.
func (f *follower) send(e Event) bool {
	e.Run = f.run
	return f.yield(e, nil)
}

// setView takes the stored state of the run as its newest progress.
func (f *follower) setView(run chat.Run) {
	f.view = ports.Progress{Attempt: run.Attempt, State: run.State, Output: run.Output}
	if run.State.Terminal() {
		f.view.Ended = &run
	}
}

// refresh takes the newest progress from the feed, and from the store how a run
// has ended on another instance.
func (f *follower) refresh(ctx context.Context) {
	p, ok := f.watch.Latest(ctx)
	f.inFeed = ok && p.Attempt >= f.view.Attempt
	if f.inFeed && (p.State.Terminal() || p.Output.Len() > f.view.Output.Len()) {
		f.view = p
	}
	if f.view.State.Terminal() && f.view.Ended == nil {
		if ended, err := f.s.Store.Run(ctx, f.run.UserID, f.run.ID); err == nil && ended.State.Terminal() {
			f.view.Ended, f.view.Output = &ended, ended.Output
		}
	}
}

// deliver yields the output behind the cursor and, if the run or this stream has
// ended, the last event. It reports whether to go on.
func (f *follower) deliver(ctx context.Context) bool {
	deltas := f.reader.Read(f.view.Output)
	for _, d := range deltas {
		if !f.send(Event{Kind: EventDelta, Cursor: d.End, Delta: d}) {
			return false
		}
	}
	switch {
	case f.view.State.Terminal() && f.view.Ended != nil:
		f.yield(f.s.end(ctx, f.view), nil)
		return false
	case f.reconnecting:
		f.send(Event{Kind: EventReconnect, Cursor: f.reader.Cursor()})
		return false
	case len(deltas) > 0:
		f.quiet = false
		f.idle.Reset(f.s.opt.Idle)
	case f.resumed && !f.sendHeartbeat():
		return false
	}
	f.resumed = false
	return true
}

func (f *follower) sendHeartbeat() bool {
	return f.send(Event{Kind: EventIdle, Cursor: f.reader.Cursor()})
}

// wait blocks until there may be more to deliver. It reports whether to go on.
func (f *follower) wait(ctx context.Context) bool {
	if f.inFeed {
		f.poll.Reset(f.s.opt.Idle)
	} else {
		f.poll.Reset(f.s.opt.Poll)
	}
	select {
	case <-f.watch.Changed():
	case <-f.poll.C:
		return f.pollStore(ctx)
	case <-f.idle.C:
		f.idle.Reset(f.s.opt.Idle)
		f.quiet = true
		return f.sendHeartbeat()
	case <-f.s.released:
		f.reconnecting = true
	case <-f.s.drainingElsewhere(f.run.ID):
		f.reconnecting = true
	case <-ctx.Done():
		return false
	}
	return true
}

// pollStore asks the store about a run that the feed does not hold, or of which
// it has told nothing for long. It reports whether to go on.
func (f *follower) pollStore(ctx context.Context) bool {
	now, err := f.s.Store.Run(ctx, f.run.UserID, f.run.ID)
	switch {
	case fault.Is(err, fault.NotFound): // deleted with its conversation
		f.run.State = chat.Stopped
		f.send(Event{Kind: EventEnd, Cursor: f.reader.Cursor() + 1})
		return false
	case err == nil && (now.State.Terminal() || now.Attempt > f.view.Attempt || now.Output.Len() > f.view.Output.Len()):
		f.setView(now)
	}
	return true
}

// end returns the terminal event of a run that has ended.
func (s *Service) end(ctx context.Context, view ports.Progress) Event {
	run := *view.Ended
	e := Event{Kind: EventEnd, Cursor: view.Output.Len() + 1, Run: run}
	switch {
	case view.Message != nil:
		e.Message = *view.Message
	case !view.Output.Empty():
		e.Message, _ = s.Store.Message(ctx, run.UserID, run.ID)
	}
	return e
}

// countFollower counts a follower of a run that is made here, so that its output
// is recorded sooner; the returned function takes it back.
func (s *Service) countFollower(run chat.Run) func() {
	t := s.registry.get(run.ID)
	if t == nil {
		return func() {}
	}
	count := func(n int) {
		t.mu.Lock()
		t.followers += n
		t.mu.Unlock()
	}
	count(1)
	s.rec.wake()
	return func() { count(-1) }
}

// drainingElsewhere is closed when followers of a run have to connect to another
// instance: at once for runs of other instances, never for runs that are made
// here.
func (s *Service) drainingElsewhere(id string) <-chan struct{} {
	if s.registry.get(id) != nil {
		return nil
	}
	return s.draining
}

// Reply is a message with its finished reply.
type Reply struct {
	UserMessage      chat.Message
	AssistantMessage chat.Message
	Run              chat.Run
	Replayed         bool
}

// Wait returns when an admitted run has ended with text. A run that ended
// without is an AIFailed or AIUnavailable fault whose Details hold userMessage
// (a chat.Message) and runId; the message is kept and the run can be
// regenerated.
func (s *Service) Wait(ctx context.Context, p access.Principal, turn Accepted) (Reply, error) {
	reply := Reply{UserMessage: turn.UserMessage, Run: turn.Run, Replayed: turn.Replayed}
	if turn.Run.UserID != p.UserID {
		return Reply{}, chat.MessageNotFound()
	}
	end, err := s.await(ctx, turn.Run)
	if err != nil {
		return Reply{}, err
	}
	reply.Run, reply.AssistantMessage = end.Run, end.Message
	if reply.AssistantMessage.ID != "" && end.Run.State != chat.Failed {
		return reply, nil
	}
	return Reply{}, unanswered(end.Run).With("userMessage", turn.UserMessage).With("runId", turn.Run.ID)
}

// await waits for the end of a run without counting as a follower.
func (s *Service) await(ctx context.Context, run chat.Run) (end Event, err error) {
	watch := s.Feed.Watch(ctx, run.UserID, run.ID)
	defer watch.Close()
	ended := run.State.Terminal()
	for wait := s.opt.Poll; ; wait = min(2*wait, s.opt.Idle) {
		if p, ok := watch.Latest(ctx); ok && p.State.Terminal() {
			if p.Ended != nil {
				return s.end(ctx, p), nil
			}
			ended = true
		}
		if ended {
			now, err := s.Store.Run(ctx, run.UserID, run.ID)
			if err != nil {
				return Event{}, err
			}
			if now.State.Terminal() {
				return s.end(ctx, ports.Progress{State: now.State, Output: now.Output, Ended: &now}), nil
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-watch.Changed():
			timer.Stop()
			ended = false
		case <-timer.C:
			ended = s.registry.get(run.ID) == nil // made elsewhere: read the store
		case <-s.released:
			timer.Stop()
			return Event{}, errDraining().With("runId", run.ID)
		case <-ctx.Done():
			timer.Stop()
			return Event{}, ctx.Err()
		}
	}
}

// unanswered is the fault of a run that ended without a reply to give.
func unanswered(run chat.Run) *fault.Error {
	if run.State == chat.Stopped {
		return fault.New(fault.Conflict, "The reply was stopped before it began")
	}
	f := Failed(run)
	if f.Kind == fault.AIUnavailable {
		return f.After(cmp.Or(run.RetryAfter, 5*time.Second))
	}
	return f
}

// Failed returns the fault of a run that has failed, by its code.
func Failed(run chat.Run) *fault.Error {
	switch run.Failure {
	case FailureUnavailable:
		return fault.New(fault.AIUnavailable, "No AI provider is available at the moment; your message is kept")
	case FailureFiles:
		return fault.New(fault.AIUnavailable, "The files of this conversation are not available at the moment; your message is kept")
	case FailureFile:
		return fault.New(fault.AIFailed, "The model could not read a file of this conversation; your message is kept")
	}
	return fault.New(fault.AIFailed, "The AI could not finish its reply; your message is kept")
}
