package replies

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
	"time"
)

// Parked is a follower of a run that is silent. It needs no goroutine. Its Wake
// must be called, and then Resume or Close.
type Parked struct {
	f     *follower
	woken atomic.Bool

	mu    sync.Mutex // held while what may wake it is set up, or taken down
	timer *time.Timer
}

// mayPark reports whether the follower can wait parked: a run that the feed does
// not hold is asked for too often.
func (f *follower) mayPark() bool {
	return f.parks && f.quiet && f.inFeed && !f.view.State.Terminal() && !f.s.letsGo(f.run.ID)
}

// letsGo reports whether followers of a run have to connect to another instance.
func (s *Service) letsGo(run string) bool {
	select {
	case <-s.released:
		return true
	case <-s.drainingElsewhere(run):
		return true
	default:
		return false
	}
}

// Wake has f called once, when there may be something for the follower or a sign
// of life is due. f must not block.
func (p *Parked) Wake(f func()) {
	wake := func() {
		if p.woken.CompareAndSwap(false, true) {
			f()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(p.f.s.opt.Idle, wake)
	p.f.s.parked.add(p, wake)
	p.f.watch.OnChange(wake)
	if p.f.s.letsGo(p.f.run.ID) {
		wake()
	}
}

// Resume yields what has come meanwhile, or a heartbeat, and goes on as
// FollowOrPark does.
func (p *Parked) Resume(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		p.stop()
		p.f.resumed, p.f.quiet = true, true
		p.f.follow(ctx, yield)
	}
}

// Close ends the follower.
func (p *Parked) Close() {
	p.stop()
	p.f.close()
}

func (p *Parked) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.woken.Store(true)
	if p.timer != nil {
		p.timer.Stop()
	}
	p.f.s.parked.remove(p)
	p.f.watch.OnChange(nil)
}

// parkedSet holds the parked followers of this instance, which a shutdown wakes.
type parkedSet struct {
	mu  sync.Mutex
	set map[*Parked]func()
}

func (s *parkedSet) add(p *Parked, wake func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		s.set = map[*Parked]func(){}
	}
	s.set[p] = wake
}

func (s *parkedSet) remove(p *Parked) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.set, p); len(s.set) == 0 {
		s.set = nil // a map does not shrink
	}
}

func (s *parkedSet) wakeAll() {
	s.mu.Lock()
	all := make([]func(), 0, len(s.set))
	for _, wake := range s.set {
		all = append(all, wake)
	}
	s.mu.Unlock()
	for _, wake := range all {
		wake()
	}
}
