// Package aisdk is the wire of the Vercel AI SDK (ai 5 and newer): what useChat
// sends and what it reads. A chat of the SDK is a conversation, and the ids that
// the SDK makes for chats and messages are kept. The history is Parley's: of the
// messages that the SDK sends, only the last one is read.
package aisdk

import (
	"cmp"
	"context"
	"net/http"
	"strings"

	"parley/adapters/httpapi"
	"parley/app/replies"
	"parley/domain/chat"
	"parley/domain/fault"
)

// bodyFactor is how many times longer than others the body of a message may be:
// the SDK sends the whole history.
const bodyFactor = 32

// Routes returns the endpoints of the wire.
func Routes(service *replies.Service) []httpapi.Endpoint {
	const chats = "/api/chat/ui"
	w := wire{service}
	type route = httpapi.Route
	return []httpapi.Endpoint{
		httpapi.Handle(route{Method: "POST", Path: chats, Access: httpapi.Sends, Stream: true, BodyFactor: bodyFactor, Summary: "Send a message of the AI SDK and stream the reply"}, decodeMessage, w.send, sendEncoder),
		httpapi.Handle(route{Method: "GET", Path: chats + "/{id}/stream", Access: httpapi.Reads, Stream: true, Summary: "Follow the live reply of a chat of the AI SDK"}, decodeChat, w.resume, resumeEncoder),
		httpapi.Handle(route{Method: "POST", Path: chats + "/{id}/stop", Access: httpapi.Writes, Summary: "Stop the live replies of a chat of the AI SDK"}, decodeChat, w.stop, httpapi.JSONEncoder(http.StatusOK, stoppedOf)),
	}
}

// wire is the operations of the routes.
type wire struct{ replies *replies.Service }

// uiMessage is a message of the SDK. Further members of it and of its parts are
// not read.
type uiMessage struct {
	httpapi.OpenMembers `json:"-"`

	ID       string         `json:"id"`
	Role     string         `json:"role" schema:"enum=system|user|assistant"`
	Parts    []uiPart       `json:"parts"`
	Metadata map[string]any `json:"metadata,omitempty"`
}

type uiPart struct {
	httpapi.OpenMembers `json:"-"`

	Type string `json:"type"`
	Text string `json:"text,omitempty"`
}

// text is the text of a message. Other parts are refused: a file that is not
// stored would seem to have been read.
func (m *uiMessage) text() (string, error) {
	var texts []string
	for _, p := range m.Parts {
		if p.Type != "text" {
			return "", fault.New(fault.Invalid, "A message may only have parts of the type text")
		}
		texts = append(texts, p.Text)
	}
	return strings.Join(texts, "\n"), nil
}

// Values of trigger.
const (
	submitMessage     = "submit-message"
	regenerateMessage = "regenerate-message"
)

type messageWire struct {
	Chat     string        `json:"id" ref:"new conversation" schema:"required" errmsg:"Invalid chat ID"`
	Trigger  string        `json:"trigger" schema:"enum=submit-message|regenerate-message" errmsg:"trigger must be submit-message or regenerate-message"`
	Target   string        `json:"messageId" ref:"message" errmsg:"Invalid message ID"` // to edit, or to regenerate
	Message  *uiMessage    `json:"message" errmsg:"message must be a message of the AI SDK"`
	Messages []uiMessage   `json:"messages" errmsg:"messages must be a list of messages of the AI SDK"`
	Parent   string        `json:"parentId" ref:"message" errmsg:"Invalid parent ID"`
	WhenBusy chat.WhenBusy `json:"whenBusy" errmsg:"whenBusy must be reject, queue or interrupt"`
	httpapi.IdempotencyKey
	httpapi.ReplyParams
}

// messageCall is a new message, an edit, or a request for another reply.
type messageCall struct {
	send       replies.Send
	target     string // the message to edit, or to regenerate; "": none, or the last one
	regenerate bool
}

func decodeMessage(c httpapi.Call, in messageWire) (out messageCall, err error) {
	if !chat.ValidID(in.Chat) {
		return out, fault.New(fault.Invalid, "Invalid chat ID")
	}
	out.target = in.Target
	out.send = replies.Send{
		Principal: c.Principal, Caller: c.Caller, ConversationID: in.Chat, CreateConversation: true, Leaf: in.Parent,
		// The SDK stops reading by closing the connection, so that a client that
		// sends does not read an earlier reply any more.
		WhenBusy: cmp.Or(in.WhenBusy, chat.Supersede), ReplayOnlyReason: c.ReplayOnlyReason,
	}
	switch in.Trigger {
	case "", submitMessage:
		last := in.Message
		if n := len(in.Messages); last == nil && n > 0 {
			last = &in.Messages[n-1]
		}
		if last == nil || last.Role != string(chat.User) {
			return out, fault.New(fault.Invalid, "The last message must be the user's")
		}
		if out.send.Content, err = last.text(); err != nil {
			return out, err
		}
		out.send.Metadata = last.Metadata
		if in.Target == "" { // an edit has the id of the message that it replaces
			out.send.MessageID = last.ID
		}
	case regenerateMessage:
		out.regenerate = true
	default:
		return out, fault.New(fault.Invalid, "trigger must be submit-message or regenerate-message")
	}
	if out.send.Params, err = in.ReplyParams.Decode(); err != nil {
		return out, err
	}
	if out.send.Key, err = in.IdempotencyKey.Decode(); err != nil {
		return out, err
	}
	if c.ReplayOnlyReason != nil && out.send.Key == "" && out.send.MessageID == "" {
		return out, c.ReplayOnlyReason // there is nothing by which a repeat could be recognised
	}
	return out, nil
}

// sent is a message that was accepted, and its reply.
type sent struct {
	turn  replies.Accepted
	reply followed
}

func (w wire) send(ctx context.Context, in messageCall) (out sent, err error) {
	switch {
	case in.regenerate:
		s := in.send
		out.turn, err = w.replies.Regenerate(ctx, replies.RegenerateInput{
			Principal: s.Principal, Caller: s.Caller, ConversationID: s.ConversationID, Target: in.target,
			Params: s.Params, WhenBusy: s.WhenBusy, Key: s.Key, ReplayOnlyReason: s.ReplayOnlyReason,
		})
	case in.target != "":
		out.turn, err = w.replies.Edit(ctx, replies.Edit{Send: in.send, Target: in.target})
	default:
		out.turn, err = w.replies.Send(ctx, in.send)
	}
	if err != nil {
		return out, err
	}
	out.reply = followed(w.replies.FollowAccepted(ctx, in.send.Principal, out.turn))
	return out, nil
}

// chatWire is the input of a route about a chat, which may not exist yet.
type chatWire struct {
	ID string `path:"id" ref:"new conversation"`
}

type chatCall struct {
	httpapi.Call
	id string
}

func decodeChat(c httpapi.Call, in chatWire) (chatCall, error) { return chatCall{c, in.ID}, nil }

// resume follows the newest live reply of a chat from its start: the SDK begins
// the message anew.
func (w wire) resume(ctx context.Context, in chatCall) (followed, error) {
	runs, err := w.replies.ActiveRuns(ctx, in.Principal, in.id)
	if err != nil || len(runs) == 0 {
		return func(func(replies.Event, error) bool) {}, err
	}
	return followed(w.replies.Follow(ctx, in.Principal, runs[0].ID, chat.Before)), nil
}

// stop stops the live replies of a chat.
func (w wire) stop(ctx context.Context, in chatCall) ([]chat.Run, error) {
	runs, err := w.replies.ActiveRuns(ctx, in.Principal, in.id)
	if err != nil {
		return nil, err
	}
	for i, run := range runs { // newest first: one that waits would begin when the one before it ends
		stopped, err := w.replies.Stop(ctx, in.Principal, in.Caller, run.ID)
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
	Runs []httpapi.Run `json:"runs"`
}

func stoppedOf(runs []chat.Run) stoppedJSON { return stoppedJSON{httpapi.RunsOf(runs)} }
