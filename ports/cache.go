package ports

import (
	"context"
	"time"
)

// Cache keeps values for a while, shared between instances or not. It may lose
// them at any time; its calls return within 100 ms whatever state its backend
// is in.
type Cache interface {
	// Get returns a value that was set and has not expired. ok is false also
	// when the backend cannot be asked.
	Get(ctx context.Context, key string) (value []byte, ok bool)
	// Set keeps a value for ttl. A failure is not told: the value is lost.
	Set(ctx context.Context, key string, value []byte, ttl time.Duration)
}
