package aisdk

import (
	"cmp"
	"context"
	"iter"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"parley/adapters/httpapi"
	"parley/app/replies"
	"parley/domain/chat"
	"parley/domain/fault"
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
	sourceURLChunk struct {
		Type     string `json:"type" schema:"enum=source-url"`
		SourceID string `json:"sourceId"`
		URL      string `json:"url"`
		Title    string `json:"title,omitempty"`
	}
	sourceDocumentChunk struct {
		Type      string `json:"type" schema:"enum=source-document"`
		SourceID  string `json:"sourceId"`
		MediaType string `json:"mediaType"`
		Title     string `json:"title"`
	}
	fileChunk struct {
		Type      string `json:"type" schema:"enum=file"`
		URL       string `json:"url"`
		MediaType string `json:"mediaType"`
	}
	dataChunk struct {
		Type string `json:"type" schema:"pattern=^data-"`
		ID   string `json:"id,omitempty"`
		Data any    `json:"data"`
	}
	finishChunk struct {
		Type     string         `json:"type" schema:"enum=finish"`
		Reason   string         `json:"finishReason" schema:"enum=stop|length|content-filter|tool-calls|other"`
		Metadata httpapi.Object `json:"messageMetadata,omitempty"`
	}
	errorChunk struct {
		Type string `json:"type" schema:"enum=error"`
		Text string `json:"errorText"`
	}
)

var chunks = httpapi.Answer{Status: http.StatusOK, Media: httpapi.MediaEvents, Types: []reflect.Type{
	reflect.TypeFor[startChunk](), reflect.TypeFor[markChunk](), reflect.TypeFor[partChunk](),
	reflect.TypeFor[deltaChunk](), reflect.TypeFor[sourceURLChunk](), reflect.TypeFor[sourceDocumentChunk](),
	reflect.TypeFor[fileChunk](), reflect.TypeFor[dataChunk](), reflect.TypeFor[finishChunk](), reflect.TypeFor[errorChunk](),
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

var text = httpapi.Answer{Status: http.StatusOK, Media: httpapi.MediaText, Types: []reflect.Type{reflect.TypeFor[string]()}}

// sendTextEncoder writes a reply for TextStreamChatTransport. A header names it:
// the text cannot.
var sendTextEncoder = httpapi.Encoder[sent]{
	Answers: []httpapi.Answer{text},
	Encode: func(ctx context.Context, w *httpapi.Response, out sent) error {
		httpapi.SetTurnHeaders(w.Header(), out.turn)
		w.Header().Set(httpapi.RunID, out.turn.Run.ID)
		return encodeText(ctx, w, out.reply)
	},
}

var resumeTextEncoder = httpapi.Encoder[followed]{
	Answers: []httpapi.Answer{text, {Status: http.StatusNoContent}},
	Encode:  encodeText,
}

func encodeText(ctx context.Context, w *httpapi.Response, reply followed) error {
	return httpapi.WriteText(ctx, w, iter.Seq2[replies.Event, error](reply), textOf)
}

// textOf is what an event adds to the text of a reply.
func textOf(e replies.Event) (text, reason string, err error) {
	switch e.Kind {
	case replies.EventDelta:
		if e.Delta.Kind == chat.TextPart {
			text = e.Delta.Separator + e.Delta.Text
		}
	case replies.EventEnd:
		if sentence, code, failed := httpapi.RunFailure(e.Run); failed {
			err = fault.New(code, "%s", sentence).After(e.Run.RetryAfter)
		}
		return "", httpapi.StreamDone, err
	case replies.EventReconnect:
		return "", httpapi.StreamShutdown, fault.New(fault.Unavailable, "This server is shutting down; please try again").After(time.Second)
	}
	return text, "", nil
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
	open        string // the kind of the open part: reasoning or text
	parts       int    // how many have begun
	interrupted bool   // the stream ends before the reply
}

func (m *messageStream) write(s *httpapi.Stream, e replies.Event) (reason string, err error) {
	switch e.Kind {
	case replies.EventStart:
		s.Header().Set("X-Vercel-Ai-Ui-Message-Stream", "v1")
		return "", s.SendAll(startChunk{"start", e.Run.ID}, markChunk{"start-step"})
	case replies.EventDelta:
		if list := m.deltaChunks(e.Delta); len(list) > 0 {
			return "", s.SendAll(list...)
		}
		return "", nil
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

// deltaChunks are the chunks of a piece of a reply.
func (m *messageStream) deltaChunks(d chat.Delta) []any {
	if d.Kind != chat.TextPart && d.Kind != chat.ReasoningPart {
		chunk := partChunkOf(d.Part, m.parts+1)
		if chunk == nil {
			return nil
		}
		list := append(m.endPart(), chunk)
		m.open = ""
		m.parts++
		return list
	}
	if d.Text == "" { // what a provider wants back with its reasoning
		return nil
	}
	kind := string(d.Kind)
	var list []any
	if d.Begins || m.open != kind {
		list = m.endPart()
		m.open = kind
		m.parts++
		list = append(list, partChunk{kind + "-start", m.partID()})
	}
	return append(list, deltaChunk{kind + "-delta", m.partID(), d.Text})
}

// partID is the id of the open part, which is unique in its message.
func (m *messageStream) partID() string { return m.open + "-" + strconv.Itoa(m.parts) }

// endPart ends the open part.
func (m *messageStream) endPart() []any {
	if m.open == "" {
		return nil
	}
	return []any{partChunk{m.open + "-end", m.partID()}}
}

// partChunkOf is the chunk of a whole part; nil for one that the SDK has no chunk
// for. n is its place in the message.
func partChunkOf(p chat.Part, n int) any {
	switch p.Kind {
	case chat.SourcePart:
		id := cmp.Or(p.ID, "source-"+strconv.Itoa(n))
		if p.URL != "" {
			return sourceURLChunk{"source-url", id, p.URL, p.Title}
		}
		return sourceDocumentChunk{"source-document", id, cmp.Or(p.MediaType, "application/octet-stream"), p.Title}
	case chat.FilePart:
		return fileChunk{"file", filesPath + p.ID, p.MediaType}
	case chat.DataPart:
		return dataChunk{"data-" + p.Name, p.ID, p.Data}
	}
	return nil
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
	return []any{markChunk{"finish-step"}, finishChunk{"finish", reason, httpapi.Object(e.Message.Metadata)}}
}
