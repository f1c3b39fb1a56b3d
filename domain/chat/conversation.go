package chat

import (
	"strings"
	"time"
	"unicode/utf8"

	"parley/domain/fault"
)

// Conversation is a tree of messages owned by one user.
type Conversation struct {
	ID            string
	UserID        string
	Title         string // "" until the first message or the user names it
	TitleByUser   bool   // the user has set the title: it is never replaced
	System        string // optional system prompt
	Model         string // optional "provider/model" preference
	LeafID        string // the message at the end of the current branch, "" when empty
	LastMessageAt time.Time
	CreatedAt     time.Time
	UpdatedAt     time.Time
	ExpiresAt     time.Time // of a temporary one, which is in no list; zero: kept
}

// TemporaryTTL is how long a temporary conversation lasts after its creation.
const TemporaryTTL = 24 * time.Hour

// ValidateTitle refuses a title that is blank, too long or not storable.
func ValidateTitle(s string) error {
	if strings.TrimSpace(s) == "" || utf8.RuneCountInString(s) > MaxTitle {
		return fault.New(fault.Invalid, "Title must be a string with max %d characters", MaxTitle)
	}
	return ValidateText(s)
}
