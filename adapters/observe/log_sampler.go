package observe

import (
	"sync"
	"time"
)

// linesPerSecond is how many lines of one message are logged in a second.
const linesPerSecond = 10

// sampler limits how often the same message is logged.
type sampler struct {
	now func() time.Time
	mu  *sync.Mutex
	by  map[string]*messageCount
}

type messageCount struct {
	second     int64
	passed     int
	suppressed int
}

func newSampler(now func() time.Time) sampler {
	return sampler{now: now, mu: &sync.Mutex{}, by: map[string]*messageCount{}}
}

// pass reports whether a line may be logged, and how many were suppressed since
// the last one. Messages are constants of this package, so that the map is small.
func (s sampler) pass(msg string) (ok bool, suppressed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.by[msg]
	if f == nil {
		f = &messageCount{}
		s.by[msg] = f
	}
	if second := s.now().Unix(); f.second != second {
		f.second, f.passed = second, 0
	}
	if f.passed >= linesPerSecond {
		f.suppressed++
		return false, 0
	}
	f.passed++
	suppressed, f.suppressed = f.suppressed, 0
	return true, suppressed
}
