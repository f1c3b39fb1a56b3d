package ports

import (
	"context"
	"time"
)

// Cache keeps values for a limited time, shared between instances or not. It may
// lose values at any time. Get and Set return within 100 ms even when the
// backend is down. A value belongs to one user, or is shared if user is "".
type Cache interface {
	// Get returns a value that was set and has not expired. ok is also false when
	// the backend does not answer.
	Get(ctx context.Context, user, key string) (value []byte, ok bool)
	// Set keeps a value for ttl. On failure the value is lost without an error.
	Set(ctx context.Context, user, key string, value []byte, ttl time.Duration)
	UserForgetter
}

// UserForgetter removes everything of a user, whose id must not be "". It may
// take as long as ctx allows. After an error, some values may remain until they
// expire.
type UserForgetter interface {
	ForgetUser(ctx context.Context, user string) error
}
