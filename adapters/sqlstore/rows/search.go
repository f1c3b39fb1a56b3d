package rows

import (
	"time"

	"github.com/uptrace/bun"
)

// SearchSegment is a row of chat_search_segments.
type SearchSegment struct {
	bun.BaseModel `bun:"table:chat_search_segments,alias:ss"`

	UserID  string    `bun:"user_id,pk"`
	Segment int       `bun:"segment,pk"`
	Version int       `bun:"version"`
	Dirty   bool      `bun:"dirty"`
	BeginAt time.Time `bun:"begin_at"`
	EndAt   time.Time `bun:"end_at"`
	EndID   string    `bun:"end_id"`
}

// SearchBucket is a row of chat_search_buckets.
type SearchBucket struct {
	bun.BaseModel `bun:"table:chat_search_buckets,alias:sb"`

	UserID  string `bun:"user_id,pk"`
	Segment int    `bun:"segment,pk"`
	Bucket  int    `bun:"bucket,pk"`
	Content []byte `bun:"content"`
}

// SearchLate is a row of chat_search_late.
type SearchLate struct {
	bun.BaseModel `bun:"table:chat_search_late,alias:sl"`

	UserID    string `bun:"user_id,pk"`
	MessageID string `bun:"message_id,pk"`
}
