package portstest

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/domain/chat"
	"parley/domain/fault"
	"parley/domain/webhook"
	"parley/ports"
)

// OutboxBundle is a store under test whose runs add events to its outbox.
type OutboxBundle struct {
	StoreBundle
	Outbox ports.Outbox
	Log    ports.EventLog
}

// Outbox holds every outbox to the same contract. open returns a new, empty,
// migrated store that lives as long as the test.
func Outbox(t *testing.T, open func(t testing.TB) OutboxBundle) {
	for name, test := range map[string]func(*outboxBench){
		"EveryEndOnce":  (*outboxBench).everyEndOnce,
		"RefusedEnd":    (*outboxBench).refusedEnd,
		"Claim":         (*outboxBench).claim,
		"ClaimTogether": (*outboxBench).claimTogether,
		"Fencing":       (*outboxBench).fencing,
		"AddOnce":       (*outboxBench).addOnce,
		"Replay":        (*outboxBench).replay,
		"Expire":        (*outboxBench).expire,
		"Queue":         (*outboxBench).queue,
	} {
		t.Run(name, func(t *testing.T) {
			bundle := open(t)
			test(&outboxBench{newStoreBench(t, bundle.StoreBundle), bundle.Outbox, bundle.Log})
		})
	}
}

type outboxBench struct {
	*storeBench
	outbox ports.Outbox
	log    ports.EventLog
}

func (b *outboxBench) take(lease time.Duration, n int) []webhook.Delivery {
	b.Helper()
	list, err := b.outbox.ClaimEvents(b.ctx(), lease, n)
	if err != nil {
		b.Fatal(err)
	}
	return list
}

// settle records an answer and what becomes of the delivery.
func (b *outboxBench) settle(d webhook.Delivery, state webhook.State, a webhook.Answer, in time.Duration) {
	b.Helper()
	d.State, d.Last = state, a
	if err := b.outbox.SettleEvent(b.ctx(), d, in); err != nil {
		b.Fatal(err)
	}
}

func (b *outboxBench) add(keys ...string) {
	b.Helper()
	for _, key := range keys {
		if err := b.outbox.AddEvents(b.ctx(), b.event(key)); err != nil {
			b.Fatal(err)
		}
	}
}

func (b *outboxBench) event(key string) webhook.Event {
	return webhook.New(webhook.BudgetReached, b.user, key, b.tick(), map[string]any{"key": key})
}

func (b *outboxBench) events(f ports.EventFilter) []webhook.Delivery {
	b.Helper()
	list, err := b.log.Events(b.ctx(), f)
	if err != nil {
		b.Fatal(err)
	}
	return list
}

func (b *outboxBench) settleAll() {
	b.Helper()
	for _, d := range b.take(time.Hour, 1000) {
		b.settle(d, webhook.Delivered, webhook.Answer{Status: 204}, time.Hour)
	}
}

// everyEndOnce: whatever ends a run adds one event, which tells how it ended and
// holds no text.
func (b *outboxBench) everyEndOnce() {
	ended := map[string]string{} // run -> state and reason
	finish := func(o chat.Outcome) {
		b.Helper()
		if _, err := b.Runs.Finish(b.ctx(), o, chat.Finish); err != nil {
			b.Fatal(err)
		}
	}
	text := "do not tell"
	conversation := func() string {
		b.Helper()
		c, err := b.History.CreateConversation(b.ctx(), chat.Conversation{ID: newID("conv"), UserID: b.user, CreatedAt: b.tick()}, b.sending("", "").Audit)
		if err != nil {
			b.Fatal(err)
		}
		return c.ID
	}

	first := conversation()
	done := b.admit(b.sending(first, text)).Run
	cost := int64(12)
	o := b.outcome(done, chat.Completed, text)
	o.FinishReason, o.Provider, o.Model, o.Usage, o.CostMicros = "length", "openai", "m", chat.Usage{Input: 3, Output: 4}, &cost
	finish(o)
	ended[done.ID] = "completed length"

	failed := b.admit(b.sending(first, text)).Run
	o = b.outcome(failed, chat.Failed, "")
	o.Failure = "AI_FAILED"
	finish(o)
	ended[failed.ID] = "failed AI_FAILED"

	waiting := b.sending("", text)
	waiting.Owner = ""
	queued := b.admit(waiting).Run
	if _, err := b.Runs.RequestStop(b.ctx(), b.user, queued.ID, b.sending("", "").Audit); err != nil {
		b.Fatal(err)
	}
	ended[queued.ID] = "stopped stopped"

	second := conversation()
	waiting = b.sending(second, text)
	waiting.Owner = ""
	superseded := b.admit(waiting).Run
	by := b.sending(second, text)
	by.WhenBusy = chat.Supersede
	deleted := b.admit(by).Run
	ended[superseded.ID] = "stopped stopped"
	if err := b.History.DeleteConversation(b.ctx(), b.user, second, b.sending("", "").Audit); err != nil {
		b.Fatal(err)
	}
	ended[deleted.ID] = "stopped conversation_deleted"

	third := conversation()
	waiting = b.sending(third, text)
	waiting.Owner = ""
	stopped := b.admit(waiting).Run
	if _, err := b.History.StopConversation(b.ctx(), b.user, third, b.tick()); err != nil {
		b.Fatal(err)
	}
	ended[stopped.ID] = "stopped stopped"

	got := map[string]string{}
	for _, d := range b.take(time.Hour, 100) {
		var body struct {
			Type string `json:"type"`
			Data struct {
				UserID         string  `json:"userId"`
				RunID          string  `json:"runId"`
				ConversationID *string `json:"conversationId"`
				MessageID      *string `json:"messageId"`
				State          string  `json:"state"`
				Reason         string  `json:"reason"`
				Model          *string `json:"model"`
				CostMicros     *int64  `json:"costMicros"`
				Usage          struct {
					Input int64 `json:"input"`
				} `json:"usage"`
			} `json:"data"`
		}
		if err := json.Unmarshal([]byte(d.Body), &body); err != nil {
			b.Fatalf("%s: %v", d.Body, err)
		}
		run := body.Data
		if _, twice := got[run.RunID]; twice {
			b.Errorf("the end of %s was told twice", run.RunID)
		}
		got[run.RunID] = run.State + " " + run.Reason
		if body.Type != string(webhook.RunEnded) || d.Type != webhook.RunEnded || run.UserID != b.user || d.UserID != b.user {
			b.Errorf("got %s", d.Body)
		}
		if strings.Contains(d.Body, text) {
			b.Errorf("text is told: %s", d.Body)
		}
		if run.RunID != done.ID {
			continue
		}
		if run.ConversationID == nil || *run.ConversationID != first || run.MessageID == nil || *run.MessageID != done.ID ||
			run.Model == nil || *run.Model != "m" || run.Usage.Input != 3 || run.CostMicros == nil || *run.CostMicros != 12 {
			b.Errorf("got %s", d.Body)
		}
	}
	if diff := cmp.Diff(ended, got); diff != "" {
		b.Errorf("ends that were told (-want +got):\n%s", diff)
	}
}

// refusedEnd: an end that is not committed is not told.
func (b *outboxBench) refusedEnd() {
	run := b.admit(b.sending("", "hi")).Run
	other := b.outcome(run, chat.Completed, "yes")
	other.Attempt = 7
	if _, err := b.Runs.Finish(b.ctx(), other, chat.Finish); !fault.Is(err, fault.Fenced) {
		b.Fatalf("finish: %v", err)
	}
	refusal := errors.New("no")
	if _, err := b.Runs.Finish(b.ctx(), b.outcome(run, chat.Completed, "yes"), func(chat.Outcome, chat.FinishState) (chat.FinishPlan, error) {
		return chat.FinishPlan{}, refusal
	}); err == nil {
		b.Fatal("a refused end has ended")
	}
	if got := b.events(ports.EventFilter{}); len(got) != 0 {
		b.Errorf("told: %+v", got)
	}
}

// claim: an event is hidden while it is claimed, and due again when nobody has
// settled it.
func (b *outboxBench) claim() {
	b.add("a", "b", "c")
	first := b.take(time.Hour, 2)
	if len(first) != 2 || first[0].Attempt != 1 || first[0].Tries != 1 || first[0].Body == "" {
		b.Fatalf("claimed %+v", first)
	}
	rest := b.take(-time.Second, 10) // a lease that has passed at once
	if len(rest) != 1 || rest[0].ID == first[0].ID || rest[0].ID == first[1].ID {
		b.Fatalf("claimed %+v after %+v", rest, first)
	}
	again := b.take(time.Hour, 10)
	if len(again) != 1 || again[0].ID != rest[0].ID || again[0].Attempt != 2 || again[0].Body != rest[0].Body {
		b.Fatalf("claimed %+v, want %+v again", again, rest)
	}
	b.settle(again[0], webhook.Pending, webhook.Answer{Status: 500, Failure: webhook.FailureStatus}, time.Hour)
	b.settle(first[0], webhook.Pending, webhook.Answer{Failure: webhook.FailureTimeout}, -time.Second)
	if due := b.take(time.Hour, 10); len(due) != 1 || due[0].ID != first[0].ID || due[0].Tries != 2 || due[0].Last.Failure != webhook.FailureTimeout {
		b.Errorf("due: %+v", due)
	}
}

// claimTogether: of many claims at once none gets the event of another.
func (b *outboxBench) claimTogether() {
	const all = 40
	for range all {
		b.add(newID("key"))
	}
	var mu sync.Mutex
	seen := map[string]int{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				list, err := b.outbox.ClaimEvents(b.ctx(), time.Hour, 3)
				if err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				for _, d := range list {
					seen[d.ID]++
				}
				left := all - len(seen)
				mu.Unlock()
				if left == 0 || b.Failed() {
					return
				}
			}
		})
	}
	wg.Wait()
	for id, n := range seen {
		if n != 1 {
			b.Errorf("%s was claimed %d times", id, n)
		}
	}
	if len(seen) != all {
		b.Errorf("%d of %d were claimed", len(seen), all)
	}
}

// fencing: an attempt that has been overtaken changes nothing.
func (b *outboxBench) fencing() {
	b.add("a")
	old := b.take(-time.Second, 1)[0]
	current := b.take(time.Hour, 1)[0]
	stale := func(d webhook.Delivery) {
		b.Helper()
		d.State = webhook.Dead
		if err := b.outbox.SettleEvent(b.ctx(), d, time.Hour); !fault.Is(err, fault.Fenced) {
			b.Errorf("settle: %v, want %s", err, fault.Fenced)
		}
	}
	stale(old)
	b.settle(current, webhook.Delivered, webhook.Answer{Status: 200}, time.Hour)
	stale(current) // it has ended
	if n, err := b.log.ReplayEvents(b.ctx(), ports.EventFilter{}); err != nil || n != 1 {
		b.Fatalf("replayed %d, %v", n, err)
	}
	again := b.take(time.Hour, 1)[0]
	if again.Attempt != 3 || again.Tries != 1 {
		b.Errorf("replayed as %+v", again)
	}
	stale(old)
	stale(current)
	foreign := again
	foreign.UserID = b.user + "-other"
	stale(foreign)
}

// addOnce: an event is added once, and stays as it is.
func (b *outboxBench) addOnce() {
	b.add("a")
	b.settleAll()
	b.add("a", "b")
	if got := b.take(time.Hour, 10); len(got) != 1 || got[0].ID != b.event("b").ID {
		b.Errorf("claimed %+v", got)
	}
}

func (b *outboxBench) replay() {
	b.add("a", "b", "c", "d")
	ids := map[string]string{}
	for _, key := range []string{"a", "b", "c", "d"} {
		ids[key] = b.event(key).ID
	}
	for _, d := range b.take(time.Hour, 10) {
		switch d.ID {
		case ids["a"], ids["b"]:
			b.settle(d, webhook.Delivered, webhook.Answer{Status: 200}, time.Hour)
		case ids["c"]:
			b.settle(d, webhook.Dead, webhook.Answer{Status: 410, Failure: webhook.FailureGone}, time.Hour)
		}
	}
	replay := func(f ports.EventFilter, want ...string) {
		b.Helper()
		n, err := b.log.ReplayEvents(b.ctx(), f)
		if err != nil {
			b.Fatal(err)
		}
		got := map[string]bool{}
		for _, d := range b.take(time.Hour, 10) {
			got[d.ID] = true
			b.settle(d, webhook.Delivered, webhook.Answer{Status: 200}, time.Hour)
		}
		if n != len(want) || len(got) != len(want) {
			b.Errorf("%+v: replayed %d, claimed %d, want %d", f, n, len(got), len(want))
		}
		for _, key := range want {
			if !got[ids[key]] {
				b.Errorf("%+v: %s was not replayed", f, key)
			}
		}
	}
	replay(ports.EventFilter{State: webhook.Pending})
	replay(ports.EventFilter{State: webhook.Dead}, "c")
	replay(ports.EventFilter{State: webhook.Dead})
	replay(ports.EventFilter{ID: ids["a"]}, "a")
	replay(ports.EventFilter{ID: ids["d"]}) // claimed, not ended
	replay(ports.EventFilter{Since: b.tick()})
	replay(ports.EventFilter{Since: b.now.Add(-time.Hour)}, "a", "b", "c")

	if got := b.events(ports.EventFilter{State: webhook.Delivered, Limit: 2}); len(got) != 2 || !got[0].At.After(got[1].At) || got[0].Body != "" {
		b.Errorf("listed %+v", got)
	}
	if got := b.events(ports.EventFilter{}); len(got) != 4 {
		b.Errorf("listed %d", len(got))
	}
}

func (b *outboxBench) expire() {
	b.add("a", "b", "c", "d")
	due := b.take(-time.Hour, 10)
	b.settle(due[0], webhook.Delivered, webhook.Answer{Status: 200}, -time.Second)
	b.settle(due[1], webhook.Dead, webhook.Answer{Status: 500, Failure: webhook.FailureStatus}, -time.Second)
	b.settle(due[2], webhook.Delivered, webhook.Answer{Status: 200}, time.Hour)
	for _, want := range []int{1, 1, 0} {
		if n, err := b.outbox.ExpireEvents(b.ctx(), 1); err != nil || n != want {
			b.Errorf("expired %d, %v; want %d", n, err, want)
		}
	}
	if got := b.events(ports.EventFilter{}); len(got) != 2 {
		b.Errorf("%d are left", len(got))
	}
}

func (b *outboxBench) queue() {
	count := func(pending, dead int) {
		b.Helper()
		q, err := b.outbox.EventQueue(b.ctx())
		if err != nil || q.Pending != pending || q.Dead != dead || (q.Oldest > 0) != (pending > 0) {
			b.Errorf("%+v, %v; want %d pending, %d dead", q, err, pending, dead)
		}
	}
	count(0, 0)
	b.now = b.now.Add(-time.Hour)
	b.add("a", "b")
	count(2, 0)
	due := b.take(time.Hour, 2)
	b.settle(due[0], webhook.Dead, webhook.Answer{Status: 500, Failure: webhook.FailureStatus}, time.Hour)
	count(1, 1)
	b.settle(due[1], webhook.Delivered, webhook.Answer{Status: 200}, time.Hour)
	count(0, 1)
}
