package portstest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
)

func finishTests(b *storeBench) {
	b.run("Completed", func(b *storeBench) {
		conv := b.conversation()
		out := b.admit(b.sending(conv, "why"))
		cost := int64(1234)
		o := b.outcome(out.Run, chat.Completed, "because")
		o.Output = reasoned("let me think", "because")
		o.FinishReason, o.CostMicros = "stop", &cost
		o.Usage = chat.Usage{Input: 1, Output: 2, CacheRead: 3, CacheWrite: 4, Reasoning: 5, Estimated: true}
		o.Metadata = map[string]any{"demo": true}
		if _, err := b.Runs.Finish(b.ctx(), o, chat.Finish); err != nil {
			b.Fatal(err)
		}
		run := b.stored(out.Run.ID)
		want := out.Run
		want.State, want.Output, want.Owner, want.LeaseUntil = chat.Completed, o.Output, "", time.Time{}
		want.Provider, want.Model, want.FinishReason, want.Usage, want.CostMicros = o.Provider, o.Model, o.FinishReason, o.Usage, o.CostMicros
		want.Metadata, want.EndedAt = o.Metadata, o.At
		b.want("run", run, want)

		list := b.all(conv)
		b.want("reply", list[1], chat.Message{
			ID: run.ID, UserID: b.user, ConversationID: conv, ParentID: out.UserMessage.ID, Role: chat.Assistant,
			Content: "because", Parts: o.Output.Parts(), Metadata: b.metadata(o.Metadata), CreatedAt: o.At, Siblings: []string{run.ID},
		})
		c, _ := b.History.Conversation(b.ctx(), b.user, conv)
		b.want("conversation", []any{c.LeafID, c.LastMessageAt, c.UpdatedAt}, []any{run.ID, o.At, o.At})
		e := b.audited(run.AuditID)
		b.want("audit", []any{e.Status, e.Error, e.CreatedAt, e.UpdatedAt}, []any{audit.Success, "", out.Run.CreatedAt, o.At})
	})

	for _, c := range []struct {
		state  chat.State
		text   string
		status audit.Status
		code   string
	}{
		{chat.Stopped, "half", audit.Success, ""},
		{chat.Stopped, "", audit.Success, ""},
		{chat.Failed, "half", audit.Failure, "PROVIDER_FAILED"},
		{chat.Failed, "", audit.Failure, "PROVIDER_FAILED"},
		{chat.Interrupted, "half", audit.Failure, "interrupted"},
	} {
		b.run(fmt.Sprintf("%s%q", c.state, c.text), func(b *storeBench) {
			conv := b.conversation()
			out := b.admit(b.sending(conv, "why"))
			b.finish(out.Run, c.state, c.text)
			run := b.stored(out.Run.ID)
			b.want("run", []any{run.State, run.Output.Text(), run.Owner}, []any{c.state, c.text, ""})
			want, leaf := "why", out.UserMessage.ID
			if c.text != "" {
				want, leaf = "why | "+c.text, run.ID
			}
			b.want("messages", contents(b.all(conv)), want)
			kept, _ := b.History.Conversation(b.ctx(), b.user, conv)
			b.want("leaf", kept.LeafID, leaf)
			e := b.audited(run.AuditID)
			b.want("audit", []any{e.Status, e.Error}, []any{c.status, c.code})
		})
	}

	b.run("Once", func(b *storeBench) {
		out := b.admit(b.sending(b.conversation(), "why"))
		b.finish(out.Run, chat.Completed, "because")
		before := b.stored(out.Run.ID)
		for _, state := range []chat.State{chat.Completed, chat.Failed, chat.Interrupted} {
			b.wantKind("again", b.end(b.outcome(out.Run, state, "other")), fault.Fenced)
		}
		b.want("unchanged", b.stored(out.Run.ID), before)
	})

	b.run("Racing", func(b *storeBench) {
		out := b.admit(b.sending(b.conversation(), "why"))
		outcomes := make([]chat.Outcome, 8)
		for i := range outcomes {
			outcomes[i] = b.outcome(out.Run, chat.Completed, fmt.Sprint(i))
		}
		errs := make([]error, len(outcomes))
		var wg sync.WaitGroup
		for i, o := range outcomes {
			wg.Go(func() { _, errs[i] = b.Runs.Finish(b.ctx(), o, chat.Finish) })
		}
		wg.Wait()
		won := -1
		for i, err := range errs {
			switch {
			case err == nil && won >= 0:
				b.Errorf("%d and %d both ended the run", won, i)
			case err == nil:
				won = i
			case !fault.Is(err, fault.Fenced):
				b.Errorf("got %v, want %s", err, fault.Fenced)
			}
		}
		b.want("text", b.stored(out.Run.ID).Output.Text(), fmt.Sprint(won))
	})

	b.run("Unknown", func(b *storeBench) {
		b.wantKind("finish", b.end(b.outcome(chat.Run{ID: "nothing", Attempt: 1}, chat.Completed, "x")), fault.Fenced)
	})

	b.run("AfterItsConversationIsGone", func(b *storeBench) {
		conv := b.conversation()
		out := b.admit(b.sending(conv, "why"))
		if err := b.History.DeleteConversation(b.ctx(), b.user, conv, b.entry(audit.ActionConversationDeleted)); err != nil {
			b.Fatal(err)
		}
		b.wantKind("finish", b.end(b.outcome(out.Run, chat.Completed, "because")), fault.Fenced)
		fenced, err := b.Runs.Checkpoint(b.ctx(), "here", []chat.Checkpoint{{UserID: b.user, RunID: out.Run.ID, Attempt: 1}})
		if err != nil {
			b.Fatal(err)
		}
		b.want("checkpoint", fenced, []string{out.Run.ID})
		_, _, err = b.Runs.Resume(b.ctx(), out.Run, 10)
		b.wantKind("resume", err, fault.NotFound)
		b.want("its audit is complete", b.audited(out.Run.AuditID).Status, audit.Success)
	})

	b.run("Checkpoint", func(b *storeBench) {
		var points []chat.Checkpoint
		for i := range 5 {
			out := b.admit(b.sending("", fmt.Sprint(i)))
			points = append(points, chat.Checkpoint{UserID: b.user, RunID: out.Run.ID, Attempt: 1, New: reasoned("r", fmt.Sprint("t", i))})
		}
		b.finish(b.stored(points[0].RunID), chat.Completed, "whole")
		points[1].Attempt = 0
		points[2].UserID = newID("user")
		fenced, err := b.Runs.Checkpoint(b.ctx(), "here", points)
		if err != nil {
			b.Fatal(err)
		}
		b.want("fenced", fenced, []string{points[0].RunID, points[1].RunID, points[2].RunID})
		b.want("ended", b.stored(points[0].RunID).Output.Text(), "whole")
		b.want("older attempt", b.stored(points[1].RunID).Output, chat.Output(""))
		b.want("recorded", b.stored(points[3].RunID).Output, points[3].New)
		b.want("recorded too", b.stored(points[4].RunID).Output, points[4].New)
		fenced, err = b.Runs.Checkpoint(b.ctx(), "elsewhere", points[3:])
		if err != nil {
			b.Fatal(err)
		}
		b.want("of another owner", len(fenced), 2)
		if fenced, err := b.Runs.Checkpoint(b.ctx(), "here", nil); err != nil || len(fenced) > 0 {
			b.Errorf("nothing: %v, %v", fenced, err)
		}
	})
}

func stopTests(b *storeBench) {
	stop := func(b *storeBench, id string) (chat.Run, audit.Entry) {
		e := b.entry(audit.ActionReplyStopped)
		e.Resource, e.ResourceID = audit.ResourceMessage, id
		run, err := b.Runs.RequestStop(b.ctx(), b.user, id, e)
		if err != nil {
			b.Fatalf("stop: %v", err)
		}
		return run, e
	}
	b.run("Running", func(b *storeBench) {
		out := b.admit(b.sending(b.conversation(), "why"))
		run, first := stop(b, out.Run.ID)
		b.want("asked", []any{run.State, run.StopRequested}, []any{chat.Running, true})
		run, second := stop(b, out.Run.ID)
		b.want("asked again", []any{run.State, run.StopRequested}, []any{chat.Running, true})
		b.want("audit", b.audited(first.ID).Action, audit.ActionReplyStopped)
		for _, e := range b.Entries(b.T, b.user) {
			if e.ID == second.ID {
				b.Error("the second request was recorded as well")
			}
		}
		held, err := b.Runs.Heartbeat(b.ctx(), "here", nil, time.Minute)
		if err != nil {
			b.Fatal(err)
		}
		seen := false
		for _, r := range held {
			if r.ID == run.ID {
				seen = r.StopRequested && r.UserID == b.user && r.Attempt == 1
			}
		}
		if !seen {
			b.Error("the owner does not learn of it")
		}
		b.finish(out.Run, chat.Stopped, "half")
		run, _ = stop(b, out.Run.ID)
		b.want("ended", []any{run.State, run.Output.Text()}, []any{chat.Stopped, "half"})
	})

	b.run("Queued", func(b *storeBench) {
		conv := b.conversation()
		a := b.sending(conv, "why")
		a.Owner = ""
		out := b.admit(a)
		run, e := stop(b, out.Run.ID)
		b.want("ended at once", []any{run.State, run.EndedAt.IsZero()}, []any{chat.Stopped, false})
		b.want("its audit", b.audited(out.Run.AuditID).Status, audit.Success)
		b.want("the stop's audit", b.audited(e.ID).Status, audit.Success)
		b.admit(b.sending(conv, "free again"))
	})

	b.run("Conversation", func(b *storeBench) {
		conv := b.conversation()
		live := b.admit(b.sending(conv, "one"))
		waits := b.admit(with(b.sending(conv, "two"), func(a *chat.AdmitRequest) { a.WhenBusy = chat.Queue }))
		other := b.admit(b.sending(b.conversation(), "elsewhere"))
		for range 2 {
			running, err := b.History.StopConversation(b.ctx(), b.user, conv, b.tick())
			if err != nil {
				b.Fatal(err)
			}
			b.want("running", running, 1)
		}
		b.want("asked", []bool{b.stored(live.Run.ID).StopRequested, b.stored(other.Run.ID).StopRequested}, []bool{true, false})
		b.want("ended", b.stored(waits.Run.ID).State, chat.Stopped)
		b.finish(live.Run, chat.Stopped, "half")
		for _, id := range []string{conv, "nowhere"} {
			running, err := b.History.StopConversation(b.ctx(), b.user, id, b.tick())
			if err != nil || running != 0 {
				b.Errorf("%d running, %v", running, err)
			}
		}
	})

	b.run("Ended", func(b *storeBench) {
		_, run := b.say(b.conversation(), "why")
		before := len(b.Entries(b.T, b.user))
		got, _ := stop(b, run.ID)
		b.want("as it was", got.State, chat.Completed)
		b.want("not recorded", len(b.Entries(b.T, b.user)), before)
	})

	b.run("Unknown", func(b *storeBench) {
		_, err := b.Runs.RequestStop(b.ctx(), b.user, "nothing", b.entry(audit.ActionReplyStopped))
		b.wantKind("stop", err, fault.NotFound)
		b.want("not recorded", len(b.Entries(b.T, b.user)), 0)
	})
}

func recentTests(b *storeBench) {
	_, old := b.say("", "old")
	since := b.tick()
	_, ended := b.say("", "ended")
	live := b.admit(b.sending("", "live"))
	a := b.sending("", "waits")
	a.Owner = ""
	waits := b.admit(a)
	if _, err := b.Runs.Checkpoint(b.ctx(), "here", []chat.Checkpoint{{UserID: b.user, RunID: live.Run.ID, Attempt: 1, New: chat.TextOutput("some")}}); err != nil {
		b.Fatal(err)
	}
	list, err := b.Runs.Recent(b.ctx(), b.user, since)
	if err != nil {
		b.Fatal(err)
	}
	b.want("recent", runIDs(list), []string{waits.Run.ID, live.Run.ID, ended.ID})
	for _, run := range list {
		b.want("output of "+run.ID, run.Output, chat.Output(""))
	}
	list, err = b.Runs.Recent(b.ctx(), b.user, time.Time{})
	if err != nil {
		b.Fatal(err)
	}
	b.want("all", runIDs(list), []string{waits.Run.ID, live.Run.ID, ended.ID, old.ID})
}

func leaseTests(b *storeBench) {
	short := func(b *storeBench) chat.AdmitRequest {
		a := b.sending(b.conversation(), "why")
		a.Lease = 20 * time.Millisecond
		return a
	}
	claim := func(b *storeBench, owner string) []chat.Run {
		b.Helper()
		got, err := b.Runs.Claim(b.ctx(), owner, time.Minute, 10)
		if err != nil {
			b.Fatalf("claim: %v", err)
		}
		return got
	}

	b.run("Expired", func(b *storeBench) {
		out := b.admit(short(b))
		if _, err := b.Runs.Checkpoint(b.ctx(), "here", []chat.Checkpoint{{UserID: b.user, RunID: out.Run.ID, Attempt: 1, New: reasoned("hm", "so f")}}); err != nil {
			b.Fatal(err)
		}
		var got []chat.Run
		for len(got) == 0 {
			got = claim(b, "there")
		}
		run := got[0]
		b.want("claimed", []any{len(got), run.ID, run.State, run.Attempt, run.Owner, run.Output, run.StartedAt},
			[]any{1, out.Run.ID, chat.Running, 2, "there", reasoned("hm", "so f"), out.Run.StartedAt})
		if !run.LeaseUntil.After(time.Now()) {
			b.Errorf("lease until %v", run.LeaseUntil)
		}

		// The owner that was away finds every door shut.
		fenced, err := b.Runs.Checkpoint(b.ctx(), "here", []chat.Checkpoint{{UserID: b.user, RunID: run.ID, Attempt: 1, New: chat.TextOutput("late")}})
		if err != nil {
			b.Fatal(err)
		}
		b.want("fenced", fenced, []string{run.ID})
		b.wantKind("finish", b.end(b.outcome(out.Run, chat.Completed, "late")), fault.Fenced)
		held, err := b.Runs.Heartbeat(b.ctx(), "here", nil, time.Minute)
		if err != nil {
			b.Fatal(err)
		}
		b.want("held by the old owner", len(held), 0)
		b.want("unchanged", b.stored(run.ID).Output.Text(), "so f")
		b.finish(run, chat.Interrupted, "so f")
	})

	b.run("Heartbeat", func(b *storeBench) {
		a := b.sending(b.conversation(), "why")
		a.Lease = 300 * time.Millisecond
		out := b.admit(a)
		for until := time.Now().Add(600 * time.Millisecond); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
			held, err := b.Runs.Heartbeat(b.ctx(), "here", []string{out.Run.ID, "another"}, time.Minute)
			if err != nil {
				b.Fatal(err)
			}
			b.want("held", runIDs(held), []string{out.Run.ID})
			if got := claim(b, "there"); len(got) > 0 {
				b.Fatalf("a live run was claimed: %v", runIDs(got))
			}
		}
		if until := time.Until(b.stored(out.Run.ID).LeaseUntil); until < 30*time.Second {
			b.Errorf("the lease ends in %v", until)
		}
		b.finish(out.Run, chat.Completed, "so")
		held, err := b.Runs.Heartbeat(b.ctx(), "here", nil, time.Minute)
		if err != nil {
			b.Fatal(err)
		}
		b.want("nothing left", len(held), 0)
	})

	b.run("HeldByWhoDoesNotKnow", func(b *storeBench) {
		out := b.admit(short(b))
		other := b.admit(b.sending(b.conversation(), "of the same owner"))
		run, until := b.stored(out.Run.ID), time.Now().Add(time.Minute)
		for ; run.Attempt == 1 && time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
			held, err := b.Runs.Heartbeat(b.ctx(), "here", []string{other.Run.ID}, time.Minute)
			if err != nil || !slices.Contains(runIDs(held), other.Run.ID) {
				b.Fatal(runIDs(held), err)
			}
			claim(b, "there")
			run = b.stored(out.Run.ID)
		}
		b.want("taken over", []any{run.Owner, run.Attempt}, []any{"there", 2})
		b.finish(run, chat.Completed, "so")
		b.finish(other.Run, chat.Completed, "so")
	})

	b.run("Release", func(b *storeBench) {
		a := b.sending(b.conversation(), "why")
		out := b.admit(a)
		if err := b.Runs.Release(b.ctx(), "there", []string{out.Run.ID}); err != nil {
			b.Fatal(err)
		}
		b.want("another's lease stays", b.stored(out.Run.ID).Owner, "here")
		if err := b.Runs.Release(b.ctx(), "here", []string{out.Run.ID, "nothing"}); err != nil {
			b.Fatal(err)
		}
		if err := b.Runs.Release(b.ctx(), "here", nil); err != nil {
			b.Fatal(err)
		}
		fenced, err := b.Runs.Checkpoint(b.ctx(), "here", []chat.Checkpoint{{UserID: b.user, RunID: out.Run.ID, Attempt: 1, New: chat.TextOutput("late")}})
		if err != nil {
			b.Fatal(err)
		}
		b.want("fenced", fenced, []string{out.Run.ID})
		got := claim(b, "there")
		b.want("claimed at once", runIDs(got), []string{out.Run.ID})
		b.want("attempt", got[0].Attempt, 2)
		b.finish(got[0], chat.Completed, "so")
	})

	b.run("StopSurvivesTheOwner", func(b *storeBench) {
		out := b.admit(b.sending(b.conversation(), "why"))
		if _, err := b.Runs.RequestStop(b.ctx(), b.user, out.Run.ID, b.entry(audit.ActionReplyStopped)); err != nil {
			b.Fatal(err)
		}
		if err := b.Runs.Release(b.ctx(), "here", []string{out.Run.ID}); err != nil {
			b.Fatal(err)
		}
		got := claim(b, "there")
		b.want("fate", got[0].Fate(3), chat.Halt)
		b.finish(got[0], chat.Stopped, "")
	})
}

func claimTests(b *storeBench) {
	b.run("OrderAndConversations", func(b *storeBench) {
		one, two := b.conversation(), b.conversation()
		var want []string
		queue := func(conv, text string) chat.Run {
			a := b.sending(conv, text)
			a.Owner, a.WhenBusy = "", chat.Queue
			return b.admit(a).Run
		}
		live := b.admit(b.sending(two, "live")).Run
		a1 := queue(one, "a1")
		d1 := queue("", "d1")
		a2 := queue(one, "a2")
		b1 := queue(two, "b1")
		d2 := queue("", "d2")
		want = append(want, a1.ID, d1.ID, d2.ID) // a2 waits for a1, b1 for the live one

		got, err := b.Runs.Claim(b.ctx(), "there", time.Minute, 2)
		if err != nil {
			b.Fatal(err)
		}
		b.want("at most two, oldest first", runIDs(got), want[:2])
		b.want("first attempt", []any{got[0].Attempt, got[0].StartedAt.IsZero(), got[0].State}, []any{1, false, chat.Running})
		got, err = b.Runs.Claim(b.ctx(), "there", time.Minute, 10)
		if err != nil {
			b.Fatal(err)
		}
		b.want("then the rest", runIDs(got), want[2:])

		b.finish(live, chat.Completed, "live")
		b.finish(b.stored(a1.ID), chat.Failed, "")
		got, err = b.Runs.Claim(b.ctx(), "there", time.Minute, 10)
		if err != nil {
			b.Fatal(err)
		}
		b.want("the next of each", runIDs(got), []string{a2.ID, b1.ID})
		if got, err = b.Runs.Claim(b.ctx(), "there", time.Minute, 0); err != nil || len(got) > 0 {
			b.Errorf("none asked for: %v, %v", got, err)
		}
	})

	b.run("TwoClaimers", func(b *storeBench) {
		const n = 40
		for i := range n {
			a := b.sending("", fmt.Sprint(i))
			a.Owner = ""
			b.admit(a)
		}
		var (
			wg     sync.WaitGroup
			mu     sync.Mutex
			owners = map[string][]string{}
		)
		for i := range 4 {
			owner := fmt.Sprint("instance-", i)
			wg.Go(func() {
				for {
					got, err := b.Runs.Claim(b.ctx(), owner, time.Minute, 3)
					if err != nil {
						b.Errorf("claim: %v", err)
						return
					}
					if len(got) == 0 {
						return
					}
					mu.Lock()
					for _, run := range got {
						if run.UserID == b.user {
							owners[run.ID] = append(owners[run.ID], owner)
						}
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		// A claimer may leave while another holds the last rows, but none is lost.
		rest, err := b.Runs.Claim(b.ctx(), "rest", time.Minute, n)
		if err != nil {
			b.Fatal(err)
		}
		for _, run := range rest {
			owners[run.ID] = append(owners[run.ID], "rest")
		}
		b.want("claimed", len(owners), n)
		for id, by := range owners {
			if len(by) != 1 {
				b.Errorf("%s was claimed by %v", id, by)
			}
			if run := b.stored(id); run.Owner != by[0] || run.Attempt != 1 {
				b.Errorf("%s is owned by %s, attempt %d; claimed by %s", id, run.Owner, run.Attempt, by[0])
			}
		}
	})

	b.run("AgainstAdmissions", func(b *storeBench) {
		var wg sync.WaitGroup
		stop := make(chan struct{})
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				got, err := b.Runs.Claim(b.ctx(), "there", time.Minute, 3)
				if err != nil {
					b.Errorf("claim: %v", err)
					return
				}
				for _, run := range got {
					if _, err := b.Runs.Finish(b.ctx(), chat.Outcome{UserID: run.UserID, RunID: run.ID, Attempt: run.Attempt, State: chat.Completed, Output: chat.TextOutput("x"), At: time.Now()}, chat.Finish); err != nil {
						b.Errorf("finish: %v", err)
					}
				}
			}
		})
		conv := b.conversation()
		for i := range 40 {
			a := b.sending(conv, fmt.Sprint(i))
			a.WhenBusy = []chat.WhenBusy{chat.Queue, chat.Supersede}[i%2]
			if i%3 == 0 {
				a.Owner = ""
			}
			out, err := b.Runs.Admit(b.ctx(), a, chat.Admit)
			if err != nil {
				b.Errorf("admit: %v", err)
				continue
			}
			if out.Run.State == chat.Running {
				b.finish(out.Run, chat.Completed, "here")
			}
		}
		close(stop)
		wg.Wait()
		for {
			got, err := b.Runs.Claim(b.ctx(), "rest", time.Minute, 10)
			if err != nil {
				b.Fatal(err)
			}
			if len(got) == 0 {
				break
			}
			for _, run := range got {
				b.finish(run, chat.Completed, "x")
			}
		}
		asked := 0
		for _, m := range b.current(conv) {
			if m.Role == chat.User {
				asked++
			}
		}
		b.want("questions on the branch", asked, 40)
		list, err := b.Runs.Recent(b.ctx(), b.user, time.Time{})
		if err != nil {
			b.Fatal(err)
		}
		for _, run := range list {
			if !run.State.Terminal() {
				b.Errorf("%s is %s", run.ID, run.State)
			}
		}
	})
}

func queueTests(b *storeBench) {
	background := func(b *storeBench) chat.AdmitRequest {
		a := b.sending("", "later")
		a.Owner, a.MaxQueue = "", 3
		return a
	}
	var waiting []chat.Run
	for range 3 {
		other := newStoreBench(b.T, b.StoreBundle) // over all users
		waiting = append(waiting, other.admit(background(other)).Run)
	}
	f := b.refused(background(b), fault.QueueFull)
	if f.RetryAfter != 5*time.Second {
		b.Errorf("retry after %v", f.RetryAfter)
	}
	b.want("nothing stored", len(b.all("")), 0)

	conv := b.conversation()
	b.admit(with(b.sending(conv, "now"), func(a *chat.AdmitRequest) { a.MaxQueue = 3 }))
	b.refused(with(b.sending(conv, "then"), func(a *chat.AdmitRequest) { a.MaxQueue, a.WhenBusy = 3, chat.Queue }), fault.QueueFull)

	got, err := b.Runs.Claim(b.ctx(), "there", time.Minute, 1)
	if err != nil {
		b.Fatal(err)
	}
	b.want("oldest", runIDs(got), runIDs(waiting[:1]))
	b.admit(background(b))
}
