package chat

import (
	"slices"
	"strings"
	"time"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/fault"
)

// WhenBusy says what to do with a message for a conversation that has a live run.
type WhenBusy string

const (
	Reject    WhenBusy = "reject"    // refuse with Busy
	Queue     WhenBusy = "queue"     // answer it when the live run has ended
	Supersede WhenBusy = "interrupt" // stop the live run, then answer it
)

// IdempotencyTTL is how long a key is remembered.
const IdempotencyTTL = 24 * time.Hour

// AdmitRequest asks for one reply: to a new message, to an edited one, or again
// to one that exists.
type AdmitRequest struct {
	Run Run // ID, UserID, ConversationID, Kind, Params, Background, Hold, Metadata, AuditID, key and fingerprint are set
	// Message is the user's new message; nil to regenerate or continue.
	Message *Message
	// EditOf names the user message beside which the new message is put.
	EditOf string
	// Source names the reply to regenerate or continue, or the user message to
	// answer again; "" without a Message: the end of the conversation.
	Source string
	// Leaf names the message that the new one follows; "": the thread's current end.
	Leaf string
	// View, if set, decides about the Message: it may turn out to be stored.
	View *View
	// FreshID is the id for a message whose own is that of another one; with View.
	FreshID string
	// CreateConversation makes an unknown conversation instead of refusing it.
	CreateConversation bool
	WhenBusy           WhenBusy
	// ReplayOnlyReason, if set, is the refusal for a request that is not a repeat:
	// the caller's limit is spent, but a known key is still served.
	ReplayOnlyReason error

	// AcceptFile refuses a file that the model of the reply cannot read; nil: all
	// are accepted.
	AcceptFile func(Params, Conversation, File) error

	Budget access.Budget // bounds what the user may use; Run.Hold is reserved from it

	Audit    audit.Entry   // of the request; Admit completes it
	Owner    string        // takes the lease at once; "" leaves the run queued
	Lease    time.Duration // on the database's clock
	MaxQueue int           // runs that may wait, over all users
	Context  int           // messages of the branch to return, at most
	Now      time.Time
}

// Admitted is the result of an admission.
type Admitted struct {
	Replayed     bool // the key was known: Run is the first one, in its current state
	Run          Run
	UserMessage  Message
	Conversation Conversation     // zero for the default thread
	Context      []Message        // the branch up to and including the user message, oldest first, without metadata; nil when replayed. Others may hold it: it is never changed
	Remaining    access.Remaining // of the budget, this run's hold taken off; zero when unbounded or replayed
	Superseded   string           // the live run that was asked to stop, with WhenBusy Supersede
}

// AdmitState is the stored state that an admission is decided by. A nil field
// has not been loaded.
type AdmitState struct {
	Account *Account
	Replay  *Replay
	Nodes   map[string]*Node // by id; nil: nothing has that id
	Thread  *Thread
	Branch  *Branch
	Files   map[string]*File // by id; nil: nothing has that id
	Waiting *int             // queued runs of all users, counted up to MaxQueue
}

// Account is the state of a user, and of the request's idempotency key.
type Account struct {
	KeyRun string       // the run that an earlier request with the key made; "": none
	Leaf   string       // the end of the default thread
	Usage  access.Usage // zero unless the request has a budget; what is held is what live runs hold
}

// Replay is an earlier request with the same key, in its current state.
type Replay struct {
	Run          Run
	UserMessage  *Message // nil: it is gone
	Conversation Conversation
}

// Node is a message, a run, or a run with the message that it made.
type Node struct {
	ConversationID string
	ParentID       string
	Role           Role   // of the message; "": a run that has made none
	Parts          []Part // of the message, all of them
	State          State  // of the run; "": a message that no run here has made
}

// LiveRun is a run that has not ended.
type LiveRun struct {
	ID, ParentID, AuditID string
	ConversationID        string // "": the default thread
	State                 State
	StopRequested         bool
	CreatedAt             time.Time
	Hold                  access.Hold
	Followed              bool  // a message follows it already
	OutputBytes           int64 // recorded; only for Delete
}

// Thread is a conversation, or the user's default thread, as far as an
// admission needs it.
type Thread struct {
	ID           string        // of the conversation; "": the default thread
	Conversation *Conversation // nil: it does not exist, or this is the default thread
	Live         []LiveRun     // oldest first
	Recent       []Message     // the newest messages, of any branch and in any order, without metadata
	OneBranch    bool          // Recent holds the end of the current branch alone
}

// Branch is the end of a branch that Thread.Recent does not hold, oldest first.
type Branch struct {
	Leaf     string
	Messages []Message
}

// Needs is the error with which Admit asks for state that it has not been
// given. The store loads it and calls Admit again.
type Needs struct {
	Account  bool
	Replay   string   // the id of a run
	Nodes    []string // ids
	Files    []string // ids
	Thread   bool
	ThreadID string // with Thread: the conversation; "": the default thread
	Branches bool   // with Thread: messages of any branch, not of the current one alone
	Branch   string // the id of a message; Context messages towards the root
	Waiting  bool
}

func (*Needs) Error() string { return "an admission needs more state" }

// AdmitPlan is what an admission changes, all of it or nothing.
type AdmitPlan struct {
	Result     Admitted // once the changes are durable; Replayed: there are none
	ExpiredKey string   // the run that loses its idempotency key; "": none
	Stop       []string // running runs that are asked to stop
	End        []Ending // queued runs that end
	Thread     *ThreadChange
	Message    *Message      // to insert; it refers to its Files from then on
	Run        Run           // to insert
	Lease      time.Duration // of Run, on the database's clock; 0: it has no owner
	Audit      audit.Entry   // to insert
}

// ThreadChange moves the current end of a thread.
type ThreadChange struct {
	ConversationID string        // "": the default thread
	Create         *Conversation // to insert; nil: it exists
	Title          string        // for a conversation without one; "": no change
	Leaf           string        // "": no change
	LastMessageAt  time.Time
	UpdatedAt      time.Time
}

// Admit decides a request by the state that it is given. A *Needs error names
// state to load before Admit is called again with all of it. Faults:
// Unauthenticated, Mismatch, NotFound, Conflict, Busy (Details "runId"),
// QueueFull, OverBudget, Invalid, and the request's ReplayOnlyReason.
func Admit(request AdmitRequest, state AdmitState) (AdmitPlan, error) {
	a := admission{AdmitRequest: request, state: state, run: request.Run, now: micros(request.Now)}
	if a.run.UserID == "" {
		return AdmitPlan{}, fault.New(fault.Unauthenticated, "Authentication required")
	}
	if state.Account == nil {
		return AdmitPlan{}, a.firstNeeds()
	}
	if known, err := a.replay(); err != nil || known {
		return a.plan, err
	}
	if a.ReplayOnlyReason != nil {
		return AdmitPlan{}, a.ReplayOnlyReason
	}
	for _, step := range []func() error{
		a.resolveTarget, a.checkIDs, a.checkThread, a.checkFiles, a.checkBusy, a.checkQueueCapacity, a.checkBudget, a.linkParent,
	} {
		if err := step(); err != nil {
			return AdmitPlan{}, err
		}
	}
	a.complete()
	return a.plan, nil
}

// admission is one call of Admit. Its steps fill the fields below.
type admission struct {
	AdmitRequest
	state AdmitState
	now   time.Time

	run     Run
	message *Message
	conv    Conversation // zero for the default thread
	created bool         // conv is new
	live    []LiveRun    // what is left of the thread's live runs
	placed  bool         // the message's parent is known
	branch  []Message    // up to and including the user message
	plan    AdmitPlan
}

// firstNeeds is what the request alone says that its decision needs.
func (a *admission) firstNeeds() *Needs {
	n := &Needs{Account: true}
	if a.ReplayOnlyReason != nil {
		return n
	}
	n.Waiting = a.Owner == ""
	n.Thread = a.run.ConversationID != "" || a.Message != nil && a.EditOf == ""
	n.ThreadID = a.run.ConversationID
	n.Nodes = []string{a.run.ID}
	if a.Message != nil {
		n.Nodes = append(n.Nodes, a.Message.ID, ScopedID(a.run.ConversationID, a.Message.ID))
		n.Files = a.Message.Files()
	}
	shown := ""
	if v := a.View; v != nil {
		if len(v.Before) > 0 && ValidID(v.Before[len(v.Before)-1].ID) {
			shown = v.Before[len(v.Before)-1].ID
		}
		if ValidID(v.Reply) {
			n.Nodes = append(n.Nodes, a.forms(v.Reply)...)
		}
	}
	for _, id := range []string{a.EditOf, a.Source, shown} {
		if id != "" {
			n.Nodes = append(n.Nodes, a.forms(id)...)
		}
	}
	return n
}

// replay serves a repeated request with what the first one led to.
func (a *admission) replay() (known bool, err error) {
	id := a.state.Account.KeyRun
	if id == "" {
		return false, nil
	}
	first := a.state.Replay
	if first == nil {
		return false, &Needs{Replay: id}
	}
	switch {
	case a.now.Sub(first.Run.CreatedAt) >= IdempotencyTTL:
		a.plan.ExpiredKey = id
		return false, nil
	case first.Run.Fingerprint != a.run.Fingerprint:
		return false, fault.New(fault.Mismatch, "This idempotency key was used for a different request")
	case first.UserMessage == nil:
		return false, MessageNotFound()
	}
	a.plan.Result = Admitted{Replayed: true, Run: first.Run, UserMessage: *first.UserMessage, Conversation: first.Conversation}
	return true, nil
}

// checkIDs refuses ids that are in use. Ids of clients may count per
// conversation: a message whose id another thread uses is stored under its
// scoped id. A message and a run never share an id: the run's will be its
// message's.
func (a *admission) checkIDs() error {
	if err := a.need(a.run.ID); err != nil {
		return err
	}
	taken := a.state.Nodes[a.run.ID] != nil
	if m := a.message; m != nil {
		scoped := ScopedID(a.run.ConversationID, m.ID)
		if err := a.need(m.ID, scoped); err != nil {
			return err
		}
		other := a.state.Nodes[m.ID]
		switch {
		case a.state.Nodes[scoped] != nil, other != nil && other.ConversationID == a.run.ConversationID:
			taken = true
		case other != nil:
			m.ID = scoped
		}
	}
	if taken {
		return fault.New(fault.Conflict, "This message ID is already in use")
	}
	return nil
}

// checkFiles refuses files that the user does not have, and takes what is known
// of the others from the store: a client's word for a type counts nothing.
func (a *admission) checkFiles() error {
	if a.message == nil {
		return nil
	}
	ids := a.message.Files()
	for _, id := range ids {
		if _, known := a.state.Files[id]; !known {
			return &Needs{Files: ids}
		}
	}
	a.message.Parts = slices.Clone(a.message.Parts)
	for i, p := range a.message.Parts {
		if p.Kind != FilePart {
			continue
		}
		f := a.state.Files[p.ID]
		if f == nil || f.State != FileReady {
			return FileNotFound()
		}
		if a.AcceptFile != nil {
			if err := a.AcceptFile(a.run.Params, a.conv, *f); err != nil {
				return err
			}
		}
		a.message.Parts[i] = Part{Kind: FilePart, ID: f.ID, Name: f.Name, MediaType: f.MediaType, Size: f.Size}
	}
	return nil
}

// need asks for the nodes of ids that have not been looked up.
func (a *admission) need(ids ...string) error {
	for _, id := range ids {
		if _, known := a.state.Nodes[id]; !known {
			return &Needs{Nodes: ids}
		}
	}
	return nil
}

// forms lists the ids under which a message that a client names may be stored,
// the narrower one first. A request without a conversation means one of the
// default thread, or else any that has the id.
func (a *admission) forms(id string) []string {
	return []string{ScopedID(a.run.ConversationID, id), id}
}

// find returns the node that a client names.
func (a *admission) find(name string) (id string, n *Node, err error) {
	forms := a.forms(name)
	if err := a.need(forms...); err != nil {
		return "", nil, err
	}
	for _, id := range forms {
		if n := a.state.Nodes[id]; n != nil {
			return id, n, nil
		}
	}
	return "", nil, MessageNotFound()
}

// checkBusy applies WhenBusy: one live reply per conversation, any number in
// the default thread. It decides whether the run starts at once.
func (a *admission) checkBusy() error {
	a.run.State = Running
	if a.Owner == "" {
		a.run.State = Queued
	}
	if a.run.ConversationID == "" || len(a.live) == 0 {
		return nil
	}
	switch a.WhenBusy {
	case Queue:
		a.run.State = Queued
	case Supersede:
		a.supersede()
	default:
		current := a.live[0]
		for _, r := range a.live {
			if r.State == Running {
				current = r
			}
		}
		return fault.New(fault.Busy, "A reply is already being made in this conversation").With("runId", current.ID)
	}
	return nil
}

// supersede asks the running reply to stop and ends those that wait.
func (a *admission) supersede() {
	var kept []LiveRun
	for _, r := range a.live {
		if stop := Stop(r, a.now); stop.End != nil {
			a.plan.End = append(a.plan.End, *stop.End)
			continue
		}
		kept = append(kept, r)
		a.plan.Stop = append(a.plan.Stop, r.ID)
		a.plan.Result.Superseded = r.ID
		a.run.State = Queued
	}
	if len(kept) == 0 {
		a.plan.Result.Superseded = a.live[0].ID
	}
	a.live = kept
}

// checkQueueCapacity refuses a run that would have to wait when enough do.
func (a *admission) checkQueueCapacity() error {
	if a.run.State != Queued {
		return nil
	}
	if a.state.Waiting == nil {
		return &Needs{Waiting: true}
	}
	if *a.state.Waiting >= a.MaxQueue {
		return fault.New(fault.QueueFull, "Too many replies are waiting; please try again").After(5 * time.Second)
	}
	return nil
}

// checkBudget refuses a run whose hold the user's budget does not cover.
func (a *admission) checkBudget() error {
	if a.Budget == (access.Budget{}) {
		return nil
	}
	usage := a.state.Account.Usage
	usage.Live -= len(a.plan.Stop) + len(a.plan.End) // this run takes their place
	if err := a.Budget.Admits(usage, a.run.Hold, a.now); err != nil {
		return err
	}
	a.plan.Result.Remaining = a.Budget.Remaining(usage.Add(a.run.Hold), a.now)
	return nil
}

// complete fills the plan.
func (a *admission) complete() {
	run := &a.run
	run.CreatedAt = a.now
	run.StopRequested, run.Attempt, run.Owner, run.LeaseUntil = false, 0, "", time.Time{}
	if run.State == Running {
		run.Attempt, run.Owner, run.StartedAt = 1, a.Owner, a.now
		run.LeaseUntil = a.now.Add(a.Lease)
		a.plan.Lease = a.Lease
	}
	a.plan.Audit = a.auditEntry()
	switch {
	case a.message != nil:
		a.plan.Message, a.plan.Thread = a.message, a.threadChange()
	case a.View != nil && a.conv.LeafID != run.ParentID: // the client shows it as the end
		a.conv.LeafID, a.conv.UpdatedAt = run.ParentID, a.now
		a.plan.Thread = &ThreadChange{ConversationID: a.conv.ID, Leaf: run.ParentID, LastMessageAt: a.conv.LastMessageAt, UpdatedAt: a.now}
	}
	a.plan.Run = *run
	a.plan.Result.Run, a.plan.Result.Context = *run, a.branch
	if a.plan.Result.UserMessage = a.branch[len(a.branch)-1]; a.message != nil {
		a.plan.Result.UserMessage = *a.message
	}
	a.plan.Result.Conversation = a.conv
}

// threadChange makes the new message the end of its thread.
func (a *admission) threadChange() *ThreadChange {
	m := a.message
	change := &ThreadChange{ConversationID: m.ConversationID, Leaf: m.ID, LastMessageAt: m.CreatedAt, UpdatedAt: a.now}
	if m.ConversationID == "" {
		return change
	}
	a.conv.LeafID, a.conv.LastMessageAt, a.conv.UpdatedAt = m.ID, m.CreatedAt, a.now
	if a.conv.Title == "" {
		a.conv.Title = TitleFrom(m.Content)
		change.Title = a.conv.Title
	}
	if a.created {
		created := a.conv
		change.Create = &created
	}
	return change
}

// auditEntry is the request's entry with what only the decision knows.
func (a *admission) auditEntry() audit.Entry {
	e := a.Audit
	e.ID, e.UserID, e.Status, e.Action = a.run.AuditID, a.run.UserID, audit.Pending, a.action()
	if e.ID == "" {
		e.ID = a.run.ID
		a.run.AuditID = e.ID
	}
	metadata := map[string]any{"conversationId": nil, "role": string(User)}
	for k, v := range e.Metadata {
		metadata[k] = v
	}
	if a.run.ConversationID != "" {
		metadata["conversationId"] = a.run.ConversationID
	}
	if a.created {
		metadata["conversationCreated"] = true
	}
	e.Metadata = metadata
	switch {
	case a.message != nil:
		e.ResourceID = a.message.ID
	case a.Source != "":
		e.ResourceID = a.Source
	}
	e.CreatedAt, e.UpdatedAt = a.now, a.now
	return e
}

// ScopedID is the id under which a message is stored when the id that its
// client gave it is used in another thread of the same user. A slash is in no
// id that a client can give.
func ScopedID(conversation, id string) string { return conversation + "/" + id }

// ClientID is the id of a message as its client knows it.
func ClientID(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }
