package audit

import (
	"time"

	"parley/domain/access"
)

// Status is how an audited action ended.
type Status string

const (
	Pending Status = "pending" // the reply has not ended
	Success Status = "success"
	Failure Status = "failure"
)

// Actions of audit entries.
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
	ActionFeedbackGiven       = "chat.feedback_given"
	ActionFeedbackDeleted     = "chat.feedback_deleted"
	ActionShareCreated        = "chat.share_created"
	ActionShareRevoked        = "chat.share_revoked"
	ActionExported            = "chat.exported"
	ActionImported            = "chat.imported"
	ActionFileUploaded        = "chat.file_uploaded"
	ActionFileDeleted         = "chat.file_deleted"
	ActionFileExpired         = "chat.file_expired"
	ActionKeyCreated          = "security.api_key_created"
	ActionKeyRevoked          = "security.api_key_revoked"
	ActionSessionsRevoked     = "security.sessions_revoked"
	ActionChatDisabled        = "security.chat_disabled"
	ActionChatEnabled         = "security.chat_enabled"
	ActionProviderDisabled    = "security.provider_disabled"
	ActionProviderEnabled     = "security.provider_enabled"
	ActionRateLimitExceeded   = "security.rate_limit_exceeded"
	ActionUnauthorizedAccess  = "security.unauthorized_access"
)

// Resources of audit entries.
const (
	ResourceMessage      = "chat_message"
	ResourceConversation = "chat_conversation"
	ResourceShare        = "chat_share"
	ResourceFile         = "chat_file"
	ResourceRoute        = "route"
	ResourceKey          = "api_key"
	ResourceUser         = "user"
	ResourceChat         = "chat"
	ResourceProvider     = "provider"
)

// Entry is one row of the audit log. It never holds message text: Metadata is for
// ids, counts and codes.
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
	UpdatedAt  time.Time // when Status became final; minus CreatedAt, it is the response time
}
