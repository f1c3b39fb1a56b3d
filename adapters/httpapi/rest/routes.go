// Package rest is Parley's own wire: conversations and messages as JSON, replies
// as server-sent events.
package rest

import (
	"context"
	"net/http"
	"reflect"
	"slices"

	"parley/adapters/httpapi"
	"parley/app/conversations"
	"parley/app/files"
	"parley/app/gate"
	"parley/app/replies"
	"parley/ports"
)

// Services are the use cases behind the routes. All are required.
type Services struct {
	Replies       *replies.Service
	Conversations *conversations.Service
	Files         *files.Service
	Gate          *gate.Gate
	Catalogue     ports.Catalogue
	Erase         func(ctx context.Context, user string) error // deletes everything of a user
	Now           ports.Clock
}

// Routes returns the endpoints of the wire.
func Routes(s Services) []httpapi.Endpoint {
	const (
		messages      = "/api/chat/messages"
		message       = messages + "/{id}"
		conversations = "/api/chat/conversations"
		conversation  = conversations + "/{id}"

		reads, writes, sends = httpapi.Reads, httpapi.Writes, httpapi.Sends
	)
	details := map[string]reflect.Type{"userMessage": reflect.TypeFor[messageJSON]()}
	r, c := s.Replies, s.Conversations
	type route = httpapi.Route
	return slices.Concat(s.fileRoutes(), s.feedbackRoutes(), s.shareRoutes(), s.searchRoutes(), []httpapi.Endpoint{
		httpapi.Handle(route{Method: "POST", Path: messages, Access: sends, Summary: "Send a message", Details: details}, decodeSend, deliver(s, r.Send, sendsNew), replyEncoder),
		httpapi.Handle(route{Method: "POST", Path: "/api/chat/stream", Access: sends, Stream: true, Summary: "Send a message and stream the reply"}, decodeStream, deliver(s, r.Send, sendsNew), replyStreamEncoder),
		httpapi.Handle(route{Method: "PATCH", Path: message, Access: sends, Summary: "Edit a message", Details: details}, decodeEdit, deliver(s, r.Edit, never), replyEncoder),
		httpapi.Handle(route{Method: "POST", Path: message + "/regenerate", Access: sends, NoBody: true, Summary: "Make another reply to the same message", Details: details}, decodeRegenerate, deliver(s, r.Regenerate, never), replyEncoder),
		httpapi.Handle(route{Method: "POST", Path: message + "/continue", Access: sends, NoBody: true, Summary: "Make the rest of a reply that was cut short", Details: details}, decodeRegenerate, deliver(s, r.Continue, never), replyEncoder),
		httpapi.Handle(route{Method: "POST", Path: message + "/stop", Access: writes, Summary: "Stop a reply"}, decodeResource, s.stop, httpapi.JSONEncoder(http.StatusOK, httpapi.RunOf)),
		httpapi.Handle(route{Method: "GET", Path: message + "/stream", Access: reads, Stream: true, Summary: "Follow a reply, from any position"}, decodeFollow, s.follow, followEncoder),
		httpapi.Handle(route{Method: "GET", Path: "/api/chat/live", Access: reads, Stream: true, Summary: "Follow which replies are live"}, httpapi.DecodeCall, s.live, liveEncoder),

		httpapi.Handle(route{Method: "GET", Path: messages, Access: reads, Summary: "Read the history"}, decodeHistory, s.history, httpapi.RevalidatedEncoder(messagesOf)),

		httpapi.Handle(route{Method: "GET", Path: conversations, Access: reads, Summary: "List conversations"}, decodeList, s.list, httpapi.RevalidatedEncoder(conversationsOf)),
		httpapi.Handle(route{Method: "POST", Path: conversations, Access: writes, NoBody: true, Summary: "Create a conversation"}, decodeCreate, c.Create, httpapi.JSONEncoder(http.StatusCreated, conversationOf)),
		httpapi.Handle(route{Method: "PATCH", Path: conversations, Access: writes, Summary: "Change the conversation that the body names"}, decodeUpdateNamed, c.Update, httpapi.JSONEncoder(http.StatusOK, conversationOf)),
		httpapi.Handle(route{Method: "DELETE", Path: conversations, Access: writes, Summary: "Delete the conversation that the query names"}, decodeDeleteNamed, s.remove, httpapi.JSONEncoder(http.StatusOK, successOf)),
		httpapi.Handle(route{Method: "GET", Path: conversation, Access: reads, Summary: "Read a conversation"}, decodeResource, s.get, httpapi.JSONEncoder(http.StatusOK, conversationOf)),
		httpapi.Handle(route{Method: "PATCH", Path: conversation, Access: writes, Summary: "Change a conversation"}, decodeUpdate, c.Update, httpapi.JSONEncoder(http.StatusOK, conversationOf)),
		httpapi.Handle(route{Method: "DELETE", Path: conversation, Access: writes, Summary: "Delete a conversation with all its messages"}, decodeResource, s.remove, httpapi.JSONEncoder(http.StatusOK, successOf)),

		httpapi.Handle(route{Method: "GET", Path: conversation + "/export", Access: reads, Media: httpapi.MediaMarkdown, Summary: "Read the current branch as Markdown"}, decodeResource, s.transcript, markdownEncoder),
		httpapi.Handle(route{Method: "GET", Path: "/api/chat/export", Access: reads, Summary: "Export all data of the user"}, httpapi.DecodeCall, s.export, exportEncoder),
		httpapi.Handle(route{Method: "DELETE", Path: "/api/chat/account", Access: writes, Summary: "Delete all data of the user"}, decodeErase, s.erase, httpapi.JSONEncoder(http.StatusOK, successOf)),

		httpapi.Handle(route{Method: "GET", Path: "/api/chat/usage", Access: reads, Summary: "Read the user's usage and its limits"}, httpapi.DecodeCall, s.usage, httpapi.JSONEncoder(http.StatusOK, usageOf)),
		httpapi.Handle(route{Method: "GET", Path: "/api/chat/models", Access: reads, Summary: "List the models"}, httpapi.DecodeCall, s.models, httpapi.JSONEncoder(http.StatusOK, modelsOf)),
	})
}

// resourceWire is the input of a route about one resource that its path names.
type resourceWire struct {
	ID string `path:"id" ref:"conversation or message"`
}

// resourceCall is a call about one resource.
type resourceCall struct {
	httpapi.Call
	id string
}

func decodeResource(c httpapi.Call, in resourceWire) (resourceCall, error) {
	return resourceCall{c, in.ID}, nil
}
