package replies_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/app/replies"
	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

func TestSend_LeavesBothMessages(t *testing.T) {
	b := setup(t)
	s := b.start(quick())
	turn := b.send(s.Service, replies.Send{Content: "What is up?"})
	call := b.model.Next()
	if d := cmp.Diff([]ports.PromptMessage{ports.PromptText(chat.User, "What is up?")}, call.Prompt.Messages); d != "" {
		t.Error(d)
	}
	call.Say("The ")
	call.Say("sky.")
	call.Done()
	reply, err := s.Wait(t.Context(), ann, turn)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := b.store.Message(t.Context(), ann.UserID, turn.Run.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []chat.Message{reply.AssistantMessage, stored} {
		if m.Content != "The sky." || m.Role != chat.Assistant || m.ParentID != turn.UserMessage.ID {
			t.Errorf("got %+v", m)
		}
	}
	run := b.run(turn.Run.ID)
	if run.State != chat.Completed || run.Provider != "scripted" || run.Usage.Output != 3 {
		t.Errorf("got %+v", run)
	}
}

func TestSend_TheSameKeyAsksOnce(t *testing.T) {
	b := setup(t)
	s := b.start(quick())
	var wg sync.WaitGroup
	turns := make([]replies.Accepted, 20)
	for i := range turns {
		wg.Go(func() {
			turn, err := s.Send(t.Context(), with(replies.Send{Key: "k", Content: "once"}))
			if err != nil {
				t.Errorf("send: %v", err)
			}
			turns[i] = turn
		})
	}
	wg.Wait()
	call := b.model.Next()
	call.Say("yes")
	call.Done()
	first := 0
	for _, turn := range turns {
		if turn.Run.ID != turns[0].Run.ID || turn.UserMessage.ID != turns[0].UserMessage.ID {
			t.Errorf("run %s beside %s", turn.Run.ID, turns[0].Run.ID)
		}
		if !turn.Replayed {
			first++
		}
		if reply, err := s.Wait(t.Context(), ann, turn); err != nil || reply.AssistantMessage.Content != "yes" {
			t.Errorf("Wait = %+v, %v", reply, err)
		}
	}
	if first != 1 || b.model.Calls() != 1 {
		t.Errorf("%d of 20 were first, the model was asked %d times", first, b.model.Calls())
	}
	t.Run("AnotherPayloadIsRefused", func(t *testing.T) {
		_, err := s.Send(t.Context(), with(replies.Send{Key: "k", Content: "twice"}))
		if !fault.Is(err, fault.Mismatch) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("ASpentLimitStillReplays", func(t *testing.T) {
		spent := fault.New(fault.Limited, "spent")
		turn, err := s.Send(t.Context(), with(replies.Send{Key: "k", Content: "once", ReplayOnlyReason: spent}))
		if err != nil || !turn.Replayed {
			t.Errorf("a repeat: %v, %v", turn.Replayed, err)
		}
		if _, err = s.Send(t.Context(), with(replies.Send{Key: "new", ReplayOnlyReason: spent})); !fault.Is(err, fault.Limited) {
			t.Errorf("a new one: %v", err)
		}
	})
	t.Run("AnotherUsersKeyIsAnotherKey", func(t *testing.T) {
		turn, err := s.Send(t.Context(), replies.Send{Principal: access.Principal{UserID: "bob"}, Key: "k", Content: "once"})
		if err != nil || turn.Replayed {
			t.Fatalf("%v, %v", turn.Replayed, err)
		}
		call := b.model.Next()
		call.Say("hi")
		call.Done()
	})
}

func TestSend_FailureKeepsTheMessage(t *testing.T) {
	b := setup(t)
	s := b.start(quick())
	for name, c := range map[string]struct {
		err  error
		kind fault.Kind
		code string
	}{
		"Unavailable": {fault.New(fault.AIUnavailable, "x"), fault.AIUnavailable, replies.FailureUnavailable},
		"Broken":      {fault.New(fault.AIFailed, "x").With("reason", "reset"), fault.AIFailed, replies.FailureProvider},
		"BadFile":     {fault.New(fault.AIFailed, "x").With("reason", "file_refused"), fault.AIFailed, replies.FailureFile},
		"NoFiles":     {fault.New(fault.AIUnavailable, "x").With("reason", "files_unavailable"), fault.AIUnavailable, replies.FailureFiles},
		"Late":        {context.DeadlineExceeded, fault.AIFailed, replies.FailureTimeout},
		"Silent":      {nil, fault.AIFailed, replies.FailureEmpty},
	} {
		t.Run(name, func(t *testing.T) {
			turn := b.send(s.Service, replies.Send{Content: name})
			if c.err == nil {
				b.model.Next().Done()
			} else {
				b.model.Next().Fail(c.err)
			}
			_, err := s.Wait(t.Context(), ann, turn)
			if !fault.Is(err, c.kind) {
				t.Fatalf("got %v, want %s", err, c.kind)
			}
			if m, _ := fault.As(err).Details["userMessage"].(chat.Message); m.ID != turn.UserMessage.ID || m.Content != name {
				t.Errorf("the fault carries message %+v", m)
			}
			if run := b.run(turn.Run.ID); run.State != chat.Failed || run.Failure != c.code {
				t.Errorf("run is %s, %q", run.State, run.Failure)
			}
			again, err := s.Regenerate(t.Context(), replies.RegenerateInput{Principal: ann, Target: turn.Run.ID})
			if err != nil {
				t.Fatalf("regenerate: %v", err)
			}
			call := b.model.Next()
			if last := call.Prompt.Messages[len(call.Prompt.Messages)-1]; last.Text() != name {
				t.Errorf("asked again with %q", last.Text())
			}
			call.Say("now")
			call.Done()
			if reply, err := s.Wait(t.Context(), ann, again); err != nil || reply.AssistantMessage.Content != "now" {
				t.Errorf("%+v, %v", reply.AssistantMessage, err)
			}
		})
	}
}

func TestSend_APanicEndsOneRun(t *testing.T) {
	b := setup(t)
	s := b.start(quick(), func(d *replies.Deps) { d.Model = panicking{} })
	turn := b.send(s.Service, replies.Send{})
	if _, err := s.Wait(t.Context(), ann, turn); !fault.Is(err, fault.AIFailed) {
		t.Errorf("got %v", err)
	}
}

type panicking struct{}

func (panicking) Generate(context.Context, ports.Prompt, func(chat.Delta)) (ports.Answer, error) {
	panic("secret")
}

func TestFollow_FromAnyCursorOnAnyInstance(t *testing.T) {
	b := setup(t)
	here, there := b.start(quick()), b.start(quick())
	turn := b.send(here.Service, replies.Send{})
	call := b.model.Next()
	r := b.reader(turn.Run.ID)
	call.Think("Well.")
	r.read(here.Service, func() bool { return !r.got.Output().Empty() })
	call.Say("One ñ, ")
	r.read(there.Service, r.hasSeen("One ñ, ")) // no feed between them: the checkpoint serves
	call.Say("two 😀, ")
	r.read(here.Service, r.hasSeen("One ñ, two 😀, "))
	call.Say("three.")
	call.Done()
	r.read(there.Service, nil)
	want := chat.OutputOf(chat.Part{Kind: chat.ReasoningPart, Text: "Well."}, chat.Part{Kind: chat.TextPart, Text: "One ñ, two 😀, three."})
	if got := r.got.Output(); got != want {
		t.Errorf("seen %q, want %q", got, want)
	}
	if r.end.Message.Content != want.Text() || r.end.Run.State != chat.Completed || r.end.Cursor != want.Len()+1 {
		t.Errorf("end %+v", r.end)
	}
	t.Run("TheEndIsToldOnce", func(t *testing.T) {
		for range there.Follow(t.Context(), ann, turn.Run.ID, r.cursor) {
			t.Error("an event behind the end")
		}
	})
	t.Run("AnEndedRunIsToldAgainFromTheStart", func(t *testing.T) {
		again := b.reader(turn.Run.ID)
		again.read(there.Service, nil)
		if got := again.got.Output(); got != want || again.end.Cursor != r.end.Cursor {
			t.Errorf("seen %q, end at %d", got, again.end.Cursor)
		}
	})
	t.Run("SomebodyElseSeesNothing", func(t *testing.T) {
		for e, err := range here.Follow(t.Context(), access.Principal{UserID: "eve"}, turn.Run.ID, chat.Before) {
			if !fault.Is(err, fault.NotFound) {
				t.Errorf("%+v, %v", e, err)
			}
		}
	})
}

// What a reader has been shown is in the store at that moment, whatever the
// store's mood.
func TestFollow_ShowsOnlyWhatIsRecorded(t *testing.T) {
	b := setup(t)
	away := flaky{Store: b.store, checkpoint: make(chan error, 3)}
	for range 3 {
		away.checkpoint <- errAway
	}
	s := b.start(quick(), func(d *replies.Deps) { d.Store = away })
	turn := b.send(s.Service, replies.Send{})
	call := b.model.Next()
	r := b.reader(turn.Run.ID)
	for i := range 5 {
		call.Say(fmt.Sprintf("piece %d. ", i))
		before := len(r.got.Output().Text())
		r.read(s.Service, func() bool { return len(r.got.Output().Text()) > before })
		if stored := b.run(turn.Run.ID).Output.Text(); len(stored) < len(r.got.Output().Text()) {
			t.Fatalf("shown %q, recorded %q", r.got.Output().Text(), stored)
		}
	}
	call.Done()
	b.until(turn.Run.ID, chat.Completed)
}

func TestFollow_AReplySurvivesItsReader(t *testing.T) {
	b := setup(t)
	s := b.start(quick())
	turn := b.send(s.Service, replies.Send{})
	call := b.model.Next()
	call.Say("first")
	r := b.reader(turn.Run.ID)
	r.read(s.Service, r.hasSeen("first")) // and away
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Wait(ctx, ann, turn); err == nil {
		t.Error("Wait outlives its caller")
	}
	call.Say(", second")
	call.Done()
	b.until(turn.Run.ID, chat.Completed)
	r.read(s.Service, nil)
	if r.got.Output().Text() != "first, second" {
		t.Errorf("came back and saw %q", r.got.Output().Text())
	}
}

func TestStop(t *testing.T) {
	for name, elsewhere := range map[string]bool{"SameInstance": false, "AnotherInstance": true} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			owner := b.start(quick())
			asked := owner
			if elsewhere {
				asked = b.start(quick())
			}
			turn := b.send(owner.Service, replies.Send{})
			call := b.model.Next()
			call.Say("keep this")
			r := b.reader(turn.Run.ID)
			r.read(owner.Service, r.hasSeen("keep this"))
			for range 2 { // asking again changes nothing
				if _, err := asked.Stop(t.Context(), ann, access.Caller{}, turn.Run.ID); err != nil {
					t.Fatal(err)
				}
			}
			select {
			case <-call.Ended():
			case <-time.After(time.Minute):
				t.Fatal("the provider is still being asked")
			}
			run := b.until(turn.Run.ID, chat.Stopped)
			if run.Output.Text() != "keep this" {
				t.Errorf("kept %q", run.Output.Text())
			}
			r.read(owner.Service, nil)
			if r.end.Run.State != chat.Stopped || r.end.Message.Content != "keep this" {
				t.Errorf("end %+v", r.end)
			}
			if run, err := asked.Stop(t.Context(), ann, access.Caller{}, turn.Run.ID); err != nil || run.State != chat.Stopped {
				t.Errorf("stopping what has stopped: %s, %v", run.State, err)
			}
			if _, err := asked.Stop(t.Context(), access.Principal{UserID: "eve"}, access.Caller{}, turn.Run.ID); !fault.Is(err, fault.NotFound) {
				t.Errorf("another user: %v", err)
			}
		})
	}
}

// What the store has recorded without saying so may have been read elsewhere,
// and is not taken back by a stop.
func TestStop_KeepsWhatMayHaveBeenSeen(t *testing.T) {
	b := setup(t)
	lossy := lostAcks{Store: b.store, from: &atomic.Bool{}}
	owner := b.start(quick(), func(d *replies.Deps) { d.Store = lossy })
	elsewhere := b.start(quick())
	turn := b.send(owner.Service, replies.Send{})
	call := b.model.Next()
	call.Say("one")
	r := b.reader(turn.Run.ID)
	r.read(elsewhere.Service, r.hasSeen("one"))
	lossy.from.Store(true)
	call.Say(", two")
	r.read(elsewhere.Service, r.hasSeen("one, two"))
	if _, err := elsewhere.Stop(t.Context(), ann, access.Caller{}, turn.Run.ID); err != nil {
		t.Fatal(err)
	}
	if run := b.until(turn.Run.ID, chat.Stopped); run.Output.Text() != "one, two" {
		t.Errorf("kept %q", run.Output.Text())
	}
	r.read(elsewhere.Service, nil)
	if r.got.Output().Text() != "one, two" || r.end.Message.Content != "one, two" {
		t.Errorf("saw %q, end %+v", r.got.Output().Text(), r.end)
	}
}

// lostAcks is a store whose acknowledgements are lost: it admits and records, and
// then reports an error.
type lostAcks struct {
	replies.Store
	from *atomic.Bool
}

func (u lostAcks) Admit(ctx context.Context, a chat.AdmitRequest, decide ports.AdmitDecision) (chat.Admitted, error) {
	out, err := u.Store.Admit(ctx, a, decide)
	if err == nil && u.from.Load() {
		return chat.Admitted{}, errAway
	}
	return out, err
}

func (u lostAcks) Finish(ctx context.Context, o chat.Outcome, decide ports.FinishDecision) (bool, error) {
	waiting, err := u.Store.Finish(ctx, o, decide)
	if err == nil && u.from.Load() {
		return false, errAway
	}
	return waiting, err
}

func (u lostAcks) Checkpoint(ctx context.Context, owner string, points []chat.Checkpoint) ([]string, error) {
	fenced, err := u.Store.Checkpoint(ctx, owner, points)
	if err == nil && u.from.Load() {
		return nil, errAway
	}
	return fenced, err
}

func TestContinue(t *testing.T) {
	b := setup(t)
	s := b.start(quick())
	turn := b.send(s.Service, replies.Send{ConversationID: b.conversation(), Content: "Count"})
	call := b.model.Next()
	call.Say("one, two")
	r := b.reader(turn.Run.ID)
	r.read(s.Service, r.hasSeen("one, two"))
	if _, err := s.Continue(t.Context(), replies.RegenerateInput{Principal: ann, Target: turn.Run.ID}); !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.Busy) {
		t.Errorf("continuing what still runs: %v", err)
	}
	if _, err := s.Stop(t.Context(), ann, access.Caller{}, turn.Run.ID); err != nil {
		t.Fatal(err)
	}
	b.until(turn.Run.ID, chat.Stopped)

	more, err := s.Continue(t.Context(), replies.RegenerateInput{Principal: ann, Target: turn.Run.ID})
	if err != nil {
		t.Fatal(err)
	}
	call = b.model.Next()
	want := []ports.PromptMessage{ports.PromptText(chat.User, "Count"), ports.PromptText(chat.Assistant, "one, two")}
	if d := cmp.Diff(want, call.Prompt.Messages); d != "" {
		t.Error(d)
	}
	call.Say(", three")
	call.Done()
	reply, err := s.Wait(t.Context(), ann, more)
	if err != nil {
		t.Fatal(err)
	}
	if reply.AssistantMessage.Content != "one, two, three" || reply.AssistantMessage.ParentID != turn.UserMessage.ID {
		t.Errorf("got %+v", reply.AssistantMessage)
	}
	old, err := b.store.Message(t.Context(), ann.UserID, turn.Run.ID)
	if err != nil || old.Content != "one, two" {
		t.Errorf("the stopped reply is now %q, %v", old.Content, err)
	}
}

func TestEdit_AddsASibling(t *testing.T) {
	b := setup(t)
	s := b.start(quick())
	conv := b.conversation()
	finish := func(turn replies.Accepted, text string) {
		t.Helper()
		call := b.model.Next()
		call.Say(text)
		call.Done()
		if _, err := s.Wait(t.Context(), ann, turn); err != nil {
			t.Fatal(err)
		}
	}
	first := b.send(s.Service, replies.Send{ConversationID: conv, Content: "red"})
	finish(first, "apple")
	edited, err := s.Edit(t.Context(), replies.Edit{Send: with(replies.Send{Content: "green"}), Target: first.UserMessage.ID})
	if err != nil {
		t.Fatal(err)
	}
	finish(edited, "pear")
	next := b.send(s.Service, replies.Send{ConversationID: conv, Content: "and?"})
	call := b.model.Next()
	var said []string
	for _, turn := range call.Prompt.Messages {
		said = append(said, turn.Text())
	}
	if d := cmp.Diff([]string{"green", "pear", "and?"}, said); d != "" {
		t.Errorf("the branch sent:\n%s", d)
	}
	call.Say("plum")
	call.Done()
	if _, err := s.Wait(t.Context(), ann, next); err != nil {
		t.Fatal(err)
	}
	list, _, err := b.store.Messages(t.Context(), ann.UserID, conv, ports.Page{Limit: 50})
	if err != nil || len(list) != 6 {
		t.Fatalf("%d messages, %v", len(list), err)
	}
	if d := cmp.Diff([]string{first.UserMessage.ID, edited.UserMessage.ID}, list[0].Siblings); d != "" {
		t.Error(d)
	}
}

func TestWhenBusy(t *testing.T) {
	b := setup(t)
	s := b.start(quick())
	conv := b.conversation()
	first := b.send(s.Service, replies.Send{ConversationID: conv, Content: "first"})
	call := b.model.Next()
	call.Say("on it")

	_, err := s.Send(t.Context(), with(replies.Send{ConversationID: conv, Content: "second"}))
	if !fault.Is(err, fault.Busy) || fault.As(err).Details["runId"] != first.Run.ID {
		t.Fatalf("reject: %v", err)
	}
	queued := b.send(s.Service, replies.Send{ConversationID: conv, Content: "third", WhenBusy: chat.Queue})
	if queued.Run.State != chat.Queued {
		t.Fatalf("queue: %s", queued.Run.State)
	}
	call.Done()
	b.until(first.Run.ID, chat.Completed)
	call = b.model.Next()
	if last := call.Prompt.Messages[len(call.Prompt.Messages)-1].Text(); last != "third" {
		t.Errorf("then asked %q", last)
	}
	call.Say("third reply")
	r := b.reader(queued.Run.ID)
	r.read(s.Service, r.hasSeen("third reply"))
	over := b.send(s.Service, replies.Send{ConversationID: conv, Content: "fourth", WhenBusy: chat.Supersede})
	b.until(queued.Run.ID, chat.Stopped)
	call = b.model.Next()
	call.Say("fourth reply")
	call.Done()
	if reply, err := s.Wait(t.Context(), ann, over); err != nil || reply.AssistantMessage.Content != "fourth reply" {
		t.Errorf("interrupt: %+v, %v", reply.AssistantMessage, err)
	}
	t.Run("TheDefaultThreadAllowsMany", func(t *testing.T) {
		one, two := b.send(s.Service, replies.Send{}), b.send(s.Service, replies.Send{})
		for range 2 {
			call := b.model.Next()
			call.Say("x")
			call.Done()
		}
		for _, turn := range []replies.Accepted{one, two} {
			if _, err := s.Wait(t.Context(), ann, turn); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestBackground_AnyInstanceTakesIt(t *testing.T) {
	b := setup(t)
	accepts := b.dead(quick())
	turn := b.send(accepts, replies.Send{Background: true})
	if turn.Run.State != chat.Queued {
		t.Fatalf("run is %s", turn.Run.State)
	}
	b.start(quick())
	call := b.model.Next()
	call.Say("later")
	call.Done()
	if run := b.until(turn.Run.ID, chat.Completed); run.Output.Text() != "later" || run.Attempt != 1 {
		t.Errorf("%+v", run)
	}
	t.Run("TheQueueIsBounded", func(t *testing.T) {
		b := setup(t)
		opt := quick()
		opt.MaxQueue = 2
		full := b.dead(opt)
		for range 2 {
			b.send(full, replies.Send{Background: true})
		}
		_, err := full.Send(t.Context(), with(replies.Send{Background: true}))
		if !fault.Is(err, fault.QueueFull) {
			t.Errorf("the third of two: %v", err)
		}
	})
}

func TestOrphan(t *testing.T) {
	lease := quick()
	lease.Lease = 200 * time.Millisecond

	t.Run("NobodySawAToken/IsRetried", func(t *testing.T) {
		b := setup(t)
		gone := b.dead(lease)
		turn := b.send(gone, replies.Send{})
		first := b.model.Next()
		first.Say("never recorded")
		b.start(quick())
		second := b.model.Next()
		second.Say("again")
		second.Done()
		run := b.until(turn.Run.ID, chat.Completed)
		if run.Output.Text() != "again" || run.Attempt != 2 {
			t.Errorf("%+v", run)
		}
		first.Done() // the zombie wakes up and ends its attempt
		<-first.Ended()
		b.eventually(func() error {
			for {
				select {
				case fact := <-b.facts:
					if f, ok := fact.(ports.RunFenced); ok && f.RunID == turn.Run.ID && f.Attempt == 1 {
						return nil
					}
				default:
					return fmt.Errorf("the zombie was not fenced")
				}
			}
		})
		if run := b.run(turn.Run.ID); run.Output.Text() != "again" {
			t.Errorf("a late write: %q", run.Output.Text())
		}
	})
	t.Run("SeenText/IsKept", func(t *testing.T) {
		b := setup(t)
		gone := b.dead(lease)
		turn := b.send(gone, replies.Send{})
		b.model.Next()
		if fenced, err := b.store.Checkpoint(t.Context(), turn.Run.Owner, []chat.Checkpoint{{
			UserID: ann.UserID, RunID: turn.Run.ID, Attempt: 1, New: chat.TextOutput("half a"),
		}}); err != nil || len(fenced) > 0 {
			t.Fatalf("%v, %v", fenced, err)
		}
		s := b.start(quick())
		r := b.reader(turn.Run.ID)
		r.read(s.Service, nil)
		if r.end.Run.State != chat.Interrupted || r.end.Message.Content != "half a" || b.model.Calls() != 1 {
			t.Errorf("end %+v, model asked %d times", r.end, b.model.Calls())
		}
	})
	t.Run("TriedTooOften/Fails", func(t *testing.T) {
		b := setup(t)
		turn := b.send(b.dead(lease), replies.Send{})
		b.model.Next()
		for attempt := 2; attempt <= 3; attempt++ {
			b.eventually(func() error {
				runs, err := b.store.Claim(t.Context(), "killed too", lease.Lease, 5)
				if err == nil && len(runs) == 0 {
					err = fmt.Errorf("nothing to claim")
				}
				return err
			})
		}
		b.start(quick())
		if run := b.until(turn.Run.ID, chat.Failed); run.Failure != replies.FailureAttempts {
			t.Errorf("%+v", run)
		}
	})
	t.Run("StopRequested/Stops", func(t *testing.T) {
		b := setup(t)
		turn := b.send(b.dead(lease), replies.Send{})
		b.model.Next()
		s := b.start(quick())
		if _, err := s.Stop(t.Context(), ann, access.Caller{}, turn.Run.ID); err != nil {
			t.Fatal(err)
		}
		b.until(turn.Run.ID, chat.Stopped)
		if b.model.Calls() != 1 {
			t.Errorf("the model was asked %d times", b.model.Calls())
		}
	})
}

// An admission that nobody heard of belongs to an instance that does not know
// it. That this instance is alive and busy must not keep it for ever.
func TestOrphan_OfALivingOwner(t *testing.T) {
	b := setup(t)
	opt := quick()
	opt.Lease = 2 * time.Second
	lossy := lostAcks{Store: b.store, from: &atomic.Bool{}}
	s := b.start(opt, func(d *replies.Deps) { d.Store = lossy })
	busy := b.send(s.Service, replies.Send{})
	long := b.model.Next()
	lossy.from.Store(true)
	in := with(replies.Send{Content: "heard of by nobody", Key: "key"})
	if _, err := s.Send(t.Context(), in); err == nil {
		t.Fatal("it was heard")
	}
	lossy.from.Store(false)
	turn := b.send(s.Service, in) // the client's retry joins it
	call := b.model.Next()
	call.Say("after all")
	call.Done()
	if run := b.until(turn.Run.ID, chat.Completed); run.Attempt != 2 {
		t.Errorf("attempt %d", run.Attempt)
	}
	long.Say("meanwhile")
	long.Done()
	b.until(busy.Run.ID, chat.Completed)
}

func TestFinish_OutlastsTheStoresAbsence(t *testing.T) {
	b := setup(t)
	away := flaky{Store: b.store, finish: make(chan error, 3)}
	for range 3 {
		away.finish <- errAway
	}
	s := b.start(quick(), func(d *replies.Deps) { d.Store = away })
	b.keepsAReply(s)
}

// keepsAReply asks for a reply and waits for its end.
func (b *bench) keepsAReply(s instance) {
	b.t.Helper()
	turn := b.send(s.Service, replies.Send{})
	call := b.model.Next()
	call.Say("kept")
	call.Done()
	if reply, err := s.Wait(b.t.Context(), ann, turn); err != nil || reply.AssistantMessage.Content != "kept" {
		b.t.Errorf("%+v, %v", reply.AssistantMessage, err)
	}
}

// An end that the store has made and not confirmed is told once, like any other.
func TestFinish_UnheardIsToldOnce(t *testing.T) {
	b := setup(t)
	lossy := lostAcks{Store: b.store, from: &atomic.Bool{}}
	s := b.start(quick(), func(d *replies.Deps) { d.Store = lossy })
	turn := b.send(s.Service, replies.Send{})
	call := b.model.Next()
	call.Say("kept")
	r := b.reader(turn.Run.ID)
	r.read(s.Service, r.hasSeen("kept"))
	lossy.from.Store(true)
	call.Done()
	if reply, err := s.Wait(t.Context(), ann, turn); err != nil || reply.AssistantMessage.Content != "kept" {
		t.Errorf("%+v, %v", reply.AssistantMessage, err)
	}
	r.read(s.Service, nil)
	if r.end.Run.State != chat.Completed {
		t.Errorf("end %+v", r.end)
	}
	b.toldOnce()
}

// toldOnce waits until the observer has been told of the end of one run.
func (b *bench) toldOnce() {
	b.t.Helper()
	told := 0
	b.eventually(func() error {
		for {
			select {
			case f := <-b.facts:
				switch f := f.(type) {
				case ports.RunFinished:
					told++
				case ports.RunFenced:
					b.t.Fatalf("lost: %+v", f)
				}
				continue
			default:
			}
			if told != 1 {
				return fmt.Errorf("told %d times", told)
			}
			return nil
		}
	})
}

// slowAck confirms no end before the heartbeat has missed the run, and the first one
// not at all.
type slowAck struct {
	replies.Store
	beats atomic.Int64
	ended atomic.Bool
}

func (u *slowAck) Heartbeat(ctx context.Context, owner string, mine []string, lease time.Duration) ([]chat.Run, error) {
	u.beats.Add(1)
	return u.Store.Heartbeat(ctx, owner, mine, lease)
}

func (u *slowAck) Finish(ctx context.Context, o chat.Outcome, decide ports.FinishDecision) (bool, error) {
	waiting, err := u.Store.Finish(ctx, o, decide)
	if err != nil || u.ended.Swap(true) {
		return waiting, err
	}
	for seen := u.beats.Load(); u.beats.Load() < seen+3; { // one that began before, one that missed it, and what follows from that
		time.Sleep(time.Millisecond)
	}
	return false, errAway
}

// Nor does the heartbeat, which finds the run ended before its end is confirmed, take
// it for lost.
func TestFinish_HeartbeatComesFirst(t *testing.T) {
	b := setup(t)
	s := b.start(quick(), func(d *replies.Deps) { d.Store = &slowAck{Store: b.store} })
	b.keepsAReply(s)
	b.toldOnce()
}

// slowAdmit answers an admission only when it is told to.
type slowAdmit struct {
	replies.Store
	asked, answer chan struct{}
}

func (s slowAdmit) Admit(ctx context.Context, r chat.AdmitRequest, decide ports.AdmitDecision) (chat.Admitted, error) {
	out, err := s.Store.Admit(ctx, r, decide)
	close(s.asked)
	<-s.answer
	return out, err
}

// A run that is admitted while the instance stops, and would begin behind its
// last moment, is released to another instance.
func TestDrain_ReleasesRunsThatBeginBehindIt(t *testing.T) {
	b := setup(t)
	slow := slowAdmit{b.store, make(chan struct{}), make(chan struct{})}
	opt := quick()
	opt.ShutdownTimeout = 50 * time.Millisecond
	s := b.start(opt, func(d *replies.Deps) { d.Store = slow })
	turns := make(chan replies.Accepted, 1)
	go func() {
		turn, err := s.Send(b.t.Context(), with(replies.Send{}))
		if err != nil {
			t.Error(err)
		}
		turns <- turn
	}()
	<-slow.asked
	s.stop()
	close(slow.answer)
	turn := <-turns
	b.eventually(func() error {
		if run := b.run(turn.Run.ID); run.Owner != "" {
			return fmt.Errorf("the run is still owned by %s", run.Owner)
		}
		return nil
	})
}

func TestDrain(t *testing.T) {
	b := setup(t)
	opt := quick()
	opt.ShutdownTimeout = 2 * time.Second // enough for one reply to end on a busy machine
	old := b.start(opt)
	unseen := b.send(old.Service, replies.Send{Content: "unseen"})
	b.model.Next()
	seen := b.send(old.Service, replies.Send{Content: "seen"})
	call := b.model.Next()
	call.Say("some")
	r := b.reader(seen.Run.ID)
	r.read(old.Service, r.hasSeen("some"))
	finishing := b.send(old.Service, replies.Send{Content: "finishing"})
	last := b.model.Next()

	stopped := make(chan struct{})
	go func() { defer close(stopped); old.stop() }()
	b.eventually(func() error {
		if !old.Draining() {
			return fmt.Errorf("not draining yet")
		}
		return nil
	})
	if _, err := old.Send(t.Context(), with(replies.Send{})); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a new message while draining: %v", err)
	}
	last.Say("in time")
	last.Done()
	r.read(old.Service, nil)
	<-stopped
	if run := b.run(finishing.Run.ID); run.State != chat.Completed || run.Output.Text() != "in time" {
		t.Errorf("the one that ended in time: %+v", run)
	}
	if run := b.run(seen.Run.ID); run.State != chat.Interrupted || run.Output.Text() != "some" {
		t.Errorf("the seen one: %+v", run)
	}
	if r.end.Run.State != chat.Interrupted {
		t.Errorf("its reader was told %v", r.kinds)
	}
	b.start(quick()) // leases are long: only a release lets it act at once
	next := b.model.Next()
	next.Say("elsewhere")
	next.Done()
	if run := b.until(unseen.Run.ID, chat.Completed); run.Output.Text() != "elsewhere" {
		t.Errorf("the unseen one: %+v", run)
	}
}

func TestLive(t *testing.T) {
	b := setup(t)
	s := b.start(quick())
	before := b.send(s.Service, replies.Send{})
	call := b.model.Next()
	events := make(chan replies.RunsEvent, 64)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e, err := range s.WatchRuns(ctx, ann) {
			if err != nil {
				t.Errorf("live: %v", err)
			}
			events <- e
		}
	}()
	defer func() { cancel(); <-done }()
	expect := func(kind replies.EventKind, id string, state chat.State) {
		t.Helper()
		for {
			select {
			case e := <-events:
				for _, run := range e.Runs {
					if e.Kind == kind && run.ID == id && run.State == state {
						return
					}
				}
			case <-time.After(time.Minute):
				t.Fatalf("not told that %s is %s", id, state)
			}
		}
	}
	expect(replies.EventStart, before.Run.ID, chat.Running)
	call.Say("x")
	call.Done()
	expect(replies.EventDelta, before.Run.ID, chat.Completed)
	after := b.send(s.Service, replies.Send{})
	expect(replies.EventDelta, after.Run.ID, chat.Running)
	b.model.Next().Fail(fault.New(fault.AIFailed, "x"))
	expect(replies.EventDelta, after.Run.ID, chat.Failed)
}

func TestTitles(t *testing.T) {
	b := setup(t)
	asked := make(chan string, 4)
	s := b.start(quick(), func(d *replies.Deps) {
		d.Titles = func(_ context.Context, _ string, _ chat.Params, turns []ports.PromptMessage) (string, ports.Answer, error) {
			asked <- turns[0].Text() + " / " + turns[1].Text()
			return "A better name", ports.Answer{}, nil
		}
	})
	title := func(conv string) string {
		c, err := b.store.Conversation(t.Context(), ann.UserID, conv)
		if err != nil {
			t.Fatal(err)
		}
		return c.Title
	}
	say := func(conv, text string) {
		turn := b.send(s.Service, replies.Send{ConversationID: conv, Content: text})
		call := b.model.Next()
		call.Say("re: " + text)
		call.Done()
		if _, err := s.Wait(t.Context(), ann, turn); err != nil {
			t.Fatal(err)
		}
	}
	conv := b.conversation()
	say(conv, "hello there")
	b.eventually(func() error {
		if got := title(conv); got != "A better name" {
			return fmt.Errorf("it is called %q", got)
		}
		return nil
	})
	if got := <-asked; got != "hello there / re: hello there" {
		t.Errorf("asked about %q", got)
	}
	t.Run("AnsweredOnce", func(t *testing.T) {
		say(conv, "and again")
		if len(asked) > 0 {
			t.Errorf("asked about %q", <-asked)
		}
	})
	t.Run("TheUsersOwnNameStays", func(t *testing.T) {
		own, named := b.conversation(), "Mine"
		if _, err := b.store.UpdateConversation(t.Context(), ann.UserID, own, ports.ConversationChange{Title: &named, Now: time.Now()}, audit.Entry{
			ID: "named", Action: audit.ActionConversationUpdated, Resource: audit.ResourceConversation, CreatedAt: time.Now(), UpdatedAt: time.Now(),
		}); err != nil {
			t.Fatal(err)
		}
		say(own, "hello")
		<-asked
		s.stop() // waits for titles
		if got := title(own); got != "Mine" {
			t.Errorf("it is called %q", got)
		}
	})
}

// A user who renames a conversation to just its automatic title keeps it, and so
// does one who created it under that title.
func TestTitles_WhatTheUserSetStays(t *testing.T) {
	b := setup(t)
	proposed := make(chan struct{})
	s := b.start(quick(), func(d *replies.Deps) {
		d.Titles = func(context.Context, string, chat.Params, []ports.PromptMessage) (string, ports.Answer, error) {
			<-proposed
			return "A better name", ports.Answer{}, nil
		}
	})
	reply := func(conv string) {
		turn := b.send(s.Service, replies.Send{ConversationID: conv, Content: "hello there"})
		call := b.model.Next()
		call.Say("hi")
		call.Done()
		if _, err := s.Wait(t.Context(), ann, turn); err != nil {
			t.Fatal(err)
		}
	}
	const automatic = "hello there"
	renamed, created, untouched := b.conversation(), "created-so", b.conversation()
	entry := func(id string) audit.Entry {
		return audit.Entry{ID: id, Action: audit.ActionConversationUpdated, Resource: audit.ResourceConversation, CreatedAt: time.Now(), UpdatedAt: time.Now()}
	}
	if _, err := b.store.CreateConversation(t.Context(), chat.Conversation{
		ID: created, UserID: ann.UserID, Title: automatic, TitleByUser: true, CreatedAt: time.Now(),
	}, entry("created")); err != nil {
		t.Fatal(err)
	}
	for _, conv := range []string{renamed, created, untouched} {
		reply(conv)
	}
	same := automatic
	if _, err := b.store.UpdateConversation(t.Context(), ann.UserID, renamed, ports.ConversationChange{Title: &same, Now: time.Now()}, entry("renamed")); err != nil {
		t.Fatal(err)
	}
	close(proposed)
	s.stop() // waits for titles
	for conv, want := range map[string]string{renamed: automatic, created: automatic, untouched: "A better name"} {
		c, err := b.store.Conversation(t.Context(), ann.UserID, conv)
		if err != nil || c.Title != want {
			t.Errorf("%s is called %q, want %q (%v)", conv, c.Title, want, err)
		}
	}
}

// What a title uses counts, whether there is one or not, and nothing that goes
// wrong with it reaches the reply.
func TestTitles_CountAndBreakNothing(t *testing.T) {
	cost := int64(70)
	used := ports.Answer{Provider: "p", Model: "m", Usage: chat.Usage{Input: 40, Output: 5}, CostMicros: &cost}
	for name, c := range map[string]struct {
		titles         ports.Titles
		tokens, micros int64
	}{
		"Named": {func(context.Context, string, chat.Params, []ports.PromptMessage) (string, ports.Answer, error) {
			return "A better name", used, nil
		}, 45, 70},
		"Unnamed": {func(context.Context, string, chat.Params, []ports.PromptMessage) (string, ports.Answer, error) {
			return "", used, errors.New("no title")
		}, 45, 70},
		"Refused": {func(context.Context, string, chat.Params, []ports.PromptMessage) (string, ports.Answer, error) {
			return "", ports.Answer{}, errors.New("no")
		}, 0, 0},
		"Panics": {func(context.Context, string, chat.Params, []ports.PromptMessage) (string, ports.Answer, error) {
			panic("a broken adapter")
		}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			s := b.start(quick(), func(d *replies.Deps) { d.Titles = c.titles })
			turn := b.send(s.Service, replies.Send{ConversationID: b.conversation(), Content: "hello there"})
			call := b.model.Next()
			call.Say("hi")
			call.Done()
			if reply, err := s.Wait(t.Context(), ann, turn); err != nil || reply.Run.State != chat.Completed {
				t.Fatalf("%+v, %v", reply, err)
			}
			s.stop() // waits for titles
			u, err := b.store.Usage(t.Context(), ann.UserID, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			run, err := b.store.Run(t.Context(), ann.UserID, turn.Run.ID)
			if err != nil {
				t.Fatal(err)
			}
			tokens := run.Usage.Input + run.Usage.Output + c.tokens
			if u.Day.Tokens != tokens || u.Month.Tokens != tokens || u.Day.Micros != c.micros || u.Month.Micros != c.micros || u.Day.Replies != 1 {
				t.Errorf("%+v, want %d tokens and %d micros", u, tokens, c.micros)
			}
		})
	}
}

// A reply that completes while its instance drains is named like any other.
func TestTitles_OfAReplyThatCompletesDuringADrain(t *testing.T) {
	b := setup(t)
	s := b.start(quick(), func(d *replies.Deps) {
		d.Titles = func(context.Context, string, chat.Params, []ports.PromptMessage) (string, ports.Answer, error) {
			return "A better name", ports.Answer{}, nil
		}
	})
	conv := b.conversation()
	turn := b.send(s.Service, replies.Send{ConversationID: conv, Content: "hello there"})
	call := b.model.Next()
	stopped := make(chan struct{})
	go func() { defer close(stopped); s.stop() }()
	b.eventually(func() error {
		if !s.Closed() {
			return errors.New("it still takes runs")
		}
		return nil
	})
	call.Say("hi")
	call.Done()
	<-stopped
	if run := b.run(turn.Run.ID); run.State != chat.Completed {
		t.Errorf("the run ended as %+v", run)
	}
	if c, err := b.store.Conversation(t.Context(), ann.UserID, conv); err != nil || c.Title != "A better name" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestBudget_BoundsTheAnswerToWhatIsHeld(t *testing.T) {
	b := setup(t)
	opt := quick()
	opt.MaxReplyTokens, opt.ContextTokens = 300, 1000
	s := b.start(opt, func(d *replies.Deps) {
		d.Budget = func(access.Tier) access.Budget { return access.Budget{DayTokens: 2000} }
	})
	turn := b.send(s.Service, replies.Send{})
	call := b.model.Next()
	if call.Prompt.Params.MaxTokens != 300 || turn.Run.Hold.Tokens != 1300 || turn.Remaining.Tokens == nil || *turn.Remaining.Tokens != 700 {
		t.Errorf("asked for %d tokens, held %d, left %v", call.Prompt.Params.MaxTokens, turn.Run.Hold.Tokens, turn.Remaining.Tokens)
	}
	if _, err := s.Send(t.Context(), with(replies.Send{})); !fault.Is(err, fault.OverBudget) {
		t.Errorf("a second one: %v", err)
	}
	call.Say("short")
	call.Done()
	b.until(turn.Run.ID, chat.Completed)
	again := b.send(s.Service, replies.Send{})
	if *again.Remaining.Tokens != 2000-10-1300 {
		t.Errorf("left %d after ten were used", *again.Remaining.Tokens)
	}
	call = b.model.Next()
	call.Say("x")
	call.Done()
	b.until(again.Run.ID, chat.Completed)
}

func TestSend_AModelThatThereIsNot(t *testing.T) {
	b := setup(t)
	s := b.start(quick(), func(d *replies.Deps) {
		d.Accepts = func(p chat.Params) error {
			if p.Model != "" && p.Model != "script" {
				return fault.New(fault.Invalid, "This model is not available")
			}
			return nil
		}
	})
	if _, err := s.Send(t.Context(), with(replies.Send{Params: chat.Params{Model: "none"}})); !fault.Is(err, fault.Invalid) {
		t.Errorf("asked for by the request: %v", err)
	}
	conv, gone := b.conversation(), "retired"
	if _, err := b.store.UpdateConversation(t.Context(), ann.UserID, conv, ports.ConversationChange{Model: &gone, Now: time.Now()}, audit.Entry{
		ID: "m", Action: audit.ActionConversationUpdated, Resource: audit.ResourceConversation, CreatedAt: time.Now(), UpdatedAt: time.Now(),
	}); err != nil {
		t.Fatal(err)
	}
	turn := b.send(s.Service, replies.Send{ConversationID: conv})
	call := b.model.Next()
	if call.Prompt.Params.Model != "" || call.Prompt.NoCache {
		t.Errorf("a conversation whose model was retired asks for %q, fresh %v", call.Prompt.Params.Model, call.Prompt.NoCache)
	}
	call.Fail(fault.New(fault.AIFailed, "x").With("reason", "idle_timeout"))
	if run := b.until(turn.Run.ID, chat.Failed); run.Failure != replies.FailureTimeout {
		t.Errorf("failure %q", run.Failure)
	}
	again, err := s.Regenerate(t.Context(), replies.RegenerateInput{Principal: ann, Target: turn.Run.ID})
	if err != nil {
		t.Fatal(err)
	}
	if call = b.model.Next(); !call.Prompt.NoCache {
		t.Error("a regeneration may be answered from a cache")
	}
	call.Say("x")
	call.Done()
	b.until(again.Run.ID, chat.Completed)
}

// However words, heartbeats and ends meet the parking of followers, each sees all
// of the reply.
func TestFollowOrPark_MissesNothing(t *testing.T) {
	b := setup(t)
	opt := quick()
	opt.Idle = 3 * time.Millisecond
	s := b.start(opt)
	turn := b.send(s.Service, replies.Send{})
	call := b.model.Next()
	const followers, words = 10, 50
	type seen struct {
		text   string
		parked int
	}
	ended := make(chan seen, followers)
	for range followers {
		go func() {
			var got seen
			defer func() { ended <- got }()
			events := s.FollowOrPark(t.Context(), ann, turn.Run.ID, chat.Before)
			for events != nil {
				var parked *replies.Parked
				for e, err := range events {
					if err != nil {
						t.Error(err)
					}
					parked = e.Parked
					got.text += e.Delta.Text
				}
				if events = nil; parked != nil {
					got.parked++
					awake := make(chan struct{})
					parked.Wake(func() { close(awake) })
					<-awake
					events = parked.Resume(t.Context())
				}
			}
		}()
	}
	want := ""
	for i := range words {
		word := fmt.Sprint(i, " ")
		want += word
		call.Say(word)
		time.Sleep(time.Duration(i%5) * time.Millisecond)
	}
	call.Done()
	for range followers {
		if got := <-ended; got.text != want || got.parked == 0 {
			t.Errorf("saw %q, was parked %d times", got.text, got.parked)
		}
	}
}
