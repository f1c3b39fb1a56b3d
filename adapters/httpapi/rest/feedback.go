package rest

import (
	"context"
	"net/http"

	"parley/adapters/httpapi"
	"parley/app/conversations"
	"parley/domain/chat"
)

// feedbackRoutes returns the endpoints of feedback on replies.
func (s Services) feedbackRoutes() []httpapi.Endpoint {
	type route = httpapi.Route
	const feedback = "/api/chat/messages/{id}/feedback"
	return []httpapi.Endpoint{
		httpapi.Handle(route{Method: "PUT", Path: feedback, Access: httpapi.Writes, Summary: "Rate a reply"}, decodeFeedback, s.Conversations.SetFeedback, httpapi.JSONEncoder(http.StatusOK, feedbackOf)),
		httpapi.Handle(route{Method: "DELETE", Path: feedback, Access: httpapi.Writes, Summary: "Take the rating of a reply back"}, decodeResource, s.removeFeedback, noContentEncoder),
	}
}

type feedbackWire struct {
	ID     string      `path:"id" ref:"message"`
	Rating chat.Rating `json:"rating" schema:"required,enum=up|down" errmsg:"rating must be up or down"`
	Reason string      `json:"reason" schema:"maxLength=2000" errmsg:"reason must be a string with max 2000 characters"`
}

type feedbackJSON struct {
	Rating chat.Rating `json:"rating"`
	Reason string      `json:"reason"` // "": none is given
}

func decodeFeedback(c httpapi.Call, in feedbackWire) (conversations.Rate, error) {
	return conversations.Rate{
		Principal: c.Principal, Caller: c.Caller, MessageID: in.ID, Feedback: chat.Feedback{Rating: in.Rating, Reason: in.Reason},
	}, nil
}

func feedbackOf(f chat.Feedback) feedbackJSON { return feedbackJSON(f) }

func (s Services) removeFeedback(ctx context.Context, in resourceCall) (httpapi.NoInput, error) {
	return httpapi.NoInput{}, s.Conversations.DeleteFeedback(ctx, in.Principal, in.Caller, in.id)
}

// noContentEncoder answers that something was done, without a body.
var noContentEncoder = httpapi.Encoder[httpapi.NoInput]{
	Answers: []httpapi.Answer{{Status: http.StatusNoContent}},
	Encode: func(_ context.Context, w *httpapi.Response, _ httpapi.NoInput) error {
		w.WriteHeader(http.StatusNoContent)
		return nil
	},
}
