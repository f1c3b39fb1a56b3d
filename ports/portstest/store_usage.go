package portstest

import (
	"strings"
	"sync"
	"sync/atomic"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
)

// account reads what the bench's user has used.
func (b *storeBench) account() access.Usage {
	b.Helper()
	u, err := b.Accounts.Usage(b.ctx(), b.user, b.now)
	if err != nil {
		b.Fatalf("usage: %v", err)
	}
	return u
}

// holding is an admission to the default thread that sets tokens aside.
func (b *storeBench) holding(tokens int64, budget access.Budget) chat.AdmitRequest {
	a := b.sending("", "hello")
	a.Run.Hold, a.Budget = access.Hold{Tokens: tokens, Micros: 10 * tokens}, budget
	return a
}

func usageTests(b *storeBench) {
	b.run("HeldThenSettled", func(b *storeBench) {
		out := b.admit(b.holding(100, access.Budget{MonthTokens: 1000, DayMicros: 5000}))
		b.want("held", b.account(), access.Usage{
			Day: access.Spent{HeldTokens: 100, HeldMicros: 1000}, Month: access.Spent{HeldTokens: 100, HeldMicros: 1000}, Live: 1,
		})
		tokens, micros := int64(900), int64(4000)
		b.want("left", out.Remaining, access.Remaining{Tokens: &tokens, Micros: &micros, Reset: access.NextDay(b.now)})
		cost := int64(77)
		o := b.outcome(out.Run, chat.Completed, "hi")
		o.Usage, o.CostMicros = chat.Usage{Input: 30, Output: 12, Reasoning: 5, CacheRead: 3}, &cost
		if _, err := b.Runs.Finish(b.ctx(), o, chat.Finish); err != nil {
			b.Fatal(err)
		}
		spent := access.Spent{Tokens: 42, Micros: 77, Replies: 1}
		b.want("settled", b.account(), access.Usage{Day: spent, Month: spent})
		b.wantKind("a second end", b.end(o), fault.Fenced)
		b.want("settled once", b.account(), access.Usage{Day: spent, Month: spent})
	})

	b.run("ManyFirstRequestsNeverPassTheBudget", func(b *storeBench) {
		const requests, fits = 64, 8
		budget := access.Budget{DayTokens: fits*50 + 49}
		var admitted, refused atomic.Int64
		var wg sync.WaitGroup
		for range requests {
			a := b.holding(50, budget)
			wg.Go(func() {
				switch _, err := b.Runs.Admit(b.ctx(), a, chat.Admit); {
				case err == nil:
					admitted.Add(1)
				case fault.Is(err, fault.OverBudget):
					refused.Add(1)
				default:
					b.Errorf("admit: %v", err)
				}
			})
		}
		wg.Wait()
		b.want("admitted, refused", []int64{admitted.Load(), refused.Load()}, []int64{fits, requests - fits})
		b.want("held", b.account().Day.HeldTokens, int64(fits*50))
	})

	b.run("ManyFirstRequestsNeverPassTheReplies", func(b *storeBench) {
		const requests, fits = 64, 8
		var admitted, refused atomic.Int64
		var wg sync.WaitGroup
		for i := range requests {
			a := b.holding(50, access.Budget{Replies: fits})
			if i%2 > 0 { // waiting ones count like those being made
				a.Owner, a.Run.Background = "", true
			}
			wg.Go(func() {
				switch _, err := b.Runs.Admit(b.ctx(), a, chat.Admit); {
				case err == nil:
					admitted.Add(1)
				case fault.Is(err, fault.OverBudget):
					refused.Add(1)
				default:
					b.Errorf("admit: %v", err)
				}
			})
		}
		wg.Wait()
		b.want("admitted, refused", []int64{admitted.Load(), refused.Load()}, []int64{fits, requests - fits})
		b.want("live", b.account().Live, fits)
	})

	b.run("ARefusalLeavesNothing", func(b *storeBench) {
		b.refused(b.holding(100, access.Budget{DayTokens: 99}), fault.OverBudget)
		b.want("messages", len(b.all("")), 0)
		b.want("account", b.account(), access.Usage{})
	})

	b.run("StoppedInTheQueue", func(b *storeBench) {
		a := b.holding(100, access.Budget{})
		a.Owner, a.Run.Background = "", true
		out := b.admit(a)
		if _, err := b.Runs.RequestStop(b.ctx(), b.user, out.Run.ID, b.entry(audit.ActionReplyStopped)); err != nil {
			b.Fatal(err)
		}
		spent := access.Spent{Replies: 1}
		b.want("account", b.account(), access.Usage{Day: spent, Month: spent})
	})

	b.run("DeletingChatsDoesNotResetIt", func(b *storeBench) {
		conv := b.conversation()
		a := b.sending(conv, "one")
		a.Run.Hold = access.Hold{Tokens: 100}
		out := b.admit(a)
		o := b.outcome(out.Run, chat.Completed, "done")
		o.Usage = chat.Usage{Input: 10, Output: 5}
		if _, err := b.Runs.Finish(b.ctx(), o, chat.Finish); err != nil {
			b.Fatal(err)
		}
		a = b.sending(conv, "two")
		a.Run.Hold = access.Hold{Tokens: 100}
		live := b.admit(a).Run // deleted while it is made: what is recorded counts, and the prompt
		points := []chat.Checkpoint{{UserID: b.user, RunID: live.ID, Attempt: 1, New: reasoned("hm", strings.Repeat("word", 20))}}
		if fenced, err := b.Runs.Checkpoint(b.ctx(), "here", points); err != nil || len(fenced) > 0 {
			b.Fatalf("checkpoint: fenced %v, %v", fenced, err)
		}
		if err := b.History.DeleteConversation(b.ctx(), b.user, conv, b.entry(audit.ActionConversationDeleted)); err != nil {
			b.Fatal(err)
		}
		spent := access.Spent{Tokens: 15 + (len64("one", "done", "two", string(points[0].New))+3)/4, Replies: 2}
		b.want("account", b.account(), access.Usage{Day: spent, Month: spent})
	})
}

func len64(texts ...string) (n int64) {
	for _, text := range texts {
		n += int64(len(text))
	}
	return n
}
