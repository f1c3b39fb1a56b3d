package gate

import (
	"context"
	"sync/atomic"
	"time"

	"parley/domain/access"
	"parley/domain/fault"
	"parley/ports"
)

// revoked is the list of users whose credentials have been ended early. It is
// small, and kept in memory, so that no request asks the database about it.
type revoked struct{ list atomic.Pointer[revocations] }

type revocations struct {
	byUser map[string]access.Revocation
	byHash map[string]access.Revocation // of erased users
}

// isRevoked reports whether a principal's credential has been ended.
func (g *Gate) isRevoked(p access.Principal) bool {
	list := g.revoked.list.Load()
	if list == nil {
		return false
	}
	if r, ok := list.byUser[p.UserID]; ok && r.Ends(p) {
		return true
	}
	if len(list.byHash) == 0 {
		return false
	}
	r, ok := list.byHash[g.UserHash(p.UserID)]
	return ok && r.Ends(p)
}

// Refresh reads the list of revocations. It must be called before the first
// request is let in, and then every few seconds: FollowRevocations does. It
// fails when users were erased and the gate has no UserHash to recognise them:
// their old credentials would be good again.
func (g *Gate) Refresh(ctx context.Context) error {
	list, err := g.Revocations.Revocations(ctx, g.Now().Add(-access.LongestSession))
	if err != nil {
		return err
	}
	found := &revocations{byUser: map[string]access.Revocation{}, byHash: map[string]access.Revocation{}}
	for _, r := range list {
		if r.UserHash != "" {
			found.byHash[r.UserHash] = r
		} else {
			found.byUser[r.UserID] = r
		}
	}
	if len(found.byHash) > 0 && g.UserHash == nil {
		return fault.New(fault.Internal, "Erased users cannot be recognised without the audit chain's key: "+
			"add the former AUDIT_KEY, or the former AUTH_SECRET, to AUDIT_KEY")
	}
	g.revoked.list.Store(found)
	return nil
}

// FollowRevocations reads the list again after every interval, and at once when
// woken, until ctx is done. While the store does not answer, the last list
// holds. wake may be nil.
func (g *Gate) FollowRevocations(ctx context.Context, every time.Duration, wake <-chan struct{}) {
	follow(ctx, every, wake, func() {
		if err := g.Refresh(ctx); err != nil && ctx.Err() == nil {
			g.Observer.Observe(ctx, ports.BackgroundFailed{Task: "revocations", Err: err})
		}
	})
}

// StillValid reports whether a credential that was accepted earlier, as p, would
// be accepted now. Streams ask it at each heartbeat and end when it says no:
// the credential has expired, its session or API key was revoked or deleted, or
// the account was erased. Nothing is counted or audited.
//
// Tokens and encrypted cookies are checked in memory; an API key and a session
// in a database take one look-up there, bounded by 2 s. When that cannot be
// made, what was accepted stays valid unless it was revoked.
func (g *Gate) StillValid(ctx context.Context, c access.Credential, p access.Principal) bool {
	now, err := g.Identity.Identify(ctx, c)
	switch {
	case fault.Is(err, fault.Unauthenticated), fault.Is(err, fault.Invalid):
		return false
	case err != nil:
		return !g.isRevoked(p)
	}
	return now.UserID == p.UserID && !g.isRevoked(now)
}
