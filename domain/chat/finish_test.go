package chat_test

import (
	"fmt"
	"testing"
	"time"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
)

func TestFinish_Ends(t *testing.T) {
	for _, c := range []struct {
		state  chat.State
		text   string
		status audit.Status
		code   string
	}{
		{chat.Completed, "whole", audit.Success, ""},
		{chat.Stopped, "half", audit.Success, ""},
		{chat.Stopped, "", audit.Success, ""},
		{chat.Failed, "half", audit.Failure, "ai_failed"},
		{chat.Failed, "", audit.Failure, "ai_failed"},
		{chat.Interrupted, "half", audit.Failure, "interrupted"},
	} {
		t.Run(fmt.Sprintf("%s%q", c.state, c.text), func(t *testing.T) {
			w := newWorld(t)
			conv := w.conversation()
			out := w.must(w.sending(conv, "why"))
			cost := int64(77)
			err := w.finishWith(out.Run.ID, func(o *chat.Outcome) {
				o.State, o.Output, o.CostMicros = c.state, chat.TextOutput(c.text), &cost
				if c.state == chat.Failed {
					o.Failure = "ai_failed"
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			said, leaf := "why", out.UserMessage.ID
			if c.text != "" {
				said, leaf = "why | "+c.text, out.Run.ID
			}
			want(t, "messages", contents(w.thread(conv)), said)
			want(t, "leaf", w.convs[conv].LeafID, leaf)
			e := w.entries[out.Run.AuditID]
			want(t, "audit", []any{e.Status, e.Error}, []any{c.status, c.code})
			spent := access.Spent{Tokens: 15, Micros: 77, Replies: 1}
			want(t, "usage", w.usage, map[string]access.Spent{"2026-11-27": spent})
		})
	}
}

func TestFinish_Refuses(t *testing.T) {
	w := newWorld(t)
	running := w.must(w.sending("", "x")).Run.ID
	waiting := w.must(queued(w.sending("", "x"))).Run.ID
	ended := w.say("", "x").Run.ID
	for name, c := range map[string]struct {
		run    string
		change func(*chat.Outcome)
		kind   fault.Kind
	}{
		"Unknown":       {"nothing", func(*chat.Outcome) {}, fault.Fenced},
		"Nobodys":       {running, func(o *chat.Outcome) { o.UserID = "" }, fault.Fenced},
		"OlderAttempt":  {running, func(o *chat.Outcome) { o.Attempt-- }, fault.Fenced},
		"NewerAttempt":  {running, func(o *chat.Outcome) { o.Attempt++ }, fault.Fenced},
		"Ended":         {ended, func(*chat.Outcome) {}, fault.Fenced},
		"NoEnd":         {running, func(o *chat.Outcome) { o.State = chat.Running }, fault.Internal},
		"NeverBegun":    {waiting, func(o *chat.Outcome) { o.State = chat.Completed }, fault.Internal},
		"NeverBegunYet": {waiting, func(o *chat.Outcome) { o.State = chat.Interrupted }, fault.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			if err := w.finishWith(c.run, c.change); !fault.Is(err, c.kind) {
				t.Errorf("got %v, want %s", err, c.kind)
			}
		})
	}
}

// What follows a run that left no text moves up to the message that the run
// should have answered.
func TestFinish_NoHoleBehindARunWithoutText(t *testing.T) {
	for _, conv := range []bool{true, false} {
		w := newWorld(t)
		thread := ""
		if conv {
			thread = w.conversation()
		}
		live := w.must(w.sending(thread, "one"))
		follows := w.must(when(w.sending(thread, "two"), chat.Queue))
		if err := w.finish(live.Run.ID, chat.Failed, ""); err != nil {
			t.Fatal(err)
		}
		want(t, "parent", w.message(follows.UserMessage.ID).ParentID, live.UserMessage.ID)
		want(t, "branch", contents(w.current(thread)), "one | two")
	}
}

// A reply that a message follows already does not become the end of its thread.
func TestFinish_TheThreadEndsBehindWhatFollows(t *testing.T) {
	for _, conv := range []bool{true, false} {
		w := newWorld(t)
		thread := ""
		if conv {
			thread = w.conversation()
		}
		live := w.must(w.sending(thread, "one"))
		w.must(when(w.sending(thread, "two"), chat.Queue))
		if err := w.finish(live.Run.ID, chat.Completed, "1"); err != nil {
			t.Fatal(err)
		}
		want(t, "branch", contents(w.current(thread)), "one | 1 | two")
	}
}

// The periods are those of the admission, which hold the hold.
func TestFinish_AfterMidnight(t *testing.T) {
	w := newWorld(t)
	w.now = time.Date(2026, 11, 30, 23, 59, 59, 0, time.UTC)
	out := w.must(w.sending("", "late"))
	w.now = w.now.Add(time.Minute)
	if err := w.finish(out.Run.ID, chat.Completed, "early"); err != nil {
		t.Fatal(err)
	}
	spent := access.Spent{Tokens: 15, Replies: 1}
	want(t, "usage", w.usage, map[string]access.Spent{"2026-11-30": spent})
}

func TestStop(t *testing.T) {
	at := time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC)
	run := chat.LiveRun{ID: "r", ParentID: "m", AuditID: "a", CreatedAt: at.Add(time.Second), Hold: access.Hold{Tokens: 100, Micros: 7}}
	in := func(s chat.State) chat.LiveRun { r := run; r.State = s; return r }
	want(t, "running", chat.Stop(in(chat.Running), at), chat.StopPlan{Request: true})
	again := in(chat.Running)
	again.StopRequested = true
	want(t, "asked again", chat.Stop(again, at).Changes(), false)
	want(t, "queued", chat.Stop(in(chat.Queued), at), chat.StopPlan{End: &chat.Ending{
		RunID: "r", State: chat.Stopped, At: run.CreatedAt, Reparent: "m",
		Audit:  chat.AuditEnd{ID: "a", Status: audit.Success, At: run.CreatedAt},
		Settle: chat.UsageChange{Day: "2026-11-27", Replies: 1},
		Ended:  chat.RunEnded{RunID: "r", ParentID: "m", State: chat.Stopped, Reason: "stopped", CreatedAt: run.CreatedAt, At: run.CreatedAt},
	}})
	for _, s := range states {
		if s.Terminal() && chat.Stop(in(s), at).Changes() {
			t.Errorf("a run that is %s can be stopped", s)
		}
	}
}

// Nobody is charged the whole hold for a chat that is deleted, and nobody gets
// a reply for nothing by deleting it.
func TestDelete_ChargesWhatWasUsed(t *testing.T) {
	at := time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC)
	hold := access.Hold{Tokens: 12_192, Micros: 121_920}
	for name, c := range map[string]struct {
		run            chat.LiveRun
		prompt         int64
		tokens, micros int64
	}{
		"Waiting":      {chat.LiveRun{State: chat.Queued, Hold: hold}, 400, 0, 0},
		"BeforeAWord":  {chat.LiveRun{State: chat.Running, Hold: hold}, 400, 100, 1000},
		"InTheMiddle":  {chat.LiveRun{State: chat.Running, Hold: hold, OutputBytes: 801}, 400, 301, 3010},
		"AtMostHeld":   {chat.LiveRun{State: chat.Running, Hold: hold, OutputBytes: 1 << 40}, 400, 12_192, 121_920},
		"WithoutAHold": {chat.LiveRun{State: chat.Running, OutputBytes: 8}, 0, 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c.run.CreatedAt = at
			end := chat.Delete([]chat.LiveRun{c.run}, c.prompt, at)[0]
			want(t, "settled", end.Settle, chat.UsageChange{Day: "2026-11-27", Tokens: c.tokens, Micros: c.micros, Replies: 1})
			want(t, "audit", end.Audit.Status, audit.Success)
		})
	}
}
