// Package replies makes replies. A reply continues when its readers disconnect,
// when its instance stops (on another instance) and while the database is away.
//
// The intake admits messages and starts their runs (intake.go). The runner makes
// the replies: a registry of the runs of this instance, a recorder that stores
// output before followers see it, and generate, which asks the model and ends the
// run (registry.go, recorder.go, generate.go, prompt.go). Followers read output
// while it is produced (follower.go, watch.go). The worker renews leases, learns
// of stops and takes over runs of instances that are gone (worker.go).
package replies

import (
	"context"
	"errors"
	"sync"
	"time"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/domain/webhook"
	"parley/ports"
)

// Options are the bounds of the service. A zero field gets its default.
type Options struct {
	Owner           string        // this instance, unique among those that share a store
	Lease           time.Duration // of a run without a heartbeat; 10 s
	Heartbeat       time.Duration // how often leases and stop requests are checked; 500 ms
	Sweep           time.Duration // how often abandoned and queued runs are claimed; 2 s
	Checkpoint      time.Duration // longest time until output is recorded; 250 ms
	Eager           time.Duration // the same for a run that has followers here; 125 ms, see adr 46
	Idle            time.Duration // between heartbeats to a follower; 15 s
	Poll            time.Duration // how often the store is asked about a run that the feed does not hold; 500 ms
	ReplyTimeout    time.Duration // most time for a reply; 10 min
	AdmitTimeout    time.Duration // most time for an admission; 5 s
	ShutdownTimeout time.Duration // most time for running replies to end at shutdown; 25 s
	MaxAttempts     int           // of a run whose output nobody can have seen; 3
	MaxRuns         int           // replies made at once on this instance; 2000
	MaxQueue        int           // runs that may wait, over all users; 1000
	ContextMessages int           // 50
	ContextTokens   int           // 4000
	SystemPrompt    string        // for conversations that bring none
	MaxReplyTokens  int           // held for a reply whose bound is not known otherwise; 4096
}

func (o Options) withDefaults() Options {
	duration := func(v *time.Duration, def time.Duration) {
		if *v <= 0 {
			*v = def
		}
	}
	number := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	duration(&o.Lease, 10*time.Second)
	duration(&o.Heartbeat, 500*time.Millisecond)
	duration(&o.Sweep, 2*time.Second)
	duration(&o.Checkpoint, 250*time.Millisecond)
	duration(&o.Eager, 125*time.Millisecond)
	duration(&o.Idle, 15*time.Second)
	duration(&o.Poll, 500*time.Millisecond)
	duration(&o.ReplyTimeout, 10*time.Minute)
	duration(&o.AdmitTimeout, 5*time.Second)
	duration(&o.ShutdownTimeout, 25*time.Second)
	number(&o.MaxAttempts, 3)
	number(&o.MaxRuns, 2000)
	number(&o.MaxQueue, 1000)
	number(&o.ContextMessages, 50)
	number(&o.ContextTokens, 4000)
	number(&o.MaxReplyTokens, 4096)
	return o
}

// Store is what the service needs of the store.
type Store interface {
	ports.Runs
	Message(ctx context.Context, user, id string) (chat.Message, error)
	// Retitle replaces the automatic title from by to. A title that the user has
	// set stays, which is no error.
	Retitle(ctx context.Context, user, id, from, to string, audit audit.Entry) error
	// AddUsage counts what was used for a user beside their replies.
	AddUsage(ctx context.Context, user string, tokens, micros int64, at time.Time) error
}

// Deps are the world as the service sees it.
type Deps struct {
	Store   Store
	Model   ports.Model
	Tokens  ports.Tokens
	Accepts func(chat.Params) error // refuses wishes for a model that there is not; nil: none
	// AcceptsFile refuses a file of a media type that the wished model cannot read;
	// nil: none.
	AcceptsFile func(p chat.Params, mediaType string) error
	ReadFile    ports.ReadFile                  // nil: there are no files
	Quote       ports.Quote                     // nil: tokens only, at MaxReplyTokens
	Budget      func(access.Tier) access.Budget // nil: unbounded
	Titles      ports.Titles                    // nil: conversations keep the name of their first message
	// AddEvents tells the receiver of webhooks what no run's end tells; nil: there
	// is none.
	AddEvents func(context.Context, ...webhook.Event) error
	Feed      ports.Feed
	Observer  ports.Observer
	Trace     func(context.Context) string // the trace of a request, in W3C form; nil: none
	Now       ports.Clock
	NewID     ports.IDs
}

// Service makes replies. Serve must run for it to do so.
type Service struct {
	Deps
	opt      Options
	registry runRegistry
	rec      *recorder
	parked   parkedSet

	wakeSweep chan struct{}
	draining  chan struct{} // closed when no new run is begun any more
	released  chan struct{} // closed when this instance has let go of its last run
	drainOnce sync.Once
}

// New returns a service. It starts nothing.
func New(deps Deps, opt Options) *Service {
	s := &Service{
		Deps:      deps,
		opt:       opt.withDefaults(),
		wakeSweep: make(chan struct{}, 1),
		draining:  make(chan struct{}),
		released:  make(chan struct{}),
	}
	s.registry.init(s.opt.MaxRuns)
	s.rec = newRecorder(s)
	return s
}

// LiveRuns returns how many replies this instance is making.
func (s *Service) LiveRuns() int { return s.registry.count() }

func (s *Service) isDraining() bool {
	select {
	case <-s.draining:
		return true
	default:
		return false
	}
}

func errDraining() *fault.Error {
	return fault.New(fault.Unavailable, "This server is shutting down; please try again").After(time.Second)
}

// Causes with which a task's context ends.
var (
	errStopped = errors.New("stopped by the user")
	errFenced  = errors.New("a newer attempt owns the run")
	errDrained = errors.New("this instance is shutting down")
)

// Failure codes of runs.
const (
	FailureUnavailable = "ai_unavailable"     // no provider could be asked
	FailureProvider    = "ai_failed"          // asked, and it went wrong
	FailureKey         = "provider_auth"      // the provider refuses the configured key
	FailureFile        = "file_refused"       // the model could not read a file
	FailureFiles       = "files_unavailable"  // the files could not be read for the model
	FailureTimeout     = "timeout"            // a time limit passed
	FailureEmpty       = "empty_reply"        // it ended well, without a word
	FailureAttempts    = "attempts_exhausted" // its instances kept dying
)
