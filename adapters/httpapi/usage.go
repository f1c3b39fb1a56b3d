package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"parley/app/gate"
	"parley/domain/access"
)

// spentJSON is what was used in one period, and what bounds it.
type spentJSON struct {
	Period       string   `json:"period"`
	Tokens       int64    `json:"tokens"`
	HeldTokens   int64    `json:"heldTokens"` // set aside for replies being made
	TokenLimit   *int64   `json:"tokenLimit"` // null: none
	CostUSD      float64  `json:"costUsd"`
	HeldCostUSD  float64  `json:"heldCostUsd"`
	CostLimitUSD *float64 `json:"costLimitUsd"`
	Replies      int64    `json:"replies"`
	Reset        string   `json:"reset" is:"format=date-time"`
}

type usageJSON struct {
	Tier    access.Tier `json:"tier"`
	Day     spentJSON   `json:"day"`
	Month   spentJSON   `json:"month"`
	Replies liveJSON    `json:"concurrentReplies"`
}

type liveJSON struct {
	Live  int  `json:"live"`
	Limit *int `json:"limit"` // null: none
}

type account struct {
	tier access.Tier
	gate.Account
}

func (a *API) usage(ctx context.Context, c call) (account, error) {
	got, err := a.Gate.Usage(ctx, c.principal)
	return account{c.principal.Tier, got}, err
}

func usageOf(a account) usageJSON {
	out := usageJSON{
		Tier:  a.tier,
		Day:   spentOf(access.Day(a.At), a.Day, a.Budget.DayTokens, a.Budget.DayMicros, access.NextDay(a.At)),
		Month: spentOf(access.Month(a.At), a.Month, a.Budget.MonthTokens, a.Budget.MonthMicros, access.NextMonth(a.At)),
	}
	out.Replies.Live = a.Live
	if a.Budget.Replies > 0 {
		out.Replies.Limit = &a.Budget.Replies
	}
	return out
}

func spentOf(period string, s access.Spent, tokens, micros int64, reset time.Time) spentJSON {
	out := spentJSON{
		Period: period, Tokens: s.Tokens, HeldTokens: s.HeldTokens, Replies: s.Replies,
		CostUSD: dollars(s.Micros), HeldCostUSD: dollars(s.HeldMicros), Reset: timestamp(reset),
	}
	if tokens > 0 {
		out.TokenLimit = &tokens
	}
	if micros > 0 {
		limit := dollars(micros)
		out.CostLimitUSD = &limit
	}
	return out
}

// dollars is an amount in millionths as JSON has it.
func dollars(micros int64) float64 { return float64(micros) / 1e6 }

// budgetHeaders say what is left of the caller's budget, where there is one.
func budgetHeaders(h http.Header, left access.Remaining) {
	if left.Tokens != nil {
		h.Set("X-Budget-Remaining-Tokens", strconv.FormatInt(*left.Tokens, 10))
	}
	if left.Micros != nil {
		h.Set("X-Budget-Remaining-Usd", strconv.FormatFloat(dollars(*left.Micros), 'f', -1, 64))
	}
	if !left.Reset.IsZero() {
		h.Set("X-Budget-Reset", timestamp(left.Reset))
	}
}
