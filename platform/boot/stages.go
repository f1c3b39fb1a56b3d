package boot

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// service runs in the background. run returns soon after ctx is done; it may
// take the time that it needs to end its work in order.
type service struct {
	name string
	run  func(ctx context.Context) error
}

// forever adapts a loop that cannot fail.
func forever(name string, run func(ctx context.Context)) service {
	return service{name, func(ctx context.Context) error { run(ctx); return nil }}
}

// runStages starts the services of all stages, in their order, and waits until
// ctx is done or a service returns by itself, which is a failure. It calls
// stopping with that failure, or nil, and then stops the stages in reverse
// order: the services of one together, and the next stage when all of them have
// returned. When runStages returns, no service runs. Its error joins what the
// services returned.
//
// Run groups such as oklog/run and errgroup stop everything at once. Here the
// audit must outlive the replies, and the replies' readers the replies.
func runStages(ctx context.Context, stages [][]service, stopping func(failure error)) error {
	ended := make(chan error, 1)
	started := make([]*runningStage, len(stages))
	for i, stage := range stages {
		started[i] = startStage(stage, ended)
	}
	var failure error
	select {
	case <-ctx.Done():
	case failure = <-ended:
	}
	stopping(failure)
	errs := []error{failure}
	for i := len(started) - 1; i >= 0; i-- {
		errs = append(errs, started[i].stop())
	}
	return errors.Join(errs...)
}

// runningStage is a stage whose services have been started.
type runningStage struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	stopping bool
	errs     []error
}

// startStage starts services. The first one of any stage that returns before
// its stage is stopped is reported to ended.
func startStage(services []service, ended chan<- error) *runningStage {
	ctx, cancel := context.WithCancel(context.Background())
	s := &runningStage{cancel: cancel}
	for _, each := range services {
		s.wg.Go(func() {
			err := each.run(ctx)
			if err != nil {
				err = fmt.Errorf("%s: %w", each.name, err)
			}
			if s.returned(err) {
				return
			}
			if err == nil {
				err = fmt.Errorf("%s: ended by itself", each.name)
			}
			select {
			case ended <- err:
			default: // another one was first
			}
		})
	}
	return s
}

// returned records the error of a service and reports whether it was to stop.
func (s *runningStage) returned(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping && err != nil {
		s.errs = append(s.errs, err)
	}
	return s.stopping
}

// stop cancels the services, waits for all of them, and returns their errors.
func (s *runningStage) stop() error {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
	return errors.Join(s.errs...)
}
