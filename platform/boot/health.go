package boot

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"parley/adapters/httpapi"
	"parley/ports"
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
	note     string // what it is, for everybody to see
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

// public returns health as everybody may see it: names and states.
func (h *health) public(models ports.Catalogue) func(context.Context) httpapi.Health {
	return func(ctx context.Context) httpapi.Health {
		out := httpapi.Health{Status: httpapi.HealthOK, Components: map[string]httpapi.Component{}}
		add := func(name string, c httpapi.Component) {
			out.Components[name] = c
			if c.Status == httpapi.HealthDown || c.Status == httpapi.HealthDegraded && out.Status == httpapi.HealthOK {
				out.Status = c.Status
			}
		}
		for _, c := range h.conditions(ctx) {
			state := httpapi.HealthOK
			switch {
			case c.err != nil && c.required:
				state = httpapi.HealthDown
			case c.err != nil:
				state = httpapi.HealthDegraded
			}
			add(c.name, httpapi.Component{Status: state, Note: c.note})
		}
		for _, m := range models.Models() {
			c := httpapi.Component{Status: httpapi.HealthOK}
			if m.Demo {
				c.Note = "demo, not AI"
			}
			if m.State == "open" { // history and other providers still serve
				c.Status, c.Note = httpapi.HealthDegraded, "failing; resting for a moment"
			}
			add("ai:"+m.Provider+"/"+m.Model, c)
		}
		return out
	}
}
