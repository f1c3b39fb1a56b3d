package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"parley/adapters/httpapi"
	"parley/adapters/observe"
	"parley/adapters/sqlstore"
	"parley/app/gate"
	"parley/ports"
)

// health checks the dependencies, each at most once a second, however often it
// is asked.
type health struct {
	log      *slog.Logger
	checks   []check
	draining atomic.Bool

	mu   sync.Mutex
	at   time.Time
	last []condition
	// known is last, for those who cannot wait for a check that is running.
	known atomic.Pointer[[]condition]
}

// check checks one dependency. While a required one is down, readiness fails;
// while another is, Parley is degraded.
type check struct {
	name     string
	note     string // public
	required bool
	ping     func(context.Context) error
}

// condition is the result of the last check of a dependency.
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
	// The result is shared, so that a caller who disconnects must not cancel it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	conditions := make([]condition, len(h.checks))
	var wg sync.WaitGroup
	for i, c := range h.checks {
		wg.Go(func() { conditions[i] = condition{check: c, err: c.ping(ctx)} })
	}
	wg.Wait()
	h.logChanges(conditions)
	h.at, h.last = time.Now(), conditions
	h.known.Store(&conditions)
	return conditions
}

// logChanges compares conditions with the last ones.
func (h *health) logChanges(now []condition) {
	for i, c := range now {
		var before error
		if i < len(h.last) {
			before = h.last[i].err
		}
		switch {
		case c.err != nil && (before == nil || before.Error() != c.err.Error()):
			h.log.Warn("a dependency fails", "dependency", c.name, "error", c.err)
		case c.err == nil && before != nil:
			h.log.Info("a dependency works again", "dependency", c.name)
		}
	}
}

// failure describes in a word or two how a dependency fails. partly reports that
// it still serves reads.
func (c condition) failure() (what string, partly bool) {
	switch {
	case errors.Is(c.err, sqlstore.ErrDiskFull):
		return "disk full", true
	case errors.Is(c.err, sqlstore.ErrReadOnly):
		return "read-only", true
	}
	return "down", false
}

// ready returns why no request should be sent here, or "".
func (h *health) ready(ctx context.Context) (because string) {
	if h.draining.Load() {
		return "draining"
	}
	for _, c := range h.conditions(ctx) {
		if c.required && c.err != nil {
			what, _ := c.failure()
			return c.name + ": " + what
		}
	}
	return ""
}

// scrapeWait is how long a scrape waits for a check. A dependency that is frozen must
// not take the metrics of the instance with it.
const scrapeWait = 500 * time.Millisecond

// up reports by name which dependencies work, as far as that is known in scrapeWait.
func (h *health) up(ctx context.Context) map[string]bool {
	checked := make(chan []condition, 1)
	go func() { checked <- h.conditions(ctx) }()
	var conditions []condition
	select {
	case conditions = <-checked:
	case <-time.After(scrapeWait):
		if known := h.known.Load(); known != nil {
			conditions = *known
		}
	}
	out := map[string]bool{}
	for _, c := range conditions {
		out[c.name] = c.err == nil
	}
	return out
}

// public returns the health that the API shows: names and states, no errors.
func (h *health) public(models ports.Catalogue, switches *gate.Switches) func(context.Context) httpapi.Health {
	return func(ctx context.Context) httpapi.Health {
		out := httpapi.Health{Status: httpapi.HealthOK, Components: map[string]httpapi.Component{}}
		add := func(name string, c httpapi.Component) {
			out.Components[name] = c
			if c.Status == httpapi.HealthDown || c.Status == httpapi.HealthDegraded && out.Status == httpapi.HealthOK {
				out.Status = c.Status
			}
		}
		for _, c := range h.conditions(ctx) {
			state, note := httpapi.HealthOK, c.note
			if c.err != nil {
				what, partly := c.failure()
				state = httpapi.HealthDegraded
				if c.required && !partly {
					state = httpapi.HealthDown
				}
				if partly {
					note = strings.TrimPrefix(note+", "+what, ", ")
				}
			}
			add(c.name, httpapi.Component{Status: state, Note: note})
		}
		if switches.ChatDisabled() {
			add("chat", httpapi.Component{Status: httpapi.HealthDegraded, Note: switchedOff})
		}
		for _, m := range models.Models() {
			add(modelName(m), modelHealth(m))
		}
		return out
	}
}

// modelName names a model in health and doctor.
func modelName(m ports.ModelInfo) string {
	if m.Model == "" {
		return "ai:" + m.Provider
	}
	return "ai:" + m.Provider + "/" + m.Model
}

// switchedOff is the note of what an operator has disabled.
const switchedOff = "disabled by an operator"

// modelHealth is never down: history and other providers still serve.
func modelHealth(m ports.ModelInfo) httpapi.Component {
	switch {
	case m.Disabled:
		return httpapi.Component{Status: httpapi.HealthDegraded, Note: switchedOff}
	case m.Problem != "":
		return httpapi.Component{Status: httpapi.HealthDegraded, Note: m.Detail}
	case m.State == "open":
		return httpapi.Component{Status: httpapi.HealthDegraded, Note: "it failed too often, and is not asked for a moment"}
	case m.Demo:
		return httpapi.Component{Status: httpapi.HealthOK, Note: "demo, not AI"}
	}
	return httpapi.Component{Status: httpapi.HealthOK}
}

// schemaState asks a store for metrics which migrations it lacks. Tables that do not
// match the record of migrations, as after an incomplete restore, count as one.
func schemaState(store *sqlstore.Store) func(context.Context) (observe.Schema, error) {
	return func(ctx context.Context) (observe.Schema, error) {
		s, err := store.MigrationStatus(ctx)
		if _, mismatch := errors.AsType[*sqlstore.SetupError](err); mismatch {
			return observe.Schema{Pending: 1}, nil
		}
		return observe.Schema{Version: s.Current, Pending: len(s.Pending)}, err
	}
}

// queueState asks a store for metrics which replies wait.
func queueState(store *sqlstore.Store) func(context.Context) (observe.Queue, error) {
	return func(ctx context.Context) (observe.Queue, error) {
		w, err := store.Queue(ctx)
		return observe.Queue{Depth: w.Queued, Oldest: w.OldestQueued}, err
	}
}

// lockState asks a store for metrics which sessions wait for locks.
func lockState(store *sqlstore.Store) func(context.Context) (observe.Locks, error) {
	return func(ctx context.Context) (observe.Locks, error) {
		w, err := store.Locks(ctx)
		return observe.Locks{Waiting: w.LockWaits, Oldest: w.OldestLock}, err
	}
}

// maintenanceState asks a store for metrics what makes its server fail over days.
func maintenanceState(store *sqlstore.Store) func(context.Context) (observe.Maintenance, error) {
	return func(ctx context.Context) (observe.Maintenance, error) {
		m, err := store.Maintenance(ctx)
		return observe.Maintenance(m), err
	}
}

// replicaStates asks a store for metrics which replicas are used.
func replicaStates(store *sqlstore.Store) func() ([]observe.Replica, map[string]int64) {
	return func() (list []observe.Replica, reads map[string]int64) {
		for _, r := range store.Replicas() {
			state := observe.Replica{Name: r.Name, Used: r.Used}
			if r.Lag != nil {
				state.Seen, state.LagBytes, state.LagAge = true, r.Lag.Bytes, r.Lag.Age
			}
			list = append(list, state)
		}
		return list, store.ReplicatedReads()
	}
}

// checkReplicas returns an error if a replica is not used.
func checkReplicas(store *sqlstore.Store) func(context.Context) error {
	return func(context.Context) error {
		var all []error
		for _, r := range store.Replicas() {
			switch {
			case r.Used:
			case r.Reason == "lagging": // by another number of bytes each time
				all = append(all, fmt.Errorf("the replica %s lags behind", r.Name))
			default:
				all = append(all, fmt.Errorf("the replica %s is not used: %w", r.Name, r.Err))
			}
		}
		return errors.Join(all...)
	}
}

// diskOf returns a function that reads the free bytes and the size of the file
// system of a directory, or of its nearest parent that exists.
func diskOf(dir string) func() (free, size uint64, err error) {
	return func() (free, size uint64, err error) {
		path, err := filepath.Abs(dir)
		if err != nil {
			return 0, 0, err
		}
		var disk syscall.Statfs_t
		for {
			if err = syscall.Statfs(path, &disk); !errors.Is(err, syscall.ENOENT) || path == filepath.Dir(path) {
				break
			}
			path = filepath.Dir(path)
		}
		return disk.Bavail * uint64(disk.Bsize), disk.Blocks * uint64(disk.Bsize), err
	}
}
