package chat

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"parley/domain/fault"
)

// MaxSharedMessages is the longest branch that can be shared.
const MaxSharedMessages = 1_000

// MaxShares is the most shares that a conversation can have at once.
const MaxShares = 100

// Share lets anyone who has its token read one branch of a conversation, up to its
// leaf. Messages never change, and what comes after the leaf is not in the branch.
type Share struct {
	ID             string
	UserID         string // who shares
	ConversationID string
	LeafID         string // the last message that is shared
	Title          string // of the conversation when it was shared
	Digest         Digest // of the token
	CreatedAt      time.Time
	ExpiresAt      time.Time // zero: it does not expire
}

// Digest is the SHA-256 of a share's token. The token itself is not stored.
type Digest [sha256.Size]byte

// NewShareToken returns 256 random bits as text for a URL.
func NewShareToken() string {
	var bits [32]byte
	rand.Read(bits[:])
	return base64.RawURLEncoding.EncodeToString(bits[:])
}

// ShareDigest returns the digest of a token, whatever it looks like.
func ShareDigest(token string) Digest { return sha256.Sum256([]byte(token)) }

// Expired reports whether a share has ended at a time.
func (s Share) Expired(at time.Time) bool { return !s.ExpiresAt.IsZero() && !at.Before(s.ExpiresAt) }

// CheckShare refuses to share what must not be, or not yet: a temporary
// conversation, a branch without messages or with too many of them, and one that
// leads through a reply that has not ended, since that message would come later.
// branch is the branch from its root to the leaf, or its last messages if there
// are more than MaxSharedMessages.
func CheckShare(c Conversation, branch []Message, s Share) error {
	switch {
	case !c.ExpiresAt.IsZero():
		return fault.New(fault.Conflict, "A temporary conversation cannot be shared")
	case !s.ExpiresAt.IsZero() && !s.ExpiresAt.After(s.CreatedAt):
		return fault.New(fault.Invalid, "expiresAt must be in the future")
	case len(branch) == 0:
		return fault.New(fault.Conflict, "The conversation has no messages to share")
	case len(branch) > MaxSharedMessages:
		return fault.New(fault.Conflict, "A branch of more than %d messages cannot be shared", MaxSharedMessages)
	}
	parent := ""
	for _, m := range branch {
		if m.ParentID != parent {
			return fault.New(fault.Conflict, "A reply in this branch has not ended yet; share it when it has")
		}
		parent = m.ID
	}
	return nil
}

// CheckShareCount refuses another share of a conversation that has n.
func CheckShareCount(n int) error {
	if n >= MaxShares {
		return fault.New(fault.Conflict, "A conversation can have at most %d shares; revoke one first", MaxShares)
	}
	return nil
}

// ShareNotFound is the fault of a token that is unknown, revoked or expired, and of
// a share that the user does not have. They are answered alike.
func ShareNotFound() *fault.Error { return fault.New(fault.NotFound, "Share not found") }
