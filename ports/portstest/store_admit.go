package portstest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

func diff(want, got any) string {
	// A store may give the members of an object in another order.
	decoded := cmp.Transformer("decoded", func(text json.RawMessage) (v any) {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			return string(text)
		}
		return v
	})
	some := func(a, b json.RawMessage) bool { return len(a) > 0 && len(b) > 0 }
	return cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.FilterValues(some, decoded))
}

func admitTests(b *storeBench) {
	b.run("KeepsEverything", func(b *storeBench) {
		conv := b.conversation()
		a := b.sending(conv, "  Why is the sky\nblue?")
		a.Message.Metadata = json.RawMessage(`{"client":"web","n":1.50,"nested":{"a":["b",null,true]}}`)
		a.Run.Params = chat.Params{Model: "m", MaxTokens: 7, System: "be brief"}
		a.Run.Metadata = map[string]any{"x": "y"}
		out := b.admit(a)

		run := out.Run
		b.want("state", []any{run.State, run.Attempt, run.Owner, run.ParentID}, []any{chat.Running, 1, "here", a.Message.ID})
		if until := time.Until(run.LeaseUntil); until < 30*time.Second || until > 2*time.Minute {
			b.Errorf("lease ends in %v", until)
		}
		kept := b.stored(run.ID)
		kept.LeaseUntil = run.LeaseUntil // by two clocks
		b.want("run", kept, run)

		b.want("user message", out.UserMessage, chat.Message{
			ID: a.Message.ID, UserID: b.user, ConversationID: conv, Role: chat.User, Content: a.Message.Content,
			Metadata: a.Message.Metadata, CreatedAt: a.Now,
		})
		found, err := b.History.Message(b.ctx(), b.user, a.Message.ID)
		if err != nil {
			b.Fatal(err)
		}
		b.want("stored message", found, out.UserMessage)
		inContext := out.UserMessage
		inContext.Metadata = nil
		b.want("context", out.Context, []chat.Message{inContext})

		c, err := b.History.Conversation(b.ctx(), b.user, conv)
		if err != nil {
			b.Fatal(err)
		}
		b.want("conversation", out.Conversation, c)
		b.want("conversation moved", []any{c.Title, c.LeafID, c.LastMessageAt, c.UpdatedAt}, []any{"Why is the sky", a.Message.ID, a.Now, a.Now})

		e := b.audited(a.Audit.ID)
		b.want("audit", e, audit.Entry{
			ID: a.Audit.ID, UserID: b.user, Action: audit.ActionMessageSent, Resource: audit.ResourceMessage, ResourceID: a.Message.ID,
			Metadata: map[string]any{"conversationId": conv, "role": "user"}, Caller: a.Audit.Caller,
			Status: audit.Pending, CreatedAt: a.Now, UpdatedAt: a.Now,
		})
	})

	b.run("UnknownConversation", func(b *storeBench) {
		f := b.refused(b.sending("nowhere", "hello"), fault.NotFound)
		b.want("sentence", f.Message, "Conversation not found or access denied")

		a := b.sending("mine", "make it so")
		a.CreateConversation = true
		out := b.admit(a)
		b.want("made", []any{out.Conversation.ID, out.Conversation.Title, out.Conversation.LeafID}, []any{"mine", "make it so", a.Message.ID})
		c, err := b.History.Conversation(b.ctx(), b.user, "mine")
		if err != nil {
			b.Fatal(err)
		}
		b.want("stored", c, out.Conversation)
		b.finish(out.Run, chat.Completed, "done")
		a = b.sending("mine", "again")
		a.CreateConversation = true
		b.want("same conversation", b.admit(a).Conversation.Title, "make it so")
	})

	b.run("QueuedWithoutOwner", func(b *storeBench) {
		a := b.sending(b.conversation(), "later")
		a.Owner, a.Run.Background = "", true
		run := b.stored(b.admit(a).Run.ID)
		b.want("queued", []any{run.State, run.Attempt, run.Owner, run.LeaseUntil, run.StartedAt, run.Background},
			[]any{chat.Queued, 0, "", time.Time{}, time.Time{}, true})
	})

	b.run("DefaultThreadStaysOneLine", func(b *storeBench) {
		const senders, each = 4, 8
		var wg sync.WaitGroup
		for range senders {
			var admissions []chat.AdmitRequest
			for i := range each {
				admissions = append(admissions, b.sending("", fmt.Sprint(i)))
			}
			wg.Go(func() {
				for i, a := range admissions {
					out, err := b.Runs.Admit(b.ctx(), a, chat.Admit)
					if err != nil {
						b.Errorf("admit: %v", err)
						return
					}
					o := chat.Outcome{UserID: b.user, RunID: out.Run.ID, Attempt: 1, State: chat.Completed, Output: chat.TextOutput("re"), At: a.Now}
					if i%3 == 0 {
						o.State, o.Output = chat.Failed, ""
					}
					if _, err := b.Runs.Finish(b.ctx(), o, chat.Finish); err != nil {
						b.Errorf("finish: %v", err)
					}
				}
			})
		}
		wg.Wait()
		b.want("on the current branch", len(b.current("")), len(b.all("")))
		b.want("stored", len(b.all("")), senders*(each+each-(each+2)/3))
	})

	b.run("ContextIsTheEndOfTheBranch", func(b *storeBench) {
		conv := b.conversation()
		for i := range 4 {
			b.say(conv, fmt.Sprint(i))
		}
		a := b.sending(conv, "last")
		a.Context = 4
		b.want("context", contents(b.admit(a).Context), "re: 2 | 3 | re: 3 | last")
	})

	b.run("ClientIDsArePerConversation", func(b *storeBench) {
		one, two := b.conversation(), b.conversation()
		var replies []chat.Run
		for _, conv := range []string{one, two, ""} {
			a := b.sending(conv, "in "+conv)
			a.Message.ID = "q1"
			out := b.admit(a)
			b.finish(out.Run, chat.Completed, "re")
			replies = append(replies, out.Run)
			a = b.sending(conv, "again")
			a.Message.ID = "q1"
			b.refused(a, fault.Conflict)
		}
		for i, conv := range []string{one, two, ""} {
			list, _, err := b.History.Branch(b.ctx(), b.user, conv, "q1", 10)
			if err != nil {
				b.Fatal(err)
			}
			b.want("by the client's id", contents(list), "in "+conv)
			b.want("its id", chat.ClientID(list[0].ID), "q1")
			again := b.again(chat.Regeneration, "q1")
			again.Run.ConversationID = conv
			b.want("regenerated", b.admit(again).Run.ParentID, replies[i].ParentID)
		}
	})

	b.run("AnIDThatIsTakenIsRefused", func(b *storeBench) {
		conv := b.conversation()
		live := b.admit(b.sending(conv, "one"))
		for _, id := range []string{live.UserMessage.ID, live.Run.ID} { // of a message that is not there yet
			a := b.sending(conv, "two")
			a.Message.ID = id
			b.refused(a, fault.Conflict)
		}
	})

	b.run("CarriesOutWhatIsDecided", func(b *storeBench) {
		conv := b.conversation()
		refusal := fault.New(fault.Forbidden, "No")
		_, err := b.Runs.Admit(b.ctx(), b.sending(conv, "x"), func(r chat.AdmitRequest, s chat.AdmitState) (chat.AdmitPlan, error) {
			if _, err := chat.Admit(r, s); err != nil {
				return chat.AdmitPlan{}, err
			}
			return chat.AdmitPlan{}, refusal
		})
		if !errors.Is(err, refusal) {
			b.Errorf("got %v", err)
		}
		b.want("nothing is stored", len(b.all(conv)), 0)

		out, err := b.Runs.Admit(b.ctx(), b.sending(conv, "x"), func(r chat.AdmitRequest, s chat.AdmitState) (chat.AdmitPlan, error) {
			plan, err := chat.Admit(r, s)
			if err == nil {
				plan.Thread.Title, plan.Message.Content, plan.Run.Fingerprint = "decided", "decided too", "decided as well"
			}
			return plan, err
		})
		if err != nil {
			b.Fatal(err)
		}
		c, _ := b.History.Conversation(b.ctx(), b.user, conv)
		b.want("stored", []string{c.Title, contents(b.all(conv)), b.stored(out.Run.ID).Fingerprint}, []string{"decided", "decided too", "decided as well"})

		_, err = b.Runs.Finish(b.ctx(), b.outcome(out.Run, chat.Completed, "y"), func(chat.Outcome, chat.FinishState) (chat.FinishPlan, error) {
			return chat.FinishPlan{}, refusal
		})
		if !errors.Is(err, refusal) {
			b.Errorf("got %v", err)
		}
		b.want("goes on", b.stored(out.Run.ID).State, chat.Running)
	})

	b.run("NothingRemainsOfARefusal", func(b *storeBench) {
		conv := b.conversation()
		a := b.sending(conv, "text")
		a.Message.Metadata = json.RawMessage(`{"bad":"a\u0000b"}`)
		b.refused(a, fault.Invalid)
		for _, text := range []string{"a\x00b", "a\xffb", "a\x1bb"} {
			b.refused(b.sending(conv, text), fault.Invalid)
		}
		b.want("messages", len(b.all(conv)), 0)
		b.want("audit", len(b.Entries(b.T, b.user)), 1) // of the conversation
		_, err := b.Runs.Run(b.ctx(), b.user, a.Run.ID)
		b.wantKind("run", err, fault.NotFound)
		c, _ := b.History.Conversation(b.ctx(), b.user, conv)
		b.want("conversation", []string{c.Title, c.LeafID}, []string{"", ""})
	})
}

func idempotencyTests(b *storeBench) {
	keyed := func(b *storeBench, conv, key, print string) chat.AdmitRequest {
		a := b.sending(conv, "hello")
		a.Run.IdempotencyKey, a.Run.Fingerprint = key, print
		return a
	}

	b.run("Replay", func(b *storeBench) {
		conv := b.conversation()
		a := keyed(b, conv, "k", "f")
		first := b.admit(a)
		repeat := b.admit(keyed(b, conv, "k", "f"))
		if !repeat.Replayed || first.Replayed {
			b.Fatalf("replayed: first %v, repeat %v", first.Replayed, repeat.Replayed)
		}
		b.want("same run", []any{repeat.Run.ID, repeat.Run.State}, []any{first.Run.ID, chat.Running})
		b.want("same message", repeat.UserMessage, first.UserMessage)
		b.want("same conversation", repeat.Conversation, first.Conversation)
		b.finish(first.Run, chat.Completed, "hi")
		repeat = b.admit(keyed(b, conv, "k", "f"))
		b.want("its end", []any{repeat.Run.State, repeat.Run.Output.Text()}, []any{chat.Completed, "hi"})
		b.want("stored once", contents(b.all(conv)), "hello | hi")
	})

	b.run("OfOneUser", func(b *storeBench) {
		b.admit(keyed(b, "", "k", "f"))
		other := newStoreBench(b.T, b.StoreBundle)
		if out := other.admit(keyed(other, "", "k", "other")); out.Replayed {
			b.Error("another user's key was taken for the same")
		}
	})

	b.run("ForgottenAfterADay", func(b *storeBench) {
		first := b.admit(keyed(b, "", "k", "f"))
		b.now = b.now.Add(chat.IdempotencyTTL - time.Minute)
		if !b.admit(keyed(b, "", "k", "f")).Replayed {
			b.Error("forgotten too early")
		}
		b.now = b.now.Add(time.Minute)
		second := b.admit(keyed(b, "", "k", "other"))
		if second.Replayed || second.Run.ID == first.Run.ID {
			b.Error("remembered too long")
		}
		if out := b.admit(keyed(b, "", "k", "other")); out.Run.ID != second.Run.ID {
			b.Error("the key does not stand for the newer run")
		}
	})

	b.run("FiftyAtOnce", func(b *storeBench) {
		conv := b.conversation()
		admissions := make([]chat.AdmitRequest, 50)
		for i := range admissions {
			admissions[i] = keyed(b, conv, "k", "f")
		}
		var (
			wg   sync.WaitGroup
			mu   sync.Mutex
			runs = map[string]int{}
			made int
		)
		for _, a := range admissions {
			wg.Go(func() {
				out, err := b.Runs.Admit(b.ctx(), a, chat.Admit)
				if err != nil {
					b.Errorf("admit: %v", err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				runs[out.Run.ID]++
				if !out.Replayed {
					made++
				}
			})
		}
		wg.Wait()
		if made != 1 || len(runs) != 1 {
			b.Errorf("%d runs made, %d seen; want 1", made, len(runs))
		}
		b.want("messages", len(b.all(conv)), 1)
	})
}

func busyTests(b *storeBench) {
	b.run("ManyAtOnce", func(b *storeBench) {
		conv := b.conversation()
		admissions := make([]chat.AdmitRequest, 12)
		for i := range admissions {
			admissions[i] = b.sending(conv, fmt.Sprint(i))
		}
		var wg sync.WaitGroup
		errs := make([]error, len(admissions))
		for i, a := range admissions {
			wg.Go(func() { _, errs[i] = b.Runs.Admit(b.ctx(), a, chat.Admit) })
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else if !fault.Is(err, fault.Busy) {
				b.Errorf("got %v, want %s", err, fault.Busy)
			}
		}
		b.want("winners", won, 1)
		b.want("messages", len(b.all(conv)), 1)
	})

	b.run("Queue", func(b *storeBench) {
		conv := b.conversation()
		live := b.admit(b.sending(conv, "one"))
		a := b.sending(conv, "two")
		a.WhenBusy = chat.Queue
		waiting := b.admit(a)
		b.want("state", []any{waiting.Run.State, waiting.Run.Owner, waiting.Superseded}, []any{chat.Queued, "", ""})
		b.want("behind the reply to be", waiting.UserMessage.ParentID, live.Run.ID)
		b.want("branch meanwhile", contents(b.current(conv)), "one | two")
		b.finish(live.Run, chat.Completed, "1")
		b.want("branch", contents(b.current(conv)), "one | 1 | two")
		_, branch, err := b.Runs.Resume(b.ctx(), waiting.Run, 50)
		if err != nil {
			b.Fatal(err)
		}
		b.want("context of the queued run", contents(branch), "one | 1 | two")
	})

	b.run("QueueBehindAReplyThatNeverComes", func(b *storeBench) {
		conv := b.conversation()
		live := b.admit(b.sending(conv, "one"))
		a := b.sending(conv, "two")
		a.WhenBusy = chat.Queue
		waiting := b.admit(a)
		b.finish(live.Run, chat.Failed, "")
		m, _ := b.History.Message(b.ctx(), b.user, waiting.UserMessage.ID)
		b.want("moved up", m.ParentID, live.UserMessage.ID)
		b.want("branch", contents(b.current(conv)), "one | two")
	})

	b.run("Supersede", func(b *storeBench) {
		conv := b.conversation()
		live := b.admit(b.sending(conv, "one"))
		a := b.sending(conv, "two")
		a.WhenBusy = chat.Queue
		waiting := b.admit(a)
		a = b.sending(conv, "three")
		a.WhenBusy = chat.Supersede
		last := b.admit(a)
		b.want("queued behind the one that stops", []any{last.Run.State, last.Superseded}, []any{chat.Queued, live.Run.ID})
		if !b.stored(live.Run.ID).StopRequested {
			b.Error("the running reply was not asked to stop")
		}
		ended := b.stored(waiting.Run.ID)
		b.want("the waiting one ended", []any{ended.State, ended.EndedAt.IsZero()}, []any{chat.Stopped, false})
		b.want("its audit", b.audited(waiting.Run.AuditID).Status, audit.Success)
		b.finish(live.Run, chat.Stopped, "half")
		b.want("nothing said is lost", contents(b.current(conv)), "one | half | two | three")
	})
}

func textTests(b *storeBench) {
	for name, text := range map[string]string{
		"Script":      `<script>alert("x")</script>`,
		"Quotes":      `it's "quoted" \' \\ \n E'\'' ` + "`",
		"Marks":       `? ?0 ?1 $1 $$ ?? :name @p %s %[1]d -- /* */ ; DROP TABLE chat_messages; --`,
		"Emoji":       "👩‍👩‍👧‍👦 🇩🇪 e\u0301",
		"Bidi":        "שלום \u202eabc\u202c العربية",
		"Whitespace":  "\t a\r\n\n b  ",
		"Replacement": "\ufffd \ufeff \u2028",
		"Long":        strings.Repeat("ünïcödé ", 40_000),
	} {
		b.run(name, func(b *storeBench) {
			conv := b.conversation()
			a := b.sending(conv, text)
			a.Message.Metadata = b.metadata(map[string]any{"note": text, text: "key"})
			a.Run.Params.System = text
			a.Run.IdempotencyKey = "k"
			out := b.admit(a)
			b.want("params", b.stored(out.Run.ID).Params.System, text)
			points := []chat.Checkpoint{{UserID: b.user, RunID: out.Run.ID, Attempt: 1, New: reasoned(text, text)}}
			if fenced, err := b.Runs.Checkpoint(b.ctx(), "here", points); err != nil || len(fenced) > 0 {
				b.Fatalf("checkpoint: fenced %v, %v", fenced, err)
			}
			b.want("checkpoint", b.stored(out.Run.ID).Output, points[0].New)
			b.finish(out.Run, chat.Completed, text)
			list := b.all(conv)
			if len(list) != 2 || list[0].Content != text || list[1].Content != text {
				b.Errorf("the text did not come back as it was")
			}
			b.want("metadata", list[0].Metadata, a.Message.Metadata)
			if _, more, err := b.History.Messages(b.ctx(), b.user, conv, ports.Page{Limit: 1}); err != nil || !more {
				b.Errorf("page: more %v, %v", more, err)
			}
		})
	}
}
