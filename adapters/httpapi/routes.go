package httpapi

// table is every route, one row each.
func (a *API) table() []row {
	const (
		messages      = "/api/chat/messages"
		message       = messages + "/{id}"
		conversations = "/api/chat/conversations"
		conversation  = conversations + "/{id}"
	)
	r, c := a.Replies, a.Conversations
	return []row{
		handle(a, Route{Method: "POST", Path: messages, Access: Sends}, acceptSend, answer(a, r.Send), a.encodeAnswer),
		handle(a, Route{Method: "POST", Path: "/api/chat/stream", Access: Sends, Stream: true}, acceptStream, answer(a, r.Send), a.encodeAnswer),
		handle(a, Route{Method: "PATCH", Path: message, Access: Sends}, acceptEdit, answer(a, r.Edit), a.encodeAnswer),
		handle(a, Route{Method: "POST", Path: message + "/regenerate", Access: Sends, NoBody: true}, acceptAgain, answer(a, r.Regenerate), a.encodeAnswer),
		handle(a, Route{Method: "POST", Path: message + "/continue", Access: Sends, NoBody: true}, acceptAgain, answer(a, r.Continue), a.encodeAnswer),
		handle(a, Route{Method: "POST", Path: message + "/stop", Access: Writes}, acceptOne, a.stop, encodeRun),
		handle(a, Route{Method: "GET", Path: message + "/stream", Access: Reads, Stream: true}, acceptFollow, a.follow, a.encodeFollow),
		handle(a, Route{Method: "GET", Path: "/api/chat/live", Access: Reads, Stream: true}, acceptNothing, a.live, a.encodeLive),

		handle(a, Route{Method: "GET", Path: messages, Access: Reads}, acceptHistory, a.history, encodeHistory),

		handle(a, Route{Method: "GET", Path: conversations, Access: Reads}, acceptList, a.list, encodeList),
		handle(a, Route{Method: "POST", Path: conversations, Access: Writes, NoBody: true}, acceptCreate, c.Create, encodeCreated),
		handle(a, Route{Method: "PATCH", Path: conversations, Access: Writes}, acceptUpdateNamed, c.Update, encodeConversation),
		handle(a, Route{Method: "DELETE", Path: conversations, Access: Writes}, acceptDeleteNamed, a.remove, encodeRemoved),
		handle(a, Route{Method: "GET", Path: conversation, Access: Reads}, acceptOne, a.get, encodeConversation),
		handle(a, Route{Method: "PATCH", Path: conversation, Access: Writes}, acceptUpdate, c.Update, encodeConversation),
		handle(a, Route{Method: "DELETE", Path: conversation, Access: Writes}, acceptOne, a.remove, encodeRemoved),

		handle(a, Route{Method: "GET", Path: "/api/chat/usage", Access: Reads}, acceptNothing, a.usage, encodeUsage),
		handle(a, Route{Method: "GET", Path: "/api/chat/models", Access: Reads}, acceptNothing, a.models, encodeModels),
		handle(a, Route{Method: "GET", Path: "/api/health", Access: Public}, acceptNothing, a.checkHealth, encodeHealth),
	}
}
