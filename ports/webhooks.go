package ports

import (
	"context"
	"time"

	"parley/domain/webhook"
)

// Outbox holds the events of all users on their way to the receiver of webhooks.
// Times are on the database's clock. Events of the ends of runs are added by
// Runs and History, in the transactions of those ends.
type Outbox interface {
	// AddEvents adds events that belong to no other transaction. One whose id the
	// user has already is left as it is.
	AddEvents(ctx context.Context, events ...webhook.Event) error
	// ClaimEvents takes at most n events that are due, those that have waited
	// longest first, and hides them from other claims for lease. Attempt counts
	// the claim.
	ClaimEvents(ctx context.Context, lease time.Duration, n int) ([]webhook.Delivery, error)
	// SettleEvent records the result of an attempt: d.State and d.Last, due again
	// or deleted in a while from now. Fenced: a newer attempt exists, or the event
	// has been delivered, given up or erased.
	SettleEvent(ctx context.Context, d webhook.Delivery, in time.Duration) error
	// ExpireEvents deletes at most n events that have ended and are due to be. It
	// returns how many.
	ExpireEvents(ctx context.Context, n int) (int, error)
	// EventQueue counts events.
	EventQueue(ctx context.Context) (EventQueue, error)
}

// EventQueue counts the events of the outbox.
type EventQueue struct {
	Pending int
	Dead    int
	Oldest  time.Duration // since the oldest pending event happened; 0: none is pending
}

// EventFilter selects events. The zero value selects all.
type EventFilter struct {
	ID    string
	State webhook.State
	Since time.Time // of what happened
	Limit int       // newest first; 0: all
}

// EventLog shows operators the outbox.
type EventLog interface {
	// Events lists events, newest first, without their bodies.
	Events(ctx context.Context, f EventFilter) ([]webhook.Delivery, error)
	// ReplayEvents makes events that have ended pending again, under their ids, and
	// returns how many.
	ReplayEvents(ctx context.Context, f EventFilter) (int, error)
}

// WebhookReceiver delivers events.
type WebhookReceiver interface {
	// Deliver sends an event once and returns the receiver's answer. It never takes
	// much longer than its timeout.
	Deliver(ctx context.Context, e webhook.Event) webhook.Answer
}
