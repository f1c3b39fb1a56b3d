package aisdk

import (
	"context"
	"iter"
	"net/http"
	"reflect"
	"strings"

	"parley/adapters/httpapi"
	"parley/app/replies"
	"parley/domain/chat"
)

// The chunks of a UI message stream. Some versions of the SDK refuse a chunk
// with a member that they do not know.
type (
	startChunk struct {
		Type      string `json:"type" schema:"enum=start"`
		MessageID string `json:"messageId"` // the run's, which the reply will have
	}
	markChunk struct {
		Type string `json:"type" schema:"enum=start-step|finish-step|abort"`
	}
	partChunk struct {
		Type string `json:"type" schema:"enum=reasoning-start|reasoning-end|text-start|text-end"`
		ID   string `json:"id"`
	}
	deltaChunk struct {
		Type  string `json:"type" schema:"enum=reasoning-delta|text-delta"`
		ID    string `json:"id"`
		Delta string `json:"delta"`
	}
	finishChunk struct {
		Type     string         `json:"type" schema:"enum=finish"`
		Reason   string         `json:"finishReason" schema:"enum=stop|length|content-filter|tool-calls|other"`
		Metadata map[string]any `json:"messageMetadata,omitempty"`
	}
	errorChunk struct {
		Type string `json:"type" schema:"enum=error"`
		Text string `json:"errorText"`
	}
)

var chunks = httpapi.Answer{Status: http.StatusOK, Media: httpapi.MediaEvents, Types: []reflect.Type{
	reflect.TypeFor[startChunk](), reflect.TypeFor[markChunk](), reflect.TypeFor[partChunk](),
	reflect.TypeFor[deltaChunk](), reflect.TypeFor[finishChunk](), reflect.TypeFor[errorChunk](),
}}

// followed is a reply as its events, from the start.
type followed iter.Seq2[replies.Event, error]

var sendEncoder = httpapi.Encoder[sent]{
	Answers: []httpapi.Answer{chunks},
	Encode: func(ctx context.Context, w *httpapi.Response, out sent) error {
		httpapi.SetTurnHeaders(w.Header(), out.turn)
		return encodeReply(ctx, w, out.reply)
	},
}

var resumeEncoder = httpapi.Encoder[followed]{
	Answers: []httpapi.Answer{chunks, {Status: http.StatusNoContent}},
	Encode:  encodeReply,
}

// encodeReply writes a reply as a UI message stream.
func encodeReply(ctx context.Context, w *httpapi.Response, reply followed) error {
	var m messageStream
	err := httpapi.WriteStream(ctx, w, iter.Seq2[replies.Event, error](reply), m.write, func(replies.Event) any {
		return errorChunk{"error", httpapi.SessionEnded}
	})
	if m.interrupted {
		// The SDK takes an orderly end for the reply's, and has no cursor: it asks
		// again only after a broken connection.
		panic(http.ErrAbortHandler)
	}
	return err
}

// messageStream is the state of a UI message stream.
type messageStream struct {
	part        string // the open one: reasoning or text
	interrupted bool   // the stream ends before the reply
}

func (m *messageStream) write(s *httpapi.Stream, e replies.Event) (reason string, err error) {
	switch e.Kind {
	case replies.EventStart:
		s.Header().Set("X-Vercel-Ai-Ui-Message-Stream", "v1")
		return "", s.SendAll(startChunk{"start", e.Run.ID}, markChunk{"start-step"})
	case replies.EventDelta:
		part := string(e.Delta.Kind)
		if e.Delta.Kind != chat.TextPart && e.Delta.Kind != chat.ReasoningPart || e.Delta.Text == "" {
			return "", nil
		}
		var list []any
		if m.part != part || e.Delta.Begins {
			list = append(m.endPart(), partChunk{part + "-start", part})
			m.part = part
		}
		return "", s.SendAll(append(list, deltaChunk{part + "-delta", part, e.Delta.Text})...)
	case replies.EventEnd:
		if err := s.SendAll(append(m.endPart(), endChunks(e)...)...); err != nil {
			return httpapi.StreamDone, err
		}
		return httpapi.StreamDone, s.SendText("[DONE]")
	case replies.EventReconnect:
		m.interrupted = true
		return httpapi.StreamShutdown, nil
	}
	return "", s.Heartbeat()
}

// endPart ends the open part.
func (m *messageStream) endPart() []any {
	if m.part == "" {
		return nil
	}
	return []any{partChunk{m.part + "-end", m.part}}
}

// endChunks are the chunks of a run's end.
func endChunks(e replies.Event) []any {
	if sentence, _, failed := httpapi.RunFailure(e.Run); failed {
		return []any{errorChunk{"error", sentence}}
	}
	if e.Run.State == chat.Stopped {
		return []any{markChunk{"abort"}}
	}
	reason := "other"
	switch of := e.Run.FinishReason; of {
	case "stop", "length":
		reason = of
	case "content_filter", "tool_calls":
		reason = strings.Replace(of, "_", "-", 1)
	}
	return []any{markChunk{"finish-step"}, finishChunk{"finish", reason, e.Message.Metadata}}
}
