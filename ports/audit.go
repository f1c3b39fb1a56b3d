package ports

import (
	"context"
	"time"

	"parley/domain/audit"
)

// Ledger stores the audit chain: what sealing and verifying need of the store.
type Ledger interface {
	// AuditRoot returns the chain's wrapped secret; nil before the first seal.
	AuditRoot(ctx context.Context) ([]byte, error)
	// SwapAuditRoot replaces old by wrapped, where nil means none. ok is false
	// when the stored root is not old.
	SwapAuditRoot(ctx context.Context, old, wrapped []byte) (ok bool, err error)
	// Unsealed returns how long the oldest unsealed fact has been waiting, on the
	// database's clock. It is cheap.
	Unsealed(ctx context.Context) (age time.Duration, waiting bool, err error)
	// LastLink returns the last link of the chain; the zero Link when it is empty.
	LastLink(ctx context.Context) (audit.Link, error)
	// Seal takes at most n unsealed facts, oldest first, has link make their
	// links, and stores these in one transaction. It does nothing while another
	// instance is sealing. link may be called more than once; only its last
	// result counts.
	Seal(ctx context.Context, n int, link func(last audit.Link, batch []audit.Unsealed) []audit.Link) (sealed []audit.Link, more bool, err error)
	// Inspect visits everything that a verifier needs, in one snapshot of the
	// database: first the links in order, then the lines without a link.
	Inspect(ctx context.Context, visit func(InspectionItem) error) error
}

// InspectionItem is a link together with the line that it covers, or a line
// that no link covers.
type InspectionItem struct {
	Link    *audit.Link
	Line    *audit.Line    // nil: not in the log
	Subject *audit.Subject // nil: its key was destroyed or is missing
	Erased  bool           // the chain has an Erased link for the subject

	// Of a line without a link:
	Queued  bool // waits to be sealed
	Erasing bool // its user's erasure is declared in the chain and not finished
	Waited  time.Duration
}

// Eraser deletes everything of a user. The steps follow the order of the
// methods; each can be repeated.
type Eraser interface {
	// StopRuns asks the user's running runs to stop, ends the queued ones, and
	// returns how many are still running.
	StopRuns(ctx context.Context, user string, at time.Time) (live int, err error)
	// DeclareErasure destroys the user's key and appends an Erased link to the
	// chain. Only then can the user's entries be deleted. known is false, and
	// nothing is done, when the store holds nothing of the user.
	DeclareErasure(ctx context.Context, user string, at time.Time, link func(last, erased audit.Link) audit.Link) (known bool, err error)
	// EraseSome deletes at most n rows of one table, of a user whose erasure is
	// declared. more is false when nothing is left, the declaration included.
	EraseSome(ctx context.Context, user string, n int) (more bool, err error)
	// Erasures lists users whose erasure was declared longer than age ago and is
	// not finished.
	Erasures(ctx context.Context, age time.Duration) (users []string, err error)
}
