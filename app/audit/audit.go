// Package audit keeps the audit log honest: it seals committed entries into a
// hash chain, exports signed heads of it, verifies all of it, and erases a
// user so that the chain still verifies. See docs/audit.md.
package audit

import (
	"context"
	"fmt"
	"sync"
	"time"

	"parley/domain/audit"
	"parley/domain/fault"
	"parley/ports"
)

// Deps are the world as the service sees it.
type Deps struct {
	Ledger ports.Ledger
	Eraser ports.Eraser
	// Secrets open the chain's own secret, the current one first: it will be
	// wrapped with that one.
	Secrets []string
	// Export keeps a head where whoever can write the database cannot. nil:
	// heads are not exported.
	Export func(context.Context, audit.Head) error
	// Feed is told when runs were asked to stop; nil: their owners find out by
	// themselves, a moment later.
	Feed ports.Feed
	// UserCaches hold copies of what is in the store, for a while.
	UserCaches []ports.UserForgetter
	// Sessions returns the digest of each session that a user has in the app's
	// database; nil: sessions are not in a database.
	Sessions func(ctx context.Context, user string) ([]string, error)
	// Revoked is called when the credentials of a user have ended, so that this
	// instance refuses them at once; nil: it finds out by itself.
	Revoked  func(context.Context) error
	Observer ports.Observer
	Now      ports.Clock
}

// Options are the rhythm of the service. A zero field gets its default.
type Options struct {
	Interval  time.Duration // between two looks for entries to seal; 400 ms
	Batch     int           // facts sealed in one transaction; 256
	HeadEvery time.Duration // the shortest time between two exported heads; 10 s
	Resume    time.Duration // how old an erasure is when somebody else goes on with it; 1 min
	StopWait  time.Duration // how long an erasure waits for live replies to stop; 5 s
	EraseRows int           // rows deleted in one transaction; 500
}

func (o Options) withDefaults() Options {
	duration := func(v *time.Duration, def time.Duration) {
		if *v <= 0 {
			*v = def
		}
	}
	number := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	duration(&o.Interval, 400*time.Millisecond)
	number(&o.Batch, 256)
	duration(&o.HeadEvery, 10*time.Second)
	duration(&o.Resume, time.Minute)
	duration(&o.StopWait, 5*time.Second)
	number(&o.EraseRows, 500)
	return o
}

// Service is safe for concurrent use. Serve must run somewhere for entries to
// be sealed; any number of instances may run it.
type Service struct {
	Deps
	opt Options

	mu   sync.Mutex
	keys *audit.ChainKeys // once opened
}

// New returns a service. It starts nothing.
func New(deps Deps, opt Options) *Service { return &Service{Deps: deps, opt: opt.withDefaults()} }

// open returns the chain's keys, and makes them for a new chain. The secret is
// wrapped anew when it was opened with an older one than the current.
func (s *Service) open(ctx context.Context) (*audit.ChainKeys, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys != nil {
		return s.keys, nil
	}
	if len(s.Secrets) == 0 {
		return nil, fmt.Errorf("audit chain: no secret")
	}
	wrapped, err := s.Ledger.AuditRoots(ctx)
	if err != nil {
		return nil, err
	}
	if len(wrapped) == 0 {
		if wrapped, err = s.begin(ctx); err != nil {
			return nil, err
		}
	}
	root, which, err := audit.UnwrapRoot(s.Secrets, wrapped...)
	if err != nil {
		return nil, err
	}
	if which > 0 {
		rewrapped, err := audit.WrapRoot(s.Secrets[0], root)
		if err != nil {
			return nil, err
		}
		if _, err := s.Ledger.AddAuditRoot(ctx, rewrapped, false); err != nil {
			return nil, err
		}
	}
	s.keys, err = audit.NewChainKeys(root)
	return s.keys, err
}

// begin makes the root of a chain that has no link yet.
func (s *Service) begin(ctx context.Context) ([][]byte, error) {
	last, err := s.Ledger.LastLink(ctx)
	if err != nil {
		return nil, err
	}
	if last.Seq == 0 {
		wrapped, err := audit.WrapRoot(s.Secrets[0], audit.NewRoot())
		if err != nil {
			return nil, err
		}
		if _, err := s.Ledger.AddAuditRoot(ctx, wrapped, true); err != nil {
			return nil, err
		}
	}
	// Another instance may have begun the chain meanwhile.
	wrapped, err := s.Ledger.AuditRoots(ctx)
	if err == nil && len(wrapped) == 0 {
		err = errNoRoot()
	}
	return wrapped, err
}

// UserHash returns the function that names erased users. It begins the chain if
// need be. audit.ErrRootLocked: no configured secret opens it.
func (s *Service) UserHash(ctx context.Context) (func(user string) string, error) {
	keys, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	return keys.UserHash, nil
}

func errNoRoot() *fault.Error {
	return fault.New(fault.Internal, "The audit chain's key is not in the database any more; restore the table audit_root from a backup")
}
