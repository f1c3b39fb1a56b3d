package boot

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// health knows how the dependencies are. It asks each at most once a second,
// however often it is asked itself.
type health struct {
	checks   []check
	draining atomic.Bool

	mu   sync.Mutex
	at   time.Time
	last []condition
}

// check asks one dependency. Without a required one Parley cannot serve;
// without another it serves with less.
type check struct {
	name     string
	required bool
	ping     func(context.Context) error
}

// condition is how a dependency was when it was last asked.
type condition struct {
	check
	err error
}

func (h *health) conditions(ctx context.Context) []condition {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.at) < time.Second {
		return h.last
	}
	// Whoever asks first must not spoil the answer for the others by leaving.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	conditions := make([]condition, len(h.checks))
	var wg sync.WaitGroup
	for i, c := range h.checks {
		wg.Go(func() { conditions[i] = condition{check: c, err: c.ping(ctx)} })
	}
	wg.Wait()
	h.at, h.last = time.Now(), conditions
	return conditions
}

// ready says why no request should be sent here, or nothing.
func (h *health) ready(ctx context.Context) (because string) {
	if h.draining.Load() {
		return "draining"
	}
	for _, c := range h.conditions(ctx) {
		if c.required && c.err != nil {
			return c.name + " is down"
		}
	}
	return ""
}

// up reports each dependency by name.
func (h *health) up(ctx context.Context) map[string]bool {
	out := map[string]bool{}
	for _, c := range h.conditions(ctx) {
		out[c.name] = c.err == nil
	}
	return out
}
