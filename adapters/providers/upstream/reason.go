// Package upstream is what the provider adapters share: an Endpoint sends a
// request and reads the reply within limits of time and size, an EventReader
// decodes its server-sent events, a Reply collects text, finish reason and
// usage, and a Reason says why a reply failed and what follows from that.
package upstream

import (
	"context"
	"errors"
	"time"

	"parley/domain/fault"
)

// Reason is a code that says why a reply failed. It is the detail "reason" of
// the fault, and a metric label: the list is closed.
type Reason string

const (
	// No request was sent.
	BreakerOpen Reason = "breaker_open" // the provider has failed too often lately
	Saturated   Reason = "saturated"    // AI_MAX_CONCURRENCY requests are running
	Disabled    Reason = "disabled"     // an operator has disabled the provider
	Unreachable Reason = "unreachable"  // no connection
	DNSFailed   Reason = "dns_failed"   // the host name of the base URL cannot be resolved
	TLSFailed   Reason = "tls_failed"   // its certificate has expired, is not trusted or is another host's

	FilesUnavailable Reason = "files_unavailable" // the files of the prompt cannot be read now

	// The provider refused the request.
	RateLimited    Reason = "rate_limited"
	QuotaExhausted Reason = "quota_exhausted" // the account has no credit, or has reached its spending limit
	Overloaded     Reason = "overloaded"
	ServerError    Reason = "provider_error"
	KeyRefused     Reason = "provider_auth"    // 401, 403: the configured key is wrong, expired or lacks a permission
	UnknownModel   Reason = "model_not_found"  // the configured model does not exist
	BadRequest     Reason = "request_refused"  // this request is invalid
	TooLong        Reason = "context_too_long" // more tokens than the model takes
	FileRefused    Reason = "file_refused"     // the model cannot read a file of the request

	// The reply broke off, or did not begin.
	FirstToken   Reason = "first_token_timeout"
	Idle         Reason = "idle_timeout"
	Deadline     Reason = "deadline"
	Lost         Reason = "connection_lost"
	Incomplete   Reason = "incomplete" // a clean end without the provider's own terminal marker
	NotAStream   Reason = "not_a_stream"
	LineTooLong  Reason = "line_too_long"
	ReplyTooLong Reason = "reply_too_long"
	Canceled     Reason = "canceled" // by the caller
	Unrecognised Reason = "unrecognised"

	// The reply ended, but cannot be shown as complete.
	UnknownFinish     Reason = "unknown_finish_reason" // not in finishReasons
	UnsupportedOutput Reason = "unsupported_output"    // it holds something other than text
)

const (
	reasonDetail       = "reason"
	failedMessage      = "The AI provider did not complete the reply"
	unavailableMessage = "The AI is temporarily unavailable"
	noFilesMessage     = "The files of this conversation are temporarily unavailable"
	refusedFileMessage = "The AI model could not read a file of this conversation"
)

// traits say what follows from a reason, as long as no text has been shown.
type traits struct {
	unavailable bool // AIUnavailable rather than AIFailed
	retry       bool // the same provider may succeed in a moment
	failover    bool // another provider may succeed
	counts      bool // the breaker counts it as a failure of the provider
}

var traitsOf = map[Reason]traits{
	BreakerOpen: {unavailable: true, failover: true},
	Saturated:   {unavailable: true, failover: true},
	Disabled:    {unavailable: true, failover: true},

	FilesUnavailable: {unavailable: true},

	Unreachable:    {unavailable: true, retry: true, failover: true, counts: true},
	DNSFailed:      {unavailable: true, retry: true, failover: true, counts: true},
	TLSFailed:      {unavailable: true, failover: true, counts: true},
	RateLimited:    {unavailable: true, retry: true, failover: true, counts: true},
	QuotaExhausted: {unavailable: true, failover: true, counts: true},
	Overloaded:     {unavailable: true, retry: true, failover: true, counts: true},
	ServerError:    {retry: true, failover: true, counts: true},
	KeyRefused:     {failover: true, counts: true},
	UnknownModel:   {failover: true, counts: true},
	BadRequest:     {},
	TooLong:        {},
	FileRefused:    {failover: true},
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
func (r Reason) Retry() bool { return traitsOf[r].retry }

// Failover reports whether another provider may be asked instead.
func (r Reason) Failover() bool { return traitsOf[r].failover }

// Counts reports whether the breaker counts it as a failure of the provider.
func (r Reason) Counts() bool { return traitsOf[r].counts }

// Fail returns the fault of a reason. cause is for operators: it names codes and
// statuses, never a provider's own sentence, which may quote a key or a message.
func Fail(r Reason, cause error) *fault.Error {
	switch {
	case r == FilesUnavailable:
		return fault.Wrap(cause, fault.AIUnavailable, noFilesMessage).With(reasonDetail, string(r))
	case r == FileRefused:
		return fault.Wrap(cause, fault.AIFailed, refusedFileMessage).With(reasonDetail, string(r))
	case r == Canceled:
		return fault.Wrap(cause, fault.Canceled, "The reply was cancelled").With(reasonDetail, string(r))
	case traitsOf[r].unavailable:
		return fault.Wrap(cause, fault.AIUnavailable, unavailableMessage).With(reasonDetail, string(r))
	}
	return fault.Wrap(cause, fault.AIFailed, failedMessage).With(reasonDetail, string(r))
}

// ReasonOf returns the reason of an error; "" for nil.
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

// RetryAfter returns how long the provider asked to wait, or 0.
func RetryAfter(err error) time.Duration {
	if f := fault.As(err); f != nil {
		return f.RetryAfter
	}
	return 0
}

// Ended returns the fault of a context that is done, or nil: that of an exceeded
// time limit, of the deadline of the whole reply, or of a cancellation.
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
