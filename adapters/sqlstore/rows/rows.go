// Package rows holds the tables as Bun sees them, and their translation to and
// from the domain's nouns. A row says nothing that the migrations do not say:
// a test compares the two, column by column.
//
// Empty text is NULL where a column can be NULL. Times are UTC and whole
// microseconds, as Postgres keeps them. JSON is carried as text, so that both
// dialects store and refuse the same.
package rows

import (
	"strings"
	"time"

	"github.com/uptrace/bun"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
)

// User is a row of chat_users: what belongs to a user rather than to one of
// their conversations. It is also what serialises a user's admissions.
type User struct {
	bun.BaseModel `bun:"table:chat_users,alias:u"`

	UserID         string    `bun:"user_id,pk"`
	LeafID         string    `bun:"leaf_id,nullzero"` // the current end of the default thread
	SessionVersion int       `bun:"session_version"`
	RevokedAt      time.Time `bun:"revoked_at,nullzero"`
	// RevokedSessions are digests of the sessions that the last revocation ended.
	RevokedSessions string    `bun:"revoked_sessions"` // separated by spaces
	CreatedAt       time.Time `bun:"created_at"`
}

// Conversation is a row of chat_conversations.
type Conversation struct {
	bun.BaseModel `bun:"table:chat_conversations,alias:c"`

	UserID        string    `bun:"user_id,pk"`
	ID            string    `bun:"id,pk"`
	Title         string    `bun:"title,nullzero"`
	System        string    `bun:"system,nullzero"`
	Model         string    `bun:"model,nullzero"`
	LeafID        string    `bun:"leaf_id,nullzero"`
	LastMessageAt time.Time `bun:"last_message_at"`
	CreatedAt     time.Time `bun:"created_at"`
	UpdatedAt     time.Time `bun:"updated_at"`
	ExpiresAt     time.Time `bun:"expires_at,nullzero"`
	TitleByUser   bool      `bun:"title_by_user"`
}

// Message is a row of chat_messages.
type Message struct {
	bun.BaseModel `bun:"table:chat_messages,alias:m"`

	UserID         string    `bun:"user_id,pk"`
	ID             string    `bun:"id,pk"`
	ConversationID string    `bun:"conversation_id,nullzero"`
	ParentID       string    `bun:"parent_id,nullzero"`
	Role           string    `bun:"role"`
	Content        string    `bun:"content"`
	Parts          string    `bun:"parts,nullzero"`
	Metadata       string    `bun:"metadata,nullzero"`
	CreatedAt      time.Time `bun:"created_at"`
}

// Run is a row of chat_runs.
type Run struct {
	bun.BaseModel `bun:"table:chat_runs,alias:r"`

	UserID          string    `bun:"user_id,pk"`
	ID              string    `bun:"id,pk"`
	ConversationID  string    `bun:"conversation_id,nullzero"`
	ParentID        string    `bun:"parent_id"`
	Kind            string    `bun:"kind"`
	State           string    `bun:"state"`
	Attempt         int       `bun:"attempt"`
	Owner           string    `bun:"owner,nullzero"`
	LeaseUntil      time.Time `bun:"lease_until,nullzero"`
	StopRequested   bool      `bun:"stop_requested"`
	Background      bool      `bun:"background"`
	Params          string    `bun:"params"`
	Prefix          string    `bun:"prefix"`
	Provider        string    `bun:"provider,nullzero"`
	Model           string    `bun:"model,nullzero"`
	FinishReason    string    `bun:"finish_reason,nullzero"`
	Failure         string    `bun:"failure,nullzero"`
	UsageInput      int64     `bun:"usage_input"`
	UsageOutput     int64     `bun:"usage_output"`
	UsageCacheRead  int64     `bun:"usage_cache_read"`
	UsageCacheWrite int64     `bun:"usage_cache_write"`
	UsageReasoning  int64     `bun:"usage_reasoning"`
	UsageEstimated  bool      `bun:"usage_estimated"`
	CostMicros      *int64    `bun:"cost_micros"`
	HoldTokens      int64     `bun:"hold_tokens"`
	HoldMicros      int64     `bun:"hold_micros"`
	IdempotencyKey  string    `bun:"idempotency_key,nullzero"`
	Fingerprint     string    `bun:"fingerprint"`
	AuditID         string    `bun:"audit_id"`
	Metadata        string    `bun:"metadata,nullzero"`
	CreatedAt       time.Time `bun:"created_at"`
	StartedAt       time.Time `bun:"started_at,nullzero"`
	EndedAt         time.Time `bun:"ended_at,nullzero"`
}

// RunOutput is a row of chat_run_output: a piece of what a run has produced.
type RunOutput struct {
	bun.BaseModel `bun:"table:chat_run_output,alias:o"`

	UserID string `bun:"user_id,pk"`
	RunID  string `bun:"run_id,pk"`
	At     int64  `bun:"at,pk"` // the length of the output before it
	Log    string `bun:"log"`
}

// Entry is a row of audit_logs.
type Entry struct {
	bun.BaseModel `bun:"table:audit_logs,alias:a"`

	UserID       string    `bun:"user_id,pk"`
	ID           string    `bun:"id,pk"`
	Action       string    `bun:"action"`
	Resource     string    `bun:"resource"`
	ResourceID   string    `bun:"resource_id,nullzero"`
	Metadata     string    `bun:"metadata,nullzero"`
	IPAddress    string    `bun:"ip_address,nullzero"`
	UserAgent    string    `bun:"user_agent,nullzero"`
	Status       string    `bun:"status"`
	ErrorMessage string    `bun:"error_message,nullzero"`
	CreatedAt    time.Time `bun:"created_at"`
	UpdatedAt    time.Time `bun:"updated_at"`
}

// Usage is a row of chat_usage.
type Usage struct {
	bun.BaseModel `bun:"table:chat_usage,alias:g"`

	UserID     string `bun:"user_id,pk"`
	Day        string `bun:"day,pk"`
	Tokens     int64  `bun:"tokens"`
	CostMicros int64  `bun:"cost_micros"`
	Replies    int64  `bun:"replies"`
}

// Key is a row of chat_api_keys.
type Key struct {
	bun.BaseModel `bun:"table:chat_api_keys,alias:k"`

	UserID    string    `bun:"user_id,pk"`
	ID        string    `bun:"id,pk"`
	Name      string    `bun:"name"`
	Hash      string    `bun:"hash"`
	Scopes    string    `bun:"scopes"` // by spaces
	CreatedAt time.Time `bun:"created_at"`
	RevokedAt time.Time `bun:"revoked_at,nullzero"`
}

// FromKey makes a row.
func FromKey(k access.Key) Key {
	names := make([]string, len(k.Scopes))
	for i, s := range k.Scopes {
		names[i] = string(s)
	}
	return Key{
		UserID: k.UserID, ID: k.ID, Name: k.Name, Hash: k.Hash, Scopes: strings.Join(names, " "),
		CreatedAt: Time(k.CreatedAt), RevokedAt: Time(k.RevokedAt),
	}
}

// Domain returns the noun.
func (k Key) Domain() access.Key {
	key := access.Key{
		ID: k.ID, UserID: k.UserID, Name: k.Name, Hash: k.Hash, CreatedAt: Time(k.CreatedAt), RevokedAt: Time(k.RevokedAt),
	}
	for _, name := range strings.Fields(k.Scopes) {
		key.Scopes = append(key.Scopes, access.Scope(name))
	}
	return key
}

// All lists every table, for the comparison with the migrations.
var All = []any{
	(*User)(nil), (*Conversation)(nil), (*Message)(nil), (*Run)(nil), (*RunOutput)(nil), (*Entry)(nil), (*Usage)(nil), (*Key)(nil),
	(*Unsealed)(nil), (*Link)(nil), (*AuditKey)(nil), (*AuditRoot)(nil), (*Erasure)(nil),
	(*ErasedUser)(nil), (*ErasedUsage)(nil), (*File)(nil), (*MessageFile)(nil), (*Feedback)(nil), (*Share)(nil),
	(*SearchSegment)(nil), (*SearchBucket)(nil), (*SearchLate)(nil),
	(*WebhookEvent)(nil), (*Switch)(nil),
}

// Time is t as the tables keep it.
func Time(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(time.Microsecond)
}

// FromConversation makes a row.
func FromConversation(c chat.Conversation) Conversation {
	return Conversation{
		UserID: c.UserID, ID: c.ID, Title: c.Title, System: c.System, Model: c.Model, LeafID: c.LeafID,
		LastMessageAt: Time(c.LastMessageAt), CreatedAt: Time(c.CreatedAt), UpdatedAt: Time(c.UpdatedAt), ExpiresAt: Time(c.ExpiresAt),
		TitleByUser: c.TitleByUser,
	}
}

// Domain returns the noun.
func (c Conversation) Domain() chat.Conversation {
	return chat.Conversation{
		ID: c.ID, UserID: c.UserID, Title: c.Title, System: c.System, Model: c.Model, LeafID: c.LeafID,
		LastMessageAt: Time(c.LastMessageAt), CreatedAt: Time(c.CreatedAt), UpdatedAt: Time(c.UpdatedAt), ExpiresAt: Time(c.ExpiresAt),
		TitleByUser: c.TitleByUser,
	}
}

// FromEntry makes a row.
func FromEntry(e audit.Entry) (Entry, error) {
	metadata, err := marshal(e.Metadata)
	row := Entry{
		UserID: e.UserID, ID: e.ID, Action: e.Action, Resource: e.Resource, ResourceID: e.ResourceID,
		Metadata: metadata, IPAddress: e.Caller.IP, UserAgent: e.Caller.UserAgent,
		Status: string(e.Status), ErrorMessage: e.Error, CreatedAt: Time(e.CreatedAt), UpdatedAt: Time(e.UpdatedAt),
	}
	if row.Status == "" {
		row.Status = string(audit.Success)
	}
	if row.UpdatedAt.IsZero() {
		row.UpdatedAt = row.CreatedAt
	}
	if e.Status == audit.Pending { // nothing of an outcome yet: what is sealed first is then the whole row
		row.UpdatedAt, row.ErrorMessage = row.CreatedAt, ""
	}
	return row, err
}
