package sqlstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/adapters/sqlstore"
	"parley/domain/access"
	"parley/domain/chat"
)

// TestErase_KeepsUsage: what an erased user has used in the current day and
// month counts for the user's id afterwards. A reply that was still running
// counts with its hold, one that waited with nothing.
func TestErase_KeepsUsage(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, store *sqlstore.Store) {
		store.SetUserHash(func(user string) string { return "hash of " + user })
		now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
		sent := 0
		usage := func(at time.Time) access.Usage {
			t.Helper()
			u, err := store.Usage(t.Context(), "ann", at)
			if err != nil {
				t.Fatal(err)
			}
			return u
		}
		send := func(owner string, hold int64, at time.Time) chat.Run {
			t.Helper()
			a := sending("ann", "hi")
			sent++
			a.Run.ID, a.Message.ID, a.Run.AuditID, a.Audit.ID = fmt.Sprint("r", sent), fmt.Sprint("m", sent), fmt.Sprint("a", sent), fmt.Sprint("a", sent)
			a.Run.IdempotencyKey = ""
			a.Now, a.Run.Hold, a.Owner, a.MaxQueue = at, access.Hold{Tokens: hold, Micros: 2 * hold}, owner, 10
			out, err := store.Admit(t.Context(), a, chat.Admit)
			if err != nil {
				t.Fatal(err)
			}
			return out.Run
		}
		finish := func(run chat.Run, tokens int64, at time.Time) {
			t.Helper()
			cost := 2 * tokens
			err := end(t.Context(), store, chat.Outcome{UserID: "ann", RunID: run.ID, Attempt: run.Attempt, State: chat.Completed,
				Output: chat.TextOutput("yes"), Usage: chat.Usage{Output: tokens}, CostMicros: &cost, At: at})
			if err != nil {
				t.Fatal(err)
			}
		}
		erase := func(at time.Time) {
			t.Helper()
			e := erasure("ann")
			e.At = at
			if _, err := store.StopRuns(t.Context(), "ann", at); err != nil {
				t.Fatal(err)
			}
			if known, err := store.DeclareErasure(t.Context(), e, appended); err != nil || !known {
				t.Fatalf("declare: %v, %v", known, err)
			}
			for more := true; more; {
				var err error
				if more, err = store.EraseSome(t.Context(), e, 100); err != nil {
					t.Fatal(err)
				}
			}
		}
		finish(send("here", 50, now.Add(-48*time.Hour)), 5, now.Add(-48*time.Hour)) // this month, not today
		finish(send("here", 50, now), 30, now)
		send("here", 100, now) // runs on
		send("", 1000, now)    // waits
		erase(now)
		want := access.Usage{
			Day:   access.Spent{Tokens: 130, Micros: 260, Replies: 2},
			Month: access.Spent{Tokens: 135, Micros: 270, Replies: 3},
		}
		if diff := cmp.Diff(want, usage(now)); diff != "" {
			t.Errorf("after the erasure (-want +got):\n%s", diff)
		}
		finish(send("here", 50, now), 1, now)
		erase(now.Add(time.Minute))
		want.Day, want.Month = want.Day.Plus(access.Spent{Tokens: 1, Micros: 2, Replies: 1}), want.Month.Plus(access.Spent{Tokens: 1, Micros: 2, Replies: 1})
		if diff := cmp.Diff(want, usage(now)); diff != "" {
			t.Errorf("after the second erasure (-want +got):\n%s", diff)
		}
		a := sending("ann", "hi")
		a.Now, a.Run.Hold, a.Budget = now, access.Hold{Tokens: 10}, access.Budget{DayTokens: 140}
		if _, err := store.Admit(t.Context(), a, chat.Admit); err == nil {
			t.Error("admitted beyond the budget")
		}
		// The next day, and the next month, begin anew.
		if diff := cmp.Diff(access.Usage{Month: want.Month}, usage(access.NextDay(now))); diff != "" {
			t.Errorf("the next day (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(access.Usage{}, usage(access.NextMonth(now))); diff != "" {
			t.Errorf("the next month (-want +got):\n%s", diff)
		}
		for _, step := range []struct {
			at   time.Time
			want int
		}{{now, 0}, {access.NextDay(now), 1}, {access.NextMonth(now), 1}, {now.Add(access.LongestSession + time.Hour), 1}} {
			if n, err := store.ExpireErased(t.Context(), step.at); err != nil || n != step.want {
				t.Errorf("%d rows expired by %v, %v; want %d", n, step.at, err, step.want)
			}
		}
	})
}
