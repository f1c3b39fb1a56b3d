package boot

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"parley/app/audit"
	"parley/app/replies"
)

// running is a service whose parts have been put together.
type running struct {
	log      *slog.Logger
	making   *replies.Service
	auditor  *audit.Service
	api      *http.Server
	admin    *http.Server
	health   *health
	delay    time.Duration // between the first sign of the end and the end of listening
	shutdown time.Duration // what running replies get
}

// grace is what comes on top of the replies' own time for the last answers to
// be written.
const grace = 2 * time.Second

// run serves until ctx is done or a listener breaks, and then lets everything
// end in order: no new requests, then no new replies, then the running ones.
func (r running) run(ctx context.Context, api, admin net.Listener) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	serve := func(s *http.Server, l net.Listener) {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			fail(err)
		}
	}
	go serve(r.admin, admin)
	go serve(r.api, api)

	work, stop := context.WithCancel(context.Background())
	defer stop()
	worked := make(chan error, 1)
	go func() { worked <- r.making.Serve(work) }()
	seal, stopSealing := context.WithCancel(context.Background())
	defer stopSealing()
	sealed := make(chan struct{})
	go func() { defer close(sealed); r.auditor.Serve(seal) }()

	<-ctx.Done()
	broken := context.Cause(ctx)
	if errors.Is(broken, context.Canceled) {
		broken = nil
	}
	begun := time.Now()
	if broken != nil {
		r.log.Error("a listener broke", "error", broken)
	}
	r.log.Info("shutting down", "replies", r.making.LiveRuns())
	r.health.draining.Store(true)
	if broken == nil {
		time.Sleep(r.delay) // a load balancer notices; until then requests are answered as ever
	}
	stop()

	last, cancel := context.WithTimeout(context.Background(), r.shutdown+grace)
	defer cancel()
	closed := make(chan error, 1)
	go func() { closed <- r.api.Shutdown(last) }() // stops listening, waits for answers under way
	err := <-worked
	if e := <-closed; e != nil {
		r.log.Warn("connections cut", "error", e)
		_ = r.api.Close()
	}
	stopSealing() // last, so that what was done until now is sealed
	<-sealed
	_ = r.admin.Close()
	r.log.Info("stopped", "took_ms", time.Since(begun).Milliseconds())
	return errors.Join(broken, err)
}
