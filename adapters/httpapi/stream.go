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
	"reflect"
	"strconv"
	"time"

	"parley/app/replies"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

const eventStream = "text/event-stream"

// codeInterrupted is the code of a reply whose instance died. Only a stream
// tells of it: who waits is told when another instance has made the reply.
const codeInterrupted fault.Kind = "INTERRUPTED"

// Why a follower is not one any more.
const (
	leftDone     = "done"
	leftGone     = "client_gone"
	leftSlow     = "write_timeout"
	leftShutdown = "shutdown"
	leftRevoked  = "revoked"
)

// events writes server-sent events, one JSON object each. Until the first one
// nothing has been sent, and the answer can still be a refusal.
type events struct {
	w    http.ResponseWriter
	conn *http.ResponseController
	open bool
	pads bool
	buf  []byte
}

// bucket is what the sizes of padded events are multiples of, in bytes.
const bucket = 128

// pad ends an event with a comment of random length. Who sees only the sizes of
// encrypted packets could otherwise tell the lengths of a reply's words, and
// from them much of what it says. Up to one more bucket at random keeps equal
// events from looking equal. The filling is random too: a proxy that compresses
// must not undo it.
func (s *events) pad() {
	const frame = len(": \n")
	least := len(s.buf) + frame + len("\n") + rand.IntN(bucket)
	fill := (least+bucket-1)/bucket*bucket - len(s.buf) - frame - len("\n")
	s.buf = append(s.buf, ": "...)
	for range fill {
		s.buf = append(s.buf, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef"[rand.IntN(32)])
	}
	s.buf = append(s.buf, '\n')
}

// begin sends the header.
func (s *events) begin() {
	h := s.w.Header()
	h.Set("Content-Type", eventStream)
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no")
	s.w.WriteHeader(http.StatusOK)
	s.open = true
}

// send writes one event; cursor -1 leaves out its id.
func (s *events) send(cursor chat.Cursor, event any) error {
	if err := s.add(cursor, event); err != nil {
		return err
	}
	return s.flush()
}

// sendAll writes events together, without ids.
func (s *events) sendAll(list ...any) error {
	for _, event := range list {
		if err := s.add(chat.Before, event); err != nil {
			return err
		}
	}
	return s.flush()
}

func (s *events) add(cursor chat.Cursor, event any) error {
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
	if s.pads {
		s.pad()
	}
	s.buf = append(s.buf, '\n')
	return nil
}

// beat writes a comment: a sign of life that no client sees.
func (s *events) beat() error {
	s.buf = append(s.buf, ": waiting\n\n"...)
	return s.flush()
}

func (s *events) flush() error {
	if !s.open {
		s.begin()
	}
	_, err := s.w.Write(s.buf) // the writer sets the deadline
	s.buf = s.buf[:0]
	if err != nil {
		return err
	}
	if err := s.conn.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// left states why a stream ended.
func (a *API) left(ctx context.Context, s *events, err error, reason string) {
	if !s.open {
		return
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		reason = leftSlow
	case err != nil || reason == "":
		reason = leftGone
	}
	a.Observer.Observe(ctx, ports.FollowerLeft{Reason: reason})
}

// following is a reply in the making, as its events.
type following struct {
	events iter.Seq2[replies.Event, error]
	html   bool // messages are rendered too
}

type followWire struct {
	ID    string `path:"id" names:"message"`
	After *int   `query:"after" is:"minimum=0" refuse:"Invalid cursor"`
	// A browser that reconnects sends the last id that it saw; the address,
	// with its after, is the one that it began with.
	LastEventID *int `header:"Last-Event-ID" is:"minimum=0" refuse:"Invalid cursor"`
	renderWire
}

type follow struct {
	one
	after chat.Cursor
	html  bool
}

func acceptFollow(c call, in followWire) (follow, error) {
	out := follow{one: one{c, in.ID}, after: chat.Before}
	var err error
	if out.html, err = in.html(); err != nil {
		return out, err
	}
	for _, given := range []*int{in.After, in.LastEventID} {
		if given == nil {
			continue
		}
		if *given < 0 {
			return out, fault.New(fault.Invalid, "Invalid cursor")
		}
		out.after = chat.Cursor(*given)
	}
	return out, nil
}

func (a *API) follow(ctx context.Context, in follow) (following, error) {
	return following{a.Replies.Follow(ctx, in.principal, in.id, in.after), in.html}, nil
}

// The events of a reply. Each type has its own members; see docs/api.md.
type (
	startEvent struct {
		Type        string       `json:"type" is:"enum=start"`
		UserMessage *messageJSON `json:"userMessage"`
		RunID       string       `json:"runId"`
	}
	pieceEvent struct {
		Type    string `json:"type" is:"enum=chunk|reasoning"`
		Content string `json:"content"`
	}
	endEvent struct {
		Type             string       `json:"type" is:"enum=end"`
		AssistantMessage *messageJSON `json:"assistantMessage"`
		State            chat.State   `json:"state"` // completed, stopped
	}
	errorEvent struct {
		Type             string       `json:"type" is:"enum=error"`
		Error            string       `json:"error"`
		Code             fault.Kind   `json:"code"`
		RunID            string       `json:"runId"`
		State            chat.State   `json:"state"`            // failed, interrupted; of one that goes on: queued, running
		AssistantMessage *messageJSON `json:"assistantMessage"` // what was made before
	}
	reconnectEvent struct {
		Type string `json:"type" is:"enum=reconnect"`
	}
)

// replyEvents is a reply as a stream.
var replyEvents = Answer{http.StatusOK, eventStream, []reflect.Type{
	reflect.TypeFor[startEvent](), reflect.TypeFor[pieceEvent](), reflect.TypeFor[endEvent](),
	reflect.TypeFor[errorEvent](), reflect.TypeFor[reconnectEvent](),
}}

func (a *API) follows() encoder[following] {
	return encoder[following]{[]Answer{replyEvents, {Status: http.StatusNoContent}}, a.encodeFollow}
}

// encodeFollow writes a reply while it is made.
func (a *API) encodeFollow(ctx context.Context, w http.ResponseWriter, f following) error {
	revoked := func(e replies.Event) any {
		return errorEvent{"error", sessionEnded, fault.Unauthenticated, e.Run.ID, e.Run.State, nil}
	}
	opened, err := writeEvents(ctx, a, w, f.events, revoked, func(s *events, e replies.Event) (reason string, err error) {
		switch e.Kind {
		case replies.EventReconnect:
			return leftShutdown, s.send(e.Cursor, reconnectEvent{"reconnect"})
		case replies.EventEnd:
			return leftDone, s.send(e.Cursor, ending(e, renderMessages(ctx, f.html)))
		case replies.EventStart:
			return "", s.send(e.Cursor, startEvent{"start", renderMessages(ctx, f.html).messageOrNull(e.UserMessage), e.Run.ID})
		case replies.EventDelta:
			kind := "chunk"
			if e.Delta.Reasoning {
				kind = "reasoning"
			}
			return "", s.send(e.Cursor, pieceEvent{kind, e.Delta.Text})
		}
		return "", s.beat()
	})
	if err == nil && !opened && ctx.Err() == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// sessionEnded is told to a reader whose credential is not accepted any more.
const sessionEnded = "Your session has ended; please sign in again"

// writeEvents writes what show makes of each event, and tells why the stream
// ended: for the reason that show gave last, if it gave one. An error is
// returned, to be answered, only if it comes instead of the first event. A
// caller whose credential is not accepted any more gets what revoked makes of
// the event that comes next, and no further one.
func writeEvents[E any](
	ctx context.Context, a *API, w http.ResponseWriter, list iter.Seq2[E, error],
	revoked func(E) any, show func(*events, E) (reason string, err error),
) (opened bool, err error) {
	c, checked := callOf(ctx), time.Now()
	s := &events{w: w, conn: http.NewResponseController(w), pads: a.StreamPadding}
	reason := ""
	defer func() {
		a.left(ctx, s, err, reason)
		if opened = s.open; opened {
			err = nil
		}
	}()
	for e, failed := range list {
		if failed != nil {
			return false, failed
		}
		if isHeartbeat(e) && s.open || time.Since(checked) >= a.CheckInterval {
			if !a.Gate.StillValid(ctx, c.credential, c.principal) {
				reason = leftRevoked
				return false, s.send(chat.Before, revoked(e))
			}
			checked = time.Now()
		}
		why, err := show(s, e)
		if reason = cmp.Or(why, reason); err != nil {
			return false, err
		}
	}
	return false, nil
}

func isHeartbeat(event any) bool {
	switch e := event.(type) {
	case replies.Event:
		return e.Kind == replies.EventIdle
	case replies.LiveEvent:
		return e.Kind == replies.EventIdle
	}
	return false
}

// ending is the terminal event of a run.
func ending(e replies.Event, render messageRenderer) any {
	message := render.messageOrNull(e.Message)
	failed := errorEvent{"error", "", fault.AIFailed, e.Run.ID, e.Run.State, message}
	switch {
	case e.Run.State == chat.Interrupted:
		failed.Error, failed.Code = "The reply was interrupted; what was made of it is kept, and it can be continued", codeInterrupted
	case e.Run.State == chat.Failed && e.Run.Failure == replies.FailureUnavailable:
		failed.Error, failed.Code = "No AI provider is available at the moment; your message is kept", fault.AIUnavailable
	case e.Run.State == chat.Failed:
		failed.Error = "The AI could not finish its reply; your message is kept"
	default:
		return endEvent{"end", message, e.Run.State}
	}
	return failed
}

// liveEvent says which replies run: all of them at first, then what changed.
type liveEvent struct {
	Type string    `json:"type" is:"enum=snapshot|changed"`
	Runs []runJSON `json:"runs"`
}

// sessionEndedEvent is the last event to a reader whose credential is not
// accepted any more.
type sessionEndedEvent struct {
	Type  string     `json:"type" is:"enum=error"`
	Error string     `json:"error"`
	Code  fault.Kind `json:"code"`
}

type living struct {
	events iter.Seq2[replies.LiveEvent, error]
}

func (a *API) live(ctx context.Context, c call) (living, error) {
	return living{a.Replies.Live(ctx, c.principal)}, nil
}

func (a *API) lives() encoder[living] {
	return encoder[living]{[]Answer{{http.StatusOK, eventStream, []reflect.Type{
		reflect.TypeFor[liveEvent](), reflect.TypeFor[reconnectEvent](), reflect.TypeFor[sessionEndedEvent](),
	}}}, a.encodeLive}
}

func (a *API) encodeLive(ctx context.Context, w http.ResponseWriter, l living) error {
	revoked := func(replies.LiveEvent) any { return sessionEndedEvent{"error", sessionEnded, fault.Unauthenticated} }
	_, err := writeEvents(ctx, a, w, l.events, revoked, func(s *events, e replies.LiveEvent) (reason string, err error) {
		switch e.Kind {
		case replies.EventReconnect:
			return leftShutdown, s.send(chat.Before, reconnectEvent{"reconnect"})
		case replies.EventStart:
			return "", s.send(chat.Before, liveEvent{"snapshot", runsOf(e.Runs)})
		case replies.EventDelta, replies.EventEnd:
			return "", s.send(chat.Before, liveEvent{"changed", runsOf(e.Runs)})
		}
		return "", s.beat()
	})
	return err
}
