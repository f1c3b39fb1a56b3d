// Package aisdk is the wire of the Vercel AI SDK (ai 5 and newer): what useChat
// sends and what it reads. A chat of the SDK is a conversation, and the ids that
// the SDK makes for chats and messages are kept. The history is Parley's: of the
// messages that the SDK sends, the last one is read, and of those before it the
// ids, which decide where the message goes.
package aisdk

import (
	"context"
	"net/http"
	"time"

	"parley/adapters/httpapi"
	"parley/app/conversations"
	"parley/app/files"
	"parley/app/replies"
	"parley/domain/chat"
	"parley/domain/fault"
)

// bodyFactor is how many times longer than others the body of a message may be:
// the SDK sends the whole history, and in it the files that were attached.
const bodyFactor = 128

// Routes returns the endpoints of the wire: at the addresses that useChat has by
// default, and the same below /api/chat/ui, where they were first.
func Routes(r *replies.Service, c *conversations.Service, f *files.Service) []httpapi.Endpoint {
	const chats, alias, text = "/api/chat", "/api/chat/ui", "/api/chat/text"
	w := wire{r, c, f}
	type route = httpapi.Route
	var list []httpapi.Endpoint
	for _, base := range []string{chats, alias} {
		list = append(list,
			httpapi.Handle(route{Method: "POST", Path: base, Access: httpapi.Sends, Stream: true, BodyFactor: bodyFactor, PlainRefusals: true, Summary: "Send a message of the AI SDK and stream the reply"}, decodeMessage, w.send, sendEncoder),
			httpapi.Handle(route{Method: "GET", Path: base + "/{id}/stream", Access: httpapi.Reads, Stream: true, PlainRefusals: true, Summary: "Follow the live reply of a chat of the AI SDK"}, decodeResume, w.resume, resumeEncoder),
			httpapi.Handle(route{Method: "GET", Path: base + "/{id}/messages", Access: httpapi.Reads, PlainRefusals: true, Summary: "Read the history of a chat as messages of the AI SDK"}, decodeHistory, w.history, httpapi.JSONEncoder(http.StatusOK, historyOf)),
			httpapi.Handle(route{Method: "POST", Path: base + "/{id}/stop", Access: httpapi.Writes, PlainRefusals: true, Summary: "Stop the live replies of a chat of the AI SDK"}, decodeChat, w.stop, httpapi.JSONEncoder(http.StatusOK, stoppedOf)),
		)
	}
	return append(list,
		httpapi.Handle(route{Method: "POST", Path: text, Access: httpapi.Sends, Stream: true, Media: httpapi.MediaText, BodyFactor: bodyFactor, PlainRefusals: true, Summary: "Send a message of the AI SDK and stream the reply as plain text"}, decodeMessage, w.send, sendTextEncoder),
		httpapi.Handle(route{Method: "GET", Path: text + "/{id}/stream", Access: httpapi.Reads, Stream: true, Media: httpapi.MediaText, PlainRefusals: true, Summary: "Follow the live reply of a chat of the AI SDK as plain text"}, decodeResume, w.resume, resumeTextEncoder),
	)
}

// reservedChats are segments of the API's addresses that would hide a chat of the
// same name: GET /api/chat/conversations/stream reads a conversation.
var reservedChats = map[string]bool{"conversations": true, "files": true}

// wire is the operations of the routes.
type wire struct {
	replies       *replies.Service
	conversations *conversations.Service
	files         *files.Service // nil: none can be stored
}

// sent is a message that was accepted, and its reply.
type sent struct {
	turn  replies.Accepted
	reply followed
}

func (w wire) send(ctx context.Context, in messageCall) (out sent, err error) {
	if in.send.View == nil {
		s := in.send
		out.turn, err = w.replies.Regenerate(ctx, replies.RegenerateInput{
			Principal: s.Principal, Caller: s.Caller, ConversationID: s.ConversationID, Target: in.target,
			Params: s.Params, Streamed: true, WhenBusy: s.WhenBusy, Key: s.Key, ReplayOnlyReason: s.ReplayOnlyReason,
		})
	} else if err = w.storeFiles(ctx, in); err == nil {
		out.turn, err = w.replies.Send(ctx, in.send)
	}
	if err != nil {
		return out, err
	}
	out.reply = followed(w.replies.FollowAccepted(ctx, in.send.Principal, out.turn))
	return out, nil
}

// storeFiles stores the files that came within a message. The same content has
// the same id each time, so that a repeat is known; one that turns out not to be
// needed is swept.
func (w wire) storeFiles(ctx context.Context, in messageCall) error {
	for _, u := range in.uploads {
		part := &in.send.Parts[u.part]
		if in.send.ReplayOnlyReason != nil { // nothing new is accepted
			part.ID = files.ContentID(u.content)
			continue
		}
		if w.files == nil {
			return fault.New(fault.Unavailable, "Files cannot be stored at the moment").After(time.Second)
		}
		f, err := w.files.Store(ctx, in.send.Principal, in.send.Caller, part.Name, part.MediaType, u.content)
		if err != nil {
			return err
		}
		part.ID, part.Name, part.MediaType, part.Size = f.ID, f.Name, f.MediaType, f.Size
	}
	return nil
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

// resumeWire asks for the newest live reply of a chat, or for one that the
// history named as live: it may have ended since.
type resumeWire struct {
	chatWire
	Run *string `query:"runId" ref:"message"`
}

type resumeCall struct {
	chatCall
	run *string
}

func decodeResume(c httpapi.Call, in resumeWire) (resumeCall, error) {
	return resumeCall{chatCall{c, in.ID}, in.Run}, nil
}

// resume follows a reply of a chat from its start: the SDK begins the message
// anew.
func (w wire) resume(ctx context.Context, in resumeCall) (followed, error) {
	if in.run != nil {
		return within(in.id, followed(w.replies.Follow(ctx, in.Principal, *in.run, chat.Before))), nil
	}
	runs, err := w.replies.ActiveRuns(ctx, in.Principal, in.id)
	if err != nil || len(runs) == 0 {
		return func(func(replies.Event, error) bool) {}, err
	}
	return followed(w.replies.Follow(ctx, in.Principal, runs[0].ID, chat.Before)), nil
}

// within is a reply if it belongs to a chat, and an error otherwise.
func within(id string, reply followed) followed {
	return func(yield func(replies.Event, error) bool) {
		for e, err := range reply {
			if err == nil && e.Run.ConversationID != id {
				e, err = replies.Event{}, chat.MessageNotFound()
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
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
