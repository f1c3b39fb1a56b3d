package sqlstore

import (
	"context"
	"slices"
	"strconv"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/rows"
	"parley/domain/access"
	"parley/domain/chat"
)

// thread is what an admission finds in the thread that it is for.
type thread struct {
	looked bool
	id     string             // of the conversation; "": the default thread
	live   []liveRun          // oldest first
	conv   *rows.Conversation // nil: there is none of that id, or it is the default thread
	tail   map[string]chat.Message
}

// liveRun is what an admission needs to know of a run that has not ended.
type liveRun struct {
	ID       string
	State    string
	ParentID string
	AuditID  string
	Followed bool // a message stands behind it already
}

// look reads what an admission decides by, in one round trip: whether the
// request is known, what the user has used and, unless the request names a
// message rather than a conversation, what stands in its thread. It begins
// anew each time.
func (in *admission) look() []statement {
	message := in.run.ID
	if in.Message != nil {
		message = in.Message.ID
	}
	user := in.run.UserID
	in.first, in.taken, in.usage, in.found = "", false, access.Usage{}, thread{}
	// A message and a run never share an id: the run's will be its message's.
	list := []statement{
		say(`SELECT COALESCE((SELECT leaf_id FROM chat_users WHERE user_id = ?), ''),
			COALESCE((SELECT id FROM chat_runs WHERE user_id = ? AND idempotency_key = ?), ''),
			EXISTS (SELECT 1 FROM chat_messages WHERE user_id = ? AND id IN (?, ?))
			OR EXISTS (SELECT 1 FROM chat_runs WHERE user_id = ? AND id IN (?, ?))`,
			user, user, orNull(in.run.IdempotencyKey), user, in.run.ID, message, user, in.run.ID, message,
		).into(func(scan func(...any) error) error { return scan(&in.leaf, &in.first, &in.taken) }),
	}
	if in.Budget.Metered() {
		list = append(list, in.s.spent(user, in.now, &in.usage))
	}
	if in.Budget.Replies > 0 {
		list = append(list, live(user, &in.usage))
	}
	if in.Source == "" && in.ParentOf == "" && in.Message != nil {
		list = append(list, in.lookAround(in.run.ConversationID)...)
	}
	return list
}

// lookAround reads what stands in a thread. The live runs of a conversation are
// locked, so that none of them ends, or is begun, before this admission has
// decided; what else is read is read behind that: a reply that has ended is the
// conversation's leaf by then.
func (in *admission) lookAround(id string) []statement {
	user, found := in.run.UserID, &in.found
	*found = thread{looked: true, id: id, tail: map[string]chat.Message{}}
	lock := ""
	if id != "" && in.s.dialect.lockRow != "" {
		lock = in.s.dialect.lockRow + " OF r"
	}
	list := []statement{
		say(`SELECT r.id, r.state, r.parent_id, r.audit_id, EXISTS (
				SELECT 1 FROM chat_messages AS m WHERE m.user_id = r.user_id AND m.parent_id = r.id)
			FROM chat_runs AS r WHERE r.user_id = ? AND r.ended_at IS NULL AND ? ORDER BY r.created_at, r.id`+lock,
			user, ofThread("r", id),
		).into(func(scan func(...any) error) error {
			var r liveRun
			err := scan(&r.ID, &r.State, &r.ParentID, &r.AuditID, &r.Followed)
			found.live = append(found.live, r)
			return err
		}),
	}
	if id != "" {
		list = append(list, conversations(user, say("c.id = ?", id), func(c rows.Conversation) { found.conv = &c }))
	}
	return append(list, say(`SELECT m.id, m.parent_id, m.role, m.content, m.created_at FROM chat_messages AS m
		WHERE m.user_id = ? AND ? ORDER BY m.created_at DESC, m.id DESC LIMIT ?`,
		user, ofThread("m", id), bun.Safe(strconv.Itoa(max(in.Context, 1))),
	).into(func(scan func(...any) error) error {
		m := chat.Message{UserID: user, ConversationID: id}
		err := scan(&m.ID, nullText{&m.ParentID}, (*string)(&m.Role), &m.Content, nullTime{&m.CreatedAt})
		found.tail[m.ID] = m
		return err
	}))
}

// ofThread restricts a statement to one thread: a conversation, or the default
// thread when id is "".
func ofThread(alias, id string) statement {
	if id == "" {
		return say(alias + ".conversation_id IS NULL")
	}
	return say(alias+".conversation_id = ?", id)
}

// branchTo returns at most n messages from id towards the root, oldest first,
// without metadata. Most branches are the end of their thread, which has been
// read; any other takes a statement of its own, which walks from parent to
// parent.
func (in *admission) branchTo(ctx context.Context, id string, n int) ([]chat.Message, error) {
	if list, ok := in.found.branchTo(id, n); ok {
		return list, nil
	}
	list, err := in.s.branch(ctx, in.tx, in.run.UserID, in.run.ConversationID, id, n)
	for i := range list {
		list[i].Metadata = nil
	}
	return list, err
}

// branchTo is the same, as far as the tail goes; ok is false when that is not
// far enough.
func (t *thread) branchTo(id string, n int) (list []chat.Message, ok bool) {
	for id != "" && len(list) < n {
		if m, ok := t.tail[id]; ok {
			list = append(list, m)
			id = m.ParentID
			continue
		}
		// A message that waits behind a reply in the making belongs to its branch.
		i := slices.IndexFunc(t.live, func(r liveRun) bool { return r.ID == id })
		if i < 0 {
			return nil, false
		}
		id = t.live[i].ParentID
	}
	slices.Reverse(list)
	return list, true
}
