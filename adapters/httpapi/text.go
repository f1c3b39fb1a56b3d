package httpapi

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"net/http"

	"parley/domain/fault"
)

// TextWriter returns the text that stands for e, and the reason of the stream's
// end if the event is its last one. An error is a refusal as long as nothing has
// been sent, and breaks off the connection later.
type TextWriter[E any] func(e E) (text, reason string, err error)

// WriteText writes what write makes of each event as plain text, as it comes.
// Plain text cannot say how it ends: a client that must not take what came for
// the whole is disconnected. WriteText returns an error, to be answered, only if
// nothing has been sent.
func WriteText[E any](ctx context.Context, w *Response, events iter.Seq2[E, error], write TextWriter[E]) (err error) {
	s := newStream(ctx, w, MediaText+"; charset=utf-8")
	reason := ""
	for e, failed := range events {
		text := ""
		if err = failed; err == nil {
			var why string
			text, why, err = write(e)
			reason = cmp.Or(why, reason)
		}
		if err == nil && (text != "" || s.open) {
			err = s.sendPlain(text)
		}
		if err != nil {
			break
		}
	}
	if errors.Is(err, errRevoked) {
		reason = streamRevoked
	}
	if reason != "" {
		s.recordDisconnect(nil, reason)
	} else {
		s.recordDisconnect(err, reason)
	}
	switch {
	case s.open && (err != nil || reason == ""):
		panic(http.ErrAbortHandler)
	case s.open || ctx.Err() != nil:
		return nil
	case errors.Is(err, errRevoked):
		return fault.New(fault.Unauthenticated, SessionEnded)
	case err != nil:
		return err
	case reason == "":
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return fault.New(fault.Conflict, "The reply was stopped before it began")
}

// sendPlain writes text as it is. Without text it checks the credential only.
func (s *Stream) sendPlain(text string) error {
	interval := s.api.CheckInterval
	if text == "" {
		interval = 0
	}
	if err := s.checkCredential(interval); err != nil || text == "" {
		return err
	}
	s.buf = append(s.buf, text...)
	return s.flush()
}
