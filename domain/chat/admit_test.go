package chat_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
)

func contents(list []chat.Message) string {
	var parts []string
	for _, m := range list {
		parts = append(parts, m.Content)
	}
	return strings.Join(parts, " | ")
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func with(r chat.AdmitRequest, change func(*chat.AdmitRequest)) chat.AdmitRequest {
	change(&r)
	return r
}

func queued(r chat.AdmitRequest) chat.AdmitRequest {
	r.Owner = ""
	return r
}

func when(r chat.AdmitRequest, busy chat.WhenBusy) chat.AdmitRequest {
	r.WhenBusy = busy
	return r
}

func keyed(r chat.AdmitRequest, key, print string) chat.AdmitRequest {
	r.Run.IdempotencyKey, r.Run.Fingerprint = key, print
	return r
}

// An admission reads what the request says that it needs in one load, and more
// only for what cannot be known before.
func TestAdmit_Loads(t *testing.T) {
	for name, c := range map[string]struct {
		request func(*world, string, chat.Admitted) chat.AdmitRequest
		loads   int
	}{
		"Message":       {func(w *world, conv string, _ chat.Admitted) chat.AdmitRequest { return w.sending(conv, "x") }, 1},
		"DefaultThread": {func(w *world, _ string, _ chat.Admitted) chat.AdmitRequest { return w.sending("", "x") }, 1},
		"Background":    {func(w *world, conv string, _ chat.Admitted) chat.AdmitRequest { return queued(w.sending(conv, "x")) }, 1},
		"RegenerateInConversation": {func(w *world, conv string, last chat.Admitted) chat.AdmitRequest {
			return with(w.again(chat.Regeneration, last.Run.ID), func(r *chat.AdmitRequest) { r.Run.ConversationID = conv })
		}, 1},
		"Regenerate": {func(w *world, _ string, last chat.Admitted) chat.AdmitRequest {
			return w.again(chat.Regeneration, last.Run.ID)
		}, 2},
		"End": {func(w *world, conv string, _ chat.Admitted) chat.AdmitRequest {
			return with(w.again(chat.Regeneration, ""), func(r *chat.AdmitRequest) { r.Run.ConversationID = conv })
		}, 2},
		"Replay": {func(w *world, conv string, _ chat.Admitted) chat.AdmitRequest {
			w.must(keyed(w.sending("", "once"), "k", "f"))
			return keyed(w.sending("", "once"), "k", "f")
		}, 2},
		"OldBranch": {func(w *world, conv string, _ chat.Admitted) chat.AdmitRequest {
			first := w.thread(conv)[1]
			return with(w.sending(conv, "x"), func(r *chat.AdmitRequest) { r.Leaf, r.Context = first.ID, 2 })
		}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			conv := w.conversation()
			w.say(conv, "one")
			last := w.say(conv, "two")
			w.must(c.request(w, conv, last))
			want(t, "loads", w.loads, c.loads)
		})
	}
}

func TestAdmit_Plan(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	r := w.sending(conv, "  Why is the sky\nblue?")
	r.Audit.Metadata = map[string]any{"runId": r.Run.ID}
	plan, err := w.decide(r)
	if err != nil {
		t.Fatal(err)
	}
	message := chat.Message{ID: r.Message.ID, UserID: "ann", ConversationID: conv, Role: chat.User, Content: r.Message.Content, CreatedAt: r.Now}
	want(t, "message", *plan.Message, message)
	run := r.Run
	run.ParentID, run.State, run.Attempt, run.Owner = message.ID, chat.Running, 1, "here"
	run.CreatedAt, run.StartedAt, run.LeaseUntil = r.Now, r.Now, r.Now.Add(time.Minute)
	want(t, "run", plan.Run, run)
	want(t, "lease", plan.Lease, time.Minute)
	want(t, "thread", *plan.Thread, chat.ThreadChange{ConversationID: conv, Title: "Why is the sky", Leaf: message.ID, LastMessageAt: r.Now, UpdatedAt: r.Now})
	want(t, "audit", plan.Audit, audit.Entry{
		ID: run.AuditID, UserID: "ann", Action: audit.ActionMessageSent, Resource: audit.ResourceMessage, ResourceID: message.ID,
		Metadata: map[string]any{"conversationId": conv, "role": "user", "runId": run.ID}, Status: audit.Pending, CreatedAt: r.Now, UpdatedAt: r.Now,
	})
	want(t, "context", plan.Result.Context, []chat.Message{message})
	want(t, "nothing else", []any{plan.Stop, plan.End, plan.ExpiredKey}, []any{[]string(nil), []chat.Ending(nil), ""})
}

func TestAdmit_QueuedWithoutOwner(t *testing.T) {
	w := newWorld(t)
	plan, err := w.decide(queued(w.sending("", "later")))
	if err != nil {
		t.Fatal(err)
	}
	want(t, "run", []any{plan.Run.State, plan.Run.Attempt, plan.Run.Owner, plan.Run.StartedAt.IsZero(), plan.Lease}, []any{chat.Queued, 0, "", true, time.Duration(0)})
}

func TestAdmit_Conversation(t *testing.T) {
	t.Run("Unknown", func(t *testing.T) {
		w := newWorld(t)
		f := w.refused(w.sending("nowhere", "x"), fault.NotFound)
		want(t, "sentence", f.Message, "Conversation not found or access denied")
	})
	t.Run("Created", func(t *testing.T) {
		w := newWorld(t)
		creating := func(r chat.AdmitRequest) chat.AdmitRequest { r.CreateConversation = true; return r }
		r := creating(w.sending("mine", "make it so"))
		out := w.must(r)
		want(t, "conversation", out.Conversation, chat.Conversation{
			ID: "mine", UserID: "ann", Title: "make it so", LeafID: r.Message.ID, CreatedAt: r.Now, LastMessageAt: r.Now, UpdatedAt: r.Now,
		})
		want(t, "stored", w.convs["mine"], out.Conversation)
		want(t, "audit", w.entries[out.Run.AuditID].Metadata["conversationCreated"], any(true))
		if err := w.finish(out.Run.ID, chat.Completed, "done"); err != nil {
			t.Fatal(err)
		}
		want(t, "the first title stays", w.must(creating(w.sending("mine", "again"))).Conversation.Title, "make it so")
	})
	t.Run("NeverForARegeneration", func(t *testing.T) {
		w := newWorld(t)
		r := w.again(chat.Regeneration, "")
		r.Run.ConversationID, r.CreateConversation = "nowhere", true
		w.refused(r, fault.NotFound)
	})
}

func TestAdmit_Idempotency(t *testing.T) {
	t.Run("Replay", func(t *testing.T) {
		w := newWorld(t)
		first := w.must(keyed(w.sending("", "hello"), "k", "f"))
		repeat := w.must(keyed(w.sending("", "hello"), "k", "f"))
		want(t, "replayed", []any{repeat.Replayed, repeat.Run.ID, repeat.UserMessage, repeat.Context}, []any{true, first.Run.ID, first.UserMessage, []chat.Message(nil)})
		want(t, "messages", len(w.messages), 1)
		want(t, "held once", w.account(w.now).Month.HeldTokens, int64(100))
	})
	t.Run("OtherPayload", func(t *testing.T) {
		w := newWorld(t)
		w.must(keyed(w.sending("", "hello"), "k", "f"))
		f := w.refused(keyed(w.sending("", "hello"), "k", "other"), fault.Mismatch)
		want(t, "sentence", f.Message, "This idempotency key was used for a different request")
	})
	t.Run("ForgottenAfterADay", func(t *testing.T) {
		w := newWorld(t)
		first := w.must(keyed(w.sending("", "hello"), "k", "f"))
		w.now = first.Run.CreatedAt.Add(chat.IdempotencyTTL - time.Minute)
		want(t, "known", w.must(keyed(w.sending("", "hello"), "k", "f")).Replayed, true)
		w.now = first.Run.CreatedAt.Add(chat.IdempotencyTTL)
		second := w.must(keyed(w.sending("", "hello"), "k", "other"))
		want(t, "forgotten", []any{second.Replayed, w.run(first.Run.ID).IdempotencyKey}, []any{false, ""})
		want(t, "stands for the newer run", w.must(keyed(w.sending("", "hello"), "k", "other")).Run.ID, second.Run.ID)
	})
	t.Run("ReplayOnlyReason", func(t *testing.T) {
		w := newWorld(t)
		spent := fault.New(fault.Limited, "Too many requests")
		only := func(r chat.AdmitRequest) chat.AdmitRequest { r.ReplayOnlyReason = spent; return r }
		if _, err := w.admit(only(keyed(w.sending("", "hello"), "k", "f"))); !errors.Is(err, spent) {
			t.Errorf("got %v", err)
		}
		w.must(keyed(w.sending("", "hello"), "k", "f"))
		want(t, "known", w.must(only(keyed(w.sending("", "hello"), "k", "f"))).Replayed, true)
		w.refused(only(keyed(w.sending("", "hello"), "k", "other")), fault.Mismatch)
	})
	t.Run("ItsMessageIsGone", func(t *testing.T) {
		w := newWorld(t)
		w.must(keyed(w.sending("", "hello"), "k", "f"))
		w.messages = nil
		w.refused(keyed(w.sending("", "hello"), "k", "f"), fault.NotFound)
	})
}

// Ids of clients may count per conversation: each conversation has a q1.
func TestAdmit_ClientIDsArePerConversation(t *testing.T) {
	w := newWorld(t)
	one, two := w.conversation(), w.conversation()
	q1 := func(conv, content string) chat.AdmitRequest {
		return with(w.sending(conv, content), func(r *chat.AdmitRequest) { r.Message.ID = "q1" })
	}
	finish := func(out chat.Admitted, text string) {
		t.Helper()
		if err := w.finish(out.Run.ID, chat.Completed, text); err != nil {
			t.Fatal(err)
		}
	}
	for _, conv := range []string{one, two, ""} {
		out := w.must(q1(conv, "in "+conv))
		want(t, "as the client knows it", chat.ClientID(out.UserMessage.ID), "q1")
		finish(out, "re")
		w.refused(q1(conv, "again"), fault.Conflict)
	}
	for _, conv := range []string{one, two} {
		named := func(r chat.AdmitRequest) chat.AdmitRequest { r.Run.ConversationID = conv; return r }
		out := w.must(named(w.again(chat.Regeneration, "q1")))
		want(t, "regenerated", contents(out.Context), "in "+conv)
		finish(out, "re")
		out = w.must(with(w.sending(conv, "edited"), func(r *chat.AdmitRequest) { r.EditOf = "q1" }))
		want(t, "edited", []string{out.UserMessage.ConversationID, out.UserMessage.ParentID}, []string{conv, ""})
		finish(out, "re")
		out = w.must(with(w.sending(conv, "follows"), func(r *chat.AdmitRequest) { r.Leaf = "q1" }))
		want(t, "follows", contents(out.Context), "in "+conv+" | follows")
		finish(out, "re")
	}
	out := w.must(w.again(chat.Regeneration, "q1"))
	want(t, "without a conversation it is the default thread's", contents(out.Context), "in ")
}

func TestAdmit_IDsInUse(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	first := w.say(conv, "one")
	taken := func(id string) chat.AdmitRequest {
		return with(w.sending(conv, "two"), func(r *chat.AdmitRequest) { r.Message.ID = id })
	}
	w.refused(taken(first.UserMessage.ID), fault.Conflict)
	w.refused(taken(first.Run.ID), fault.Conflict)
	live := w.must(w.sending(conv, "live"))
	w.refused(taken(live.Run.ID), fault.Conflict) // a message that is not there yet
	w.refused(with(w.sending("", "x"), func(r *chat.AdmitRequest) { r.Run.ID = live.UserMessage.ID }), fault.Conflict)
}

func TestAdmit_Busy(t *testing.T) {
	t.Run("Reject", func(t *testing.T) {
		w := newWorld(t)
		conv := w.conversation()
		live := w.must(w.sending(conv, "one"))
		w.must(when(w.sending(conv, "waits"), chat.Queue))
		want(t, "names the running one", w.refused(w.sending(conv, "two"), fault.Busy).Details["runId"], any(live.Run.ID))
	})
	t.Run("RejectBehindAQueuedRun", func(t *testing.T) {
		w := newWorld(t)
		conv := w.conversation()
		waits := w.must(queued(w.sending(conv, "one")))
		want(t, "run", w.refused(w.sending(conv, "two"), fault.Busy).Details["runId"], any(waits.Run.ID))
	})
	t.Run("Queue", func(t *testing.T) {
		w := newWorld(t)
		conv := w.conversation()
		live := w.must(w.sending(conv, "one"))
		waits := w.must(when(w.sending(conv, "two"), chat.Queue))
		want(t, "state", []any{waits.Run.State, waits.Run.Owner, waits.Superseded}, []any{chat.Queued, "", ""})
		want(t, "behind the reply to be", waits.UserMessage.ParentID, live.Run.ID)
		want(t, "context", contents(waits.Context), "one | two")
		want(t, "free", w.must(when(w.sending(w.conversation(), "x"), chat.Queue)).Run.State, chat.Running)
	})
	t.Run("DefaultThreadIsNeverBusy", func(t *testing.T) {
		w := newWorld(t)
		w.must(w.sending("", "one"))
		second := w.must(w.sending("", "two"))
		want(t, "state", second.Run.State, chat.Running)
		want(t, "no conversation", second.Conversation, chat.Conversation{})
	})
	t.Run("Supersede", func(t *testing.T) {
		w := newWorld(t)
		conv := w.conversation()
		live := w.must(w.sending(conv, "one"))
		first := w.must(when(w.sending(conv, "two"), chat.Queue))
		second := w.must(when(w.sending(conv, "three"), chat.Queue))
		last := w.must(when(w.sending(conv, "four"), chat.Supersede))
		want(t, "waits for the one that stops", []any{last.Run.State, last.Superseded}, []any{chat.Queued, live.Run.ID})
		want(t, "asked to stop", w.run(live.Run.ID).StopRequested, true)
		for _, waited := range []chat.Admitted{first, second} {
			want(t, "ended", w.run(waited.Run.ID).State, chat.Stopped)
			want(t, "its audit", w.entries[waited.Run.AuditID].Status, audit.Success)
		}
		want(t, "context", contents(last.Context), "one | two | three | four")
		want(t, "their holds are back", w.account(w.now).Month.HeldTokens, int64(200))
		if err := w.finish(live.Run.ID, chat.Stopped, "half"); err != nil {
			t.Fatal(err)
		}
		want(t, "nothing said is lost", contents(w.current(conv)), "one | half | two | three | four")
	})
	t.Run("SupersedeAQueuedRunAlone", func(t *testing.T) {
		w := newWorld(t)
		conv := w.conversation()
		waits := w.must(queued(w.sending(conv, "one")))
		out := w.must(when(w.sending(conv, "two"), chat.Supersede))
		want(t, "starts at once", []any{out.Run.State, out.Superseded}, []any{chat.Running, waits.Run.ID})
		want(t, "branch", contents(out.Context), "one | two")
	})
}

// A message that is put behind a reply which the same request ends goes where
// the reply's other followers go.
func TestAdmit_BehindAReplyThatItSupersedes(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	first := w.must(queued(w.sending(conv, "one")))
	second := w.must(queued(when(w.sending(conv, "two"), chat.Queue)))
	out := w.must(when(with(w.sending(conv, "deux"), func(r *chat.AdmitRequest) { r.EditOf = second.UserMessage.ID }), chat.Supersede))
	want(t, "edit", []string{out.UserMessage.ParentID, contents(out.Context)}, []string{first.UserMessage.ID, "one | deux"})
	out = w.must(when(with(w.sending(conv, "drei"), func(r *chat.AdmitRequest) { r.Leaf = out.Run.ID }), chat.Queue))
	waits := w.must(queued(w.sending(w.conversation(), "four")))
	out = w.must(when(with(w.sending(waits.Run.ConversationID, "five"), func(r *chat.AdmitRequest) { r.Leaf = waits.Run.ID }), chat.Supersede))
	want(t, "leaf", []string{out.UserMessage.ParentID, contents(out.Context)}, []string{waits.UserMessage.ID, "four | five"})
}

func TestAdmit_QueueCapacity(t *testing.T) {
	w := newWorld(t)
	w.waiting = 3
	full := func(r chat.AdmitRequest) chat.AdmitRequest { r.MaxQueue = 3; return r }
	f := w.refused(full(queued(w.sending("", "later"))), fault.QueueFull)
	want(t, "retry after", f.RetryAfter, 5*time.Second)
	conv := w.conversation()
	w.must(full(w.sending(conv, "need not wait")))
	w.refused(full(when(w.sending(conv, "then"), chat.Queue)), fault.QueueFull)
	w.waiting = 2
	w.must(full(queued(w.sending("", "later"))))
}

func TestAdmit_Budget(t *testing.T) {
	for name, c := range map[string]struct {
		budget access.Budget
		bound  string
	}{
		"TokensADay":   {access.Budget{DayTokens: 150}, "tokens_day"},
		"TokensAMonth": {access.Budget{MonthTokens: 150}, "tokens_month"},
		"CostADay":     {access.Budget{DayMicros: 1500}, "cost_day"},
		"CostAMonth":   {access.Budget{MonthMicros: 1500}, "cost_month"},
		"Replies":      {access.Budget{Replies: 1}, "replies"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			holding := func() chat.AdmitRequest {
				return with(w.sending("", "x"), func(r *chat.AdmitRequest) { r.Budget = c.budget })
			}
			first := w.must(holding())
			f := w.refused(holding(), fault.OverBudget)
			want(t, "bound", f.Details["budget"], any(c.bound))
			if f.RetryAfter <= 0 || f.Details["reset"] == nil {
				t.Errorf("retry after %v, reset %v", f.RetryAfter, f.Details["reset"])
			}
			if err := w.finish(first.Run.ID, chat.Completed, "cheap"); err != nil {
				t.Fatal(err)
			}
			w.must(holding())
		})
	}
	t.Run("AnInterruptTakesThePlaceOfWhatItInterrupts", func(t *testing.T) {
		w := newWorld(t)
		conv := w.conversation()
		one := func(r chat.AdmitRequest) chat.AdmitRequest { r.Budget = access.Budget{Replies: 1}; return r }
		for range 3 {
			w.must(one(when(w.sending(conv, "x"), chat.Supersede)))
		}
		want(t, "elsewhere", w.refused(one(w.sending("", "x")), fault.OverBudget).Details["budget"], any("replies"))
	})
	t.Run("Remaining", func(t *testing.T) {
		w := newWorld(t)
		out := w.must(with(w.sending("", "x"), func(r *chat.AdmitRequest) { r.Budget = access.Budget{MonthTokens: 1000, DayMicros: 5000} }))
		tokens, micros := int64(900), int64(4000)
		want(t, "remaining", out.Remaining, access.Remaining{Tokens: &tokens, Micros: &micros, Reset: access.NextDay(w.now)})
	})
}

func TestAdmit_Edit(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	w.say(conv, "one")
	asked := w.say(conv, "two").UserMessage
	out := w.must(with(w.sending("", "deux"), func(r *chat.AdmitRequest) { r.EditOf = asked.ID }))
	want(t, "place", []string{out.UserMessage.ParentID, out.UserMessage.ConversationID, out.Run.ConversationID}, []string{asked.ParentID, conv, conv})
	want(t, "context", contents(out.Context), "one | re: one | deux")
	if err := w.finish(out.Run.ID, chat.Completed, "2"); err != nil {
		t.Fatal(err)
	}
	first := w.thread(conv)[0]
	out = w.must(with(w.sending(conv, "uno"), func(r *chat.AdmitRequest) { r.EditOf = first.ID }))
	want(t, "another root", out.UserMessage.ParentID, "")
	w.refused(with(w.again(chat.Reply, ""), func(r *chat.AdmitRequest) { r.EditOf = first.ID }), fault.Invalid)
}

func TestAdmit_Leaf(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	first := w.say(conv, "one")
	w.say(conv, "two")
	out := w.must(with(w.sending(conv, "other two"), func(r *chat.AdmitRequest) { r.Leaf = first.Run.ID }))
	want(t, "context", contents(out.Context), "one | re: one | other two")
	out = w.must(when(with(w.sending(conv, "and then"), func(r *chat.AdmitRequest) { r.Leaf = out.Run.ID }), chat.Queue))
	want(t, "behind a live reply", contents(out.Context), "one | re: one | other two | and then")
}

func TestAdmit_Regenerate(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	w.say(conv, "one")
	asked := w.say(conv, "two")
	for name, r := range map[string]chat.AdmitRequest{
		"TheReply":    w.again(chat.Regeneration, asked.Run.ID),
		"TheQuestion": w.again(chat.Regeneration, asked.UserMessage.ID),
		"TheEnd":      with(w.again(chat.Regeneration, ""), func(r *chat.AdmitRequest) { r.Run.ConversationID = conv }),
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := w.decide(r)
			if err != nil {
				t.Fatal(err)
			}
			want(t, "place", []any{plan.Run.ParentID, plan.Run.ConversationID, plan.Message, plan.Thread}, []any{asked.UserMessage.ID, conv, (*chat.Message)(nil), (*chat.ThreadChange)(nil)})
			want(t, "context", contents(plan.Result.Context), "one | re: one | two")
			want(t, "message", plan.Result.UserMessage.ID, asked.UserMessage.ID)
			if plan.Audit.ResourceID == "" {
				t.Error("the audit entry does not say what was regenerated")
			}
		})
	}
	t.Run("ARunWithoutMessage", func(t *testing.T) {
		conv := w.conversation()
		failed := w.must(w.sending(conv, "why"))
		if err := w.finish(failed.Run.ID, chat.Failed, ""); err != nil {
			t.Fatal(err)
		}
		want(t, "parent", w.must(w.again(chat.Regeneration, failed.Run.ID)).Run.ParentID, failed.UserMessage.ID)
	})
	t.Run("WhileBusy", func(t *testing.T) {
		conv := w.conversation()
		first := w.say(conv, "why")
		w.must(w.sending(conv, "and"))
		w.refused(w.again(chat.Regeneration, first.Run.ID), fault.Busy)
	})
	t.Run("AMessageFollowsTheNewReply", func(t *testing.T) {
		conv := w.conversation()
		first := w.say(conv, "why")
		again := w.must(w.again(chat.Regeneration, first.Run.ID))
		w.must(when(w.sending(conv, "and"), chat.Queue))
		if err := w.finish(again.Run.ID, chat.Completed, "because"); err != nil {
			t.Fatal(err)
		}
		want(t, "branch", contents(w.current(conv)), "why | because | and")
	})
}

func TestAdmit_Continue(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	ended := func(state chat.State, text string) chat.Admitted {
		out := w.must(w.sending(conv, "count"))
		if err := w.finish(out.Run.ID, state, text); err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, state := range []chat.State{chat.Interrupted, chat.Stopped} {
		cut := ended(state, "one two")
		plan, err := w.decide(w.again(chat.Continuation, cut.Run.ID))
		if err != nil {
			t.Fatal(err)
		}
		want(t, "run", []any{plan.Run.Prefix, plan.Run.Output, plan.Run.ParentID, plan.Run.Seen()}, []any{chat.TextOutput("one two"), chat.TextOutput("one two"), cut.UserMessage.ID, false})
	}
	for _, whole := range []chat.Admitted{ended(chat.Completed, "all"), ended(chat.Failed, "half"), ended(chat.Stopped, "")} {
		w.refused(w.again(chat.Continuation, whole.Run.ID), fault.Conflict)
	}
	w.refused(w.again(chat.Continuation, w.must(w.sending(conv, "live")).Run.ID), fault.Conflict)
}

func TestAdmit_WrongPlaces(t *testing.T) {
	w := newWorld(t)
	conv, elsewhere := w.conversation(), w.conversation()
	one := w.say(conv, "one")
	asked, reply := one.UserMessage.ID, one.Run.ID
	in := func(r chat.AdmitRequest, conv string) chat.AdmitRequest { r.Run.ConversationID = conv; return r }
	edit := func(r chat.AdmitRequest, id string) chat.AdmitRequest { r.EditOf = id; return r }
	leaf := func(r chat.AdmitRequest, id string) chat.AdmitRequest { r.Leaf = id; return r }
	for name, r := range map[string]chat.AdmitRequest{
		"UnknownSource":         w.again(chat.Regeneration, "nothing"),
		"QuestionElsewhere":     in(w.again(chat.Regeneration, asked), elsewhere),
		"SourceElsewhere":       in(w.again(chat.Regeneration, reply), elsewhere),
		"UnknownEdit":           edit(w.sending("", "x"), "nothing"),
		"EditOfAReply":          edit(w.sending("", "x"), reply),
		"EditElsewhere":         edit(w.sending(elsewhere, "x"), asked),
		"UnknownLeaf":           leaf(w.sending(conv, "x"), "nothing"),
		"LeafElsewhere":         leaf(w.sending(elsewhere, "x"), reply),
		"LeafFromDefaultThread": leaf(w.sending("", "x"), reply),
		"EndOfNothing":          in(w.again(chat.Regeneration, ""), elsewhere),
		"ContinueUnknown":       w.again(chat.Continuation, "nothing"),
		"ContinueAQuestion":     w.again(chat.Continuation, asked),
	} {
		t.Run(name, func(t *testing.T) {
			want(t, "sentence", w.refused(r, fault.NotFound).Message, "Message not found or access denied")
		})
	}
	t.Run("LeafIsARunThatLeftNothing", func(t *testing.T) {
		failed := w.must(w.sending(conv, "x"))
		if err := w.finish(failed.Run.ID, chat.Failed, ""); err != nil {
			t.Fatal(err)
		}
		w.refused(leaf(w.sending(conv, "x"), failed.Run.ID), fault.NotFound)
	})
}

func TestAdmit_Context(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	for i := range 4 {
		w.say(conv, fmt.Sprint(i))
	}
	for n, expected := range map[int]string{0: "last", 1: "last", 2: "re: 3 | last", 4: "re: 2 | 3 | re: 3 | last"} {
		plan, err := w.decide(with(w.sending(conv, "last"), func(r *chat.AdmitRequest) { r.Context = n }))
		if err != nil {
			t.Fatal(err)
		}
		want(t, fmt.Sprint("context of ", n), contents(plan.Result.Context), expected)
	}
}

// Clocks of instances differ; a message never comes before the one it follows.
func TestAdmit_OrderWhenClocksDisagree(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	first := w.say(conv, "early")
	behind := w.sending(conv, "late clock")
	behind.Now = behind.Now.Add(-time.Hour)
	behind.Message.CreatedAt = behind.Now
	out := w.must(behind)
	if err := w.finishWith(out.Run.ID, func(o *chat.Outcome) { o.At, o.Output = behind.Now.Add(-time.Hour), chat.TextOutput("answer") }); err != nil {
		t.Fatal(err)
	}
	want(t, "order", ids(w.thread(conv))[1:], []string{first.Run.ID, out.UserMessage.ID, out.Run.ID})
	if run := w.run(out.Run.ID); run.EndedAt.Before(run.CreatedAt) {
		t.Error("the run ended before it began")
	}
	if e := w.entries[out.Run.AuditID]; e.UpdatedAt.Before(e.CreatedAt) {
		t.Error("its audit entry did")
	}
	if c := w.convs[conv]; c.LastMessageAt != w.thread(conv)[3].CreatedAt {
		t.Errorf("last message at %v", c.LastMessageAt)
	}
}

func TestAdmit_Refusals(t *testing.T) {
	w := newWorld(t)
	w.refused(with(w.sending("", "x"), func(r *chat.AdmitRequest) { r.Run.UserID = "" }), fault.Unauthenticated)
	for _, text := range []string{"a\x00b", "a\xffb", "a\x1bb"} {
		w.refused(w.sending("", text), fault.Invalid)
	}
}
