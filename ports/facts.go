package ports

import (
	"fmt"
	"time"

	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
)

// MetadataTrace is where a run keeps the trace of the request that began it, in
// W3C form, until it ends.
const MetadataTrace = "trace"

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
		RunID         string
		SinceAccepted time.Duration
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
	// RunJoined: a request is about a run that another request began.
	RunJoined struct {
		Run chat.Run
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
	// RequestFailed: a request was answered with an error that is ours, not its
	// caller's. Err is for operators.
	RequestFailed struct {
		Route string // "POST /api/chat/messages", "" when none was found
		Sends bool   // it asked for a reply
		Kind  fault.Kind
		Err   error
	}
	// FollowerLeft: somebody who followed a reply went away or was sent away.
	FollowerLeft struct {
		Reason string // done, client_gone, write_timeout, shutdown, revoked
	}
	// ProviderAsked: one call to one provider has ended.
	ProviderAsked struct {
		Provider, Model string
		Kind            AttemptKind
		Reason          string        // "" when the reply is whole
		Took            time.Duration // of the call
		FirstToken      time.Duration // from its beginning; 0 when none came
	}
	// BreakerChanged: a provider's breaker went from one state to another.
	BreakerChanged struct {
		Provider, Model string
		From, To        string // closed, half-open, open
	}
	// ProviderSkipped: a provider was not asked.
	ProviderSkipped struct {
		Provider, Model string
		Reason          string // breaker_open, saturated, retry_budget
	}
	// ProviderHeadroom: how much of a rate limit a provider says is left.
	ProviderHeadroom struct {
		Provider string
		Kind     string  // requests, tokens
		Ratio    float64 // 0 to 1
	}
	// AuditSealed: an instance has looked for audit entries to seal.
	AuditSealed struct {
		Seq   int64         // the link that it made last; 0: none yet
		Links int           // made now
		Lag   time.Duration // how long the oldest entry had waited
	}
	// BackgroundFailed: work that belongs to no request went wrong.
	BackgroundFailed struct {
		Task string
		Err  error
	}
)

// AttemptKind says why a provider was asked.
type AttemptKind string

const (
	FirstAttempt AttemptKind = "first"
	RetryAttempt AttemptKind = "retry"    // the same provider again
	Fallback     AttemptKind = "fallback" // another provider instead
)

// Panic is a recovered panic as an error. Error names the value's type only,
// since the value itself may hold anything.
type Panic struct {
	Value any
	Stack []byte
}

func (p Panic) Error() string { return fmt.Sprintf("panic: %T", p.Value) }
