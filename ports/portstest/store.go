package portstest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// StoreBundle is a store under test.
type StoreBundle struct {
	Runs     ports.Runs
	History  ports.History
	Audit    ports.Audit
	Accounts ports.Accounts
	Feedback ports.Feedback
	Shares   ports.Shares
	Expiry   ports.Expiry
	Search   ports.Search
	Switches ports.Switches
	// Entries reads a user's audit entries, oldest first: no port does.
	Entries func(t testing.TB, user string) []audit.Entry
}

// Store holds every store to the same contract. open returns a new, empty,
// migrated store that lives as long as the test.
func Store(t *testing.T, open func(t testing.TB) StoreBundle) {
	shared := open(t)
	// These tests keep to users of their own and so share one store.
	for name, test := range map[string]func(*storeBench){
		"Admit":         admitTests,
		"Idempotency":   idempotencyTests,
		"Busy":          busyTests,
		"Tree":          treeTests,
		"Finish":        finishTests,
		"Stop":          stopTests,
		"Recent":        recentTests,
		"Conversations": conversationTests,
		"Messages":      messageTests,
		"Isolation":     isolationTests,
		"Audit":         auditTests,
		"Text":          textTests,
		"Parts":         partsTests,
		"Output":        outputTests,
		"Usage":         usageTests,
		"Feedback":      feedbackTests,
		"Shares":        shareTests,
		"Search":        searchTests,
		"Switches":      switchTests,
	} {
		t.Run(name, func(t *testing.T) { test(newStoreBench(t, shared)) })
	}
	// These look at the runs of all users.
	for name, test := range map[string]func(*storeBench){
		"Lease": leaseTests,
		"Claim": claimTests,
		"Queue": queueTests,
	} {
		t.Run(name, func(t *testing.T) { test(newStoreBench(t, open(t))) })
	}
}

// storeBench is one user before a store, and the shorthand of the tests.
type storeBench struct {
	*testing.T
	StoreBundle
	user string
	now  time.Time
}

var storeIDs atomic.Int64

// newID returns an id that sorts behind the earlier ones.
func newID(prefix string) string { return fmt.Sprintf("%s-%06d", prefix, storeIDs.Add(1)) }

func newStoreBench(t *testing.T, bundle StoreBundle) *storeBench {
	return &storeBench{T: t, StoreBundle: bundle, user: newID("user"), now: time.Now().UTC().Truncate(time.Microsecond)}
}

// run is t.Run for a new user.
func (b *storeBench) run(name string, test func(*storeBench)) {
	b.Helper()
	b.Run(name, func(t *testing.T) { test(newStoreBench(t, b.StoreBundle)) })
}

func (b *storeBench) ctx() context.Context { return b.Context() }

// tick moves the bench's clock and returns it.
func (b *storeBench) tick() time.Time {
	b.now = b.now.Add(time.Millisecond)
	return b.now
}

// sending is the admission of a new message, as a use case would build it.
func (b *storeBench) sending(conversation, content string) chat.AdmitRequest {
	now := b.tick()
	run := chat.Run{
		ID: newID("run"), UserID: b.user, ConversationID: conversation, Kind: chat.Reply,
		AuditID: newID("audit"), CreatedAt: now, Fingerprint: content,
	}
	message := &chat.Message{ID: newID("msg"), UserID: b.user, ConversationID: conversation, Role: chat.User, Content: content, CreatedAt: now}
	return chat.AdmitRequest{
		Run: run, Message: message, WhenBusy: chat.Reject,
		Audit: audit.Entry{
			ID: run.AuditID, UserID: b.user, Action: audit.ActionMessageSent, Resource: audit.ResourceMessage,
			ResourceID: message.ID, Caller: access.Caller{IP: "192.0.2.1", UserAgent: "test"}, Status: audit.Pending,
			CreatedAt: now, UpdatedAt: now,
		},
		Owner: "here", Lease: time.Minute, MaxQueue: 100, Context: 50, Now: now,
	}
}

// again is the admission of another reply, or the rest of one.
func (b *storeBench) again(kind chat.Kind, source string) chat.AdmitRequest {
	a := b.sending("", "")
	a.Run.Kind, a.Message, a.Source = kind, nil, source
	a.Audit.Action, a.Audit.ResourceID = audit.ActionReplyRegenerated, source
	return a
}

func (b *storeBench) admit(a chat.AdmitRequest) chat.Admitted {
	b.Helper()
	out, err := b.Runs.Admit(b.ctx(), a, chat.Admit)
	if err != nil {
		b.Fatalf("admit: %v", err)
	}
	return out
}

func (b *storeBench) refused(a chat.AdmitRequest, kind fault.Kind) *fault.Error {
	b.Helper()
	out, err := b.Runs.Admit(b.ctx(), a, chat.Admit)
	if !fault.Is(err, kind) {
		b.Fatalf("admit: got %+v, %v; want %s", out.Run, err, kind)
	}
	return fault.As(err)
}

// outcome is the end of a run in one state with one text.
func (b *storeBench) outcome(run chat.Run, state chat.State, text string) chat.Outcome {
	o := chat.Outcome{
		UserID: run.UserID, RunID: run.ID, Attempt: run.Attempt, ConversationID: run.ConversationID, ParentID: run.ParentID,
		AuditID: run.AuditID, State: state, Output: chat.TextOutput(text), Provider: "demo", Model: "parrot", At: b.tick(),
	}
	if state == chat.Failed {
		o.Failure = "PROVIDER_FAILED"
	}
	return o
}

func (b *storeBench) finish(run chat.Run, state chat.State, text string) {
	b.Helper()
	if _, err := b.Runs.Finish(b.ctx(), b.outcome(run, state, text), chat.Finish); err != nil {
		b.Fatalf("finish: %v", err)
	}
}

// reasoned is the output of a model that reasons first.
func reasoned(reasoning, text string) chat.Output {
	return chat.OutputOf(chat.Part{Kind: chat.ReasoningPart, Text: reasoning}, chat.Part{Kind: chat.TextPart, Text: text})
}

// end is what comes of an attempt to end a run.
func (b *storeBench) end(o chat.Outcome) error {
	b.Helper()
	_, err := b.Runs.Finish(b.ctx(), o, chat.Finish)
	return err
}

// say sends a message and gets a whole reply to it. It returns both.
func (b *storeBench) say(conversation, content string) (asked chat.Message, run chat.Run) {
	b.Helper()
	out := b.admit(b.sending(conversation, content))
	b.finish(out.Run, chat.Completed, "re: "+content)
	return out.UserMessage, out.Run
}

// conversation makes an empty one and returns its id.
func (b *storeBench) conversation() string {
	b.Helper()
	c, err := b.History.CreateConversation(b.ctx(), chat.Conversation{ID: newID("conv"), UserID: b.user, CreatedAt: b.tick()}, b.entry(audit.ActionConversationCreated))
	if err != nil {
		b.Fatalf("create conversation: %v", err)
	}
	return c.ID
}

func (b *storeBench) entry(action string) audit.Entry {
	return audit.Entry{
		ID: newID("audit"), UserID: b.user, Action: action, Resource: audit.ResourceConversation,
		Status: audit.Success, CreatedAt: b.now, UpdatedAt: b.now,
	}
}

func (b *storeBench) stored(id string) chat.Run {
	b.Helper()
	run, err := b.Runs.Run(b.ctx(), b.user, id)
	if err != nil {
		b.Fatalf("run %s: %v", id, err)
	}
	return run
}

// all reads a whole thread, oldest first.
func (b *storeBench) all(conversation string) []chat.Message {
	b.Helper()
	list, more, err := b.History.Messages(b.ctx(), b.user, conversation, ports.Page{Limit: 1000})
	if err != nil || more {
		b.Fatalf("messages: more %v, %v", more, err)
	}
	return list
}

// current reads the current branch, oldest first.
func (b *storeBench) current(conversation string) []chat.Message {
	b.Helper()
	list, more, err := b.History.Branch(b.ctx(), b.user, conversation, "current", 1000)
	if err != nil || more {
		b.Fatalf("branch: more %v, %v", more, err)
	}
	return list
}

// audited returns the user's entry of that id.
func (b *storeBench) audited(id string) audit.Entry {
	b.Helper()
	for _, e := range b.Entries(b.T, b.user) {
		if e.ID == id {
			return e
		}
	}
	b.Fatalf("no audit entry %s", id)
	return audit.Entry{}
}

// metadata is that of a message.
func (b *storeBench) metadata(m map[string]any) json.RawMessage {
	b.Helper()
	text, err := chat.EncodeMetadata(m)
	if err != nil {
		b.Fatal(err)
	}
	return text
}

// contents joins what messages say.
func contents(list []chat.Message) string {
	var parts []string
	for _, m := range list {
		parts = append(parts, m.Content)
	}
	return strings.Join(parts, " | ")
}

func messageIDs(list []chat.Message) (ids []string) {
	for _, m := range list {
		ids = append(ids, m.ID)
	}
	return ids
}

func runIDs(list []chat.Run) (ids []string) {
	for _, r := range list {
		ids = append(ids, r.ID)
	}
	return ids
}

// want compares what a test got.
func (b *storeBench) want(what string, got, want any) {
	b.Helper()
	if diff := diff(want, got); diff != "" {
		b.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// wantKind asserts the kind of an error.
func (b *storeBench) wantKind(what string, err error, kind fault.Kind) {
	b.Helper()
	if !fault.Is(err, kind) {
		b.Errorf("%s: got %v, want %s", what, err, kind)
	}
}
