package ports

import (
	"context"
	"time"

	"parley/domain/access"
)

// Identity verifies credentials.
type Identity interface {
	// Identify returns the owner of a credential. A credential that is absent,
	// malformed, expired or signed with another secret is Unauthenticated; more
	// than one kind at once is Invalid.
	Identify(ctx context.Context, c access.Credential) (access.Principal, error)
}

// Limiter counts requests in rolling windows.
type Limiter interface {
	// Take counts one request against key and decides whether it is allowed: at
	// most limit in any span of access.Window. A refused request does not count.
	Take(ctx context.Context, key string, limit int) (access.Decision, error)
}

// Observer receives typed events. It decides what to count, log and trace, and
// never blocks.
type Observer interface {
	Observe(ctx context.Context, event any)
}

// NopObserver is an Observer that does nothing.
type NopObserver struct{}

// Observe implements Observer.
func (NopObserver) Observe(context.Context, any) {}

// Clock returns the current time.
type Clock func() time.Time

// IDs returns a new id: UUIDv7 text, increasing within one instance.
type IDs func() string

// Keys finds API keys.
type Keys interface {
	// Key returns a user's key, revoked or not. Faults: NotFound.
	Key(ctx context.Context, user, id string) (access.Key, error)
}

// Revocations lists the users whose sessions were revoked.
type Revocations interface {
	// Revocations lists those made after since, a time on the database's clock.
	Revocations(ctx context.Context, since time.Time) ([]access.Revocation, error)
}
