package boot

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"parley/app/replies"
)

// server is a service whose parts have been put together.
type server struct {
	log      *slog.Logger
	replies  *replies.Service
	health   *health
	api      *http.Server
	streams  func(context.Context) error // waits for those that the API's server does not know of
	admin    *http.Server
	audit    service   // outlives everything that writes audit entries
	loops    []service // what requests and replies rely on
	delay    time.Duration
	shutdown time.Duration
}

// responseGrace is the time for the last responses, after the time that running
// replies have.
const responseGrace = 2 * time.Second

// run serves until ctx is done or a part fails, and then stops everything in
// order: first it is not ready for delay, so that a load balancer notices while
// requests are still answered. Then it accepts no requests and starts no
// replies, and running replies have shutdown to end. The audit log is sealed
// after the last of them; probes and metrics are answered until then.
func (s server) run(ctx context.Context, api, admin net.Listener) error {
	var began time.Time
	err := runStages(ctx, [][]service{
		{s.listener("admin listener", s.admin, admin, 0)},
		{s.audit},
		s.loops,
		{{"replies", s.replies.Serve}, s.listener("api listener", s.api, api, s.shutdown+responseGrace)},
	}, func(failure error) {
		began = time.Now()
		s.health.draining.Store(true)
		if failure != nil {
			s.log.Error("a part of the service failed", "error", failure)
		}
		s.log.Info("shutting down", "replies", s.replies.LiveRuns())
		if failure == nil {
			time.Sleep(s.delay)
		}
	})
	s.log.Info("stopped", "took_ms", time.Since(began).Milliseconds())
	return err
}

// listener serves HTTP until it is stopped; responses under way then have grace
// to end.
func (s server) listener(name string, h *http.Server, l net.Listener, grace time.Duration) service {
	return service{name, func(ctx context.Context) error {
		failed := make(chan error, 1)
		go func() { failed <- h.Serve(l) }()
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
		}
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		err := h.Shutdown(last)
		if err == nil && h == s.api {
			err = s.streams(last)
		}
		if err != nil {
			if grace > 0 {
				s.log.Warn("connections cut", "listener", name, "error", err)
			}
			_ = h.Close()
		}
		<-failed //nolint:errcheck // the server was closed
		return nil
	}}
}
