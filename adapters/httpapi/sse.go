package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"time"

	"parley/domain/access"
	"parley/domain/chat"
	"parley/ports"
)

// Reasons for the end of a stream.
const (
	StreamDone     = "done"
	StreamShutdown = "shutdown" // of this instance
	streamGone     = "client_gone"
	streamSlow     = "write_timeout"
	streamRevoked  = "revoked"
)

// SessionEnded is the sentence for a client whose credential was accepted when
// its request came, and is not accepted any more.
const SessionEnded = "Your session has ended; please sign in again"

// errRevoked ends a stream whose credential is not accepted any more.
var errRevoked = errors.New("the credential is not accepted any more")

// Stream writes server-sent events, one JSON object each. Until the first one
// nothing has been sent, and the answer can still be a refusal.
type Stream struct {
	ctx     context.Context
	w       http.ResponseWriter
	conn    *http.ResponseController
	api     *API
	caller  caller
	media   string // "": events
	closes  bool   // the connection is closed at the end of the stream
	open    bool
	checked time.Time // when the credential was last accepted
	buf     []byte
}

// caller is who follows a stream.
type caller struct {
	credential access.Credential
	principal  access.Principal
}

func newStream(ctx context.Context, w *Response, media string) *Stream {
	return &Stream{
		ctx: ctx, w: w, conn: http.NewResponseController(w), api: w.api,
		caller: caller{w.request.credential, w.request.Principal}, media: media, checked: time.Now(),
	}
}

// Context is that of the stream, which ends when its client has gone.
func (s *Stream) Context() context.Context { return s.ctx }

// EventWriter writes the event that stands for e, and returns the reason of the
// stream's end if the event is its last one.
type EventWriter[E any] func(s *Stream, e E) (reason string, err error)

// WriteStream writes what write makes of each event. A client whose credential
// is not accepted any more gets what revoked makes of the next event, and no
// further one. WriteStream returns an error, to be answered, only if it comes
// instead of the first event, and answers 204 when there are no events.
func WriteStream[E any](ctx context.Context, w *Response, events iter.Seq2[E, error], write EventWriter[E], revoked func(E) any) error {
	return WriteParking(ctx, w, events, write, revoked, nil)
}

// WriteParking is WriteStream for events that may be parked: parked returns what
// is parked by an event, which is not written, or nil. A parked stream of HTTP/1.1
// gives back what its request and its handler hold.
func WriteParking[E any](
	ctx context.Context, w *Response, events iter.Seq2[E, error], write EventWriter[E], revoked func(E) any, parked func(E) Parked[E],
) (err error) {
	r := relay[E]{Stream: newStream(ctx, w, ""), write: write, revoked: revoked, parked: parked}
	r.closes = parked != nil && w.request.ProtoMajor == 1 && w.request.ProtoMinor > 0
	for {
		waiting, reason, err := r.events(events)
		switch {
		case waiting == nil:
			r.recordDisconnect(err, reason)
			switch {
			case r.open:
				return nil
			case err == nil && ctx.Err() == nil:
				w.WriteHeader(http.StatusNoContent)
			}
			return err
		case r.open && detach(r, w, waiting):
			return nil
		}
		awake := make(chan struct{})
		waiting.Wake(func() { close(awake) })
		select {
		case <-awake:
			events = waiting.Resume(ctx)
		case <-ctx.Done():
			waiting.Close()
			r.recordDisconnect(ctx.Err(), "")
			return nil
		}
	}
}

// relay writes events to a stream.
type relay[E any] struct {
	*Stream
	write   EventWriter[E]
	revoked func(E) any
	parked  func(E) Parked[E] // nil: nothing is
}

// events writes events, until they end or are parked.
func (r relay[E]) events(events iter.Seq2[E, error]) (waiting Parked[E], reason string, err error) {
	for e, failed := range events {
		if failed != nil {
			return nil, reason, failed
		}
		if r.parked != nil {
			if waiting = r.parked(e); waiting != nil {
				break
			}
		}
		why, err := r.write(r.Stream, e)
		if errors.Is(err, errRevoked) {
			if err = r.add(chat.Before, r.revoked(e)); err == nil {
				err = r.flush()
			}
			return nil, streamRevoked, err
		}
		if reason = cmp.Or(why, reason); err != nil {
			return nil, reason, err
		}
	}
	return waiting, reason, nil
}

// Header is the header of the answer, until the first event.
func (s *Stream) Header() http.Header { return s.w.Header() }

// Send writes one event; cursor -1 leaves out its id.
func (s *Stream) Send(cursor chat.Cursor, event any) error {
	if err := s.checkCredential(s.api.CheckInterval); err != nil {
		return err
	}
	if err := s.add(cursor, event); err != nil {
		return err
	}
	return s.flush()
}

// SendAll writes events together, without ids.
func (s *Stream) SendAll(list ...any) error {
	if err := s.checkCredential(s.api.CheckInterval); err != nil {
		return err
	}
	for _, event := range list {
		if err := s.add(chat.Before, event); err != nil {
			return err
		}
	}
	return s.flush()
}

// SendText writes an event whose data is not JSON.
func (s *Stream) SendText(data string) error {
	s.buf = append(s.buf, "data: "+data+"\n\n"...)
	return s.flush()
}

// Heartbeat writes a comment, which clients ignore.
func (s *Stream) Heartbeat() error {
	if s.open {
		if err := s.checkCredential(0); err != nil {
			return err
		}
	}
	s.buf = append(s.buf, ": waiting\n\n"...)
	return s.flush()
}

// checkCredential checks the credential of the request again if it was last
// accepted longer ago than interval.
func (s *Stream) checkCredential(interval time.Duration) error {
	if time.Since(s.checked) < interval {
		return nil
	}
	if !s.api.Gate.StillValid(s.ctx, s.caller.credential, s.caller.principal) {
		return errRevoked
	}
	s.checked = time.Now()
	return nil
}

func (s *Stream) add(cursor chat.Cursor, event any) error {
	data, err := json.Marshal(event)
	if err != nil {
		return err
	}
	if cursor >= 0 {
		s.buf = append(s.buf, "id: "...)
		s.buf = strconv.AppendInt(s.buf, int64(cursor), 10)
		s.buf = append(s.buf, '\n')
	}
	s.buf = append(s.buf, "data: "...)
	s.buf = append(s.buf, data...)
	s.buf = append(s.buf, '\n')
	if s.api.StreamPadding {
		s.pad()
	}
	s.buf = append(s.buf, '\n')
	return nil
}

// paddedSize is what the sizes of padded events are multiples of, in bytes.
const paddedSize = 128

// pad ends an event with a comment of random length. From the sizes of encrypted
// packets alone an eavesdropper could otherwise tell the lengths of a reply's
// words, and from them much of its text. Up to one more paddedSize at random
// keeps equal events from looking equal. The filling is random too, so that a
// proxy that compresses does not undo it.
func (s *Stream) pad() {
	const frame = len(": \n")
	least := len(s.buf) + frame + len("\n") + rand.IntN(paddedSize)
	fill := (least+paddedSize-1)/paddedSize*paddedSize - len(s.buf) - frame - len("\n")
	s.buf = append(s.buf, ": "...)
	for range fill {
		s.buf = append(s.buf, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef"[rand.IntN(32)])
	}
	s.buf = append(s.buf, '\n')
}

func (s *Stream) flush() error {
	if !s.open {
		h := s.w.Header()
		h.Set("Content-Type", cmp.Or(s.media, MediaEvents))
		h.Set("Cache-Control", "no-cache, no-transform")
		h.Set("X-Accel-Buffering", "no")
		if s.closes {
			h.Set("Connection", "close")
		}
		s.w.WriteHeader(http.StatusOK)
		s.open = true
	}
	_, err := s.w.Write(s.buf) // the responseWriter sets the deadline
	s.buf = s.buf[:0]
	if err != nil {
		return err
	}
	if err := s.conn.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// recordDisconnect tells the observer why a stream ended.
func (s *Stream) recordDisconnect(err error, reason string) {
	if !s.open {
		return
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		reason = streamSlow
	case err != nil || reason == "":
		reason = streamGone
	}
	s.api.Observer.Observe(s.ctx, ports.FollowerLeft{Reason: reason})
}
