// Package fault names the ways in which Parley can refuse or fail, in terms
// that every layer understands. A fault carries a kind, one sentence that is
// safe to show to any user, and the cause, which is for operators only. HTTP
// statuses exist in adapters/httpapi and nowhere else.
package fault

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Kind says what sort of thing went wrong. Its value is the code on the wire.
type Kind string

const (
	Invalid         Kind = "INVALID_INPUT"     // the input is wrong; the same input will fail again
	Unauthenticated Kind = "UNAUTHORIZED"      // no credential, or one that does not verify
	Forbidden       Kind = "FORBIDDEN"         // a valid credential that may not do this
	NotFound        Kind = "NOT_FOUND"         // unknown, malformed and foreign ids alike
	Busy            Kind = "REPLY_IN_PROGRESS" // the conversation has a live run
	Mismatch        Kind = "IDEMPOTENCY_MISMATCH"
	Conflict        Kind = "CONFLICT"     // the state does not permit it (e.g. continue a completed reply)
	Limited         Kind = "RATE_LIMITED" // too many requests in the window
	OverBudget      Kind = "BUDGET_EXCEEDED"
	TooManyStreams  Kind = "TOO_MANY_STREAMS" // the caller has as many open as one may have
	Overloaded      Kind = "OVERLOADED"       // more is asked at once than this instance can do; nothing is broken
	QueueFull       Kind = "QUEUE_FULL"       // the background queue holds as much as it may
	AIFailed        Kind = "AI_FAILED"
	AIUnavailable   Kind = "AI_UNAVAILABLE"
	Unavailable     Kind = "UNAVAILABLE"   // a dependency is down, or Parley is draining
	Disabled        Kind = "CHAT_DISABLED" // an operator has disabled chat
	TooLarge        Kind = "PAYLOAD_TOO_LARGE"
	MediaType       Kind = "UNSUPPORTED_MEDIA_TYPE"
	NotAcceptable   Kind = "NOT_ACCEPTABLE"
	Method          Kind = "METHOD_NOT_ALLOWED"
	Fenced          Kind = "FENCED" // a newer attempt owns the run, or it has ended; never shown to users
	Canceled        Kind = "CANCELED"
	Internal        Kind = "INTERNAL_ERROR"
)

// Error is a fault. Message is safe to show; Cause is not.
type Error struct {
	Kind       Kind
	Message    string         // one sentence, no secret, no message text
	RetryAfter time.Duration  // 0: unknown or pointless
	Details    map[string]any // further safe members for the client, by JSON name
	Cause      error
}

// New returns a fault with a safe sentence. Arguments must be safe too.
func New(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Wrap gives cause a kind and a safe sentence. Wrap(nil, ...) is a plain fault.
func Wrap(cause error, kind Kind, format string, args ...any) *Error {
	f := New(kind, format, args...)
	f.Cause = cause
	return f
}

// With adds a safe detail and returns the fault.
func (e *Error) With(name string, value any) *Error {
	if e.Details == nil {
		e.Details = map[string]any{}
	}
	e.Details[name] = value
	return e
}

// After sets when a retry makes sense and returns the fault.
func (e *Error) After(d time.Duration) *Error {
	e.RetryAfter = d
	return e
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return string(e.Kind) + ": " + e.Message + ": " + e.Cause.Error()
	}
	return string(e.Kind) + ": " + e.Message
}

func (e *Error) Unwrap() error { return e.Cause }

// As returns the outermost fault in err's chain, or nil.
func As(err error) *Error {
	var f *Error
	if errors.As(err, &f) {
		return f
	}
	return nil
}

// KindOf classifies any error: a fault by its kind, a cancelled context as
// Canceled, an expired deadline as Unavailable, all else as Internal, nil as "".
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	if f := As(err); f != nil {
		return f.Kind
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return Unavailable
	}
	return Internal
}

// Is reports whether err is a fault of the given kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }
