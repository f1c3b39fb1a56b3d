package chat

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"parley/domain/fault"
)

// MaxSearch is the longest text that can be searched for, in code points.
const MaxSearch = 200

// Span is a range of bytes of a text.
type Span struct{ From, To int }

// SearchHit is a message, or a conversation whose title matches. Matches are
// marked in the title and in the snippet.
type SearchHit struct {
	ConversationID string // "": the default thread
	Title          string
	TitleMarks     []Span
	MessageID      string // "": the title matches
	Role           Role
	CreatedAt      time.Time // of the message, or of the conversation
	Snippet        string    // of the message
	SnippetMarks   []Span
}

// ValidateSearch refuses a text that cannot be searched for.
func ValidateSearch(text string) error {
	switch {
	case strings.TrimFunc(text, unicode.IsSpace) == "":
		return fault.New(fault.Invalid, "q is required")
	case utf8.RuneCountInString(text) > MaxSearch:
		return fault.New(fault.Invalid, "q cannot exceed %d characters", MaxSearch)
	}
	return ValidateText(text)
}
