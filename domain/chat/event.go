package chat

import (
	"time"

	"parley/domain/access"
	"parley/domain/fault"
	"parley/domain/webhook"
)

// RunEnded is what webhooks tell of the end of a run.
type RunEnded struct {
	RunID          string
	ConversationID string // "": the default thread
	ParentID       string
	MessageID      string // "": it left no message
	State          State
	Reason         string // of the provider, a code of the failure, or one of those below
	Provider       string // "": none was asked
	Model          string
	Usage          Usage
	CostMicros     *int64
	CreatedAt      time.Time
	At             time.Time
}

// Reasons of ends that neither the provider nor a failure gives.
const (
	reasonStopped  = string(Stopped)
	reasonDeleted  = "conversation_deleted"
	reasonComplete = "stop"
)

// Event returns the event of the end of a user's run.
func (r RunEnded) Event(user string) webhook.Event {
	return webhook.New(webhook.RunEnded, user, r.RunID, r.At, struct {
		UserID         string  `json:"userId"`
		RunID          string  `json:"runId"`
		ConversationID *string `json:"conversationId"`
		ParentID       string  `json:"parentId"`
		MessageID      *string `json:"messageId"`
		State          State   `json:"state"`
		Reason         string  `json:"reason"`
		Provider       *string `json:"provider"`
		Model          *string `json:"model"`
		Usage          Usage   `json:"usage"`
		CostMicros     *int64  `json:"costMicros"`
		CreatedAt      string  `json:"createdAt"`
		EndedAt        string  `json:"endedAt"`
	}{
		user, r.RunID, orNull(r.ConversationID), ClientID(r.ParentID), orNull(r.MessageID), r.State, r.Reason,
		orNull(r.Provider), orNull(r.Model), r.Usage, r.CostMicros, webhook.Time(r.CreatedAt), webhook.Time(r.At),
	})
}

// ended describes the end of a run that leaves m, or no message.
func (o Outcome) ended(created time.Time, m *Message) RunEnded {
	e := RunEnded{
		RunID: o.RunID, ConversationID: o.ConversationID, ParentID: o.ParentID, State: o.State, Reason: string(o.State),
		Provider: o.Provider, Model: o.Model, Usage: o.Usage, CostMicros: o.CostMicros, CreatedAt: created, At: o.At,
	}
	if m != nil {
		e.MessageID = m.ID
	}
	switch {
	case o.State == Completed:
		if e.Reason = o.FinishReason; e.Reason == "" {
			e.Reason = reasonComplete
		}
	case o.State != Stopped && o.Failure != "":
		e.Reason = o.Failure
	}
	return e
}

// budgetReached is what webhooks tell of a budget that did not cover a request.
type budgetReached struct {
	UserID string `json:"userId"`
	Budget string `json:"budget"` // tokens_day, tokens_month, cost_day, cost_month
	Period string `json:"period"` // 2026-11-27 or 2026-11
	Limit  int64  `json:"limit"`  // tokens, or millionths of a US dollar
	Reset  string `json:"reset"`
}

// BudgetEvent returns the event of a user's budget that refused a request, once
// per bound and period; ok is false when err is another refusal.
func BudgetEvent(user string, b access.Budget, err error, now time.Time) (e webhook.Event, ok bool) {
	refusal := fault.As(err)
	if refusal == nil || refusal.Kind != fault.OverBudget {
		return e, false
	}
	name, _ := refusal.Details["budget"].(string)
	var limit int64
	period, end := access.Day(now), access.NextDay(now)
	switch name {
	case "tokens_day":
		limit = b.DayTokens
	case "cost_day":
		limit = b.DayMicros
	case "tokens_month":
		limit, period, end = b.MonthTokens, access.Month(now), access.NextMonth(now)
	case "cost_month":
		limit, period, end = b.MonthMicros, access.Month(now), access.NextMonth(now)
	default:
		return e, false
	}
	e = webhook.New(webhook.BudgetReached, user, name+"\x00"+period, now, budgetReached{
		UserID: user, Budget: name, Period: period, Limit: limit, Reset: webhook.Time(end),
	})
	e.KeepUntil = end
	return e, true
}

// orNull is a pointer to s, or nil for "".
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
