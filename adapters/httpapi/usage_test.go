package httpapi_test

import (
	"strings"
	"testing"
	"time"

	"parley/domain/access"
)

// TestUsage: a user is told what was used, by whom nobody else is told; what
// bounds it; and when it begins anew.
func TestUsage(t *testing.T) {
	b := setup(t)
	b.gate.SetBudgets(map[access.Tier]access.Budget{access.Authenticated: {DayTokens: 1_000_000, MonthMicros: 2_500_000, Replies: 3}})
	b.do("ann", "POST", "/api/chat/messages", `{"content":"!echo one two three"}`).must(201)
	a := b.do("ann", "GET", "/api/chat/usage", "").must(200)
	now := time.Now().UTC()
	for _, tt := range []struct {
		path string
		want any
	}{
		{"tier", "authenticated"},
		{"day.period", now.Format("2006-01-02")}, {"month.period", now.Format("2006-01")},
		{"day.reset", now.Truncate(24 * time.Hour).Add(24 * time.Hour).Format("2006-01-02T15:04:05.000Z")},
		{"day.replies", 1.0}, {"month.replies", 1.0}, {"day.heldTokens", 0.0}, {"day.costUsd", 0.0},
		{"day.tokenLimit", 1e6}, {"month.tokenLimit", nil}, {"day.costLimitUsd", nil}, {"month.costLimitUsd", 2.5},
		{"concurrentReplies.live", 0.0}, {"concurrentReplies.limit", 3.0},
	} {
		if got := a.get(strings.Split(tt.path, ".")...); got != tt.want {
			t.Errorf("%s is %v, want %v", tt.path, got, tt.want)
		}
	}
	day, _ := a.get("day", "tokens").(float64)
	if month, _ := a.get("month", "tokens").(float64); day < 3 || month != day {
		t.Errorf("%v tokens today, %v this month", day, month)
	}
	if other := b.do("bob", "GET", "/api/chat/usage", "").must(200); other.get("day", "tokens") != 0.0 {
		t.Errorf("another user: %s", other.raw)
	}
}
