package replies

import (
	"context"
	"iter"
	"slices"
	"time"

	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// RunsEvent says which runs of a user are live and which have ended.
type RunsEvent struct {
	Kind EventKind  // EventStart: the state of things; EventDelta: what changed; EventIdle; EventReconnect
	Runs []chat.Run // without output
}

// ActiveRuns returns the runs of a conversation that have not ended, newest first,
// without output. An unknown conversation has none.
func (s *Service) ActiveRuns(ctx context.Context, p access.Principal, conversation string) ([]chat.Run, error) {
	if !p.Known() || !chat.ValidID(conversation) {
		return nil, chat.ConversationNotFound()
	}
	runs, err := s.Store.Recent(ctx, p.UserID, s.Now())
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(runs, func(r chat.Run) bool { return r.State.Terminal() || r.ConversationID != conversation }), nil
}

// WatchRuns yields the user's live runs, then every run whose state has changed,
// until ctx is done. An error comes only instead of the first event.
func (s *Service) WatchRuns(ctx context.Context, p access.Principal) iter.Seq2[RunsEvent, error] {
	return func(yield func(RunsEvent, error) bool) {
		if !p.Known() {
			yield(RunsEvent{}, fault.New(fault.Unauthenticated, "Authentication required"))
			return
		}
		wake, stop := s.Feed.Listen(ports.TopicUser(p.UserID))
		defer stop()
		// A little of the past is asked for again each time, so that a run
		// that ends between two questions is not missed; known tells repeats.
		const overlap = time.Minute
		known := map[string]chat.State{}
		runs, err := s.Store.Recent(ctx, p.UserID, s.Now())
		if err != nil {
			yield(RunsEvent{}, err)
			return
		}
		for _, r := range runs {
			known[r.ID] = r.State
		}
		since := s.Now()
		if !yield(RunsEvent{Kind: EventStart, Runs: runs}, nil) {
			return
		}
		idle := time.NewTicker(s.opt.Idle)
		defer idle.Stop()
		for {
			beat := false
			select {
			case <-wake:
			case <-idle.C:
				beat = true
			case <-s.draining:
				yield(RunsEvent{Kind: EventReconnect}, nil)
				return
			case <-ctx.Done():
				return
			}
			asked := s.Now()
			runs, err := s.Store.Recent(ctx, p.UserID, since.Add(-overlap))
			if err != nil {
				if ctx.Err() != nil {
					return
				}
				if beat && !yield(RunsEvent{Kind: EventIdle}, nil) {
					return
				}
				continue // the next wake or beat asks again
			}
			changed, now := changes(known, runs, since)
			known, since = now, asked
			switch {
			case len(changed) > 0:
				if !yield(RunsEvent{Kind: EventDelta, Runs: changed}, nil) {
					return
				}
			case beat:
				if !yield(RunsEvent{Kind: EventIdle}, nil) {
					return
				}
			}
		}
	}
}

// changes returns the runs whose state differs from what is known, oldest
// first, and what is known now. A run that ended before since and was never known
// is left out.
func changes(known map[string]chat.State, runs []chat.Run, since time.Time) (changed []chat.Run, now map[string]chat.State) {
	now = make(map[string]chat.State, len(runs))
	for i := len(runs) - 1; i >= 0; i-- {
		r := runs[i]
		now[r.ID] = r.State
		was, seen := known[r.ID]
		switch {
		case seen && was == r.State:
		case !seen && r.State.Terminal() && r.EndedAt.Before(since.Add(-time.Second)):
		default:
			changed = append(changed, r)
		}
	}
	return changed, now
}
