package ports

import (
	"context"
	"time"

	"parley/domain/access"
)

// Identity verifies credentials.
type Identity interface {
	// Identify returns whom a credential belongs to. A credential that is
	// absent, garbled, expired or made with another secret is Unauthenticated;
	// more than one kind at once is Invalid.
	Identify(ctx context.Context, c access.Credential) (access.Principal, error)
}

// Limiter counts requests in rolling windows.
type Limiter interface {
	// Take counts one request against key and says whether it may pass: never
	// more than limit in any span of access.Window. A refused request does not count.
	Take(ctx context.Context, key string, limit int) (access.Decision, error)
}

// Observer is told what happened, as typed facts. It chooses what to count,
// log and trace, and never blocks.
type Observer interface {
	Observe(ctx context.Context, fact any)
}

// Clock is where time comes from.
type Clock func() time.Time

// IDs makes new ids: UUIDv7 text, increasing within one instance.
type IDs func() string

// Keys finds API keys.
type Keys interface {
	// Key returns a user's key, revoked or not; NotFound when there is none.
	Key(ctx context.Context, user, id string) (access.Key, error)
}

// Revocations knows whose sessions have been ended early.
type Revocations interface {
	// Revocations lists those made after since.
	Revocations(ctx context.Context, since time.Time) ([]access.Revocation, error)
}
