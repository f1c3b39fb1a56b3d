// Package upstream is what every provider adapter shares: the reasons for
// which a reply can go wrong and what follows from each, the limits on time
// and size, the HTTP client that enforces them, and the cleaning of text.
package upstream

import (
	"context"
	"errors"
	"time"

	"parley/domain/fault"
)

// Reason says why a reply could not be made, as a code. It is the detail
// "reason" of the fault, and a metric label: the list is closed.
type Reason string

const (
	// Nothing was asked.
	BreakerOpen Reason = "breaker_open" // the provider failed too often a moment ago
	Saturated   Reason = "saturated"    // it has as many requests of ours as it may
	Unreachable Reason = "unreachable"  // no connection

	// The provider turned the request away.
	RateLimited    Reason = "rate_limited"
	QuotaExhausted Reason = "quota_exhausted" // somebody has to pay first
	Overloaded     Reason = "overloaded"
	ServerError    Reason = "provider_error"
	KeyRefused     Reason = "provider_auth"    // 401, 403: the configured key is wrong, expired or lacks a permission
	UnknownModel   Reason = "model_not_found"  // our model list is not good
	BadRequest     Reason = "request_refused"  // this request is not good
	TooLong        Reason = "context_too_long" // more tokens than the model takes

	// The reply began, or should have begun.
	FirstToken   Reason = "first_token_timeout"
	Idle         Reason = "idle_timeout"
	Deadline     Reason = "deadline"
	Lost         Reason = "connection_lost"
	Incomplete   Reason = "incomplete" // a clean end without the provider's own terminal marker
	NotAStream   Reason = "not_a_stream"
	LineTooLong  Reason = "line_too_long"
	ReplyTooLong Reason = "reply_too_long"
	Canceled     Reason = "canceled" // whoever asked does not want it any more
	Unrecognised Reason = "unrecognised"

	// The reply ended, but is not what can be shown as a complete one.
	UnknownFinish     Reason = "unknown_finish_reason" // a reason to end that is not listed
	UnsupportedOutput Reason = "unsupported_output"    // it holds something other than text
)

const (
	reasonDetail  = "reason"
	sayFailed     = "The AI provider did not complete the reply"
	sayTurnedAway = "The AI is temporarily unavailable"
)

// traits is what follows from a reason, as long as no token has been shown.
type traits struct {
	unavailable bool // AIUnavailable rather than AIFailed
	retry       bool // the same provider may do better in a moment
	failover    bool // another provider may do better
	counts      bool // it speaks against the provider: the breaker counts it
}

var table = map[Reason]traits{
	BreakerOpen:    {unavailable: true, failover: true},
	Saturated:      {unavailable: true, failover: true},
	Unreachable:    {unavailable: true, retry: true, failover: true, counts: true},
	RateLimited:    {unavailable: true, retry: true, failover: true, counts: true},
	QuotaExhausted: {unavailable: true, failover: true, counts: true},
	Overloaded:     {unavailable: true, retry: true, failover: true, counts: true},
	ServerError:    {retry: true, failover: true, counts: true},
	KeyRefused:     {failover: true, counts: true},
	UnknownModel:   {failover: true, counts: true},
	BadRequest:     {},
	TooLong:        {},
	FirstToken:     {failover: true, counts: true},
	Idle:           {failover: true, counts: true},
	Deadline:       {},
	Lost:           {retry: true, failover: true, counts: true},
	Incomplete:     {retry: true, failover: true, counts: true},
	NotAStream:     {failover: true, counts: true},
	LineTooLong:    {failover: true, counts: true},
	ReplyTooLong:   {},
	Canceled:       {},
	Unrecognised:   {failover: true, counts: true},

	UnknownFinish:     {failover: true, counts: true},
	UnsupportedOutput: {failover: true, counts: true},
}

// Retry reports whether the same provider may be asked again.
func (r Reason) Retry() bool { return table[r].retry }

// Failover reports whether another provider may be asked instead.
func (r Reason) Failover() bool { return table[r].failover }

// Counts reports whether it speaks against the provider.
func (r Reason) Counts() bool { return table[r].counts }

// Fail is the fault for a reason. cause is for operators: it names codes and
// statuses, never a provider's own sentence, which may quote a key or a message.
func Fail(r Reason, cause error) *fault.Error {
	switch {
	case r == Canceled:
		return fault.Wrap(cause, fault.Canceled, "The reply was cancelled").With(reasonDetail, string(r))
	case table[r].unavailable:
		return fault.Wrap(cause, fault.AIUnavailable, sayTurnedAway).With(reasonDetail, string(r))
	}
	return fault.Wrap(cause, fault.AIFailed, sayFailed).With(reasonDetail, string(r))
}

// ReasonOf reads the reason from an error; a nil error has none.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	if f := fault.As(err); f != nil {
		if r, ok := f.Details[reasonDetail].(string); ok {
			return Reason(r)
		}
	}
	return Unrecognised
}

// RetryAfter is how long the provider asked us to wait, or 0.
func RetryAfter(err error) time.Duration {
	if f := fault.As(err); f != nil {
		return f.RetryAfter
	}
	return 0
}

// Ended is the fault of a context that is done, or nil: a limit of ours that
// passed, the deadline of the whole reply, or a cancellation from outside.
func Ended(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	cause := context.Cause(ctx)
	if f := (*fault.Error)(nil); errors.As(cause, &f) && f.Details[reasonDetail] != nil {
		return f
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return Fail(Deadline, context.DeadlineExceeded)
	}
	return Fail(Canceled, context.Canceled)
}
