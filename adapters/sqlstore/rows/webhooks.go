package rows

import (
	"time"

	"github.com/uptrace/bun"

	"parley/domain/webhook"
)

// WebhookEvent is a row of chat_webhook_events.
type WebhookEvent struct {
	bun.BaseModel `bun:"table:chat_webhook_events,alias:w"`

	UserID      string    `bun:"user_id,pk"`
	ID          string    `bun:"id,pk"`
	Type        string    `bun:"type"`
	Body        string    `bun:"body"`
	State       string    `bun:"state"`
	Attempt     int       `bun:"attempt"`
	Tries       int       `bun:"tries"`
	DueAt       time.Time `bun:"due_at"`
	LastStatus  int       `bun:"last_status"`
	LastFailure string    `bun:"last_failure,nullzero"`
	CreatedAt   time.Time `bun:"created_at"`
	KeepUntil   time.Time `bun:"keep_until,nullzero"`
}

// WebhookEventColumns are the columns of chat_webhook_events.
var WebhookEventColumns = columnsOf[WebhookEvent]()

// FromEvent makes the row of an event that has just happened. It is due when the
// database says.
func FromEvent(e webhook.Event) WebhookEvent {
	return WebhookEvent{
		UserID: e.UserID, ID: e.ID, Type: string(e.Type), Body: e.Body, State: string(webhook.Pending),
		CreatedAt: Time(e.At), KeepUntil: Time(e.KeepUntil),
	}
}

// Domain returns the noun.
func (w WebhookEvent) Domain() webhook.Delivery {
	return webhook.Delivery{
		Event: webhook.Event{
			ID: w.ID, UserID: w.UserID, Type: webhook.Type(w.Type), Body: w.Body, At: Time(w.CreatedAt), KeepUntil: Time(w.KeepUntil),
		},
		State: webhook.State(w.State), Attempt: w.Attempt, Tries: w.Tries, DueAt: Time(w.DueAt),
		Last: webhook.Answer{Status: w.LastStatus, Failure: w.LastFailure},
	}
}
