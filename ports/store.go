// Package ports states what the use cases need from the world, and nothing
// about how it is done. All ports are outbound. Every method that reads or
// writes a user's rows names the user; a row of another user, an unknown id
// and a malformed one are the same fault.NotFound.
package ports

import (
	"context"
	"time"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
)

// Runs stores runs, for the services that make replies. Each method is one
// transaction. Leases are on the database's clock.
type Runs interface {
	// Admit loads the state that decide asks for, and makes its plan durable as a
	// whole, before a provider is asked. It calls decide again when decide asks for
	// more state, and after a conflict. Faults: those of decide, and Invalid for
	// text that cannot be stored.
	Admit(ctx context.Context, request chat.AdmitRequest, decide AdmitDecision) (chat.Admitted, error)
	// Resume returns what is needed to make the reply of a claimed run: its
	// conversation and the branch up to its parent, oldest first, at most n.
	Resume(ctx context.Context, run chat.Run, n int) (chat.Conversation, []chat.Message, error)
	// Checkpoint records what live runs have produced, in one statement, at a cost
	// that grows with what is new. Output from At on is replaced: a repeat of a
	// checkpoint that was recorded without an answer changes nothing. It returns
	// the runs that it refused because a newer attempt exists or they have ended.
	Checkpoint(ctx context.Context, owner string, points []chat.Checkpoint) (fenced []string, err error)
	// Heartbeat returns the runs whose lease owner holds (ID, UserID, Attempt,
	// StopRequested set), and renews to now+lease those that are among made and of
	// which a third has passed. The others expire: their owner does not know that
	// it holds them. It is called often, to learn of stops, and mostly reads.
	Heartbeat(ctx context.Context, owner string, made []string, lease time.Duration) ([]chat.Run, error)
	// Finish loads the state of a run and makes the plan of decide durable: state,
	// message, thread, audit entry, usage. It reports whether another run
	// waits in the conversation. Faults: those of decide; Fenced when a newer
	// attempt exists or the run has ended.
	Finish(ctx context.Context, o chat.Outcome, decide FinishDecision) (waiting bool, err error)
	// Claim takes at most n runs without a working owner: queued ones whose
	// conversation has no live run, and those whose lease has expired. Attempt
	// counts the claim.
	Claim(ctx context.Context, owner string, lease time.Duration, n int) ([]chat.Run, error)
	// Release gives up owner's leases on the named runs, so that another instance may
	// claim them at once.
	Release(ctx context.Context, owner string, ids []string) error
	// RequestStop asks the owner of a run to stop it, ends it if it is still
	// queued, and records the audit entry. It returns the run afterwards.
	// Requests for a run that is stopping or has ended are not errors.
	RequestStop(ctx context.Context, user, id string, audit audit.Entry) (chat.Run, error)
	// Run returns a run with its output: as recorded when it is live or left no
	// message, else the parts of its message.
	Run(ctx context.Context, user, id string) (chat.Run, error)
	// Recent returns the user's live runs and those that ended after since,
	// newest first, at most 100, without output.
	Recent(ctx context.Context, user string, since time.Time) ([]chat.Run, error)
}

// AdmitDecision decides an admission by the state that is loaded. A *chat.Needs
// error asks for more. Production passes chat.Admit.
type AdmitDecision func(chat.AdmitRequest, chat.AdmitState) (chat.AdmitPlan, error)

// FinishDecision decides how a run ends. Production passes chat.Finish.
type FinishDecision func(chat.Outcome, chat.FinishState) (chat.FinishPlan, error)

// Page selects a part of a list that is ordered newest first. Offset counts from
// the newest; Before and After are positions from an earlier result, which they
// exclude. At most one of the three is set.
type Page struct {
	Limit         int
	Offset        int
	Before, After *Position
}

// Position is a place in the order (time, id).
type Position struct {
	At time.Time
	ID string
}

// History stores conversations and messages.
type History interface {
	CreateConversation(ctx context.Context, c chat.Conversation, audit audit.Entry) (chat.Conversation, error)
	// UpdateConversation sets what is not nil.
	UpdateConversation(ctx context.Context, user, id string, change ConversationChange, audit audit.Entry) (chat.Conversation, error)
	// StopConversation asks the running replies of a conversation to stop and
	// ends those that wait. It returns how many are running.
	StopConversation(ctx context.Context, user, id string, at time.Time) (running int, err error)
	// DeleteConversation removes it with its messages and runs. Use of a reply
	// that is still being made is estimated by what is recorded of it; the owner
	// of the run finds it gone at the next heartbeat.
	DeleteConversation(ctx context.Context, user, id string, audit audit.Entry) error
	Conversation(ctx context.Context, user, id string) (chat.Conversation, error)
	// Conversations lists by last message. more says whether there are further ones.
	Conversations(ctx context.Context, user string, page Page) (list []chat.Conversation, more bool, err error)
	// Messages lists a conversation's messages, or the default thread's when
	// conversation is "": the newest page, oldest first, each with its siblings.
	// NotFound when the conversation is not the user's.
	Messages(ctx context.Context, user, conversation string, page Page) (list []chat.Message, more bool, err error)
	// Branch lists the messages from leaf towards the root, as Messages does;
	// leaf "current" is the thread's own.
	Branch(ctx context.Context, user, conversation, leaf string, limit int) (list []chat.Message, more bool, err error)
	// Message returns one message.
	Message(ctx context.Context, user, id string) (chat.Message, error)
}

// ConversationChange is what to set on a conversation; nil leaves it as it is.
type ConversationChange struct {
	Title, System, Model *string
	Now                  time.Time
}

// Audit stores audit entries.
type Audit interface {
	// Record writes entries that belong to no other transaction. An entry whose
	// id exists already is left as it is, so that a refusal can be recorded once
	// per window by naming the window in its id.
	Record(ctx context.Context, entries ...audit.Entry) error
}

// Owned names a row and its owner.
type Owned struct{ UserID, ID string }

// Expiry deletes expired data.
type Expiry interface {
	// Expired lists conversations that have reached their ExpiresAt, or whose
	// last message was before a moment (zero: only the former), at most n.
	Expired(ctx context.Context, now, before time.Time, n int) ([]Owned, error)
	// ExpireThreads deletes messages of default threads older than a moment,
	// with the runs that answered them, at most n messages. It returns how many.
	ExpireThreads(ctx context.Context, before time.Time, n int) (int, error)
	// ExpireShares deletes at most n shares that have expired at now. It returns
	// how many.
	ExpireShares(ctx context.Context, now time.Time, n int) (int, error)
	// ExpireErased deletes what is remembered of erased users and is not needed
	// any more at now. It returns how many rows.
	ExpireErased(ctx context.Context, now time.Time) (int, error)
}

// Accounts reads what users have used.
type Accounts interface {
	// Usage returns what a user has used and set aside in the day and month of at.
	Usage(ctx context.Context, user string, at time.Time) (access.Usage, error)
}
