package gate

import (
	"sync"
	"time"

	"parley/domain/access"
	"parley/domain/fault"
)

// streams counts the open streams of each user on this instance.
type streams struct {
	mu   sync.Mutex
	open map[string]int // no entry for a user without one
}

// OpenStream counts a stream of the caller's until close is called, which may
// happen more than once. It is a TooManyStreams fault when as many are open as
// the tier's budget allows.
func (g *Gate) OpenStream(p access.Principal) (closed func(), err error) {
	limit := g.Budget(p.Tier).Streams
	s := &g.streams
	s.mu.Lock()
	defer s.mu.Unlock()
	if limit > 0 && s.open[p.UserID] >= limit {
		return nil, fault.New(fault.TooManyStreams, "Too many open streams; close one of them first").
			After(time.Second).With("limit", limit)
	}
	if s.open == nil {
		s.open = map[string]int{}
	}
	s.open[p.UserID]++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open[p.UserID]--; s.open[p.UserID] == 0 {
			delete(s.open, p.UserID)
		}
	}), nil
}
