package chat_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
)

// world carries plans out in memory, for one user: a store without a database.
// It has no rule of its own.
type world struct {
	t        tester
	now      time.Time
	n        int
	runs     []chat.Run
	messages []chat.Message
	convs    map[string]chat.Conversation
	leaf     string
	usage    map[string]access.Spent // by day
	entries  map[string]audit.Entry
	files    map[string]*chat.File
	waiting  int // of other users

	keepsEnds bool // of conversations, so that other branches are not loaded
	loads     int  // rounds of the last admission
}

// tester is what testing.T and rapid.T have in common.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func newWorld(t tester) *world {
	return &world{
		t: t, now: time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC),
		convs: map[string]chat.Conversation{}, usage: map[string]access.Spent{}, entries: map[string]audit.Entry{},
	}
}

func (w *world) id(prefix string) string {
	w.n++
	return fmt.Sprintf("%s%03d", prefix, w.n)
}

func (w *world) tick() time.Time {
	w.now = w.now.Add(time.Millisecond)
	return w.now
}

// conversation makes an empty conversation.
func (w *world) conversation() string {
	id := w.id("conv")
	w.convs[id] = chat.Conversation{ID: id, UserID: "ann", CreatedAt: w.tick(), LastMessageAt: w.now}
	return id
}

// sending is the request for a reply to a new message.
func (w *world) sending(conversation, content string) chat.AdmitRequest {
	now := w.tick()
	r := chat.AdmitRequest{
		Run:     chat.Run{ID: w.id("run"), UserID: "ann", ConversationID: conversation, Kind: chat.Reply, Fingerprint: content, Hold: access.Hold{Tokens: 100, Micros: 1000}},
		Message: &chat.Message{ID: w.id("msg"), Content: content, CreatedAt: now},
		Audit:   audit.Entry{Action: audit.ActionMessageSent, Resource: audit.ResourceMessage},
		Owner:   "here", Lease: time.Minute, MaxQueue: 100, Context: 50, Now: now,
	}
	r.Run.AuditID = w.id("audit")
	return r
}

// again is the request for another reply, or the rest of one.
func (w *world) again(kind chat.Kind, source string) chat.AdmitRequest {
	r := w.sending("", "")
	r.Run.Kind, r.Message, r.Source = kind, nil, source
	return r
}

func (w *world) run(id string) *chat.Run {
	for i := range w.runs {
		if w.runs[i].ID == id {
			return &w.runs[i]
		}
	}
	return nil
}

func (w *world) message(id string) *chat.Message {
	for i := range w.messages {
		if w.messages[i].ID == id {
			return &w.messages[i]
		}
	}
	return nil
}

func (w *world) followed(id string) bool {
	return slices.ContainsFunc(w.messages, func(m chat.Message) bool { return m.ParentID == id })
}

// thread returns the messages of a thread, oldest first.
func (w *world) thread(conversation string) []chat.Message {
	list := slices.DeleteFunc(slices.Clone(w.messages), func(m chat.Message) bool { return m.ConversationID != conversation })
	slices.SortStableFunc(list, func(a, b chat.Message) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return list
}

func (w *world) live(conversation string) (list []chat.LiveRun) {
	for _, r := range w.runs {
		if r.ConversationID == conversation && !r.State.Terminal() {
			list = append(list, chat.LiveRun{
				ID: r.ID, ParentID: r.ParentID, AuditID: r.AuditID, State: r.State, StopRequested: r.StopRequested,
				CreatedAt: r.CreatedAt, Hold: r.Hold, Followed: w.followed(r.ID), OutputBytes: int64(r.Output.Len()),
			})
		}
	}
	return list
}

// current is the branch that a thread ends with.
func (w *world) current(conversation string) []chat.Message {
	leaf := w.leaf
	if conversation != "" {
		leaf = w.convs[conversation].LeafID
	}
	path, whole := chat.NewTree(w.thread(conversation), w.live(conversation)).Path(leaf, 1000)
	if !whole {
		w.t.Fatalf("the branch to %s has a hole", leaf)
	}
	return path
}

// load adds what an admission asks for, as narrowly as a store may.
func (w *world) load(r chat.AdmitRequest, n *chat.Needs, s *chat.AdmitState) {
	if n.Account {
		a := chat.Account{Leaf: w.leaf}
		for _, run := range w.runs {
			if run.IdempotencyKey != "" && run.IdempotencyKey == r.Run.IdempotencyKey {
				a.KeyRun = run.ID
			}
		}
		a.Usage = w.account(r.Now)
		s.Account = &a
	}
	if n.Replay != "" {
		run := *w.run(n.Replay)
		s.Replay = &chat.Replay{Run: run, UserMessage: w.message(run.ParentID), Conversation: w.convs[run.ConversationID]}
	}
	if s.Nodes == nil {
		s.Nodes = map[string]*chat.Node{}
	}
	for _, id := range n.Nodes {
		s.Nodes[id] = w.node(id)
	}
	if s.Files == nil {
		s.Files = map[string]*chat.File{}
	}
	for _, id := range n.Files {
		s.Files[id] = w.files[id]
	}
	if n.Thread {
		t := &chat.Thread{ID: n.ThreadID, Live: w.live(n.ThreadID)}
		if c, ok := w.convs[n.ThreadID]; ok {
			t.Conversation = &c
		}
		all := w.thread(n.ThreadID)
		if t.OneBranch = w.keepsEnds && !n.Branches && t.Conversation != nil; t.OneBranch { // what a store may have kept: the current branch alone
			all = w.current(n.ThreadID)
		}
		t.Recent = slices.Clone(all[max(0, len(all)-r.Context):])
		if w.n%2 == 0 { // they come in any order
			slices.Reverse(t.Recent)
		}
		s.Thread = t
	}
	if n.Branch != "" {
		path, _ := chat.NewTree(w.thread(s.Thread.ID), w.live(s.Thread.ID)).Path(n.Branch, r.Context)
		s.Branch = &chat.Branch{Leaf: n.Branch, Messages: path}
	}
	if n.Waiting {
		waiting := w.waiting
		for _, run := range w.runs {
			if run.State == chat.Queued {
				waiting++
			}
		}
		s.Waiting = &waiting
	}
}

func (w *world) node(id string) *chat.Node {
	run, m := w.run(id), w.message(id)
	var n chat.Node
	switch {
	case run == nil && m == nil:
		return nil
	case run != nil:
		n = chat.Node{ConversationID: run.ConversationID, ParentID: run.ParentID, State: run.State}
	}
	if m != nil {
		n.ConversationID, n.ParentID, n.Role, n.Parts = m.ConversationID, m.ParentID, m.Role, m.AllParts()
	}
	return &n
}

// admit decides a request and carries the plan out.
func (w *world) admit(r chat.AdmitRequest) (chat.Admitted, error) {
	plan, err := w.decide(r)
	if err == nil && !plan.Result.Replayed {
		w.save(plan)
	}
	return plan.Result, err
}

func (w *world) decide(r chat.AdmitRequest) (chat.AdmitPlan, error) {
	var state chat.AdmitState
	for w.loads = 0; ; w.loads++ {
		plan, err := chat.Admit(r, state)
		var needs *chat.Needs
		if !errors.As(err, &needs) {
			return plan, err
		}
		if w.loads == 5 {
			w.t.Fatalf("an admission asks for ever: %+v", needs)
		}
		w.load(r, needs, &state)
	}
}

func (w *world) save(p chat.AdmitPlan) {
	if p.ExpiredKey != "" {
		w.run(p.ExpiredKey).IdempotencyKey = ""
	}
	for _, id := range p.Stop {
		w.run(id).StopRequested = true
	}
	for _, e := range p.End {
		w.end(e)
	}
	w.move(p.Thread)
	if p.Message != nil {
		w.messages = append(w.messages, *p.Message)
	}
	w.runs = append(w.runs, p.Run)
	w.entries[p.Audit.ID] = p.Audit
}

func (w *world) end(e chat.Ending) {
	run := w.run(e.RunID)
	if !run.State.CanBecome(e.State) {
		w.t.Fatalf("%s goes from %s to %s", e.RunID, run.State, e.State)
	}
	run.State, run.EndedAt, run.Output = e.State, e.At, ""
	if e.Reparent != "" {
		for i, m := range w.messages {
			if m.ParentID == e.RunID {
				w.messages[i].ParentID = e.Reparent
			}
		}
	}
	w.complete(e.Audit)
	w.use(e.Settle)
}

func (w *world) complete(a chat.AuditEnd) {
	e := w.entries[a.ID]
	if e.Status != audit.Pending {
		w.t.Fatalf("entry %s ends twice", a.ID)
	}
	e.Status, e.Error, e.UpdatedAt = a.Status, a.Error, a.At
	w.entries[a.ID] = e
}

// account is what the user has used and holds.
func (w *world) account(at time.Time) (u access.Usage) {
	for _, run := range w.runs {
		if !run.State.Terminal() {
			u = u.Add(run.Hold)
		}
	}
	u.Day = u.Day.Plus(w.usage[access.Day(at)])
	for day, spent := range w.usage {
		if strings.HasPrefix(day, access.Month(at)) {
			u.Month = u.Month.Plus(spent)
		}
	}
	return u
}

func (w *world) use(c chat.UsageChange) {
	w.usage[c.Day] = w.usage[c.Day].Plus(access.Spent{Tokens: c.Tokens, Micros: c.Micros, Replies: c.Replies})
}

func (w *world) move(c *chat.ThreadChange) {
	switch {
	case c == nil:
	case c.ConversationID == "":
		if c.Leaf != "" {
			w.leaf = c.Leaf
		}
	case c.Create != nil:
		w.convs[c.ConversationID] = *c.Create
	default:
		conv := w.convs[c.ConversationID]
		if c.Leaf != "" {
			conv.LeafID = c.Leaf
		}
		if conv.Title == "" {
			conv.Title = c.Title
		}
		conv.LastMessageAt, conv.UpdatedAt = c.LastMessageAt, c.UpdatedAt
		w.convs[c.ConversationID] = conv
	}
}

// finish ends a run with a text.
func (w *world) finish(id string, state chat.State, text string) error {
	return w.finishWith(id, func(o *chat.Outcome) { o.State, o.Output = state, chat.TextOutput(text) })
}

func (w *world) finishWith(id string, change func(*chat.Outcome)) error {
	var s chat.FinishState
	o := chat.Outcome{UserID: "ann", RunID: id, State: chat.Completed, At: w.tick(), Usage: chat.Usage{Input: 10, Output: 5}}
	if run := w.run(id); run != nil {
		copied := *run
		o.Attempt = run.Attempt
		s = chat.FinishState{Run: &copied, Followed: w.followed(id), LastMessageAt: w.convs[run.ConversationID].LastMessageAt}
		s.Waiting = run.ConversationID != "" && len(w.live(run.ConversationID)) > 1
		if m := w.message(run.ParentID); m != nil {
			s.AskedAt = m.CreatedAt
		}
	}
	change(&o)
	plan, err := chat.Finish(o, s)
	if err != nil {
		return err
	}
	w.end(plan.End)
	if plan.Message != nil {
		w.messages = append(w.messages, *plan.Message)
	}
	w.move(plan.Thread)
	return nil
}

// claim gives the oldest queued run of a thread without a running one an owner.
func (w *world) claim(conversation string) bool {
	for _, r := range w.live(conversation) {
		if conversation != "" && r.State == chat.Running {
			return false
		}
		if r.State == chat.Queued {
			run := w.run(r.ID)
			if !run.State.CanBecome(chat.Running) {
				w.t.Fatalf("%s cannot run", run.State)
			}
			run.State, run.Attempt = chat.Running, run.Attempt+1
			return true
		}
	}
	return false
}

// must admits a request that is not refused.
func (w *world) must(r chat.AdmitRequest) chat.Admitted {
	w.t.Helper()
	out, err := w.admit(r)
	if err != nil {
		w.t.Fatalf("admit: %v", err)
	}
	return out
}

// say sends a message and ends its reply with "re: " and the message.
func (w *world) say(conversation, content string) chat.Admitted {
	w.t.Helper()
	out := w.must(w.sending(conversation, content))
	if err := w.finish(out.Run.ID, chat.Completed, "re: "+content); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// refused admits a request that is refused.
func (w *world) refused(r chat.AdmitRequest, kind fault.Kind) *fault.Error {
	w.t.Helper()
	out, err := w.admit(r)
	if !fault.Is(err, kind) {
		w.t.Fatalf("got %+v, %v; want %s", out.Run, err, kind)
	}
	return fault.As(err)
}
