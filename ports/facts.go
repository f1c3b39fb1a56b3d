package ports

import (
	"fmt"
	"time"

	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
)

// Facts for the Observer. None holds message text.
type (
	// RunStarted: an instance begins to make a reply.
	RunStarted struct {
		Run     chat.Run // without output
		Waited  time.Duration
		Recover bool // claimed from an owner that is gone
	}
	// FirstEvent: the first piece of a reply could be shown.
	FirstEvent struct {
		RunID           string
		Provider, Model string
		SinceAccepted   time.Duration
	}
	// RunFinished: a run reached its terminal state, durably.
	RunFinished struct {
		RunID, UserID   string
		State           chat.State
		Provider, Model string
		Failure         string // a code, when State is failed
		Reason          string // what the provider or the breaker said, as a code
		FinishReason    string
		Usage           chat.Usage
		CostMicros      *int64
		Attempt         int
		Duration        time.Duration // since accepted
		Cached          bool
		Demo            bool
	}
	// RunFenced: this instance lost a run to a newer attempt and dropped its work.
	RunFenced struct {
		RunID   string
		Attempt int
	}
	// Checkpointed: output of live runs was recorded.
	Checkpointed struct {
		Runs  int
		Bytes int
		Took  time.Duration
		Err   error
	}
	// LimitDecided: a limiter answered.
	LimitDecided struct {
		Scope    string // coarse, send
		Tier     access.Tier
		Decision access.Decision
	}
	// Refused: a request was turned away before it became a run.
	Refused struct {
		Kind   fault.Kind
		Tier   access.Tier
		UserID string // "" for strangers
	}
	// FollowerLeft: somebody who followed a reply went away or was sent away.
	FollowerLeft struct {
		Reason string // done, client_gone, write_timeout, shutdown
	}
	// BackgroundFailed: work that belongs to no request went wrong.
	BackgroundFailed struct {
		Task string
		Err  error
	}
)

// Panic is a recovered panic as an error. Error names the value's type only,
// since the value itself may hold anything.
type Panic struct {
	Value any
	Stack []byte
}

func (p Panic) Error() string { return fmt.Sprintf("panic: %T", p.Value) }
