package gate

import (
	"context"
	"sync/atomic"
	"time"

	"parley/domain/access"
	"parley/domain/fault"
	"parley/ports"
)

// longestSession is how long a credential may live: what was revoked longer
// ago has expired by itself.
const longestSession = 400 * 24 * time.Hour

// revoked is the list of users whose sessions have been ended early. It is
// small, and kept whole, so that no request has to ask the database about it.
type revoked struct {
	byUser atomic.Pointer[map[string]access.Revocation]
}

// ends reports whether a principal's session has been ended.
func (r *revoked) ends(p access.Principal) bool {
	list := r.byUser.Load()
	if list == nil {
		return false
	}
	revocation, ok := (*list)[p.UserID]
	return ok && revocation.Ends(p)
}

// Refresh reads the list of revocations. It is to be called before the first
// request is let in, and then every few seconds: FollowRevocations does.
func (g *Gate) Refresh(ctx context.Context) error {
	list, err := g.Revocations.Revocations(ctx, g.Now().Add(-longestSession))
	if err != nil {
		return err
	}
	byUser := make(map[string]access.Revocation, len(list))
	for _, r := range list {
		byUser[r.UserID] = r
	}
	g.revoked.byUser.Store(&byUser)
	return nil
}

// FollowRevocations keeps the list up to date until ctx is done. While the
// store is away, the last list holds.
func (g *Gate) FollowRevocations(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := g.Refresh(ctx); err != nil && ctx.Err() == nil {
			g.Observer.Observe(ctx, ports.BackgroundFailed{Task: "revocations", Err: err})
		}
	}
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
		return !g.revoked.ends(p)
	}
	return now.UserID == p.UserID && !g.revoked.ends(now)
}
