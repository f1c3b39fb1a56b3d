package ports

import (
	"context"
	"time"
)

// Cache keeps values for a while, shared between instances or not. It may lose
// them at any time; Get and Set return within 100 ms whatever state its backend
// is in. A value belongs to a user, or to everybody if user is "".
type Cache interface {
	// Get returns a value that was set and has not expired. ok is false also
	// when the backend cannot be asked.
	Get(ctx context.Context, user, key string) (value []byte, ok bool)
	// Set keeps a value for ttl. A failure is not told: the value is lost.
	Set(ctx context.Context, user, key string, value []byte, ttl time.Duration)
	UserForgetter
}

// UserForgetter removes what it holds of a user, whose id must not be "". It
// may take as long as ctx allows; after an error some may be left until it
// expires.
type UserForgetter interface {
	ForgetUser(ctx context.Context, user string) error
}
