package webhook

import (
	"math"
	"time"
)

// State is the state of an event's delivery.
type State string

// The states of a delivery.
const (
	Pending   State = "pending"   // to be sent, or sent again
	Delivered State = "delivered" // the receiver has accepted it
	Dead      State = "dead"      // given up; it can be replayed
)

// States lists every state.
var States = []State{Pending, Delivered, Dead}

// Delivery is an event on its way to the receiver.
type Delivery struct {
	Event
	State   State
	Attempt int       // fencing: counts every claim, and a write that names an older one is refused
	Tries   int       // claims since the event happened or was replayed
	DueAt   time.Time // of a pending one, when it is sent; of others, when it is deleted
	Last    Answer    // of the last attempt
}

// Answer is the result of one attempt to deliver.
type Answer struct {
	Status     int           // of HTTP; 0: there was none
	Failure    string        // a code; "": accepted
	RetryAfter time.Duration // that the receiver asked for; 0: none
}

// Codes of failures.
const (
	FailureTimeout   = "timeout"
	FailureConnect   = "connection_failed"
	FailureAddress   = "address_refused" // the name resolves to an address that is not allowed
	FailureRedirect  = "redirect"
	FailureStatus    = "status"
	FailureGone      = "gone"
	FailureRateLimit = "rate_limited"
)

// Classify returns the answer that a status code of HTTP stands for.
func Classify(status int, retryAfter time.Duration) Answer {
	a := Answer{Status: status, RetryAfter: retryAfter}
	switch {
	case status >= 200 && status < 300:
	case status >= 300 && status < 400:
		a.Failure = FailureRedirect
	case status == 410:
		a.Failure = FailureGone
	case status == 429:
		a.Failure = FailureRateLimit
	default:
		a.Failure = FailureStatus
	}
	return a
}

// Retries of a delivery: with these it is tried for some 30 hours.
const (
	firstRetry  = 5 * time.Second
	retryFactor = 3
	longestWait = 6 * time.Hour
	MaxTries    = 13
	// longestRetryAfter bounds what a receiver may ask for.
	longestRetryAfter = 24 * time.Hour
)

// Next decides what becomes of a delivery after an answer. in is when it is due
// again, or deleted, from now on. Waits are spread by random, from 0 to 1, over
// half of their length, so that what failed together is not sent together.
func (d Delivery) Next(a Answer, now time.Time, retention time.Duration, random float64) (state State, in time.Duration) {
	switch {
	case a.Failure == "":
		return Delivered, d.keep(now, retention)
	case a.Failure == FailureGone, d.Tries >= MaxTries:
		return Dead, d.keep(now, retention)
	}
	wait := min(float64(longestWait), float64(firstRetry)*math.Pow(retryFactor, float64(max(d.Tries, 1)-1)))
	wait *= 0.75 + random/2
	return Pending, max(time.Duration(wait), min(a.RetryAfter, longestRetryAfter))
}

// keep is how long a delivery that has ended is kept.
func (d Delivery) keep(now time.Time, retention time.Duration) time.Duration {
	return max(retention, d.KeepUntil.Sub(now))
}
