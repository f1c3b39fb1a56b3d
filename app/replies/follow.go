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

// EventKind is what a follower is told.
type EventKind string

const (
	EventStart     EventKind = "start"     // at cursor 0
	EventDelta     EventKind = "delta"     // at the cursor behind the piece
	EventEnd       EventKind = "end"       // one past the last byte: the terminal state
	EventIdle      EventKind = "idle"      // nothing new; a sign of life is due
	EventReconnect EventKind = "reconnect" // this instance lets go; ask again from the same cursor
)

// Event is one step of following a run.
type Event struct {
	Kind        EventKind
	Cursor      chat.Cursor
	Delta       chat.Delta
	Run         chat.Run
	UserMessage chat.Message // Start: what is answered; zero when it is gone
	Message     chat.Message // End: what was made; zero when the run left no text
}

// Follow yields what a follower at cursor after has yet to see of a run, and
// ends behind the terminal event. It yields nothing at all when the cursor is
// already there, and an error only instead of the first event. A run of
// somebody else is as unknown as one that does not exist.
func (s *Service) Follow(ctx context.Context, p access.Principal, id string, after chat.Cursor) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if !p.Known() || !chat.ValidID(id) {
			yield(Event{}, noMessage())
			return
		}
		run, err := s.Store.Run(ctx, p.UserID, id)
		if err != nil {
			yield(Event{}, err)
			return
		}
		if err := run.CheckCursor(after); err != nil {
			yield(Event{}, err)
			return
		}
		s.Observer.Observe(ctx, ports.RunJoined{Run: run})
		if run.State.Terminal() && after > run.Output.Len() {
			return
		}
		if after >= 0 {
			s.follow(ctx, run, after, yield)
			return
		}
		// Best effort: a start without its message is still a start.
		message, _ := s.Store.Message(ctx, run.UserID, run.ParentID)
		s.fromStart(ctx, run, message, yield)
	}
}

// FollowTurn follows the run of a turn from its start, as Follow does, without
// asking the store for what the turn says.
func (s *Service) FollowTurn(ctx context.Context, p access.Principal, turn Turn) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if !p.Known() || turn.Run.UserID != p.UserID {
			yield(Event{}, noMessage())
			return
		}
		s.fromStart(ctx, turn.Run, turn.UserMessage, yield)
	}
}

func (s *Service) fromStart(ctx context.Context, run chat.Run, asked chat.Message, yield func(Event, error) bool) {
	if yield(Event{Kind: EventStart, Run: run, UserMessage: asked}, nil) {
		s.follow(ctx, run, chat.Before, yield)
	}
}

// follow yields what comes after a cursor, the start excepted.
func (s *Service) follow(ctx context.Context, run chat.Run, after chat.Cursor, yield func(Event, error) bool) {
	defer s.watchTask(run)()
	watch := s.Feed.Watch(ctx, run.UserID, run.ID)
	defer watch.Close()

	cursor := max(after, 0)
	greet := after >= 0 // a sign of life opens the stream of one who resumes
	view := ports.Progress{Attempt: run.Attempt, State: run.State, Output: run.Output}
	if run.State.Terminal() {
		view.Ended = &run
	}
	idle := time.NewTimer(s.opt.Idle)
	defer idle.Stop()
	poll := time.NewTimer(s.opt.Poll)
	defer poll.Stop()
	letGo := false
	for {
		held := false
		if p, ok := watch.Latest(ctx); ok && p.Attempt >= view.Attempt {
			held = true
			if p.State.Terminal() || p.Output.Len() > view.Output.Len() {
				view = p
			}
		}
		if view.State.Terminal() && view.Ended == nil { // it ended elsewhere: the store knows how
			if ended, err := s.Store.Run(ctx, run.UserID, run.ID); err == nil && ended.State.Terminal() {
				view.Ended, view.Output = &ended, ended.Output
			}
		}
		deltas, err := view.Output.After(cursor)
		if err != nil { // the text was replaced under us: the follower must begin anew
			yield(Event{Kind: EventReconnect, Cursor: cursor, Run: run}, nil)
			return
		}
		for _, d := range deltas {
			cursor = d.End
			if !yield(Event{Kind: EventDelta, Cursor: cursor, Delta: d, Run: run}, nil) {
				return
			}
		}
		if view.State.Terminal() && view.Ended != nil {
			yield(s.end(ctx, view), nil)
			return
		}
		if letGo { // and what could still be shown has been
			yield(Event{Kind: EventReconnect, Cursor: cursor, Run: run}, nil)
			return
		}
		if greet && len(deltas) == 0 && !yield(Event{Kind: EventIdle, Cursor: cursor, Run: run}, nil) {
			return
		}
		greet = false
		if len(deltas) > 0 {
			idle.Reset(s.opt.Idle)
		}
		if !held {
			poll.Reset(s.opt.Poll)
		} else {
			poll.Reset(s.opt.Idle)
		}

		select {
		case <-watch.Changed():
		case <-poll.C: // the feed does not hold the run, or has been quiet for long
			now, err := s.Store.Run(ctx, run.UserID, run.ID)
			switch {
			case fault.Is(err, fault.NotFound): // deleted with its conversation
				gone := run
				gone.State = chat.Stopped
				yield(Event{Kind: EventEnd, Cursor: cursor + 1, Run: gone}, nil)
				return
			case err == nil && (now.State.Terminal() || now.Attempt > view.Attempt || now.Output.Len() > view.Output.Len()):
				view = ports.Progress{Attempt: now.Attempt, State: now.State, Output: now.Output}
				if now.State.Terminal() {
					view.Ended = &now
				}
			}
		case <-idle.C:
			idle.Reset(s.opt.Idle)
			if !yield(Event{Kind: EventIdle, Cursor: cursor, Run: run}, nil) {
				return
			}
		case <-s.released:
			letGo = true
		case <-s.drainingElsewhere(run.ID):
			letGo = true
		case <-ctx.Done():
			return
		}
	}
}

// end returns the terminal event of a run that has ended.
func (s *Service) end(ctx context.Context, view ports.Progress) Event {
	run := *view.Ended
	e := Event{Kind: EventEnd, Cursor: view.Output.Len() + 1, Run: run}
	switch {
	case view.Message != nil:
		e.Message = *view.Message
	case view.Output.Text != "":
		e.Message, _ = s.Store.Message(ctx, run.UserID, run.ID)
	}
	return e
}

// watchTask tells the recorder that somebody waits for a run that is made
// here; the returned function takes it back.
func (s *Service) watchTask(run chat.Run) func() {
	t := s.roster.get(run.ID)
	if t == nil {
		return func() {}
	}
	count := func(n int) {
		t.mu.Lock()
		t.watchers += n
		t.mu.Unlock()
	}
	count(1)
	s.rec.wake()
	return func() { count(-1) }
}

// drainingElsewhere is the draining signal for followers of runs that other
// instances make: nothing here is worth waiting for. Runs made here are
// followed to their end.
func (s *Service) drainingElsewhere(id string) <-chan struct{} {
	if s.roster.get(id) != nil {
		return nil
	}
	return s.draining
}

// Reply is a finished turn.
type Reply struct {
	UserMessage      chat.Message
	AssistantMessage chat.Message
	Run              chat.Run
	Replayed         bool
}

// Wait returns when the run of a turn has ended with text. A run that ended
// without is an AIFailed or AIUnavailable fault whose Details hold userMessage
// (a chat.Message) and runId; the message is kept and the run can be
// regenerated.
func (s *Service) Wait(ctx context.Context, p access.Principal, turn Turn) (Reply, error) {
	reply := Reply{UserMessage: turn.UserMessage, Run: turn.Run, Replayed: turn.Replayed}
	if turn.Run.UserID != p.UserID {
		return Reply{}, noMessage()
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

// await follows a run to its end without counting as somebody who watches.
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
			ended = s.roster.get(run.ID) == nil // not made here: the store must be asked
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
	switch {
	case run.State == chat.Stopped:
		return fault.New(fault.Conflict, "The reply was stopped before it began")
	case run.Failure == FailureUnavailable:
		return fault.New(fault.AIUnavailable, "No AI provider is available at the moment; your message is kept").
			After(cmp.Or(run.RetryAfter, 5*time.Second))
	}
	return fault.New(fault.AIFailed, "The AI could not finish its reply; your message is kept")
}
