package rest

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"parley/adapters/httpapi"
	"parley/app/conversations"
	"parley/domain/chat"
	"parley/domain/fault"
)

const sharePath = "/api/share/"

// shareRoutes returns the endpoints of shares: those of the user who shares, and
// the public ones for anyone who has a token.
func (s Services) shareRoutes() []httpapi.Endpoint {
	type route = httpapi.Route
	const (
		shares = "/api/chat/conversations/{id}/shares"
		shared = sharePath + "{token}"
	)
	return []httpapi.Endpoint{
		httpapi.Handle(route{Method: "POST", Path: shares, Access: httpapi.Writes, NoBody: true, Refuses: []int{http.StatusConflict}, Summary: "Share a branch"}, decodeShare, s.Conversations.Share, httpapi.JSONEncoder(http.StatusCreated, sharedOf)),
		httpapi.Handle(route{Method: "GET", Path: shares, Access: httpapi.Reads, Summary: "List the shares of a conversation"}, decodeResource, s.listShares, httpapi.JSONEncoder(http.StatusOK, sharesOf)),
		httpapi.Handle(route{Method: "DELETE", Path: "/api/chat/shares/{id}", Access: httpapi.Writes, Summary: "Revoke a share"}, decodeShareID, s.revoke, noContentEncoder),

		httpapi.Handle(route{Method: "GET", Path: shared, Access: httpapi.PublicLimited, Summary: "Read a shared branch"}, decodeToken, s.sharedBranch, sharedBranchEncoder),
		httpapi.Handle(route{Method: "GET", Path: shared + "/files/{id}", Access: httpapi.PublicLimited, Media: httpapi.MediaAny, Summary: "Read a file of a shared branch"}, decodeSharedFile, s.sharedFile, fileEncoder(s.Files.Types)),
	}
}

type shareWire struct {
	ID      string  `path:"id" ref:"conversation"`
	Leaf    string  `json:"messageId" ref:"message" errmsg:"Invalid message ID"`
	Expires *string `json:"expiresAt" schema:"format=date-time" errmsg:"expiresAt must be a time, as 2026-12-31T12:00:00Z"`
}

func decodeShare(c httpapi.Call, in shareWire) (conversations.ShareInput, error) {
	out := conversations.ShareInput{Principal: c.Principal, Caller: c.Caller, ConversationID: in.ID, LeafID: in.Leaf}
	if in.Expires != nil {
		var err error
		if out.ExpiresAt, err = time.Parse(time.RFC3339, *in.Expires); err != nil || out.ExpiresAt.Year() > 9999 {
			return out, fault.New(fault.Invalid, "expiresAt must be a time, as 2026-12-31T12:00:00Z")
		}
	}
	return out, nil
}

type shareJSON struct {
	ID             string  `json:"id"`
	ConversationID string  `json:"conversationId"`
	MessageID      string  `json:"messageId"` // the last one that is shared
	CreatedAt      string  `json:"createdAt" schema:"format=date-time"`
	ExpiresAt      *string `json:"expiresAt" schema:"format=date-time"` // null: never
}

func shareOf(s chat.Share) shareJSON {
	return shareJSON{s.ID, s.ConversationID, chat.ClientID(s.LeafID), httpapi.Timestamp(s.CreatedAt), expiryOf(s)}
}

func expiryOf(s chat.Share) *string {
	if s.ExpiresAt.IsZero() {
		return nil
	}
	return httpapi.Optional(httpapi.Timestamp(s.ExpiresAt))
}

// sharedJSON is a new share. Its token and URL are told only here.
type sharedJSON struct {
	shareJSON
	Token string `json:"token"`
	URL   string `json:"url"` // of a page, relative to the API
}

func sharedOf(s conversations.Shared) sharedJSON {
	return sharedJSON{shareOf(s.Share), s.Token, "/share/" + s.Token}
}

type sharesJSON struct {
	Shares []shareJSON `json:"shares"`
}

func (s Services) listShares(ctx context.Context, in resourceCall) ([]chat.Share, error) {
	return s.Conversations.Shares(ctx, in.Principal, in.id)
}

func sharesOf(list []chat.Share) sharesJSON {
	out := sharesJSON{make([]shareJSON, len(list))}
	for i, s := range list {
		out.Shares[i] = shareOf(s)
	}
	return out
}

type shareIDWire struct {
	ID string `path:"id" ref:"share"`
}

func decodeShareID(c httpapi.Call, in shareIDWire) (resourceCall, error) {
	return resourceCall{c, in.ID}, nil
}

func (s Services) revoke(ctx context.Context, in resourceCall) (httpapi.NoInput, error) {
	return httpapi.NoInput{}, s.Conversations.Revoke(ctx, in.Principal, in.Caller, in.id)
}

type tokenWire struct {
	Token string `path:"token" ref:"share token"`
}

func decodeToken(_ httpapi.Call, in tokenWire) (tokenWire, error) { return in, nil }

// sharedBranch is a share with its messages.
type sharedBranch struct {
	token    string
	share    chat.Share
	messages []chat.Message
	render   messageRenderer
}

func (s Services) sharedBranch(ctx context.Context, in tokenWire) (out sharedBranch, err error) {
	out.token, out.render = in.Token, renderMessages(ctx, true)
	out.share, out.messages, err = s.Conversations.SharedBranch(ctx, in.Token)
	return out, err
}

// sharedBranchJSON names neither the user nor the conversation.
type sharedBranchJSON struct {
	Title     *string             `json:"title"` // when it was shared
	CreatedAt string              `json:"createdAt" schema:"format=date-time"`
	ExpiresAt *string             `json:"expiresAt" schema:"format=date-time"`
	Messages  []sharedMessageJSON `json:"messages"` // oldest first
}

// sharedMessageJSON has less than messageJSON: no metadata, which is the app's and
// the provider's, no feedback, and no id but its own.
type sharedMessageJSON struct {
	ID          string     `json:"id"`
	Role        chat.Role  `json:"role"`
	Content     string     `json:"content"`
	ContentHTML *string    `json:"contentHtml"`
	Parts       []partJSON `json:"parts,omitempty"`
	CreatedAt   string     `json:"createdAt" schema:"format=date-time"`
}

func sharedBranchOf(b sharedBranch) sharedBranchJSON {
	out := sharedBranchJSON{
		Title: httpapi.Optional(b.share.Title), CreatedAt: httpapi.Timestamp(b.share.CreatedAt), ExpiresAt: expiryOf(b.share),
		Messages: make([]sharedMessageJSON, len(b.messages)),
	}
	for i, m := range b.messages {
		full := b.render.message(m)
		out.Messages[i] = sharedMessageJSON{full.ID, full.Role, full.Content, full.ContentHTML, sharedParts(b.token, full.Parts), full.CreatedAt}
	}
	return out
}

// sharedParts leaves out the app's own data, and addresses files below the share.
func sharedParts(token string, parts []partJSON) (out []partJSON) {
	for _, p := range parts {
		switch p.Type {
		case chat.DataPart:
			continue
		case chat.FilePart:
			p.URL = sharePath + url.PathEscape(token) + "/files/" + url.PathEscape(p.ID)
		}
		out = append(out, p)
	}
	return out
}

var sharedBranchEncoder = httpapi.Encoder[sharedBranch]{
	Answers: []httpapi.Answer{httpapi.JSONAnswer[sharedBranchJSON](http.StatusOK)},
	Encode: func(_ context.Context, w *httpapi.Response, b sharedBranch) error {
		return w.JSON(http.StatusOK, sharedBranchOf(b))
	},
}

type sharedFileWire struct {
	Token string `path:"token" ref:"share token"`
	downloadWire
}

type sharedFileCall struct {
	token string
	downloadCall
}

func decodeSharedFile(c httpapi.Call, in sharedFileWire) (sharedFileCall, error) {
	return sharedFileCall{in.Token, downloadCall{c, in.downloadWire}}, nil
}

// sharedFile reads a file as its owner, if a message of the branch refers to it.
func (s Services) sharedFile(ctx context.Context, in sharedFileCall) (download, error) {
	owner, err := s.Conversations.SharedFile(ctx, in.token, in.ID)
	if err != nil {
		return download{}, err
	}
	in.Principal = owner
	d, err := s.download(ctx, in.downloadCall)
	if fault.Is(err, fault.NotFound) {
		err = chat.ShareNotFound()
	}
	return d, err
}
