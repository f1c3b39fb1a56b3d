package ports

import (
	"context"
	"time"

	"parley/domain/audit"
	"parley/domain/chat"
)

// Shares stores which branches are shared.
type Shares interface {
	// ShareSource returns a conversation and the branch of it that ends with leaf
	// ("current": with the conversation's own; "" is no message), oldest first, at most n messages, of
	// which there are none in an empty conversation. Faults: NotFound.
	ShareSource(ctx context.Context, user, conversation, leaf string, n int) (chat.Conversation, []chat.Message, error)
	// CreateShare stores a share. check is called with how many shares the
	// conversation has that have not expired, and may refuse. Faults: NotFound when
	// the user does not have the conversation.
	CreateShare(ctx context.Context, s chat.Share, check func(count int) error, entry audit.Entry) error
	// Shares lists the shares of a conversation, or of all conversations when it is
	// "", without those that have expired, newest first. NotFound when the user does
	// not have the conversation.
	Shares(ctx context.Context, user, conversation string, now time.Time) ([]chat.Share, error)
	// DeleteShare revokes a share. Faults: NotFound.
	DeleteShare(ctx context.Context, user, id string, entry audit.Entry) error
	// SharedBranch returns the share of a token, of whichever user, with its branch,
	// oldest first, at most n messages. NotFound: there is none, it has expired at
	// now, or none of its messages is left.
	SharedBranch(ctx context.Context, token chat.Digest, now time.Time, n int) (chat.Share, []chat.Message, error)
	// SharedFile returns the share of a token if a message of its branch refers to a
	// file, else NotFound.
	SharedFile(ctx context.Context, token chat.Digest, now time.Time, file string) (chat.Share, error)
}
