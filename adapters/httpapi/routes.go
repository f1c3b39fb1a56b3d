package httpapi

import "net/http"

// table is every route, one row each.
func (a *API) table() []row {
	const (
		messages      = "/api/chat/messages"
		message       = messages + "/{id}"
		conversations = "/api/chat/conversations"
		conversation  = conversations + "/{id}"
		ui            = "/api/chat/ui"
	)
	r, c := a.Replies, a.Conversations
	return []row{
		handle(a, Route{Method: "POST", Path: messages, Access: Sends, Does: "Send a message"}, acceptSend, answer(a, r.Send), a.answers()),
		handle(a, Route{Method: "POST", Path: "/api/chat/stream", Access: Sends, Stream: true, Does: "Send a message and read the reply as it is made"}, acceptStream, answer(a, r.Send), a.streams()),
		handle(a, Route{Method: "PATCH", Path: message, Access: Sends, Does: "Edit a message of the user's"}, acceptEdit, answer(a, r.Edit), a.answers()),
		handle(a, Route{Method: "POST", Path: message + "/regenerate", Access: Sends, NoBody: true, Does: "Make another reply to the same message"}, acceptAgain, answer(a, r.Regenerate), a.answers()),
		handle(a, Route{Method: "POST", Path: message + "/continue", Access: Sends, NoBody: true, Does: "Make the rest of a reply that was cut short"}, acceptAgain, answer(a, r.Continue), a.answers()),
		handle(a, Route{Method: "POST", Path: message + "/stop", Access: Writes, Does: "End a reply"}, acceptOne, a.stop, as(http.StatusOK, runOf)),
		handle(a, Route{Method: "GET", Path: message + "/stream", Access: Reads, Stream: true, Does: "Follow a reply, from any point"}, acceptFollow, a.follow, a.follows()),
		handle(a, Route{Method: "GET", Path: "/api/chat/live", Access: Reads, Stream: true, Does: "Follow which replies run"}, acceptNothing, a.live, a.lives()),

		handle(a, Route{Method: "POST", Path: ui, Access: Sends, Stream: true, MaxBody: uiMaxBody * a.MaxBody, Does: "Send a message of the AI SDK and read the reply as it is made"}, acceptUI, a.ui, a.uiStreams()),
		handle(a, Route{Method: "GET", Path: ui + "/{id}/stream", Access: Reads, Stream: true, Does: "Follow what is made in a chat of the AI SDK"}, acceptUIChat, a.uiResume, a.uiResumes()),
		handle(a, Route{Method: "POST", Path: ui + "/{id}/stop", Access: Writes, Does: "End what is made in a chat of the AI SDK"}, acceptUIChat, a.uiStop, as(http.StatusOK, stoppedOf)),

		handle(a, Route{Method: "GET", Path: messages, Access: Reads, Does: "Read history"}, acceptHistory, a.history, as(http.StatusOK, messagesOf)),

		handle(a, Route{Method: "GET", Path: conversations, Access: Reads, Does: "List conversations"}, acceptList, a.list, as(http.StatusOK, conversationsOf)),
		handle(a, Route{Method: "POST", Path: conversations, Access: Writes, NoBody: true, Does: "Make a conversation"}, acceptCreate, c.Create, as(http.StatusCreated, conversationOf)),
		handle(a, Route{Method: "PATCH", Path: conversations, Access: Writes, Does: "Change the conversation that the body names"}, acceptUpdateNamed, c.Update, as(http.StatusOK, conversationOf)),
		handle(a, Route{Method: "DELETE", Path: conversations, Access: Writes, Does: "Delete the conversation that the query names"}, acceptDeleteNamed, a.remove, as(http.StatusOK, removedOf)),
		handle(a, Route{Method: "GET", Path: conversation, Access: Reads, Does: "Read a conversation"}, acceptOne, a.get, as(http.StatusOK, conversationOf)),
		handle(a, Route{Method: "PATCH", Path: conversation, Access: Writes, Does: "Change a conversation"}, acceptUpdate, c.Update, as(http.StatusOK, conversationOf)),
		handle(a, Route{Method: "DELETE", Path: conversation, Access: Writes, Does: "Delete a conversation with all its messages"}, acceptOne, a.remove, as(http.StatusOK, removedOf)),

		handle(a, Route{Method: "GET", Path: conversation + "/export", Access: Reads, Media: mediaMarkdown, Does: "Read the current branch as Markdown"}, acceptOne, a.transcript, markdownEncoder),
		handle(a, Route{Method: "GET", Path: "/api/chat/export", Access: Reads, Does: "Get everything that is kept of the user"}, acceptNothing, a.export, a.exports()),
		handle(a, Route{Method: "DELETE", Path: "/api/chat/account", Access: Writes, Does: "Delete everything that is kept of the user"}, acceptErase, a.erase, as(http.StatusOK, removedOf)),

		handle(a, Route{Method: "GET", Path: "/api/chat/usage", Access: Reads, Does: "Read what the user has used, and may use"}, acceptNothing, a.usage, as(http.StatusOK, usageOf)),
		handle(a, Route{Method: "GET", Path: "/api/chat/models", Access: Reads, Does: "List the models"}, acceptNothing, a.models, as(http.StatusOK, modelsOf)),
		handle(a, Route{Method: "GET", Path: "/api/health", Access: Public, Does: "Say how Parley is"}, acceptNothing, a.checkHealth, healthEncoder),
		handle(a, Route{Method: "GET", Path: "/api/openapi.json", Access: Public, Does: "Describe this API"}, acceptNothing, a.describe, as(http.StatusOK, itself)),
	}
}
