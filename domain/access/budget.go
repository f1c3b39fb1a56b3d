package access

import (
	"time"

	"parley/domain/fault"
)

// Budget bounds what one user may use. A bound of 0 is none. Days and months
// are calendar ones, in UTC.
type Budget struct {
	DayTokens, MonthTokens int64
	DayMicros, MonthMicros int64 // millionths of a US dollar
	Replies                int   // made at once
	Streams                int   // open at once on one instance
	FileBytes              int64 // of all files together
}

// Metered reports whether the budget bounds tokens or money.
func (b Budget) Metered() bool {
	return b.DayTokens > 0 || b.MonthTokens > 0 || b.DayMicros > 0 || b.MonthMicros > 0
}

// BoundsCost reports whether the budget bounds money.
func (b Budget) BoundsCost() bool { return b.DayMicros > 0 || b.MonthMicros > 0 }

// Budgets gives each tier its budget; a tier without one is unbounded.
type Budgets map[Tier]Budget

// Hold is the most that a reply can use. It is reserved when the reply is admitted,
// and replaced by what the reply has used when it ends.
type Hold struct {
	Tokens int64
	Micros int64
}

// Spent is what was used in one period, and what is reserved in it.
type Spent struct {
	Tokens, Micros         int64
	HeldTokens, HeldMicros int64
	Replies                int64 // that have ended
}

// Plus returns the sum of s and t.
func (s Spent) Plus(t Spent) Spent {
	return Spent{
		Tokens: s.Tokens + t.Tokens, Micros: s.Micros + t.Micros,
		HeldTokens: s.HeldTokens + t.HeldTokens, HeldMicros: s.HeldMicros + t.HeldMicros,
		Replies: s.Replies + t.Replies,
	}
}

// Usage is a user's account.
type Usage struct {
	Day, Month Spent
	Live       int // replies being made or waiting
}

// Remaining is what is left of the bounds of a budget that are reached first.
type Remaining struct {
	Tokens *int64 // nil: unbounded
	Micros *int64
	Reset  time.Time // of the nearest bounded period; zero when nothing is bounded
}

// Day returns the name of the day of t, a period of usage.
func Day(t time.Time) string { return t.UTC().Format("2006-01-02") }

// Month returns the name of the month of t, a period of usage.
func Month(t time.Time) string { return t.UTC().Format("2006-01") }

// NextDay returns the end of the day of t.
func NextDay(t time.Time) time.Time {
	y, m, d := t.UTC().Date()
	return time.Date(y, m, d+1, 0, 0, 0, 0, time.UTC)
}

// NextMonth returns the end of the month of t.
func NextMonth(t time.Time) time.Time {
	y, m, _ := t.UTC().Date()
	return time.Date(y, m+1, 1, 0, 0, 0, 0, time.UTC)
}

// Admits returns an OverBudget fault if a further hold would exceed a bound. It
// names the bound that is renewed last.
func (b Budget) Admits(u Usage, h Hold, now time.Time) error {
	over := func(name string, reset time.Time) error {
		return fault.New(fault.OverBudget, "Your usage budget does not cover this request").
			After(reset.Sub(now)).
			With("budget", name).
			With("reset", reset.Format("2006-01-02T15:04:05.000Z"))
	}
	switch {
	case exceeds(b.MonthTokens, u.Month.Tokens+u.Month.HeldTokens, h.Tokens):
		return over("tokens_month", NextMonth(now))
	case exceeds(b.MonthMicros, u.Month.Micros+u.Month.HeldMicros, h.Micros):
		return over("cost_month", NextMonth(now))
	case exceeds(b.DayTokens, u.Day.Tokens+u.Day.HeldTokens, h.Tokens):
		return over("tokens_day", NextDay(now))
	case exceeds(b.DayMicros, u.Day.Micros+u.Day.HeldMicros, h.Micros):
		return over("cost_day", NextDay(now))
	case b.Replies > 0 && u.Live >= b.Replies:
		return fault.New(fault.OverBudget, "Too many replies at once; wait for one of them to end").
			After(time.Second).With("budget", "replies").With("reset", now.Add(time.Second).UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	return nil
}

// exceeds reports whether more does not fit. A bound that is reached refuses a hold
// of 0 too.
func exceeds(bound, spent, more int64) bool {
	return bound > 0 && (spent+more > bound || spent >= bound)
}

// Remaining returns what is left of the budget after u.
func (b Budget) Remaining(u Usage, now time.Time) Remaining {
	var r Remaining
	less := func(to **int64, bound int64, spent int64, reset time.Time) {
		if bound <= 0 {
			return
		}
		left := max(bound-spent, 0)
		if *to == nil || left < **to {
			*to = &left
		}
		if r.Reset.IsZero() || reset.Before(r.Reset) {
			r.Reset = reset
		}
	}
	less(&r.Tokens, b.DayTokens, u.Day.Tokens+u.Day.HeldTokens, NextDay(now))
	less(&r.Tokens, b.MonthTokens, u.Month.Tokens+u.Month.HeldTokens, NextMonth(now))
	less(&r.Micros, b.DayMicros, u.Day.Micros+u.Day.HeldMicros, NextDay(now))
	less(&r.Micros, b.MonthMicros, u.Month.Micros+u.Month.HeldMicros, NextMonth(now))
	return r
}

// Add returns the usage with one more hold and one more live reply.
func (u Usage) Add(h Hold) Usage {
	for _, s := range []*Spent{&u.Day, &u.Month} {
		s.HeldTokens += h.Tokens
		s.HeldMicros += h.Micros
	}
	u.Live++
	return u
}
