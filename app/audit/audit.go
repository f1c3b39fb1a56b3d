// Package audit seals committed audit entries into a hash chain, exports signed
// heads of the chain, verifies log and chain, and erases users so that the chain
// still verifies. See docs/audit.md.
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

// Deps are what the service needs.
type Deps struct {
	Ledger ports.Ledger
	Eraser ports.Eraser
	// Secrets open the chain's root. The first is the current one: a root that
	// another one opened is wrapped again with it.
	Secrets []string
	// Export stores a head outside the database; nil: heads are not exported.
	Export func(context.Context, audit.Head) error
	// Feed announces stop requests and revocations to other instances; nil: they
	// find out when they next ask the database.
	Feed ports.Feed
	// UserCaches hold copies of users' data for a limited time.
	UserCaches []ports.UserForgetter
	// Sessions returns the digest of each session that a user has in the app's
	// database; nil: sessions are not in a database.
	Sessions func(ctx context.Context, user string) ([]string, error)
	// Revoked is called when the credentials of a user have ended, so that this
	// instance refuses them at once; nil: when it next reads the revocations.
	Revoked  func(context.Context) error
	Observer ports.Observer
	Now      ports.Clock
}

// Options set intervals and batch sizes. A zero field gets its default.
type Options struct {
	Interval  time.Duration // between two rounds of sealing; 400 ms
	Batch     int           // facts sealed in one transaction; 256
	HeadEvery time.Duration // shortest time between two exported heads; 10 s
	Resume    time.Duration // age of an erasure after which another instance continues it; 1 min
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

// Service seals, verifies and erases. It is safe for concurrent use. Entries are
// sealed while Serve runs, on any number of instances.
type Service struct {
	Deps
	opt Options

	mu   sync.Mutex
	keys *audit.ChainKeys // nil until opened
}

// New returns a service. It starts nothing.
func New(deps Deps, opt Options) *Service { return &Service{Deps: deps, opt: opt.withDefaults()} }

// open returns the chain's keys, and makes a root for a new chain. A root that
// was opened with a former secret is wrapped with the current one and added.
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
