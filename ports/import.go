package ports

import (
	"context"
	"iter"

	"parley/domain/audit"
	"parley/domain/chat"
)

// ImportSource reads the tables of a backend that Parley replaces. It changes
// nothing there, takes no lock that its writers wait for, and holds no snapshot for
// longer than a page takes. What is written meanwhile may be missing. Memory is
// bounded by pages of limited bytes. An error ends a sequence.
type ImportSource interface {
	// Conversations yields all conversations, in the order of ids.
	Conversations(ctx context.Context) iter.Seq2[chat.SourceConversation, error]
	// Messages yields all messages, in the order of users, and of time and ids for
	// each user.
	Messages(ctx context.Context) iter.Seq2[chat.SourceMessage, error]
	// ConversationKeys and MessageKeys yield the same rows again, by ids alone.
	ConversationKeys(ctx context.Context) iter.Seq2[chat.UserKey, error]
	MessageKeys(ctx context.Context) iter.Seq2[chat.UserKey, error]
}

// ImportRequest names what a batch is about.
type ImportRequest struct {
	Users         []string
	Conversations []chat.UserKey
	Messages      []chat.UserKey
	DryRun        bool // load and decide, and store nothing
}

// ImportDecision decides a batch by the state that is stored. It may be called
// again after a conflict.
type ImportDecision func(chat.ImportState) (chat.ImportPlan, []audit.Entry)

// ImportStore stores what is imported.
type ImportStore interface {
	// Import loads the state of a batch, with the users locked, and makes the plan of
	// decide durable together with its audit entries.
	Import(ctx context.Context, request ImportRequest, decide ImportDecision) error
	// CountConversations and CountMessages return how many of the keys are stored.
	CountConversations(ctx context.Context, keys []chat.UserKey) (int, error)
	CountMessages(ctx context.Context, keys []chat.UserKey) (int, error)
}
