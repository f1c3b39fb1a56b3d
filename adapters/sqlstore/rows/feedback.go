package rows

import (
	"time"

	"github.com/uptrace/bun"
)

// Feedback is a row of chat_feedback.
type Feedback struct {
	bun.BaseModel `bun:"table:chat_feedback,alias:fb"`

	UserID    string    `bun:"user_id,pk"`
	MessageID string    `bun:"message_id,pk"`
	Rating    string    `bun:"rating"`
	Reason    string    `bun:"reason"`
	CreatedAt time.Time `bun:"created_at"`
}
