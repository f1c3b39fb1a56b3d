package boot

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"syscall"

	"parley/app/gate"
	"parley/domain/access"
	"parley/platform/config"
)

// tierWire is one tier of TIERS_FILE. Members that are left out keep the value of
// the environment; 0 removes a limit.
type tierWire struct {
	RequestsPerMinute *int     `json:"requestsPerMinute"`
	TokensPerDay      *int64   `json:"tokensPerDay"`
	TokensPerMonth    *int64   `json:"tokensPerMonth"`
	USDPerDay         *float64 `json:"usdPerDay"`
	USDPerMonth       *float64 `json:"usdPerMonth"`
	ConcurrentReplies *int     `json:"concurrentReplies"`
	OpenStreams       *int     `json:"openStreams"`
	FileBytes         *int64   `json:"fileBytes"`
}

// tiers returns each tier's limit and budget: those of TIERS_FILE, else those of
// the environment.
func tiers(c config.Config) (access.Limits, access.Budgets, error) {
	limits, budgets := limits(c), access.Budgets{}
	for _, t := range access.Tiers {
		budgets[t] = access.Budget{
			DayTokens: c.Limits.BudgetTokensDay, MonthTokens: c.Limits.BudgetTokensMonth,
			DayMicros: micros(c.Limits.BudgetUSDDay), MonthMicros: micros(c.Limits.BudgetUSDMonth),
			Replies: c.Limits.MaxConcurrentReplies, Streams: c.Limits.MaxStreams,
			FileBytes: c.Limits.FileQuotaBytes,
		}
	}
	if c.Limits.TiersFile == "" {
		return limits, budgets, nil
	}
	text, err := os.ReadFile(c.Limits.TiersFile)
	if err != nil {
		return nil, nil, usageError{fmt.Errorf("TIERS_FILE: %w", err)}
	}
	var given map[access.Tier]tierWire
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&given); err != nil {
		return nil, nil, usageError{fmt.Errorf("TIERS_FILE: %w", err)}
	}
	for name, w := range given {
		t, ok := access.ParseTier(string(name))
		if !ok {
			return nil, nil, usageError{fmt.Errorf("TIERS_FILE: unknown tier %q", name)}
		}
		b := budgets[t]
		if w.RequestsPerMinute != nil {
			limits[t] = *w.RequestsPerMinute
		}
		set(&b.DayTokens, w.TokensPerDay)
		set(&b.MonthTokens, w.TokensPerMonth)
		set(&b.Replies, w.ConcurrentReplies)
		set(&b.Streams, w.OpenStreams)
		set(&b.FileBytes, w.FileBytes)
		if w.USDPerDay != nil {
			b.DayMicros = micros(*w.USDPerDay)
		}
		if w.USDPerMonth != nil {
			b.MonthMicros = micros(*w.USDPerMonth)
		}
		if limits[t] < 1 || b.DayTokens < 0 || b.MonthTokens < 0 || b.DayMicros < 0 || b.MonthMicros < 0 || b.Replies < 0 || b.Streams < 0 || b.FileBytes < 0 {
			return nil, nil, usageError{fmt.Errorf("TIERS_FILE: tier %q needs at least one request a minute, and no limit below 0", name)}
		}
		budgets[t] = b
	}
	return limits, budgets, nil
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func micros(usd float64) int64 { return int64(math.Round(usd * 1e6)) }

// followTiers reads TIERS_FILE again at every SIGHUP until ctx is done. If it
// cannot be read, limits and budgets stay as they are.
func followTiers(ctx context.Context, c config.Config, g *gate.Gate, log *slog.Logger) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		limits, budgets, err := tiers(c)
		if err != nil {
			log.Error("tiers stay as they are", "error", err)
			continue
		}
		g.SetLimits(limits)
		g.SetBudgets(budgets)
		log.Info("tiers read again")
	}
}
