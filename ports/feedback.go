package ports

import (
	"context"

	"parley/domain/audit"
	"parley/domain/chat"
)

// Feedback stores users' feedback on replies. History gives it with each message.
type Feedback interface {
	// SetFeedback sets the feedback of a user on a reply, in place of an earlier
	// one, and records the audit entry. It returns which provider and model made
	// the reply. Invalid: the message is not a reply.
	SetFeedback(ctx context.Context, user, message string, f chat.Feedback, entry audit.Entry) (provider, model string, err error)
	// DeleteFeedback removes the feedback on a message and records the audit
	// entry; it does nothing where there is none.
	DeleteFeedback(ctx context.Context, user, message string, entry audit.Entry) error
}
