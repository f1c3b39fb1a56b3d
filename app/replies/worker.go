package replies

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// claimBatchSize bounds how many abandoned or queued runs one sweep claims, so
// that instances share them.
const claimBatchSize = 32

// Serve renews leases, records output, stops runs on request and claims runs until
// ctx is done. Then it drains: no new run starts, running ones may end within
// ShutdownTimeout, and the others end as interrupted or are released to other
// instances. It returns when this instance makes no reply any more.
func (s *Service) Serve(ctx context.Context) error {
	loops, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.rec.run(loops) })
	wg.Go(func() { s.heartbeats(loops) })
	wg.Go(func() { s.sweeps(ctx) }) // a draining instance claims nothing

	<-ctx.Done()
	s.Drain()
	s.drainRuns()
	close(s.released)
	s.parked.wakeAll()
	stop()
	wg.Wait()
	return nil
}

// Drain has the service refuse new runs. The end of Serve's context implies it.
func (s *Service) Drain() {
	s.drainOnce.Do(func() {
		close(s.draining)
		s.parked.wakeAll()
	})
}

// drainRuns waits for running replies to end, then cancels the others.
func (s *Service) drainRuns() {
	// What is left of the time after the runs' own share makes their ends durable.
	share := s.opt.ShutdownTimeout * 4 / 5
	done := s.registry.close()
	select {
	case <-done:
		return
	case <-time.After(share):
	}
	s.registry.cancelAll(errDrained)
	select {
	case <-done:
	case <-time.After(s.opt.ShutdownTimeout - share):
	}
}

// heartbeats renews leases and reads which runs to stop and which were lost to
// another instance. It does nothing while this instance makes no reply.
func (s *Service) heartbeats(ctx context.Context) {
	wake, stop := s.Feed.Listen(ports.TopicStop)
	defer stop()
	tick := time.NewTicker(s.opt.Heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-wake:
		case <-ctx.Done():
			return
		}
		if s.registry.count() > 0 {
			s.heartbeat(ctx)
		}
	}
}

func (s *Service) heartbeat(ctx context.Context) {
	tasks := s.registry.all() // before the question: what is begun later is not in the answer
	ctx, cancel := context.WithTimeout(ctx, s.opt.Lease/2)
	defer cancel()
	made := make([]string, len(tasks))
	for i, t := range tasks {
		made[i] = t.run.ID
	}
	held, err := s.Store.Heartbeat(ctx, s.opt.Owner, made, s.opt.Lease)
	if err != nil {
		s.Observer.Observe(ctx, ports.BackgroundFailed{Task: "heartbeat", Err: err})
		return
	}
	byID := make(map[string]chat.Run, len(held))
	for _, run := range held {
		byID[run.ID] = run
	}
	for _, t := range tasks {
		run, ok := byID[t.run.ID]
		switch {
		case !ok || run.Attempt != t.run.Attempt:
			t.cancel(errFenced) // harmless when the task has just ended its run itself
		case run.StopRequested:
			t.cancel(errStopped)
		}
	}
}

// sweeps claims queued and abandoned runs, at every interval and when notified of
// one.
func (s *Service) sweeps(ctx context.Context) {
	wake, stop := s.Feed.Listen(ports.TopicQueue)
	defer stop()
	timer := time.NewTimer(rand.N(s.opt.Sweep)) // instances that start together do not sweep together
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-wake:
		case <-s.wakeSweep:
		case <-s.draining:
			return
		case <-ctx.Done():
			return
		}
		for s.sweep(ctx) {
		}
		timer.Reset(s.opt.Sweep)
	}
}

func (s *Service) wakeSweeper() {
	select {
	case s.wakeSweep <- struct{}{}:
	default:
	}
}

// sweep claims some runs and reports whether there may be more.
func (s *Service) sweep(ctx context.Context) bool {
	n := min(claimBatchSize, s.registry.free())
	if n == 0 || s.isDraining() {
		return false
	}
	claimCtx, cancel := context.WithTimeout(ctx, s.opt.AdmitTimeout)
	runs, err := s.Store.Claim(claimCtx, s.opt.Owner, s.opt.Lease, n)
	cancel()
	if err != nil {
		if ctx.Err() == nil {
			s.Observer.Observe(ctx, ports.BackgroundFailed{Task: "sweep", Err: err})
		}
		return false
	}
	for _, run := range runs {
		s.resumeClaimed(run)
	}
	return len(runs) == n
}

// resumeClaimed continues or ends a run that was just claimed, by its Fate.
func (s *Service) resumeClaimed(run chat.Run) {
	t := newTask(context.Background(), run, run.CreatedAt)
	t.recover = run.Attempt > 1
	t.trace, _ = run.Metadata[ports.MetadataTrace].(string)
	for !s.registry.reserve() { // free() said yes a moment ago; admissions may have been faster
		select {
		case <-time.After(10 * time.Millisecond):
		case <-s.draining:
			s.release(t)
			return
		}
	}
	fate := run.Fate(s.opt.MaxAttempts)
	if fate == chat.Retry {
		ctx, cancel := context.WithTimeout(context.Background(), s.opt.AdmitTimeout)
		conv, branch, err := s.Store.Resume(ctx, run, s.opt.ContextMessages)
		cancel()
		if err == nil {
			s.start(t, conv, branch)
			s.Feed.Notify(t.ctx, ports.TopicUser(run.UserID))
			return
		}
		s.registry.unreserve()
		if !fault.Is(err, fault.NotFound) { // the lease expires, and the run is claimed again
			s.Observer.Observe(t.ctx, ports.BackgroundFailed{Task: "resume", Err: err})
		}
		return
	}

	o := s.outcome(t, ports.Answer{Provider: run.Provider, Model: run.Model}, promptWindow{})
	delete(o.Metadata, "contextLength")
	switch fate {
	case chat.Halt:
		o.State = chat.Stopped
	case chat.Interrupt:
		o.State = chat.Interrupted
	case chat.GiveUp:
		o.State, o.Failure = chat.Failed, FailureAttempts
	}
	if run.Seen() {
		o.Usage.Estimated = true
		for _, p := range run.Output.Parts() {
			o.Usage.Output += int64(s.Tokens(p.Text))
		}
	}
	s.registry.register(t)
	go func() {
		defer s.registry.remove(t)
		s.finish(t, o, ports.Answer{}, "owner_gone")
	}()
}
