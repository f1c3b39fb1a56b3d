package rest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"html"
	"net/http"
	"strings"
	"time"

	"parley/adapters/httpapi"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// searchRoutes returns the endpoint of the search.
func (s Services) searchRoutes() []httpapi.Endpoint {
	return []httpapi.Endpoint{
		httpapi.Handle(httpapi.Route{Method: "GET", Path: "/api/chat/search", Access: httpapi.Reads, Summary: "Search messages and titles"}, decodeSearch, s.search, httpapi.JSONEncoder(http.StatusOK, searchOf)),
	}
}

type searchWire struct {
	Text   string  `query:"q" schema:"required,minLength=1,maxLength=200"`
	Limit  *int    `query:"limit" schema:"minimum=1,maximum=50" errmsg:"Limit must be between 1 and 50"`
	Cursor *string `query:"cursor"`
}

type searchCall struct {
	httpapi.Call
	text  string
	after *ports.SearchCursor
	limit int
}

func decodeSearch(c httpapi.Call, in searchWire) (out searchCall, err error) {
	out = searchCall{Call: c, text: in.Text, limit: 20}
	if in.Limit != nil {
		out.limit = *in.Limit
	}
	if out.limit < 1 || out.limit > 50 {
		return out, fault.New(fault.Invalid, "Limit must be between 1 and 50")
	}
	if in.Cursor != nil {
		out.after, err = parseSearchCursor(*in.Cursor)
	}
	return out, err
}

type searchPage struct {
	hits []chat.SearchHit
	next *ports.SearchCursor
}

func (s Services) search(ctx context.Context, in searchCall) (out searchPage, err error) {
	out.hits, out.next, err = s.Conversations.Search(ctx, in.Principal, in.text, in.after, in.limit)
	return out, err
}

type searchJSON struct {
	Results    []searchHitJSON `json:"results"`
	NextCursor *string         `json:"nextCursor"` // for cursor; null: there are no more
}

// searchHitJSON is a message, or a conversation whose title matches. Of its texts
// everything but <mark> is escaped.
type searchHitJSON struct {
	ConversationID    *string `json:"conversationId"` // null: the default thread
	ConversationTitle *string `json:"conversationTitle"`
	MessageID         *string `json:"messageId"` // null: the title matches
	Role              *string `json:"role"`
	CreatedAt         string  `json:"createdAt" schema:"format=date-time"`
	TitleHTML         string  `json:"titleHtml"`
	SnippetHTML       string  `json:"snippetHtml"`
}

func searchOf(p searchPage) searchJSON {
	out := searchJSON{Results: make([]searchHitJSON, len(p.hits))}
	for i, h := range p.hits {
		out.Results[i] = searchHitJSON{
			ConversationID: httpapi.Optional(h.ConversationID), ConversationTitle: httpapi.Optional(h.Title),
			MessageID: httpapi.Optional(chat.ClientID(h.MessageID)), Role: httpapi.Optional(string(h.Role)), CreatedAt: httpapi.Timestamp(h.CreatedAt),
			TitleHTML: markedHTML(h.Title, h.TitleMarks), SnippetHTML: markedHTML(h.Snippet, h.SnippetMarks),
		}
	}
	if p.next != nil {
		out.NextCursor = httpapi.Optional(formatSearchCursor(*p.next))
	}
	return out
}

// markedHTML escapes a text and marks spans of it.
func markedHTML(text string, marks []chat.Span) string {
	var b strings.Builder
	at := 0
	for _, m := range marks {
		b.WriteString(html.EscapeString(text[at:m.From]) + "<mark>" + html.EscapeString(text[m.From:m.To]) + "</mark>")
		at = m.To
	}
	b.WriteString(html.EscapeString(text[at:]))
	return b.String()
}

// searchCursorJSON is a ports.SearchCursor; times are in microseconds.
type searchCursorJSON struct {
	Titles   bool   `json:"t,omitempty"`
	Begin    int64  `json:"b,omitempty"`
	BeginID  string `json:"bi,omitempty"`
	End      int64  `json:"e,omitempty"`
	EndID    string `json:"ei,omitempty"`
	Score    int    `json:"s,omitempty"`
	LastTime int64  `json:"l,omitempty"`
	LastID   string `json:"li,omitempty"`
}

func formatSearchCursor(c ports.SearchCursor) string {
	micros := func(p ports.Position) int64 {
		if p.At.IsZero() {
			return 0
		}
		return p.At.UnixMicro()
	}
	return base64.RawURLEncoding.EncodeToString([]byte(marshal(searchCursorJSON{
		c.Titles, micros(c.Begin), c.Begin.ID, micros(c.End), c.End.ID, c.Score, micros(c.Last), c.Last.ID,
	})))
}

func parseSearchCursor(cursor string) (*ports.SearchCursor, error) {
	var in searchCursorJSON
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err == nil {
		err = json.Unmarshal(raw, &in)
	}
	position := func(micros int64, id string) (p ports.Position) {
		const latest = 253402300799999999 // the end of the year 9999
		if micros < 0 || micros > latest || id != "" && !chat.ValidID(strings.Replace(id, "/", "-", 1)) {
			err = fault.New(fault.Invalid, "Invalid cursor")
		}
		if micros > 0 {
			p.At = time.UnixMicro(micros).UTC()
		}
		p.ID = id
		return p
	}
	out := ports.SearchCursor{
		Titles: in.Titles, Score: in.Score,
		Begin: position(in.Begin, in.BeginID), End: position(in.End, in.EndID), Last: position(in.LastTime, in.LastID),
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "Invalid cursor")
	}
	return &out, nil
}
