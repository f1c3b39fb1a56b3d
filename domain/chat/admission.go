package chat

import (
	"time"

	"parley/domain/access"
	"parley/domain/audit"
)

// WhenBusy says what to do with a message for a conversation that has a live run.
type WhenBusy string

const (
	Reject    WhenBusy = "reject"    // refuse with Busy
	Queue     WhenBusy = "queue"     // answer it when the live run has ended
	Supersede WhenBusy = "interrupt" // stop the live run, then answer it
)

// IdempotencyTTL is how long a key is remembered.
const IdempotencyTTL = 24 * time.Hour

// Admission is everything that must be durable before a provider is asked. It
// commits as a whole or not at all.
type Admission struct {
	Run Run // ID, UserID, ConversationID, Kind, Params, Background, key and fingerprint set
	// Message is the user's message; nil when the run answers one that exists
	// (regenerate, continue), which Run.ParentID then names.
	Message *Message
	// ParentOf, if set, gives the new message the parent of this one: an edit.
	ParentOf string
	// Source, if set, is the assistant message to regenerate or continue, or the
	// user message to regenerate the reply to; the store fills Run.ParentID from
	// it, and Run.Prefix when the run continues it. With neither a source, a
	// message nor a Run.ParentID, it is the end of the conversation.
	Source string
	// Leaf makes the new message a child of this one rather than of the
	// conversation's current leaf.
	Leaf string
	// CreateConversation makes an unknown conversation instead of refusing it.
	CreateConversation bool
	WhenBusy           WhenBusy
	// OnlyReplay, if set, is the refusal for a request that is not a repeat:
	// the caller's limit is spent, but a known key is still served.
	OnlyReplay error

	// Budget bounds what the user may use; Run.Hold is set aside from it.
	Budget access.Budget

	Audit    audit.Entry   // Pending; its ID is Run.AuditID
	Owner    string        // takes the lease at once; "" leaves the run queued
	Lease    time.Duration // on the database's clock
	MaxQueue int           // background runs that may wait, over all users
	Context  int           // at most so many messages of the branch are returned
	Now      time.Time
}

// Admitted is what came of an admission.
type Admitted struct {
	Replayed     bool // the key was known: Run is the first one, as it stands now
	Run          Run
	UserMessage  Message
	Conversation Conversation     // zero for the default thread
	Context      []Message        // the branch up to and including the user message, oldest first, without metadata but for that one's; nil when replayed
	Left         access.Remaining // of the budget, this run's hold taken off; zero when unbounded or replayed
	Superseded   string           // the live run that was asked to stop, with WhenBusy Supersede
}
