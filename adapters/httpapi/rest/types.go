package rest

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"parley/adapters/httpapi"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

type messageJSON struct {
	ID             string         `json:"id"`
	ConversationID *string        `json:"conversationId"`
	UserID         string         `json:"userId"`
	Content        string         `json:"content"`         // the text of its parts
	Parts          []partJSON     `json:"parts,omitempty"` // unless the content is all there is
	Role           chat.Role      `json:"role"`
	Metadata       httpapi.Object `json:"metadata"`
	CreatedAt      string         `json:"createdAt" schema:"format=date-time"`
	UpdatedAt      string         `json:"updatedAt" schema:"format=date-time"`
	ParentID       *string        `json:"parentId"`
	Siblings       []string       `json:"siblings,omitempty"`
	Feedback       *feedbackJSON  `json:"feedback"`              // of its user, on a reply
	ContentHTML    *string        `json:"contentHtml,omitempty"` // if asked for
}

func messageOf(m chat.Message) messageJSON {
	siblings := m.Siblings
	if slices.ContainsFunc(siblings, func(id string) bool { return chat.ClientID(id) != id }) {
		siblings = slices.Clone(siblings)
		for i, id := range siblings {
			siblings[i] = chat.ClientID(id)
		}
	}
	var feedback *feedbackJSON
	if m.Feedback != nil {
		given := feedbackOf(*m.Feedback)
		feedback = &given
	}
	at := httpapi.Timestamp(m.CreatedAt)
	return messageJSON{
		ID: chat.ClientID(m.ID), ConversationID: httpapi.Optional(m.ConversationID), UserID: m.UserID, Content: m.Content, Parts: partsOf(m.Parts), Role: m.Role,
		Metadata: httpapi.Object(m.Metadata), CreatedAt: at, UpdatedAt: at, ParentID: httpapi.Optional(chat.ClientID(m.ParentID)), Siblings: siblings, Feedback: feedback,
	}
}

// AppendJSON implements httpapi.JSONAppender.
func (m *messageJSON) AppendJSON(b []byte) (_ []byte, err error) {
	b = httpapi.AppendJSONString(append(b, `{"id":`...), m.ID)
	b = appendOptional(append(b, `,"conversationId":`...), m.ConversationID)
	b = httpapi.AppendJSONString(append(b, `,"userId":`...), m.UserID)
	b = httpapi.AppendJSONString(append(b, `,"content":`...), m.Content)
	if len(m.Parts) > 0 {
		if b, err = httpapi.AppendJSON(append(b, `,"parts":`...), m.Parts); err != nil {
			return b, err
		}
	}
	b = httpapi.AppendJSONString(append(b, `,"role":`...), string(m.Role))
	if b, err = m.Metadata.AppendJSON(append(b, `,"metadata":`...)); err != nil {
		return b, err
	}
	b = httpapi.AppendJSONString(append(b, `,"createdAt":`...), m.CreatedAt)
	b = httpapi.AppendJSONString(append(b, `,"updatedAt":`...), m.UpdatedAt)
	b = appendOptional(append(b, `,"parentId":`...), m.ParentID)
	for i, id := range m.Siblings {
		if i == 0 {
			b = append(b, `,"siblings":[`...)
		} else {
			b = append(b, ',')
		}
		b = httpapi.AppendJSONString(b, id)
		if i == len(m.Siblings)-1 {
			b = append(b, ']')
		}
	}
	b = append(b, `,"feedback":`...)
	if m.Feedback == nil {
		b = append(b, "null"...)
	} else if b, err = httpapi.AppendJSON(b, m.Feedback); err != nil {
		return b, err
	}
	if m.ContentHTML != nil {
		b = httpapi.AppendJSONString(append(b, `,"contentHtml":`...), *m.ContentHTML)
	}
	return append(b, '}'), nil
}

// appendOptional appends a string, or null.
func appendOptional(b []byte, s *string) []byte {
	if s == nil {
		return append(b, "null"...)
	}
	return httpapi.AppendJSONString(b, *s)
}

// partJSON is a part of a message. What a provider wants back with its reasoning
// is not shown, and of a part that this version does not know only the type.
type partJSON struct {
	Type      chat.PartKind   `json:"type"`
	Text      string          `json:"text,omitempty"`
	ID        string          `json:"id,omitempty"`
	Name      string          `json:"name,omitempty"`
	MediaType string          `json:"mediaType,omitempty"`
	Size      int64           `json:"size,omitempty"` // of a file, in bytes
	URL       string          `json:"url,omitempty"`  // of a file here, of a source anywhere
	Title     string          `json:"title,omitempty"`
	Data      json.RawMessage `json:"data,omitempty"`
}

func partsOf(parts []chat.Part) (list []partJSON) {
	for _, p := range parts {
		list = append(list, partOf(p))
	}
	return list
}

func partOf(p chat.Part) partJSON {
	out := partJSON{
		Type: p.Kind, Text: p.Text, ID: p.ID, Name: p.Name, MediaType: p.MediaType, Size: p.Size, URL: p.URL, Title: p.Title, Data: p.Data,
	}
	if p.Kind == chat.FilePart {
		out.URL = "/api/chat/files/" + p.ID
	}
	return out
}

type conversationJSON struct {
	ID            string  `json:"id"`
	UserID        string  `json:"userId"`
	Title         *string `json:"title"`
	LastMessageAt string  `json:"lastMessageAt" schema:"format=date-time"`
	CreatedAt     string  `json:"createdAt" schema:"format=date-time"`
	UpdatedAt     string  `json:"updatedAt" schema:"format=date-time"`
	SystemPrompt  string  `json:"systemPrompt,omitempty"`
	Model         string  `json:"model,omitempty"`
	ExpiresAt     *string `json:"expiresAt,omitempty" schema:"format=date-time"` // of a temporary one
}

func conversationOf(c chat.Conversation) conversationJSON {
	out := conversationJSON{
		ID: c.ID, UserID: c.UserID, Title: httpapi.Optional(c.Title), LastMessageAt: httpapi.Timestamp(c.LastMessageAt),
		CreatedAt: httpapi.Timestamp(c.CreatedAt), UpdatedAt: httpapi.Timestamp(c.UpdatedAt), SystemPrompt: c.System, Model: c.Model,
	}
	if !c.ExpiresAt.IsZero() {
		out.ExpiresAt = httpapi.Optional(httpapi.Timestamp(c.ExpiresAt))
	}
	return out
}

// successJSON is the answer to a deletion.
type successJSON struct {
	Success bool `json:"success"`
}

func successOf(httpapi.NoInput) successJSON { return successJSON{true} }

type paginationJSON struct {
	Limit   int    `json:"limit"`
	Offset  int    `json:"offset"`
	HasMore bool   `json:"hasMore"`
	Before  string `json:"before,omitempty"` // cursor of the page of older entries
	After   string `json:"after,omitempty"`  // cursor of the page of newer entries
}

// pageQuery selects a page of a list: by offset from the newest, as in the
// reference system, or by the cursors of an earlier answer, which do not move
// when something new is written.
type pageQuery struct {
	Limit  *int    `query:"limit" schema:"minimum=1,maximum=100" errmsg:"Limit must be between 1 and 100"`
	Offset *int    `query:"offset" schema:"minimum=0,maximum=2147483647" errmsg:"Offset must be non-negative"`
	Before *string `query:"before"`
	After  *string `query:"after"`
}

func (q pageQuery) page(defaultLimit int) (ports.Page, error) {
	p := ports.Page{Limit: defaultLimit}
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
	const maxOffset = 1<<31 - 1
	if p.Offset < 0 || p.Offset > maxOffset {
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

// formatPosition makes an opaque cursor of a position in a list.
func formatPosition(p ports.Position) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(p.At.UnixNano(), 36) + "." + p.ID))
}

func parsePosition(cursor string) (*ports.Position, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	at, id, _ := strings.Cut(string(raw), ".")
	nanos, failed := strconv.ParseInt(at, 36, 64)
	if err != nil || failed != nil || nanos < 0 || !chat.ValidID(strings.Replace(id, "/", "-", 1)) { // see chat.ScopedID
		return nil, fault.New(fault.Invalid, "Invalid cursor")
	}
	return &ports.Position{At: time.Unix(0, nanos).UTC(), ID: id}, nil
}
