package ports

import (
	"context"
	"time"

	"parley/domain/audit"
)

// Ledger is the store as the sealer and the verifier of the audit need it.
type Ledger interface {
	// AuditRoot returns the chain's wrapped secret; nil when there is none yet.
	AuditRoot(ctx context.Context) ([]byte, error)
	// SwapAuditRoot replaces old by wrapped; nil stands for none. ok is false
	// when another was there.
	SwapAuditRoot(ctx context.Context, old, wrapped []byte) (ok bool, err error)
	// Unsealed says for how long the oldest committed fact has waited for its
	// place in the chain, by the database's clock. It is cheap.
	Unsealed(ctx context.Context) (age time.Duration, waiting bool, err error)
	// LastLink returns the end of the chain; the zero Link when it is empty.
	LastLink(ctx context.Context) (audit.Link, error)
	// Seal takes at most n facts that wait, oldest first, has them linked behind
	// the end of the chain, and makes the links durable: all or none. It does
	// nothing when somebody else is at it. link may be called more than once;
	// only what it returned last counts.
	Seal(ctx context.Context, n int, link func(last audit.Link, batch []audit.Unsealed) []audit.Link) (sealed []audit.Link, more bool, err error)
	// Inspect shows everything that a verifier must see, as it stood at one
	// moment: first the links, in order, then the lines that lack one.
	Inspect(ctx context.Context, visit func(AuditEvidence) error) error
}

// AuditEvidence is one thing that an inspection comes across: a link with what
// it speaks of, or a line of the log that the chain does not know.
type AuditEvidence struct {
	Link    *audit.Link
	Line    *audit.Line    // nil: it is not in the log
	Subject *audit.Subject // nil: its key is not there
	Erased  bool           // the chain says so of the subject

	// Of a line without its link:
	Queued  bool // it waits to be sealed
	Erasing bool // its user's erasure is declared in the chain and not done yet
	Waited  time.Duration
}

// Eraser is the store as the one needs it who erases a user. The steps come in
// the order of the methods; each can be repeated.
type Eraser interface {
	// StopRuns asks the user's live runs to stop, ends those that wait, and
	// returns how many are still being made.
	StopRuns(ctx context.Context, user string, at time.Time) (live int, err error)
	// DeclareErasure destroys the user's key and puts an Erased link behind the
	// end of the chain. From then on, and not before, entries of the user can be
	// deleted. known is false, and nothing is done, when there is nothing of the user.
	DeclareErasure(ctx context.Context, user string, at time.Time, link func(last, erased audit.Link) audit.Link) (known bool, err error)
	// EraseSome deletes at most n rows of a table, of a user whose erasure is declared.
	// more is false when nothing is left, the declaration included.
	EraseSome(ctx context.Context, user string, n int) (more bool, err error)
	// Erasures lists users whose erasure was declared longer ago than age and
	// is not done yet.
	Erasures(ctx context.Context, age time.Duration) (users []string, err error)
}
