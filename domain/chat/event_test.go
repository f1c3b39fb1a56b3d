package chat_test

import (
	"strings"
	"testing"
	"time"

	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
)

// TestBudgetEvent: each bound that refuses is told once a period, and no other
// refusal is.
func TestBudgetEvent(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	b := access.Budget{DayTokens: 10, MonthTokens: 100, DayMicros: 20, MonthMicros: 200, Replies: 1}
	used := func(day, month access.Spent) error {
		return b.Admits(access.Usage{Day: day, Month: month}, access.Hold{}, now)
	}
	month := now.AddDate(0, 0, 3).Truncate(24 * time.Hour).Add(24 * time.Hour)
	seen := map[string]bool{}
	for name, c := range map[string]struct {
		err  error
		want string // in the body
		keep time.Time
	}{
		"DayTokens":   {used(access.Spent{Tokens: 10}, access.Spent{Tokens: 10}), `"budget":"tokens_day","period":"2026-11-27","limit":10,"reset":"2026-11-28T00:00:00.000Z"`, access.NextDay(now)},
		"MonthTokens": {used(access.Spent{}, access.Spent{Tokens: 100}), `"budget":"tokens_month","period":"2026-11","limit":100,"reset":"2026-12-01T00:00:00.000Z"`, month},
		"DayCost":     {used(access.Spent{Micros: 20}, access.Spent{}), `"budget":"cost_day","period":"2026-11-27","limit":20,`, access.NextDay(now)},
		"MonthCost":   {used(access.Spent{}, access.Spent{Micros: 200}), `"budget":"cost_month","period":"2026-11","limit":200,`, month},
		"Replies":     {b.Admits(access.Usage{Live: 1}, access.Hold{}, now), "", time.Time{}},
		"Admitted":    {used(access.Spent{}, access.Spent{}), "", time.Time{}},
		"Other":       {fault.New(fault.Busy, "busy"), "", time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			e, ok := chat.BudgetEvent("ann", b, c.err, now)
			if ok != (c.want != "") || !strings.Contains(e.Body, c.want) || !e.KeepUntil.Equal(c.keep) {
				t.Fatalf("%v %+v", ok, e)
			}
			if !ok {
				return
			}
			if seen[e.ID] {
				t.Error("the id is that of another bound")
			}
			seen[e.ID] = true
			if again, _ := chat.BudgetEvent("ann", b, c.err, now.Add(time.Hour)); again.ID != e.ID {
				t.Error("another id in the same period")
			}
			if next, _ := chat.BudgetEvent("ann", b, c.err, now.AddDate(0, 1, 0)); next.ID == e.ID {
				t.Error("the same id in the next period")
			}
		})
	}
}
