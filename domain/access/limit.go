package access

import "time"

// Window is the span over which requests are limited.
const Window = time.Minute

// CoarseFactor is how many times its tier's limit a caller may ask for
// anything at all, reads included.
const CoarseFactor = 10

// Decision is a limiter's answer to one request.
type Decision struct {
	Allowed    bool
	Limit      int           // requests per Window
	Remaining  int           // after this request
	Reset      time.Time     // when the whole limit is available again, if nothing more is asked
	RetryAfter time.Duration // until one request would be allowed; 0 when Allowed
	Fallback   bool          // the shared limiter could not be asked; this is a local answer
}

// Limits gives each tier its requests per Window.
type Limits map[Tier]int

// Of returns a tier's limit; an unknown tier gets the anonymous one.
func (l Limits) Of(t Tier) int {
	if n, ok := l[t]; ok {
		return n
	}
	return l[Anonymous]
}
