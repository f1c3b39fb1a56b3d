package rest

import (
	"context"
	"iter"
	"net/http"
	"reflect"

	"parley/adapters/httpapi"
	"parley/app/replies"
	"parley/domain/chat"
	"parley/domain/fault"
)

// followed is a reply as its events.
type followed struct {
	events iter.Seq2[replies.Event, error]
	html   bool                                 // messages are rendered too
	beside func(context.Context, *chat.Message) // sets siblings and feedback; nil: none are given
}

type followWire struct {
	ID    string `path:"id" ref:"message"`
	After *int   `query:"after" schema:"minimum=0" errmsg:"Invalid cursor"`
	// A browser that reconnects sends the last id that it received; its address
	// still has the first one.
	LastEventID *int `header:"Last-Event-ID" schema:"minimum=0" errmsg:"Invalid cursor"`
	renderWire
}

type followCall struct {
	resourceCall
	after chat.Cursor
	html  bool
}

func decodeFollow(c httpapi.Call, in followWire) (followCall, error) {
	out := followCall{resourceCall: resourceCall{c, in.ID}, after: chat.Before}
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

func (s Services) follow(ctx context.Context, in followCall) (followed, error) {
	return followed{s.Replies.FollowOrPark(ctx, in.Principal, in.id, in.after), in.html, nil}, nil
}

// The events of a reply. Each type has its own members; see docs/api.md.
type (
	startEvent struct {
		Type        string       `json:"type" schema:"enum=start"`
		UserMessage *messageJSON `json:"userMessage"`
		RunID       string       `json:"runId"`
	}
	deltaEvent struct {
		Type    string `json:"type" schema:"enum=chunk|reasoning"`
		Content string `json:"content"`
	}
	partEvent struct {
		Type string   `json:"type" schema:"enum=part"`
		Part partJSON `json:"part"` // a source, a file ...: whole
	}
	endEvent struct {
		Type             string       `json:"type" schema:"enum=end"`
		AssistantMessage *messageJSON `json:"assistantMessage"`
		State            chat.State   `json:"state"` // completed, stopped
	}
	errorEvent struct {
		Type             string       `json:"type" schema:"enum=error"`
		Error            string       `json:"error"`
		Code             fault.Kind   `json:"code"`
		RunID            string       `json:"runId"`
		State            chat.State   `json:"state"`            // failed, interrupted; queued or running when only the stream ends
		AssistantMessage *messageJSON `json:"assistantMessage"` // the text so far
	}
	reconnectEvent struct {
		Type string `json:"type" schema:"enum=reconnect"`
	}
)

// replyEvents describes a reply as a stream.
var replyEvents = httpapi.Answer{Status: http.StatusOK, Media: httpapi.MediaEvents, Types: []reflect.Type{
	reflect.TypeFor[startEvent](), reflect.TypeFor[deltaEvent](), reflect.TypeFor[partEvent](), reflect.TypeFor[endEvent](),
	reflect.TypeFor[errorEvent](), reflect.TypeFor[reconnectEvent](),
}}

var followEncoder = httpapi.Encoder[followed]{
	Answers: []httpapi.Answer{replyEvents, {Status: http.StatusNoContent}},
	Encode:  encodeFollow,
}

// encodeFollow writes a reply while it is made.
func encodeFollow(ctx context.Context, w *httpapi.Response, f followed) error {
	if f.beside != nil { // the stream of a request that sends
		return httpapi.WriteStream(ctx, w, f.events, f.write(), sessionEnded)
	}
	return httpapi.WriteParking(ctx, w, f.events, f.write(), sessionEnded, func(e replies.Event) httpapi.Parked[replies.Event] {
		if e.Parked == nil {
			return nil
		}
		return e.Parked
	})
}

func sessionEnded(e replies.Event) any {
	return errorEvent{"error", httpapi.SessionEnded, fault.Unauthenticated, e.Run.ID, e.Run.State, nil}
}

// write returns what writes the events. It does not keep the events themselves.
func (f followed) write() httpapi.EventWriter[replies.Event] {
	html, beside := f.html, f.beside
	return func(s *httpapi.Stream, e replies.Event) (reason string, err error) {
		switch e.Kind {
		case replies.EventReconnect:
			return httpapi.StreamShutdown, s.Send(e.Cursor, reconnectEvent{"reconnect"})
		case replies.EventEnd:
			if beside != nil && e.Message.ID != "" {
				beside(s.Context(), &e.Message)
			}
			return httpapi.StreamDone, s.Send(e.Cursor, terminalEvent(e, renderMessages(s.Context(), html)))
		case replies.EventStart:
			return "", s.Send(e.Cursor, startEvent{"start", renderMessages(s.Context(), html).messageOrNull(e.UserMessage), e.Run.ID})
		case replies.EventDelta:
			return "", sendDelta(s, e.Cursor, e.Delta)
		}
		return "", s.Heartbeat()
	}
}

// sendDelta writes a piece of a reply. The chunks together are the content of the
// message.
func sendDelta(s *httpapi.Stream, c chat.Cursor, d chat.Delta) error {
	switch d.Kind {
	case chat.TextPart:
		return s.Send(c, deltaEvent{"chunk", d.Separator + d.Text})
	case chat.ReasoningPart:
		if d.Text == "" { // what the provider wants back with it
			return nil
		}
		return s.Send(c, deltaEvent{"reasoning", d.Text})
	}
	return s.Send(c, partEvent{"part", partOf(d.Part)})
}

// terminalEvent is the event of a run's end.
func terminalEvent(e replies.Event, render messageRenderer) any {
	message := render.messageOrNull(e.Message)
	if sentence, code, failed := httpapi.RunFailure(e.Run); failed {
		return errorEvent{"error", sentence, code, e.Run.ID, e.Run.State, message}
	}
	return endEvent{"end", message, e.Run.State}
}

// liveEvent says which replies are live: all of them at first, then changes.
type liveEvent struct {
	Type string        `json:"type" schema:"enum=snapshot|changed"`
	Runs []httpapi.Run `json:"runs"`
}

// sessionEndedEvent is the last event to a client whose credential is not
// accepted any more.
type sessionEndedEvent struct {
	Type  string     `json:"type" schema:"enum=error"`
	Error string     `json:"error"`
	Code  fault.Kind `json:"code"`
}

type liveStream iter.Seq2[replies.RunsEvent, error]

func (s Services) live(ctx context.Context, c httpapi.Call) (liveStream, error) {
	return liveStream(s.Replies.WatchRuns(ctx, c.Principal)), nil
}

var liveEncoder = httpapi.Encoder[liveStream]{
	Answers: []httpapi.Answer{{Status: http.StatusOK, Media: httpapi.MediaEvents, Types: []reflect.Type{
		reflect.TypeFor[liveEvent](), reflect.TypeFor[reconnectEvent](), reflect.TypeFor[sessionEndedEvent](),
	}}},
	Encode: encodeLive,
}

func encodeLive(ctx context.Context, w *httpapi.Response, l liveStream) error {
	write := func(s *httpapi.Stream, e replies.RunsEvent) (reason string, err error) {
		switch e.Kind {
		case replies.EventReconnect:
			return httpapi.StreamShutdown, s.Send(chat.Before, reconnectEvent{"reconnect"})
		case replies.EventStart:
			return "", s.Send(chat.Before, liveEvent{"snapshot", httpapi.RunsOf(e.Runs)})
		case replies.EventDelta, replies.EventEnd:
			return "", s.Send(chat.Before, liveEvent{"changed", httpapi.RunsOf(e.Runs)})
		}
		return "", s.Heartbeat()
	}
	return httpapi.WriteStream(ctx, w, iter.Seq2[replies.RunsEvent, error](l), write, func(replies.RunsEvent) any {
		return sessionEndedEvent{"error", httpapi.SessionEnded, fault.Unauthenticated}
	})
}
