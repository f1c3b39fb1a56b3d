package access

import "time"

// Window is the span over which requests are limited.
const Window = time.Minute

// CoarseFactor times the tier's limit is the coarse limit, for all requests of a
// caller together.
const CoarseFactor = 10

// Decision is a limiter's decision on one request.
type Decision struct {
	Allowed    bool
	Limit      int           // requests per Window
	Remaining  int           // after this request
	Reset      time.Time     // when the whole limit is available again, without further requests
	RetryAfter time.Duration // until one request would be allowed; 0 when Allowed
	Fallback   bool          // the shared limiter could not be asked; this is a local answer
}

// Limits is the number of requests per Window of each tier.
type Limits map[Tier]int

// Of returns a tier's limit; an unknown tier gets the anonymous one.
func (l Limits) Of(t Tier) int {
	if n, ok := l[t]; ok {
		return n
	}
	return l[Anonymous]
}
