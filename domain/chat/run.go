package chat

import (
	"time"

	"parley/domain/access"
)

// State is the state of a run. See docs/run-states.md for the transitions.
type State string

const (
	Queued      State = "queued"      // admitted, without an owner
	Running     State = "running"     // an instance holds the lease
	Completed   State = "completed"   // the provider said that the reply is whole
	Stopped     State = "stopped"     // the user stopped it; what was shown is kept
	Failed      State = "failed"      // it ended with an error; what was shown is kept
	Interrupted State = "interrupted" // its instance died after text was shown; it can be continued
)

// Terminal reports whether nothing follows this state.
func (s State) Terminal() bool {
	switch s {
	case Completed, Stopped, Failed, Interrupted:
		return true
	}
	return false
}

// CanBecome reports whether a run may go from s to t.
func (s State) CanBecome(t State) bool {
	switch s {
	case Queued:
		return t == Running || t == Stopped || t == Failed
	case Running:
		return t.Terminal()
	}
	return false
}

// Kind says what a run was asked to make.
type Kind string

const (
	Reply        Kind = "reply"        // the answer to a new message
	Regeneration Kind = "regeneration" // another answer to the same message
	Continuation Kind = "continuation" // the rest of an answer that was cut short
)

// Params are the caller's wishes for one reply, already within bounds.
type Params struct {
	Provider    string   `json:"provider,omitempty"`
	Model       string   `json:"model,omitempty"`
	System      string   `json:"system,omitempty"`
	Temperature *float64 `json:"temperature,omitempty"`
	MaxTokens   int      `json:"maxTokens,omitempty"` // output tokens; 0: the provider's default
	Reasoning   string   `json:"reasoning,omitempty"` // "", "low", "medium", "high"
	Priced      bool     `json:"priced,omitempty"`    // only models whose price is known: the user has a budget of money
}

// Usage counts tokens. Input includes what came from or went into a prompt
// cache; Output includes Reasoning.
type Usage struct {
	Input      int64 `json:"input"`
	Output     int64 `json:"output"`
	CacheRead  int64 `json:"cacheRead,omitempty"`
	CacheWrite int64 `json:"cacheWrite,omitempty"`
	Reasoning  int64 `json:"reasoning,omitempty"`
	Estimated  bool  `json:"estimated,omitempty"` // counted by us: the provider did not say
}

// Run is the making of one reply. Its ID is the id of the assistant message
// that it makes.
type Run struct {
	ID             string
	UserID         string
	ConversationID string // "": the default thread
	ParentID       string // the user message it answers
	Kind           Kind
	State          State
	Attempt        int    // fencing: every write names it, and loses to a newer one
	Owner          string // the instance that holds the lease, "" when none does
	LeaseUntil     time.Time
	StopRequested  bool
	Background     bool
	Params         Params
	Prefix         Output // what a continuation starts from; already part of Output
	Output         Output // as far as recorded; of a run that has ended, its message's parts
	Provider       string
	Model          string
	FinishReason   string        // of the provider: stop, length, content_filter ...
	Failure        string        // a code, when State is Failed
	RetryAfter     time.Duration // until trying again makes sense; known only where the run has just failed
	Usage          Usage
	CostMicros     *int64      // millionths of a US dollar; nil: no known price
	Hold           access.Hold // set aside on the user's account until the run ends
	IdempotencyKey string
	Fingerprint    string
	AuditID        string // the entry that Finish completes
	Metadata       map[string]any
	CreatedAt      time.Time
	StartedAt      time.Time // first claimed
	EndedAt        time.Time
}

// Seen reports whether a reader may have seen output of this attempt or an
// earlier one. Output is recorded before it is shown, so nothing recorded
// beyond the prefix means nothing shown.
func (r Run) Seen() bool { return r.Output.Len() > r.Prefix.Len() }

// Fate is what should become of a run whose owner is gone.
type Fate int

const (
	Retry     Fate = iota // no output was shown: ask the provider again
	Interrupt             // output may have been shown: keep it, let the user continue
	GiveUp                // tried too often
	Halt                  // the user had asked to stop
)

// Fate decides about a run that has just been claimed; r.Attempt already
// counts the claiming attempt.
func (r Run) Fate(maxAttempts int) Fate {
	switch {
	case r.StopRequested:
		return Halt
	case r.Seen():
		return Interrupt
	case r.Attempt > maxAttempts:
		return GiveUp
	}
	return Retry
}

// Checkpoint is what one live run has produced since it was last recorded.
type Checkpoint struct {
	UserID  string
	RunID   string
	Attempt int
	At      Cursor // the length of the output that is recorded
	New     Output // what follows; more of it may be recorded already, if the store did not answer
}

// Outcome is all that must be durable before the end of a run is told.
type Outcome struct {
	UserID         string
	RunID          string
	Attempt        int
	ConversationID string
	ParentID       string
	AuditID        string
	State          State // terminal
	Output         Output
	Provider       string
	Model          string
	FinishReason   string
	Failure        string
	RetryAfter     time.Duration // told to those who wait for the run, not stored
	Usage          Usage
	CostMicros     *int64
	Metadata       map[string]any // of the assistant message: strings, numbers, booleans, and lists of them
	At             time.Time
}

// Message returns the assistant message that the outcome leaves behind; ok is
// false when the run ended without text, a file or a call, which leaves none.
func (o Outcome) Message() (m Message, ok bool) {
	parts := o.Output.Parts()
	for _, p := range parts {
		ok = ok || p.Kind == TextPart || p.Kind == FilePart || p.Kind == ToolCallPart
	}
	if !ok {
		return Message{}, false
	}
	m = Message{
		ID: o.RunID, UserID: o.UserID, ConversationID: o.ConversationID, ParentID: o.ParentID,
		Role: Assistant, CreatedAt: o.At,
	}
	m.Metadata, _ = EncodeMetadata(o.Metadata) // what it holds can always be
	m.SetParts(parts)
	return m, true
}
