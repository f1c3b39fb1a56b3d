package httpapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// The media types of what is not a stream.
const (
	mediaJSON    = "application/json"
	mediaProblem = "application/problem+json"
)

// timestamp is how times look on the wire: ISO 8601, UTC, milliseconds.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// optional is null for "".
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

type messageJSON struct {
	ID             string         `json:"id"`
	ConversationID *string        `json:"conversationId"`
	UserID         string         `json:"userId"`
	Content        string         `json:"content"`
	Role           chat.Role      `json:"role"`
	Metadata       map[string]any `json:"metadata"`
	CreatedAt      string         `json:"createdAt" is:"format=date-time"`
	UpdatedAt      string         `json:"updatedAt" is:"format=date-time"`
	ParentID       *string        `json:"parentId"`
	Siblings       []string       `json:"siblings,omitempty"`
	ContentHTML    *string        `json:"contentHtml,omitempty"` // if asked for
}

func messageOf(m chat.Message) messageJSON {
	return messageJSON{
		ID: m.ID, ConversationID: optional(m.ConversationID), UserID: m.UserID, Content: m.Content, Role: m.Role,
		Metadata: m.Metadata, CreatedAt: timestamp(m.CreatedAt), UpdatedAt: timestamp(m.CreatedAt),
		ParentID: optional(m.ParentID), Siblings: m.Siblings,
	}
}

type conversationJSON struct {
	ID            string  `json:"id"`
	UserID        string  `json:"userId"`
	Title         *string `json:"title"`
	LastMessageAt string  `json:"lastMessageAt" is:"format=date-time"`
	CreatedAt     string  `json:"createdAt" is:"format=date-time"`
	UpdatedAt     string  `json:"updatedAt" is:"format=date-time"`
	SystemPrompt  string  `json:"systemPrompt,omitempty"`
	Model         string  `json:"model,omitempty"`
	ExpiresAt     *string `json:"expiresAt,omitempty" is:"format=date-time"` // of a temporary one
}

func conversationOf(c chat.Conversation) conversationJSON {
	out := conversationJSON{
		ID: c.ID, UserID: c.UserID, Title: optional(c.Title), LastMessageAt: timestamp(c.LastMessageAt),
		CreatedAt: timestamp(c.CreatedAt), UpdatedAt: timestamp(c.UpdatedAt), SystemPrompt: c.System, Model: c.Model,
	}
	if !c.ExpiresAt.IsZero() {
		out.ExpiresAt = optional(timestamp(c.ExpiresAt))
	}
	return out
}

type runJSON struct {
	RunID          string     `json:"runId"`
	ConversationID *string    `json:"conversationId"`
	ParentID       *string    `json:"parentId"` // the user message it answers
	Kind           chat.Kind  `json:"kind"`
	State          chat.State `json:"state"`
	StopRequested  bool       `json:"stopRequested"`
	Failure        string     `json:"failure,omitempty"` // a code
	CreatedAt      string     `json:"createdAt" is:"format=date-time"`
	EndedAt        *string    `json:"endedAt" is:"format=date-time"`
}

func runOf(r chat.Run) runJSON {
	out := runJSON{
		RunID: r.ID, ConversationID: optional(r.ConversationID), ParentID: optional(r.ParentID), Kind: r.Kind,
		State: r.State, StopRequested: r.StopRequested, Failure: r.Failure, CreatedAt: timestamp(r.CreatedAt),
	}
	if !r.EndedAt.IsZero() {
		out.EndedAt = optional(timestamp(r.EndedAt))
	}
	return out
}

func runsOf(runs []chat.Run) []runJSON {
	out := make([]runJSON, len(runs))
	for i, r := range runs {
		out[i] = runOf(r)
	}
	return out
}

// encodeJSON writes v as a whole answer.
func encodeJSON(w http.ResponseWriter, status int, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fault.Wrap(err, fault.Internal, "Internal server error")
	}
	w.Header().Set("Content-Type", mediaJSON)
	write(w, status, raw)
	return nil
}

type paginationJSON struct {
	Limit   int    `json:"limit"`
	Offset  int    `json:"offset"`
	HasMore bool   `json:"hasMore"`
	Before  string `json:"before,omitempty"` // asks for what is older than this page
	After   string `json:"after,omitempty"`  // asks for what is newer
}

// pageQuery is how a list is paged: by offset from the newest, as the
// reference system does, or by the cursors of an earlier answer, which stay
// put when something new is written.
type pageQuery struct {
	Limit  *int    `query:"limit" is:"minimum=1,maximum=100" refuse:"Limit must be between 1 and 100"`
	Offset *int    `query:"offset" is:"minimum=0,maximum=2147483647" refuse:"Offset must be non-negative"`
	Before *string `query:"before"`
	After  *string `query:"after"`
}

func (q pageQuery) page(usual int) (ports.Page, error) {
	p := ports.Page{Limit: usual}
	if q.Limit != nil {
		p.Limit = *q.Limit
	}
	if p.Limit < 1 || p.Limit > 100 {
		return p, fault.New(fault.Invalid, "Limit must be between 1 and 100")
	}
	if q.Offset != nil {
		p.Offset = *q.Offset
	}
	// No thread is longer; a store may not take larger numbers.
	const most = 1 << 31
	if p.Offset < 0 || p.Offset >= most {
		return p, fault.New(fault.Invalid, "Offset must be non-negative")
	}
	if q.Before != nil && q.After != nil || p.Offset > 0 && (q.Before != nil || q.After != nil) {
		return p, fault.New(fault.Invalid, "Give only one of offset, before and after")
	}
	var err error
	if q.Before != nil {
		p.Before, err = parsePosition(*q.Before)
	}
	if q.After != nil {
		p.After, err = parsePosition(*q.After)
	}
	return p, err
}

// formatPosition makes an opaque cursor of a place in a list.
func formatPosition(p ports.Position) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(p.At.UnixNano(), 36) + "." + p.ID))
}

func parsePosition(cursor string) (*ports.Position, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	at, id, _ := strings.Cut(string(raw), ".")
	nanos, failed := strconv.ParseInt(at, 36, 64)
	if err != nil || failed != nil || nanos < 0 || !chat.ValidID(id) {
		return nil, fault.New(fault.Invalid, "Invalid cursor")
	}
	return &ports.Position{At: time.Unix(0, nanos).UTC(), ID: id}, nil
}

// nothing is the input of a route that has none.
type nothing struct{}

func acceptNothing(c call, _ nothing) (call, error) { return c, nil }

// byID is the input of a route about one thing that it names in its path.
type byID struct {
	ID string `path:"id" names:"conversation or message"`
}

// one is a call about one thing.
type one struct {
	call
	id string
}

func acceptOne(c call, in byID) (one, error) { return one{c, in.ID}, nil }

func (a *API) get(ctx context.Context, in one) (chat.Conversation, error) {
	return a.Conversations.Get(ctx, in.principal, in.id)
}
