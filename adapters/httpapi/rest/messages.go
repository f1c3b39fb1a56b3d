package rest

import (
	"context"
	"net/http"

	"parley/adapters/httpapi"
	"parley/app/replies"
	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
)

// deliveryMode is how the caller gets the reply.
type deliveryMode int

const (
	complete   deliveryMode = iota // when it has ended
	streamed                       // while it is made
	background                     // later, by another request
)

// deliveryWire is what all requests for a reply have in common.
type deliveryWire struct {
	Background  bool          `json:"background" errmsg:"background must be true or false"`
	Stream      bool          `json:"stream" errmsg:"stream must be true or false"`
	StreamQuery bool          `query:"stream" errmsg:"stream must be true or false"`
	WhenBusy    chat.WhenBusy `json:"whenBusy" errmsg:"whenBusy must be reject, queue or interrupt"`
	httpapi.IdempotencyKey
	renderWire
}

func (in deliveryWire) mode() (deliveryMode, error) {
	switch stream := in.Stream || in.StreamQuery; {
	case stream && in.Background:
		return complete, fault.New(fault.Invalid, "A reply is either streamed or made in the background")
	case stream:
		return streamed, nil
	case in.Background:
		return background, nil
	}
	return complete, nil
}

// replyRequest is a request for a reply: the input of its use case, and how the
// caller gets the reply.
type replyRequest[In any] struct {
	in        In
	principal access.Principal
	mode      deliveryMode
	html      bool
}

// OpensStream reports whether the answer is a stream.
func (r replyRequest[In]) OpensStream() bool { return r.mode == streamed }

// sendWire is a new message.
type sendWire struct {
	Content      string         `json:"content" schema:"maxLength=10000" errmsg:"Message content is required"`
	Files        []string       `json:"files" ref:"file" errmsg:"files must be a list of file IDs"`
	Conversation string         `json:"conversationId" ref:"conversation" errmsg:"Invalid conversation ID"`
	Metadata     map[string]any `json:"metadata" errmsg:"metadata must be an object"`
	ID           string         `json:"id" ref:"new message" errmsg:"Invalid message ID"` // the client's own
	Parent       string         `json:"parentId" ref:"message" errmsg:"Invalid parent ID"`
	httpapi.ReplyParams
	deliveryWire
}

func decodeSend(c httpapi.Call, in sendWire) (out replyRequest[replies.Send], err error) {
	out.principal = c.Principal
	if out.mode, err = in.mode(); err != nil {
		return out, err
	}
	if out.html, err = in.html(); err != nil {
		return out, err
	}
	params, err := in.ReplyParams.Decode()
	if err != nil {
		return out, err
	}
	key, err := in.IdempotencyKey.Decode()
	if err != nil {
		return out, err
	}
	if c.ReplayOnlyReason != nil && key == "" && in.ID == "" {
		return out, c.ReplayOnlyReason // there is nothing by which a repeat could be recognised
	}
	out.in = replies.Send{
		Principal: c.Principal, Caller: c.Caller, MessageID: in.ID, ConversationID: in.Conversation, Leaf: in.Parent,
		Content: in.Content, Parts: withFiles(in.Content, in.Files), Metadata: in.Metadata, Params: params,
		Background: in.Background, Streamed: out.mode == streamed, WhenBusy: in.WhenBusy, Key: key, ReplayOnlyReason: c.ReplayOnlyReason,
	}
	return out, nil
}

// withFiles are the parts of a message with files; nil: it has none.
func withFiles(content string, files []string) (parts []chat.Part) {
	if len(files) == 0 {
		return nil
	}
	if content != "" {
		parts = append(parts, chat.Part{Kind: chat.TextPart, Text: content})
	}
	for _, id := range files {
		parts = append(parts, chat.Part{Kind: chat.FilePart, ID: id})
	}
	return parts
}

func decodeStream(c httpapi.Call, in sendWire) (replyRequest[replies.Send], error) {
	in.Stream = true
	return decodeSend(c, in)
}

// editWire is a message that replaces an earlier one.
type editWire struct {
	Target   string         `path:"id" ref:"message"`
	Content  string         `json:"content" schema:"maxLength=10000" errmsg:"Message content is required"`
	Files    []string       `json:"files" ref:"file" errmsg:"files must be a list of file IDs"`
	Metadata map[string]any `json:"metadata" errmsg:"metadata must be an object"`
	ID       string         `json:"id" ref:"new message" errmsg:"Invalid message ID"`
	httpapi.ReplyParams
	deliveryWire
}

func decodeEdit(c httpapi.Call, in editWire) (replyRequest[replies.Edit], error) {
	sent, err := decodeSend(c, sendWire{
		Content: in.Content, Files: in.Files, Metadata: in.Metadata, ID: in.ID, ReplyParams: in.ReplyParams, deliveryWire: in.deliveryWire,
	})
	return replyRequest[replies.Edit]{replies.Edit{Send: sent.in, Target: in.Target}, c.Principal, sent.mode, sent.html}, err
}

// regenerateWire asks for another reply, or for the rest of one.
type regenerateWire struct {
	Target string `path:"id" ref:"message"`
	httpapi.ReplyParams
	deliveryWire
}

func decodeRegenerate(c httpapi.Call, in regenerateWire) (replyRequest[replies.RegenerateInput], error) {
	sent, err := decodeSend(c, sendWire{ReplyParams: in.ReplyParams, deliveryWire: in.deliveryWire})
	return replyRequest[replies.RegenerateInput]{replies.RegenerateInput{
		Principal: c.Principal, Caller: c.Caller, Target: in.Target, Params: sent.in.Params,
		Background: sent.in.Background, Streamed: sent.in.Streamed, WhenBusy: sent.in.WhenBusy, Key: sent.in.Key, ReplayOnlyReason: sent.in.ReplayOnlyReason,
	}, c.Principal, sent.mode, sent.html}, err
}

// replyResult is the result of a request for a reply.
type replyResult struct {
	mode  deliveryMode
	html  bool
	turn  replies.Accepted
	reply replies.Reply // complete only
	followed
}

// deliver makes the operation of a use case that accepts a message: it waits for
// the reply, or follows it, as the caller asked. isNew reports whether an input
// puts a message where none is, so that nothing is beside it and its reply.
func deliver[In any](s Services, accept func(context.Context, In) (replies.Accepted, error), isNew func(In) bool) func(context.Context, replyRequest[In]) (replyResult, error) {
	return func(ctx context.Context, req replyRequest[In]) (out replyResult, err error) {
		out.mode, out.html = req.mode, req.html
		if out.turn, err = accept(ctx, req.in); err != nil {
			return out, err
		}
		beside := s.siblings(req.principal, isNew(req.in) && !out.turn.Replayed)
		beside(ctx, &out.turn.UserMessage)
		switch req.mode {
		case complete:
			if out.reply, err = s.Replies.Wait(ctx, req.principal, out.turn); err == nil {
				beside(ctx, &out.reply.AssistantMessage)
			}
		case streamed:
			out.followed = followed{s.Replies.FollowAccepted(ctx, req.principal, out.turn), req.html, beside}
		case background:
		}
		return out, withMessage(err)
	}
}

// siblings returns a function that sets the messages beside one and the feedback on
// it, as the history does. It fails silently: the message itself is the answer.
func (s Services) siblings(p access.Principal, isNew bool) func(context.Context, *chat.Message) {
	return func(ctx context.Context, m *chat.Message) {
		switch {
		case m.ID == "":
			return
		case isNew:
			m.Siblings = []string{m.ID}
			return
		}
		list, _, err := s.Conversations.Branch(ctx, p, m.ConversationID, chat.ClientID(m.ID), 1)
		if err == nil && len(list) == 1 {
			m.Siblings, m.Feedback = list[0].Siblings, list[0].Feedback
		}
	}
}

func sendsNew(in replies.Send) bool { return in.Leaf == "" }

func never[In any](In) bool { return false }

// withMessage converts the message that a fault carries, which is kept although
// there is no reply to it.
func withMessage(err error) error {
	if f := fault.As(err); f != nil {
		if m, ok := f.Details["userMessage"].(chat.Message); ok {
			f.Details["userMessage"] = messageOf(m)
		}
	}
	return err
}

// sentJSON is a message with the complete reply to it.
type sentJSON struct {
	UserMessage      messageJSON `json:"userMessage"`
	AssistantMessage messageJSON `json:"assistantMessage"`
}

// AppendJSON implements httpapi.JSONAppender.
func (s sentJSON) AppendJSON(b []byte) (_ []byte, err error) {
	if b, err = s.UserMessage.AppendJSON(append(b, `{"userMessage":`...)); err != nil {
		return b, err
	}
	if b, err = s.AssistantMessage.AppendJSON(append(b, `,"assistantMessage":`...)); err != nil {
		return b, err
	}
	return append(b, '}'), nil
}

// queuedJSON is a message whose reply is made in the background.
type queuedJSON struct {
	UserMessage messageJSON `json:"userMessage"`
	RunID       string      `json:"runId"`
	State       chat.State  `json:"state"`
}

// replyEncoder encodes a reply in whichever way it was asked for.
var replyEncoder = httpapi.Encoder[replyResult]{
	Answers: []httpapi.Answer{
		httpapi.JSONAnswer[sentJSON](http.StatusCreated), httpapi.JSONAnswer[queuedJSON](http.StatusAccepted), replyEvents,
	},
	Encode: encodeReply,
}

// replyStreamEncoder is replyEncoder for routes that always stream.
var replyStreamEncoder = httpapi.Encoder[replyResult]{Answers: []httpapi.Answer{replyEvents}, Encode: encodeReply}

func encodeReply(ctx context.Context, w *httpapi.Response, out replyResult) error {
	httpapi.SetTurnHeaders(w.Header(), out.turn)
	render := renderMessages(ctx, out.html)
	switch out.mode {
	case streamed:
		return encodeFollow(ctx, w, out.followed)
	case background:
		return w.JSON(http.StatusAccepted, queuedJSON{render.message(out.turn.UserMessage), out.turn.Run.ID, out.turn.Run.State})
	}
	return w.JSON(http.StatusCreated, sentJSON{render.message(out.reply.UserMessage), render.message(out.reply.AssistantMessage)})
}

func (s Services) stop(ctx context.Context, in resourceCall) (chat.Run, error) {
	return s.Replies.Stop(ctx, in.Principal, in.Caller, in.id)
}
