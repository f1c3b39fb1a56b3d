package rows

import (
	"time"

	"github.com/uptrace/bun"

	"parley/domain/audit"
)

// Unsealed is a row of audit_unsealed. Triggers write it.
type Unsealed struct {
	bun.BaseModel `bun:"table:audit_unsealed,alias:q"`

	N        int64     `bun:"n,pk"`
	UserID   string    `bun:"user_id"`
	EntryID  string    `bun:"entry_id"`
	Kind     string    `bun:"kind"`
	QueuedAt time.Time `bun:"queued_at"`
}

// Link is a row of audit_chain.
type Link struct {
	bun.BaseModel `bun:"table:audit_chain,alias:l"`

	Seq      int64     `bun:"seq,pk"`
	Subject  string    `bun:"subject"`
	EntryID  string    `bun:"entry_id"`
	Kind     string    `bun:"kind"`
	Digest   []byte    `bun:"digest"`
	Prev     []byte    `bun:"prev"`
	Hash     []byte    `bun:"hash"`
	SealedAt time.Time `bun:"sealed_at"`
}

// FromLink makes a row.
func FromLink(l audit.Link) Link {
	return Link{
		Seq: l.Seq, Subject: l.Subject, EntryID: l.EntryID, Kind: string(l.Kind),
		Digest: l.Digest[:], Prev: l.Prev[:], Hash: l.Hash[:], SealedAt: Time(l.SealedAt),
	}
}

// AuditKey is a row of audit_keys.
type AuditKey struct {
	bun.BaseModel `bun:"table:audit_keys,alias:k"`

	UserID  string `bun:"user_id,pk"`
	Subject string `bun:"subject"`
	Salt    []byte `bun:"salt"`
}

// AuditRoot is a row of audit_root: one for each secret that wraps the root.
type AuditRoot struct {
	bun.BaseModel `bun:"table:audit_root,alias:o"`

	ID      int    `bun:"id,pk"`
	Wrapped []byte `bun:"wrapped"`
}

// Erasure is a row of audit_erasures.
type Erasure struct {
	bun.BaseModel `bun:"table:audit_erasures,alias:e"`

	UserID     string    `bun:"user_id,pk"`
	Subject    string    `bun:"subject"`
	DeclaredAt time.Time `bun:"declared_at"`
}

// ErasedUser is a row of chat_erased_users.
type ErasedUser struct {
	bun.BaseModel `bun:"table:chat_erased_users,alias:d"`

	UserHash  string    `bun:"user_hash,pk"`
	ErasedAt  time.Time `bun:"erased_at"`
	Sessions  string    `bun:"sessions"` // digests, separated by spaces
	ExpiresAt time.Time `bun:"expires_at"`
}

// ErasedUsage is a row of chat_erased_usage.
type ErasedUsage struct {
	bun.BaseModel `bun:"table:chat_erased_usage,alias:w"`

	UserHash   string    `bun:"user_hash,pk"`
	Period     string    `bun:"period,pk"`
	Tokens     int64     `bun:"tokens"`
	CostMicros int64     `bun:"cost_micros"`
	Replies    int64     `bun:"replies"`
	ExpiresAt  time.Time `bun:"expires_at"`
}
