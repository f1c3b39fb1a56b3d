package observe

import (
	"sync"
	"time"
)

// perSecond is how many lines of one message pass in a second.
const perSecond = 10

// sampler thins out floods of the same message.
type sampler struct {
	now func() time.Time
	mu  *sync.Mutex
	by  map[string]*flood
}

type flood struct {
	second     int64
	passed     int
	suppressed int
}

func newSampler(now func() time.Time) sampler {
	return sampler{now: now, mu: &sync.Mutex{}, by: map[string]*flood{}}
}

// pass reports whether a line may be written, and how many could not since the
// last that was. Messages are constants of this package, so the map is small.
func (s sampler) pass(msg string) (ok bool, suppressed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.by[msg]
	if f == nil {
		f = &flood{}
		s.by[msg] = f
	}
	if second := s.now().Unix(); f.second != second {
		f.second, f.passed = second, 0
	}
	if f.passed >= perSecond {
		f.suppressed++
		return false, 0
	}
	f.passed++
	suppressed, f.suppressed = f.suppressed, 0
	return true, suppressed
}
