package audit

import (
	"time"

	"parley/domain/access"
)

// Status is how an audited action ended.
type Status string

const (
	Pending Status = "pending" // the reply is still being made
	Success Status = "success"
	Failure Status = "failure"
)

// Audited actions. Each is one row per thing done or refused.
const (
	ActionMessageSent         = "chat.message_sent"
	ActionMessageEdited       = "chat.message_edited"
	ActionReplyRegenerated    = "chat.reply_regenerated"
	ActionReplyContinued      = "chat.reply_continued"
	ActionReplyStopped        = "chat.reply_stopped"
	ActionConversationCreated = "chat.conversation_created"
	ActionConversationUpdated = "chat.conversation_updated"
	ActionConversationDeleted = "chat.conversation_deleted"
	ActionConversationExpired = "chat.conversation_expired"
	ActionExported            = "chat.exported"
	ActionKeyCreated          = "security.api_key_created"
	ActionKeyRevoked          = "security.api_key_revoked"
	ActionSessionsRevoked     = "security.sessions_revoked"
	ActionRateLimitExceeded   = "security.rate_limit_exceeded"
	ActionUnauthorizedAccess  = "security.unauthorized_access"
)

// Audited resources.
const (
	ResourceMessage      = "chat_message"
	ResourceConversation = "chat_conversation"
	ResourceRoute        = "route"
	ResourceKey          = "api_key"
	ResourceUser         = "user"
)

// Entry is one line of the audit log. It never holds message text: Metadata is
// for ids, counts and codes.
type Entry struct {
	ID         string
	UserID     string
	Action     string
	Resource   string
	ResourceID string
	Metadata   map[string]any
	Caller     access.Caller
	Status     Status
	Error      string // a code, not a sentence
	CreatedAt  time.Time
	UpdatedAt  time.Time // when Status became final; the response-time query subtracts CreatedAt
}
