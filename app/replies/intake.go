package replies

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// Send is the input for a new message.
type Send struct {
	Principal          access.Principal
	Caller             access.Caller
	MessageID          string // the client's own id for the message, optional; repeats of it are recognised
	ConversationID     string // "": the default thread
	CreateConversation bool   // an unknown conversation is made rather than refused
	Leaf               string // the message to answer to; "": the end of the current branch
	// View, if set, says what the client shows before the message. It decides
	// whether the message is new, an edit, or a stored one to answer again.
	View             *chat.View
	Content          string      // the text, unless there are Parts
	Parts            []chat.Part // nil: Content is all there is
	Metadata         map[string]any
	Params           chat.Params
	Background       bool // queued for any instance; the caller does not wait
	Streamed         bool // the caller reads the reply while it is made: its metadata says so
	WhenBusy         chat.WhenBusy
	Key              string // idempotency key, optional
	ReplayOnlyReason error  // the refusal unless this is a repeat
}

// Edit is the input for a message that replaces an earlier one as its sibling.
type Edit struct {
	Send
	Target string // the user message to edit
}

// RegenerateInput asks for another reply, or the rest of one.
type RegenerateInput struct {
	Principal access.Principal
	Caller    access.Caller
	// ConversationID is where Target has to be; "": anywhere.
	ConversationID string
	// Target is the assistant message, the run that left none or, to regenerate,
	// the user message that wants a reply; "": the end of the conversation.
	Target           string
	Params           chat.Params
	Background       bool
	Streamed         bool // as in Send
	WhenBusy         chat.WhenBusy
	Key              string
	ReplayOnlyReason error
}

// Accepted is an admitted message and the run that answers it.
type Accepted struct {
	UserMessage chat.Message
	Run         chat.Run
	Replayed    bool             // the key was known; Run is the first one
	Remaining   access.Remaining // of the user's budget
}

// Send admits a message. When it returns without error the message and its run
// are durable, and the run goes on if the caller disconnects.
func (s *Service) Send(ctx context.Context, in Send) (Accepted, error) {
	return s.accept(ctx, in, audit.ActionMessageSent, "")
}

// Edit admits a message as a sibling of Target, which must be in the conversation
// if one is named. The new branch becomes current.
func (s *Service) Edit(ctx context.Context, in Edit) (Accepted, error) {
	if !chat.ValidID(in.Target) {
		return Accepted{}, chat.MessageNotFound()
	}
	in.Leaf, in.CreateConversation = "", false
	return s.accept(ctx, in.Send, audit.ActionMessageEdited, in.Target)
}

func (s *Service) accept(ctx context.Context, in Send, action, editOf string) (Accepted, error) {
	if err := validateSend(in); err != nil {
		return Accepted{}, err
	}
	if err := s.accepts(in.Params); err != nil {
		return Accepted{}, err
	}
	now := s.Now()
	user := in.Principal.UserID
	metadata, err := chat.EncodeMetadata(in.Metadata)
	if err != nil {
		return Accepted{}, err
	}
	message := chat.Message{
		ID: in.MessageID, UserID: user, ConversationID: in.ConversationID, Role: chat.User,
		Content: in.Content, Metadata: metadata, CreatedAt: now,
	}
	if in.Parts != nil {
		message.SetParts(in.Parts)
	}
	if message.ID == "" {
		message.ID = s.NewID()
	}
	key := in.Key
	request := []any{action, editOf, in.ConversationID, in.Leaf, in.MessageID, message.Content, message.Parts, in.Metadata, in.Params}
	fresh := ""
	switch v := in.View; {
	case v != nil:
		fresh = s.NewID()
		request = append(request, v.Edit, v.Again, v.Reply, v.Before[max(0, len(v.Before)-1):])
		if key == "" && in.MessageID != "" && !v.Edit && !v.Again {
			key = messageKey(in, "") + "/" + fingerprint(request...) // another text under the same id is an edit
		}
	case key == "" && in.MessageID != "":
		key = messageKey(in, editOf)
	}
	run := s.newRun(ctx, user, chat.Reply, in.Params, in.Background, in.Streamed, key, now)
	run.ConversationID = in.ConversationID
	if err := s.reserveMax(&run, in.Principal, message); err != nil {
		return Accepted{}, err
	}
	run.Fingerprint = fingerprint(request...)
	return s.submit(ctx, chat.AdmitRequest{
		Run: run, Message: &message, EditOf: editOf, Leaf: in.Leaf, View: in.View, FreshID: fresh,
		CreateConversation: in.CreateConversation, WhenBusy: in.WhenBusy, ReplayOnlyReason: in.ReplayOnlyReason,
		AcceptFile: s.acceptFile, Budget: s.budget(in.Principal), Audit: s.auditEntry(run, in.Caller, action, message.ID),
	})
}

// Regenerate asks for another reply to the message that Target answers.
func (s *Service) Regenerate(ctx context.Context, in RegenerateInput) (Accepted, error) {
	return s.retry(ctx, in, chat.Regeneration, audit.ActionReplyRegenerated)
}

// Continue asks for the rest of a reply that was stopped or interrupted. The
// new message begins with the text of the old one and is its sibling.
func (s *Service) Continue(ctx context.Context, in RegenerateInput) (Accepted, error) {
	return s.retry(ctx, in, chat.Continuation, audit.ActionReplyContinued)
}

func (s *Service) retry(ctx context.Context, in RegenerateInput, kind chat.Kind, action string) (Accepted, error) {
	asked := in.Target
	if asked == "" && in.ConversationID != "" {
		asked = "the end of " + in.ConversationID // which moves: a repeat is known by what was asked
	} else if !chat.ValidID(asked) {
		return Accepted{}, chat.MessageNotFound()
	}
	if err := validateCommon(in.Principal, in.Key, in.WhenBusy, in.Params); err != nil {
		return Accepted{}, err
	}
	if err := s.accepts(in.Params); err != nil {
		return Accepted{}, err
	}
	run := s.newRun(ctx, in.Principal.UserID, kind, in.Params, in.Background, in.Streamed, in.Key, s.Now())
	run.ConversationID = in.ConversationID
	if err := s.reserveMax(&run, in.Principal, chat.Message{}); err != nil {
		return Accepted{}, err
	}
	run.Fingerprint = fingerprint(action, asked, in.Params)
	return s.submit(ctx, chat.AdmitRequest{
		Run: run, Source: in.Target, WhenBusy: in.WhenBusy, ReplayOnlyReason: in.ReplayOnlyReason,
		Budget: s.budget(in.Principal), Audit: s.auditEntry(run, in.Caller, action, in.Target),
	})
}

// messageKey is the idempotency key of a message that a client gave an id. Ids
// may count per conversation, and so the key names it, or what is edited.
func messageKey(in Send, editOf string) string {
	scope := in.ConversationID
	if scope == "" && editOf != "" {
		scope = "edit/" + editOf
	}
	return "id:" + scope + "/" + in.MessageID
}

// submit admits a run and starts it, unless it is queued.
func (s *Service) submit(ctx context.Context, a chat.AdmitRequest) (Accepted, error) {
	a.Now, a.Lease, a.MaxQueue, a.Context = a.Run.CreatedAt, s.opt.Lease, s.opt.MaxQueue, s.opt.ContextMessages
	if a.WhenBusy == "" {
		a.WhenBusy = chat.Reject
	}
	reserved := false
	switch {
	case a.ReplayOnlyReason != nil:
	case s.isDraining():
		a.ReplayOnlyReason = errDraining()
	case a.Run.Background:
	case s.registry.reserve():
		reserved = true
		a.Owner = s.opt.Owner
	default:
		a.ReplayOnlyReason = fault.New(fault.Overloaded, "The server is busy; please try again").After(time.Second)
	}

	// An admission that has begun is finished even if the caller disconnects, so
	// that its result is known here.
	admitCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opt.AdmitTimeout)
	admitted, err := s.Store.Admit(admitCtx, a, chat.Admit)
	cancel()
	ours := err == nil && !admitted.Replayed && admitted.Run.State == chat.Running
	if reserved && !ours {
		s.registry.unreserve()
	}
	if err != nil {
		s.reportBudget(ctx, a, err)
		return Accepted{}, err
	}
	if ours {
		s.start(newTask(ctx, admitted.Run, a.Now), admitted.Conversation, admitted.Context)
	}
	if !admitted.Replayed {
		s.announce(ctx, admitted)
	}
	return Accepted{UserMessage: admitted.UserMessage, Run: admitted.Run, Replayed: admitted.Replayed, Remaining: admitted.Remaining}, nil
}

// reportBudget tells webhooks of a budget that refused a request, once per user,
// bound and period.
func (s *Service) reportBudget(ctx context.Context, a chat.AdmitRequest, refusal error) {
	if s.AddEvents == nil {
		return
	}
	event, ok := chat.BudgetEvent(a.Run.UserID, a.Budget, refusal, a.Now)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opt.AdmitTimeout)
	defer cancel()
	if err := s.AddEvents(ctx, event); err != nil { // the next refusal tells it
		s.Observer.Observe(ctx, ports.BackgroundFailed{Task: "webhooks", Err: err})
	}
}

// announce notifies the owners of stopped runs, the sweepers and the user's tabs.
func (s *Service) announce(ctx context.Context, admitted chat.Admitted) {
	ctx = context.WithoutCancel(ctx)
	if admitted.Superseded != "" {
		s.Feed.Notify(ctx, ports.TopicStop)
	}
	if admitted.Run.State == chat.Queued {
		s.wakeSweeper()
		s.Feed.Notify(ctx, ports.TopicQueue)
	}
	s.Feed.Notify(ctx, ports.TopicUser(admitted.Run.UserID))
}

// Stop ends a run, on any instance. It returns the run as stored with the request:
// live runs end within a second.
func (s *Service) Stop(ctx context.Context, p access.Principal, caller access.Caller, id string) (chat.Run, error) {
	if !p.Known() || !chat.ValidID(id) {
		return chat.Run{}, chat.MessageNotFound()
	}
	now := s.Now()
	run, err := s.Store.RequestStop(ctx, p.UserID, id, audit.Entry{
		ID: s.NewID(), UserID: p.UserID, Action: audit.ActionReplyStopped, Resource: audit.ResourceMessage,
		ResourceID: id, Caller: caller, Status: audit.Success, CreatedAt: now, UpdatedAt: now,
	})
	if err != nil {
		return chat.Run{}, err
	}
	s.Observer.Observe(ctx, ports.RunJoined{Run: run})
	if t := s.registry.get(id); t != nil && t.run.UserID == p.UserID {
		t.cancel(errStopped)
	} else if !run.State.Terminal() {
		s.Feed.Notify(context.WithoutCancel(ctx), ports.TopicStop)
	}
	if run.State.Terminal() {
		s.Feed.Notify(context.WithoutCancel(ctx), ports.TopicUser(p.UserID))
	}
	return run, nil
}

// reserveMax sets the run's hold to the most that it may use: a full context, or a
// longer message, and the longest answer. A user with a budget of tokens or money
// gets no answer that is longer than that, and one with a budget of money no model
// without a known price.
func (s *Service) reserveMax(run *chat.Run, p access.Principal, m chat.Message) (err error) {
	budget := s.budget(p)
	if run.Params.MaxTokens == 0 && budget.Metered() {
		run.Params.MaxTokens = s.opt.MaxReplyTokens
	}
	run.Params.Priced = budget.BoundsCost()
	input := int64(max(s.opt.ContextTokens, messageTokens(m, s.Tokens)))
	input += int64(s.Tokens(run.Params.System))
	if s.Quote != nil {
		run.Hold, err = s.Quote(run.Params, input)
		return err
	}
	run.Hold = access.Hold{Tokens: input + int64(max(run.Params.MaxTokens, s.opt.MaxReplyTokens))}
	return nil
}

func (s *Service) accepts(p chat.Params) error {
	if s.Accepts == nil {
		return nil
	}
	return s.Accepts(p)
}

// acceptFile refuses a file that the model of a reply cannot read.
func (s *Service) acceptFile(p chat.Params, conv chat.Conversation, f chat.File) error {
	if s.AcceptsFile == nil {
		return nil
	}
	return s.AcceptsFile(s.params(p, conv), f.MediaType)
}

func (s *Service) budget(p access.Principal) access.Budget {
	if s.Budget == nil {
		return access.Budget{}
	}
	return s.Budget(p.Tier)
}

// metadataStreamed says of a reply that its caller read it while it was made.
const metadataStreamed = "streamed"

func (s *Service) newRun(ctx context.Context, user string, kind chat.Kind, params chat.Params, background, streamed bool, key string, now time.Time) chat.Run {
	run := chat.Run{
		ID: s.NewID(), UserID: user, Kind: kind, Params: params, Background: background,
		IdempotencyKey: key, AuditID: s.NewID(), CreatedAt: now,
	}
	if s.Trace != nil {
		if trace := s.Trace(ctx); trace != "" {
			run.Metadata = map[string]any{ports.MetadataTrace: trace}
		}
	}
	if streamed {
		if run.Metadata == nil {
			run.Metadata = map[string]any{}
		}
		run.Metadata[metadataStreamed] = true
	}
	return run
}

func (s *Service) auditEntry(run chat.Run, caller access.Caller, action, resource string) audit.Entry {
	return audit.Entry{
		ID: run.AuditID, UserID: run.UserID, Action: action, Resource: audit.ResourceMessage, ResourceID: resource,
		Metadata: map[string]any{"runId": run.ID, "role": string(chat.User)},
		Caller:   caller, Status: audit.Pending, CreatedAt: run.CreatedAt, UpdatedAt: run.CreatedAt,
	}
}

func validateSend(in Send) error {
	if err := validateCommon(in.Principal, in.Key, in.WhenBusy, in.Params); err != nil {
		return err
	}
	content := in.Content
	if in.Parts != nil {
		content = chat.ContentOf(in.Parts)
	}
	if err := chat.ValidateMessage(content, in.Parts); err != nil {
		return err
	}
	if in.ConversationID != "" && !chat.ValidID(in.ConversationID) {
		return chat.ConversationNotFound()
	}
	if in.Leaf != "" && !chat.ValidID(in.Leaf) {
		return chat.MessageNotFound()
	}
	if in.MessageID != "" && !chat.ValidID(in.MessageID) {
		return fault.New(fault.Invalid, "Invalid message ID")
	}
	return nil
}

func validateCommon(p access.Principal, key string, busy chat.WhenBusy, params chat.Params) error {
	if !p.Known() {
		return fault.New(fault.Unauthenticated, "Authentication required")
	}
	if len(key) > 255 {
		return fault.New(fault.Invalid, "Idempotency key cannot exceed 255 characters")
	}
	switch busy {
	case "", chat.Reject, chat.Queue, chat.Supersede:
	default:
		return fault.New(fault.Invalid, "whenBusy must be reject, queue or interrupt")
	}
	return chat.ValidateText(params.System)
}

// fingerprint identifies a payload, so that a reused key with another one is
// noticed. It is a digest: the text cannot be read from it.
func fingerprint(parts ...any) string {
	payload, err := json.Marshal(parts)
	if err != nil { // only values that came out of JSON get here
		return ""
	}
	sum := sha256.Sum256(payload)
	return hex.EncodeToString(sum[:])
}
