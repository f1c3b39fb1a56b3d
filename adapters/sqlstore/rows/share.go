package rows

import (
	"time"

	"github.com/uptrace/bun"

	"parley/domain/chat"
)

// Share is a row of chat_shares.
type Share struct {
	bun.BaseModel `bun:"table:chat_shares,alias:sh"`

	UserID         string    `bun:"user_id,pk"`
	ID             string    `bun:"id,pk"`
	ConversationID string    `bun:"conversation_id"`
	LeafID         string    `bun:"leaf_id"`
	Title          string    `bun:"title,nullzero"`
	TokenHash      []byte    `bun:"token_hash"`
	CreatedAt      time.Time `bun:"created_at"`
	ExpiresAt      time.Time `bun:"expires_at,nullzero"`
}

// ShareColumns are the columns of chat_shares.
var ShareColumns = columnsOf[Share]()

// FromShare makes a row.
func FromShare(s chat.Share) Share {
	return Share{
		UserID: s.UserID, ID: s.ID, ConversationID: s.ConversationID, LeafID: s.LeafID, Title: s.Title, TokenHash: s.Digest[:],
		CreatedAt: Time(s.CreatedAt), ExpiresAt: Time(s.ExpiresAt),
	}
}

// Domain returns the noun.
func (s Share) Domain() chat.Share {
	share := chat.Share{
		UserID: s.UserID, ID: s.ID, ConversationID: s.ConversationID, LeafID: s.LeafID, Title: s.Title,
		CreatedAt: Time(s.CreatedAt), ExpiresAt: Time(s.ExpiresAt),
	}
	copy(share.Digest[:], s.TokenHash)
	return share
}
