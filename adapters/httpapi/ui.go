package httpapi

import (
	"cmp"
	"context"
	"net/http"
	"reflect"
	"strings"

	"parley/app/replies"
	"parley/domain/chat"
	"parley/domain/fault"
)

// The wire format of the Vercel AI SDK (ai 5 and newer): what useChat sends and
// what it reads. A chat of the SDK is a conversation, and the ids that it makes
// for chats and messages are the ones that are kept. History is Parley's: of
// all the messages that the SDK sends, only the last one is read.

// uiMaxBody is how many times longer than others the body of a request in this
// format may be: it holds the whole history.
const uiMaxBody = 32

// uiMessage is a message of the SDK. Further members of it and of its parts are
// for the SDK alone.
type uiMessage struct {
	ID       string         `json:"id"`
	Role     string         `json:"role" is:"enum=system|user|assistant"`
	Parts    []uiPart       `json:"parts"`
	Metadata map[string]any `json:"metadata,omitempty"`
}

type uiPart struct {
	Type string `json:"type"`
	Text string `json:"text,omitempty"`
}

const (
	uiSubmit     = "submit-message"
	uiRegenerate = "regenerate-message"
)

type uiWire struct {
	Chat     string        `json:"id" names:"new conversation" is:"required" refuse:"Invalid chat ID"`
	Trigger  string        `json:"trigger" is:"enum=submit-message|regenerate-message" refuse:"trigger must be submit-message or regenerate-message"`
	Target   string        `json:"messageId" names:"message" refuse:"Invalid message ID"` // to edit, or to regenerate
	Message  *uiMessage    `json:"message" refuse:"message must be a message of the AI SDK"`
	Messages []uiMessage   `json:"messages" refuse:"messages must be a list of messages of the AI SDK"`
	Parent   string        `json:"parentId" names:"message" refuse:"Invalid parent ID"`
	WhenBusy chat.WhenBusy `json:"whenBusy" refuse:"whenBusy must be reject, queue or interrupt"`
	Key      string        `header:"Idempotency-Key" is:"maxLength=255"`
	paramsWire
}

// uiWish is a message, an edit of one, or the wish for another reply.
type uiWish struct {
	send   replies.Send
	target string // the message to edit, or to regenerate; "": none, or the last one
	again  bool
}

func acceptUI(c call, in uiWire) (out uiWish, err error) {
	if !chat.ValidID(in.Chat) {
		return out, fault.New(fault.Invalid, "Invalid chat ID")
	}
	out.target = in.Target
	message := sendWire{
		Conversation: in.Chat, Parent: in.Parent, paramsWire: in.paramsWire,
		// Whoever sends has stopped reading what was being made before: the SDK
		// has no other way to stop than to hang up.
		deliveryWire: deliveryWire{Key: in.Key, WhenBusy: cmp.Or(in.WhenBusy, chat.Supersede)},
	}
	switch in.Trigger {
	case "", uiSubmit:
		said := in.Message
		if n := len(in.Messages); said == nil && n > 0 {
			said = &in.Messages[n-1]
		}
		if said == nil || said.Role != string(chat.User) {
			return out, fault.New(fault.Invalid, "The last message must be the user's")
		}
		if message.Content, err = said.text(); err != nil {
			return out, err
		}
		message.Metadata = said.Metadata
		if in.Target == "" { // an edit bears the id of what it takes the place of
			message.ID = said.ID
		}
	case uiRegenerate:
		out.again = true
	default:
		return out, fault.New(fault.Invalid, "trigger must be submit-message or regenerate-message")
	}
	out.send, err = message.send(c)
	out.send.CreateConversation = true
	return out, err
}

// text is what a message says. What cannot be kept is refused: a file that
// went unanswered would seem to have been read.
func (m *uiMessage) text() (string, error) {
	var parts []string
	for _, p := range m.Parts {
		if p.Type != "text" {
			return "", fault.New(fault.Invalid, "A message may only have parts of the type text")
		}
		parts = append(parts, p.Text)
	}
	return strings.Join(parts, "\n"), nil
}

func (a *API) ui(ctx context.Context, in uiWish) (out answered, err error) {
	out.how = streamed
	switch {
	case in.again:
		s := in.send
		out.turn, err = a.Replies.Regenerate(ctx, replies.Again{
			Principal: s.Principal, Caller: s.Caller, ConversationID: s.ConversationID, Target: in.target,
			Params: s.Params, WhenBusy: s.WhenBusy, Key: s.Key, OnlyReplay: s.OnlyReplay,
		})
	case in.target != "":
		out.turn, err = a.Replies.Edit(ctx, replies.Edit{Send: in.send, Target: in.target})
	default:
		out.turn, err = a.Replies.Send(ctx, in.send)
	}
	if err != nil {
		return out, err
	}
	out.following = following{events: a.Replies.FollowTurn(ctx, in.send.Principal, out.turn)}
	return out, nil
}

// uiChat is the input of a route about a chat, which may not be known yet.
type uiChat struct {
	ID string `path:"id" names:"new conversation"`
}

func acceptUIChat(c call, in uiChat) (one, error) { return one{c, in.ID}, nil }

// uiResume follows the newest reply that is being made in a chat, from its start: the
// SDK begins the message anew.
func (a *API) uiResume(ctx context.Context, in one) (following, error) {
	runs, err := a.Replies.Making(ctx, in.principal, in.id)
	if err != nil || len(runs) == 0 {
		return following{events: func(func(replies.Event, error) bool) {}}, err
	}
	return following{events: a.Replies.Follow(ctx, in.principal, runs[0].ID, chat.Before)}, nil
}

// uiStop stops whatever is being made in a chat.
func (a *API) uiStop(ctx context.Context, in one) ([]chat.Run, error) {
	runs, err := a.Replies.Making(ctx, in.principal, in.id)
	if err != nil {
		return nil, err
	}
	for i, run := range runs { // what waits first, or it would be begun
		stopped, err := a.Replies.Stop(ctx, in.principal, in.caller, run.ID)
		if err != nil && !fault.Is(err, fault.NotFound) { // deleted meanwhile
			return nil, err
		}
		if err == nil {
			runs[i] = stopped
		}
	}
	return runs, nil
}

// stoppedJSON are the replies that were told to stop.
type stoppedJSON struct {
	Runs []runJSON `json:"runs"`
}

func stoppedOf(runs []chat.Run) stoppedJSON { return stoppedJSON{runsOf(runs)} }

// The chunks of a UI message stream. Some versions of the SDK refuse a chunk
// with a member that they do not know.
type (
	uiStart struct {
		Type      string `json:"type" is:"enum=start"`
		MessageID string `json:"messageId"` // the run's, which the reply will have
	}
	uiMark struct {
		Type string `json:"type" is:"enum=start-step|finish-step|abort"`
	}
	uiEdge struct {
		Type string `json:"type" is:"enum=reasoning-start|reasoning-end|text-start|text-end"`
		ID   string `json:"id"`
	}
	uiDelta struct {
		Type  string `json:"type" is:"enum=reasoning-delta|text-delta"`
		ID    string `json:"id"`
		Delta string `json:"delta"`
	}
	uiFinish struct {
		Type     string         `json:"type" is:"enum=finish"`
		Reason   string         `json:"finishReason" is:"enum=stop|length|content-filter|tool-calls|other"`
		Metadata map[string]any `json:"messageMetadata,omitempty"`
	}
	uiError struct {
		Type string `json:"type" is:"enum=error"`
		Text string `json:"errorText"`
	}
)

var uiEvents = Answer{http.StatusOK, eventStream, []reflect.Type{
	reflect.TypeFor[uiStart](), reflect.TypeFor[uiMark](), reflect.TypeFor[uiEdge](),
	reflect.TypeFor[uiDelta](), reflect.TypeFor[uiFinish](), reflect.TypeFor[uiError](),
}}

func (a *API) uiStreams() encoder[answered] {
	return encoder[answered]{[]Answer{uiEvents}, func(ctx context.Context, w http.ResponseWriter, out answered) error {
		turnHeaders(w.Header(), out.turn)
		return a.encodeUI(ctx, w, out.following)
	}}
}

func (a *API) uiResumes() encoder[following] {
	return encoder[following]{[]Answer{uiEvents, {Status: http.StatusNoContent}}, a.encodeUI}
}

// encodeUI writes a reply, from its start, as a UI message stream.
func (a *API) encodeUI(ctx context.Context, w http.ResponseWriter, f following) error {
	var u uiStream
	revoked := func(replies.Event) any { return uiError{"error", sessionEnded} }
	opened, err := writeEvents(ctx, a, w, f.events, revoked, u.show)
	switch {
	case u.cut:
		// The SDK takes an orderly end for the reply's, and knows no cursor: only
		// a broken connection makes it ask again.
		panic(http.ErrAbortHandler)
	case err == nil && !opened && ctx.Err() == nil:
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// uiStream is a UI message stream on its way.
type uiStream struct {
	part string // that is open: reasoning or text
	cut  bool   // it must not seem to have ended
}

func (u *uiStream) show(s *events, e replies.Event) (reason string, err error) {
	switch e.Kind {
	case replies.EventStart:
		s.w.Header().Set("X-Vercel-Ai-Ui-Message-Stream", "v1")
		return "", s.sendAll(uiStart{"start", e.Run.ID}, uiMark{"start-step"})
	case replies.EventDelta:
		part := "text"
		if e.Delta.Reasoning {
			part = "reasoning"
		}
		var chunks []any
		if u.part != part {
			chunks = append(u.close(), uiEdge{part + "-start", part})
			u.part = part
		}
		return "", s.sendAll(append(chunks, uiDelta{part + "-delta", part, e.Delta.Text})...)
	case replies.EventEnd:
		if err := s.sendAll(append(u.close(), uiEnding(e)...)...); err != nil {
			return leftDone, err
		}
		s.buf = append(s.buf, "data: [DONE]\n\n"...)
		return leftDone, s.flush()
	case replies.EventReconnect:
		u.cut = true
		return leftShutdown, nil
	}
	return "", s.beat()
}

// close ends the part that is open.
func (u *uiStream) close() []any {
	if u.part == "" {
		return nil
	}
	return []any{uiEdge{u.part + "-end", u.part}}
}

// uiEnding tells how a run ended.
func uiEnding(e replies.Event) []any {
	if failed, ok := ending(e, messageRenderer{}).(errorEvent); ok {
		return []any{uiError{"error", failed.Error}}
	}
	if e.Run.State == chat.Stopped {
		return []any{uiMark{"abort"}}
	}
	reason := "other"
	switch of := e.Run.FinishReason; of {
	case "stop", "length":
		reason = of
	case "content_filter", "tool_calls":
		reason = strings.Replace(of, "_", "-", 1)
	}
	return []any{uiMark{"finish-step"}, uiFinish{"finish", reason, e.Message.Metadata}}
}
