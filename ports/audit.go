package ports

import (
	"context"
	"time"

	"parley/domain/audit"
)

// Ledger stores the audit chain: what sealing and verifying need of the store.
type Ledger interface {
	// AuditRoots returns the chain's wrapped root, once for each secret that it
	// was wrapped with; none before the chain has begun.
	AuditRoots(ctx context.Context) ([][]byte, error)
	// AddAuditRoot stores a wrapped root. With first it does so only if there is
	// none; ok is false when another instance was faster. Wraps that are there
	// already stay, unless the database role may delete them.
	AddAuditRoot(ctx context.Context, wrapped []byte, first bool) (ok bool, err error)
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
	// Inspect visits everything that a verifier needs: first the links in order, then
	// the lines without a link. Each item is of one snapshot of the database, a later
	// one of the same snapshot or a newer one.
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

// Erasure is the erasure of one user.
type Erasure struct {
	UserID   string
	UserHash string    // what the user is remembered by: see audit.ChainKeys
	At       time.Time // every credential issued until here ends
	Sessions []string  // digests of the sessions in the app's database, which end too
}

// Eraser erases a user. The steps come in the order of the methods; each can be
// repeated.
type Eraser interface {
	// StopRuns asks the user's live runs to stop, ends those that wait, and
	// returns how many are still running.
	StopRuns(ctx context.Context, user string, at time.Time) (live int, err error)
	// DeclareErasure ends the user's credentials, destroys the user's key and
	// appends an Erased link to the chain. From then on, and not before, entries
	// of the user can be deleted. known is false, and only credentials end, when
	// nothing of the user is stored.
	DeclareErasure(ctx context.Context, e Erasure, link func(last, erased audit.Link) audit.Link) (known bool, err error)
	// EraseSome deletes at most n rows of a table, of a user whose erasure is
	// declared. What the user has used in the current day and month is kept under
	// UserHash. more is false when nothing is left, the declaration included.
	EraseSome(ctx context.Context, e Erasure, n int) (more bool, err error)
	// Erasures lists users whose erasure was declared longer ago than age and
	// is not done yet.
	Erasures(ctx context.Context, age time.Duration) (users []string, err error)
}
