package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"

	"parley/adapters/sqlstore/rows"
	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
)

// Admit makes a message and its run durable, or finds the run that an earlier
// request with the same key made. Admissions of one user go one after another;
// those of different users do not meet.
func (s *Store) Admit(ctx context.Context, a chat.Admission) (chat.Admitted, error) {
	var out chat.Admitted
	err := s.write(ctx, "admit", func(ctx context.Context, tx bun.Tx) error {
		in := admission{Admission: a, s: s, tx: tx, run: a.Run, now: rows.Time(a.Now)}
		var err error
		out, err = in.do(ctx)
		return err
	})
	if err != nil {
		return chat.Admitted{}, err
	}
	return out, nil
}

// admission is one Admit on its way. The steps fill the fields below.
type admission struct {
	chat.Admission
	s   *Store
	tx  bun.Tx
	now time.Time

	run     chat.Run
	message *chat.Message
	user    rows.User
	conv    rows.Conversation // zero for the default thread
	newConv bool
	live    []liveRun // of the thread, oldest first
	branch  []chat.Message
	pre     []schema.QueryAppender // statements that make room for the run
	over    string                 // the superseded run
	left    access.Remaining
}

// liveRun is what an admission needs to know of a run that has not ended.
type liveRun struct {
	ID       string `bun:"id"`
	State    string `bun:"state"`
	ParentID string `bun:"parent_id"`
	AuditID  string `bun:"audit_id"`
	Followed bool   `bun:"followed"` // a message stands behind it already
}

func (in *admission) do(ctx context.Context) (chat.Admitted, error) {
	if in.run.UserID == "" {
		return chat.Admitted{}, fault.New(fault.Unauthenticated, "Authentication required")
	}
	var err error
	if in.user, err = in.s.lockUser(ctx, in.tx, in.run.UserID, in.now); err != nil {
		return chat.Admitted{}, err
	}
	if out, known, err := in.replay(ctx); err != nil || known {
		return out, err
	}
	if in.OnlyReplay != nil {
		return chat.Admitted{}, in.OnlyReplay
	}
	for _, step := range []func(context.Context) error{in.place, in.alive, in.conversation, in.busy, in.room, in.afford, in.attach, in.record} {
		if err := step(ctx); err != nil {
			return chat.Admitted{}, err
		}
	}
	out := chat.Admitted{Run: in.run, UserMessage: in.branch[len(in.branch)-1], Context: in.branch, Left: in.left, Superseded: in.over}
	if in.run.ConversationID != "" {
		out.Conversation = in.conv.Domain()
	}
	return out, nil
}

// lockUser makes the caller the only one who admits, creates or deletes for
// this user until the transaction ends. It makes the user's row if need be.
func (s *Store) lockUser(ctx context.Context, tx bun.Tx, user string, now time.Time) (rows.User, error) {
	for {
		var row rows.User
		err := tx.NewRaw("SELECT user_id, leaf_id FROM chat_users WHERE user_id = ?"+s.dialect.lockRow, user).Scan(ctx, &row)
		if !errors.Is(err, sql.ErrNoRows) {
			return row, err
		}
		row = rows.User{UserID: user, CreatedAt: rows.Time(now)}
		if _, err := tx.NewInsert().Model(&row).On("CONFLICT DO NOTHING").Exec(ctx); err != nil {
			return row, err
		}
	}
}

// replay looks for an earlier request with the same key, and refuses ids that
// are taken.
func (in *admission) replay(ctx context.Context) (out chat.Admitted, known bool, err error) {
	ids := []string{in.run.ID}
	if in.Message != nil {
		ids = append(ids, in.Message.ID)
	}
	var found struct {
		First string `bun:"first"`
		Taken bool   `bun:"taken"`
	}
	// A message and a run never share an id: the run's will be its message's.
	err = in.tx.NewRaw(`SELECT (SELECT id FROM chat_runs WHERE user_id = ?0 AND idempotency_key = ?1) AS first,
		EXISTS (SELECT 1 FROM chat_messages WHERE user_id = ?0 AND id IN (?2))
		OR EXISTS (SELECT 1 FROM chat_runs WHERE user_id = ?0 AND id IN (?2)) AS taken`,
		in.run.UserID, orNull(in.run.IdempotencyKey), bun.List(ids)).Scan(ctx, &found)
	if err != nil {
		return out, false, err
	}
	if found.First != "" {
		first, err := in.s.selectRun(ctx, in.tx, "r.user_id = ? AND r.id = ?", in.run.UserID, found.First)
		switch {
		case err != nil:
			return out, false, err
		case in.now.Sub(first.CreatedAt) >= chat.IdempotencyTTL:
			in.pre = append(in.pre, in.tx.NewRaw("UPDATE chat_runs SET idempotency_key = NULL WHERE user_id = ? AND id = ?",
				in.run.UserID, first.ID))
		case first.Fingerprint != in.run.Fingerprint:
			return out, false, fault.New(fault.Mismatch, "This idempotency key was used for a different request")
		default:
			out, err := in.first(ctx, first)
			return out, true, err
		}
	}
	if found.Taken {
		return out, false, fault.New(fault.Conflict, "This message ID is already in use")
	}
	return out, false, nil
}

// first returns what an earlier admission led to, as it stands now.
func (in *admission) first(ctx context.Context, run chat.Run) (chat.Admitted, error) {
	out := chat.Admitted{Replayed: true, Run: run}
	var err error
	if out.UserMessage, err = selectMessage(ctx, in.tx, run.UserID, run.ParentID); err != nil {
		return out, err
	}
	if run.ConversationID != "" {
		conv, err := selectConversation(ctx, in.tx, run.UserID, run.ConversationID)
		if err != nil {
			return out, err
		}
		out.Conversation = conv.Domain()
	}
	return out, nil
}

// place finds where the run belongs when the request names a message rather
// than a conversation.
func (in *admission) place(ctx context.Context) error {
	switch {
	case in.Source != "":
		return in.placeBeside(ctx)
	case in.ParentOf != "":
		edited, err := selectMessage(ctx, in.tx, in.run.UserID, in.ParentOf)
		if err != nil {
			return err
		}
		if edited.Role != chat.User || !in.within(edited.ConversationID) {
			return noMessage()
		}
		in.run.ConversationID = edited.ConversationID
		if in.Message == nil {
			return fault.New(fault.Invalid, "An edit needs a message")
		}
		m := *in.Message
		m.ParentID = edited.ParentID
		in.message = &m
	case in.Message != nil:
		m := *in.Message
		in.message = &m
	default:
		asked, err := selectMessage(ctx, in.tx, in.run.UserID, in.run.ParentID)
		if err != nil {
			return err
		}
		if asked.Role != chat.User || !in.within(asked.ConversationID) {
			return noMessage()
		}
		in.run.ConversationID = asked.ConversationID
	}
	return nil
}

// placeBeside puts the run beside the reply that it repeats or continues: an
// assistant message, or a run that left none.
func (in *admission) placeBeside(ctx context.Context) error {
	source, err := in.s.selectRun(ctx, in.tx, "r.user_id = ? AND r.id = ?", in.run.UserID, in.Source)
	if errors.Is(err, sql.ErrNoRows) { // a message that no run here has made
		m, err := selectMessage(ctx, in.tx, in.run.UserID, in.Source)
		if err != nil {
			return err
		}
		if m.Role != chat.Assistant || m.ParentID == "" {
			return noMessage()
		}
		source = chat.Run{ConversationID: m.ConversationID, ParentID: m.ParentID, State: chat.Completed, Output: chat.Output{Text: m.Content}}
	} else if err != nil {
		return err
	}
	if !in.within(source.ConversationID) {
		return noMessage()
	}
	if in.run.Kind == chat.Continuation {
		if source.Output.Text == "" || source.State != chat.Interrupted && source.State != chat.Stopped {
			return fault.New(fault.Conflict, "Only a reply that was stopped or interrupted can be continued")
		}
		in.run.Prefix, in.run.Output = source.Output.Text, chat.Output{Text: source.Output.Text}
	}
	in.run.ConversationID, in.run.ParentID = source.ConversationID, source.ParentID
	return nil
}

// within reports whether a conversation is the one that the request names, if
// it names one.
func (in *admission) within(conversation string) bool {
	return in.run.ConversationID == "" || in.run.ConversationID == conversation
}

// alive reads the live runs of the thread. Those of a conversation are locked,
// so that none of them ends, or is begun, before this admission has decided.
func (in *admission) alive(ctx context.Context) error {
	lock := ""
	if in.run.ConversationID != "" && in.s.dialect.lockRow != "" {
		lock = in.s.dialect.lockRow + " OF r"
	}
	return in.tx.NewRaw(`SELECT r.id, r.state, r.parent_id, r.audit_id, EXISTS (
			SELECT 1 FROM chat_messages AS m WHERE m.user_id = r.user_id AND m.parent_id = r.id) AS followed
		FROM chat_runs AS r WHERE r.user_id = ? AND r.ended_at IS NULL AND ? ORDER BY r.created_at, r.id`+lock,
		in.run.UserID, thread("r", in.run.ConversationID)).Scan(ctx, &in.live)
}

// conversation reads or makes the run's conversation. It comes behind alive: a
// reply that has ended is its leaf by now.
func (in *admission) conversation(ctx context.Context) error {
	id := in.run.ConversationID
	if id == "" {
		return nil
	}
	conv, err := selectConversation(ctx, in.tx, in.run.UserID, id)
	switch {
	case err == nil:
		in.conv = conv
	case !fault.Is(err, fault.NotFound) || !in.CreateConversation || in.message == nil:
		return err
	default:
		in.newConv = true
		in.conv = rows.Conversation{UserID: in.run.UserID, ID: id, CreatedAt: in.now}
	}
	return nil
}

// busy applies WhenBusy: one live reply per conversation, any number in the
// default thread. It decides whether the run starts at once.
func (in *admission) busy(ctx context.Context) error {
	in.run.State = chat.Running
	if in.Owner == "" {
		in.run.State = chat.Queued
	}
	if in.run.ConversationID == "" || len(in.live) == 0 {
		return nil
	}
	switch in.WhenBusy {
	case chat.Queue:
		in.run.State = chat.Queued
	case chat.Supersede:
		return in.supersede(ctx)
	default:
		current := in.live[0]
		for _, r := range in.live {
			if r.State == string(chat.Running) {
				current = r
			}
		}
		return fault.New(fault.Busy, "A reply is already being made in this conversation").With("runId", current.ID)
	}
	return nil
}

// supersede asks the running reply to stop and ends those that wait.
func (in *admission) supersede(ctx context.Context) error {
	waiting := false
	for _, r := range in.live {
		if r.State == string(chat.Running) {
			waiting, in.over = true, r.ID
			in.pre = append(in.pre, in.tx.NewRaw("UPDATE chat_runs SET stop_requested = TRUE WHERE user_id = ? AND id = ? AND state = 'running'",
				in.run.UserID, r.ID))
		}
	}
	kept := in.live[:0]
	for _, r := range in.live {
		if r.State != string(chat.Queued) {
			kept = append(kept, r)
			continue
		}
		if err := in.s.endQueued(ctx, in.tx, in.run.UserID, r.ID, r.ParentID, r.AuditID, in.now); err != nil {
			return err
		}
		if in.over == "" {
			in.over = r.ID
		}
	}
	in.live = kept
	if waiting {
		in.run.State = chat.Queued
	}
	return nil
}

// room refuses a run that would have to wait when enough do.
func (in *admission) room(ctx context.Context) error {
	if in.run.State != chat.Queued {
		return nil
	}
	var waiting int
	err := in.tx.NewRaw("SELECT count(*) FROM (SELECT 1 FROM chat_runs WHERE state IN ('queued', 'running') AND state = 'queued' LIMIT ?) AS w", max(in.MaxQueue, 1)).
		Scan(ctx, &waiting)
	if err != nil {
		return err
	}
	if waiting >= in.MaxQueue {
		return fault.New(fault.QueueFull, "Too many replies are waiting; please try again").After(5 * time.Second)
	}
	return nil
}

// attach finds the message that the new one follows, and reads the branch that
// the provider will get.
func (in *admission) attach(ctx context.Context) error {
	if in.message == nil {
		branch, err := in.s.branch(ctx, in.tx, in.run.UserID, in.run.ConversationID, in.run.ParentID, max(in.Context, 1))
		if err != nil {
			return err
		}
		if len(branch) == 0 || branch[len(branch)-1].ID != in.run.ParentID {
			return noMessage()
		}
		in.branch = branch
		return nil
	}
	m := in.message
	if err := chat.ValidateText(m.Content); err != nil { // it could not be given back as it was
		return err
	}
	m.UserID, m.ConversationID, m.Role = in.run.UserID, in.run.ConversationID, chat.User
	switch {
	case in.ParentOf != "":
	case in.Leaf != "":
		if err := in.findLeaf(ctx); err != nil {
			return err
		}
		m.ParentID = in.Leaf
	default:
		m.ParentID = in.end()
	}
	if m.ParentID != "" {
		branch, err := in.s.branch(ctx, in.tx, in.run.UserID, in.run.ConversationID, m.ParentID, max(in.Context-1, 1))
		if err != nil {
			return err
		}
		in.branch = branch
	}
	m.CreatedAt = rows.Time(m.CreatedAt)
	if m.CreatedAt.IsZero() {
		m.CreatedAt = in.now
	}
	if n := len(in.branch); n > 0 {
		m.CreatedAt = after(m.CreatedAt, in.branch[n-1].CreatedAt)
		in.branch = in.branch[max(0, n+1-max(in.Context, 1)):]
	}
	in.run.ParentID = m.ID
	in.branch = append(in.branch, *m)
	return nil
}

// end is where an unplaced message goes: behind the reply that is being made,
// unless something stands there already, or else behind the current leaf.
func (in *admission) end() string {
	for _, r := range slices.Backward(in.live) {
		if !r.Followed {
			return r.ID
		}
	}
	if in.run.ConversationID == "" {
		return in.user.LeafID
	}
	return in.conv.LeafID
}

// findLeaf checks that Leaf is a message of the thread, or a reply that is
// being made in it.
func (in *admission) findLeaf(ctx context.Context) error {
	for _, r := range in.live {
		if r.ID == in.Leaf {
			return nil
		}
	}
	m, err := selectMessage(ctx, in.tx, in.run.UserID, in.Leaf)
	if err != nil {
		return err
	}
	if m.ConversationID != in.run.ConversationID {
		return noMessage()
	}
	return nil
}

// record writes everything in one round trip.
func (in *admission) record(ctx context.Context) error {
	run := &in.run
	run.CreatedAt = in.now
	run.StopRequested, run.Attempt, run.Owner, run.LeaseUntil = false, 0, "", time.Time{}
	if run.State == chat.Running {
		run.Attempt, run.Owner, run.StartedAt = 1, in.Owner, in.now
		run.LeaseUntil = in.now.Add(in.Lease)
	}
	entry, err := rows.FromEntry(in.entry())
	if err != nil {
		return err
	}
	row, err := rows.FromRun(*run)
	if err != nil {
		return err
	}
	insert := in.tx.NewInsert().Model(&row)
	if run.State == chat.Running {
		insert = insert.Value("lease_until", "?", in.s.dialect.clock(in.Lease))
	}
	statements := in.pre
	if m := in.message; m != nil {
		kept, err := rows.FromMessage(*m)
		if err != nil {
			return err
		}
		statements = append(statements, in.touch(kept)...)
		statements = append(statements, in.tx.NewInsert().Model(&kept))
	}
	statements = append(statements, insert, in.tx.NewInsert().Model(&entry),
		setAside(in.tx, run.UserID, run.Hold, in.now))
	return batch(ctx, in.tx, in.s.db.QueryGen(), statements...)
}

// touch makes the new message the end of its thread.
func (in *admission) touch(m rows.Message) []schema.QueryAppender {
	if m.ConversationID == "" {
		return []schema.QueryAppender{in.tx.NewRaw("UPDATE chat_users SET leaf_id = ? WHERE user_id = ?", m.ID, m.UserID)}
	}
	in.conv.LeafID, in.conv.LastMessageAt, in.conv.UpdatedAt = m.ID, m.CreatedAt, in.now
	if in.conv.Title == "" {
		in.conv.Title = chat.TitleFrom(m.Content)
	}
	if in.newConv {
		conv := in.conv
		return []schema.QueryAppender{in.tx.NewInsert().Model(&conv)}
	}
	return []schema.QueryAppender{in.tx.NewRaw(`UPDATE chat_conversations
		SET leaf_id = ?, last_message_at = ?, updated_at = ?, title = COALESCE(title, ?) WHERE user_id = ? AND id = ?`,
		m.ID, m.CreatedAt, in.now, in.conv.Title, m.UserID, m.ConversationID)}
}

// entry is the audit entry with what only the store knows.
func (in *admission) entry() access.Entry {
	e := in.Audit
	e.ID, e.UserID, e.Status = in.run.AuditID, in.run.UserID, access.Pending
	if e.ID == "" {
		e.ID = in.run.ID
		in.run.AuditID = e.ID
	}
	metadata := map[string]any{"conversationId": nil, "role": string(chat.User)}
	for k, v := range e.Metadata {
		metadata[k] = v
	}
	if in.run.ConversationID != "" {
		metadata["conversationId"] = in.run.ConversationID
	}
	if in.newConv {
		metadata["conversationCreated"] = true
	}
	e.Metadata = metadata
	if e.ResourceID == "" {
		e.ResourceID = in.run.ParentID
	}
	if e.CreatedAt.IsZero() {
		e.CreatedAt, e.UpdatedAt = in.now, in.now
	}
	return e
}

// after returns t, or the first moment after earlier that the store can tell
// apart, whichever is later: clocks of instances differ, the order of a branch
// must not.
func after(t, earlier time.Time) time.Time {
	if t.After(earlier) {
		return t
	}
	return earlier.Add(time.Microsecond)
}
