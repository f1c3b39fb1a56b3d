package ports

import (
	"fmt"
	"time"

	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/domain/webhook"
)

// MetadataTrace is the key of a run's metadata that holds the trace of the request
// that started it, in W3C form, until the run ends.
const MetadataTrace = "trace"

// Events for the Observer. None of them has message text.
type (
	// RunStarted: an instance started to make a reply.
	RunStarted struct {
		Run     chat.Run // without output
		Waited  time.Duration
		Recover bool // taken over from an instance that stopped or crashed
	}
	// FirstEvent: the first output of a reply was recorded and can be shown.
	FirstEvent struct {
		RunID         string
		SinceAccepted time.Duration
	}
	// RunFinished: the terminal state of a run was committed.
	RunFinished struct {
		RunID, UserID   string
		State           chat.State
		Provider, Model string
		Failure         string // a code, when State is failed
		Reason          string // a code from the provider or the breaker
		FinishReason    string
		Usage           chat.Usage
		CostMicros      *int64
		Attempt         int
		Duration        time.Duration // since accepted
		Cached          bool
		Demo            bool
	}
	// TitleGenerated: a model was asked to name a conversation.
	TitleGenerated struct {
		Provider, Model string
		Usage           chat.Usage
		CostMicros      *int64
	}
	// RunJoined: a request reads or changes a run that another request started.
	RunJoined struct {
		Run chat.Run
	}
	// RunFenced: a newer attempt took a run over from this instance.
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
	// LimitDecided: a limiter decided about a request.
	LimitDecided struct {
		Scope    string // coarse, send
		Tier     access.Tier
		Decision access.Decision
	}
	// Refused: a request was refused before it had a run.
	Refused struct {
		Kind   fault.Kind
		Tier   access.Tier
		UserID string // "" if not authenticated
	}
	// RequestFailed: a request failed because of an internal error. Err is for
	// operators.
	RequestFailed struct {
		Route string // "POST /api/chat/messages"; "" if none matched
		Sends bool   // the route starts a reply
		Kind  fault.Kind
		Err   error
	}
	// FollowerLeft: a stream of a reply ended.
	FollowerLeft struct {
		Reason string // done, client_gone, write_timeout, shutdown, revoked
	}
	// ProviderAsked: a call of a provider ended.
	ProviderAsked struct {
		Provider, Model string
		Kind            AttemptKind
		Reason          string        // "" if the reply is complete
		Took            time.Duration // of the call
		FirstToken      time.Duration // since the call started; 0 if there was none
	}
	// BreakerChanged: a provider's breaker changed its state.
	BreakerChanged struct {
		Provider, Model string
		From, To        string // closed, half-open, open
	}
	// ProviderSkipped: a provider was not called.
	ProviderSkipped struct {
		Provider, Model string
		Reason          string // breaker_open, saturated, retry_budget, disabled
	}
	// ProviderHeadroom: a provider reported the remaining part of its rate limit.
	ProviderHeadroom struct {
		Provider string
		Kind     string  // requests, tokens
		Ratio    float64 // 0 to 1
	}
	// FeedbackGiven: a user rated a reply.
	FeedbackGiven struct {
		Provider, Model string // of the reply
		Rating          chat.Rating
	}
	// AuditSealed: an instance sealed the audit entries that were waiting, if any.
	AuditSealed struct {
		Seq   int64         // number of its last link; 0: none yet
		Links int           // made now
		Lag   time.Duration // age of the oldest unsealed entry
	}
	// FileUploaded: a file was stored.
	FileUploaded struct {
		MediaType string
		Bytes     int64
		Took      time.Duration
	}
	// FilesSwept: an instance has looked for files to delete.
	FilesSwept struct {
		Expired int // marked as deleted because no message referred to them
		Deleted int // blobs and rows of files that were marked as deleted
		Orphans int // blobs without a row, which were deleted
		Lost    int // ready files whose blob is missing
		Found   int // lost files whose blob is there again
	}
	// WebhookSent: the receiver of webhooks was asked to accept an event. Delivery
	// says what has become of it.
	WebhookSent struct {
		Delivery webhook.Delivery // without secrets or message text
		Took     time.Duration
		Again    time.Duration // until it is sent again, if it is pending
	}
	// SwitchChanged: this instance has read that an operator disabled or enabled
	// chat or a provider.
	SwitchChanged struct {
		Provider string // "": chat as a whole
		Disabled bool
	}
	// BackgroundFailed: background work failed.
	BackgroundFailed struct {
		Task string
		Err  error
	}
)

// AttemptKind is why a provider was called.
type AttemptKind string

const (
	FirstAttempt AttemptKind = "first"
	RetryAttempt AttemptKind = "retry"    // the same provider again
	Fallback     AttemptKind = "fallback" // another provider instead
)

// Panic is a recovered panic as an error. Error names the value's type only,
// since the value may hold message text.
type Panic struct {
	Value any
	Stack []byte
}

func (p Panic) Error() string { return fmt.Sprintf("panic: %T", p.Value) }
