package sqlstore

import (
	lru "container/list"
	"sync"
	"time"

	"parley/domain/chat"
)

// tailsSize bounds the text that the tails of all conversations may hold, in
// bytes, and tailsAge how long one is kept that nobody writes to.
const (
	tailsSize = 16 << 20
	tailsAge  = 10 * time.Minute
)

// tails keeps the ends of the branches that were written last, so that a
// conversation's context is not read again for each of its turns. A tail is valid
// exactly when the conversation that was loaded is the one that it was made for and
// ends with its last message: messages never change. A message that has moved up,
// behind a reply that left nothing, has a parent that the tail does not hold, and
// its branch is read.
type tails struct {
	mu    sync.Mutex
	byKey map[tailKey]*lru.Element
	order lru.List // the one written last is in front
	size  int
}

type tailKey struct{ user, conversation string }

// tail is the end of a branch, oldest first.
type tail struct {
	key        tailKey
	created    time.Time      // of the conversation: ids can be used again
	messages   []chat.Message // which admissions hold too
	extendable bool           // there is memory behind the last message that nobody else writes to
	size       int
	written    time.Time
}

// leaf is the id of the last message.
func (t *tail) leaf() string { return t.messages[len(t.messages)-1].ID }

// endOf reports whether the tail is the end of a conversation.
func (t *tail) endOf(c *chat.Conversation) bool {
	return c != nil && c.LeafID == t.leaf() && c.CreatedAt.Equal(t.created)
}

// get returns the tail of a conversation, nil if none is kept.
func (t *tails) get(user, conversation string) *tail {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byKey[tailKey{user, conversation}]; e != nil {
		return e.Value.(*tail)
	}
	return nil
}

// put keeps the context of an admission, whose last message is the end of the
// conversation now. fresh: it was made for this admission, so that nobody else writes
// behind its end.
func (t *tails) put(c chat.Conversation, context []chat.Message, fresh bool, now time.Time) {
	if c.ID == "" || len(context) == 0 || context[len(context)-1].ID != c.LeafID {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set(&tail{key: tailKey{c.UserID, c.ID}, created: c.CreatedAt, messages: context, extendable: fresh && cap(context) > len(context), written: now})
}

// add appends a reply that is the end of its conversation now. Only a tail that
// ends with the message before it can be continued.
func (t *tails) add(m chat.Message, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byKey[tailKey{m.UserID, m.ConversationID}]
	if e == nil {
		return
	}
	known := e.Value.(*tail)
	if known.leaf() != m.ParentID {
		return
	}
	m.Metadata = nil
	next := *known
	if !known.extendable {
		next.messages = append(make([]chat.Message, 0, len(known.messages)+1), known.messages...)
	}
	known.extendable, next.extendable = false, false
	next.messages, next.written = append(next.messages, m), now
	t.set(&next)
}

// forget drops the tail of a conversation.
func (t *tails) forget(user, conversation string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byKey[tailKey{user, conversation}]; e != nil {
		t.drop(e)
	}
}

// set keeps a tail. The tails are locked.
func (t *tails) set(next *tail) {
	next.size = 0
	for _, m := range next.messages {
		next.size += len(m.Content) + 300 // and what a message takes beside its text
		for _, p := range m.Parts {
			next.size += len(p.Text) + len(p.Data) + len(p.State) + len(p.Raw) + 200
		}
	}
	if t.byKey == nil {
		t.byKey = map[tailKey]*lru.Element{}
	}
	if e := t.byKey[next.key]; e != nil {
		t.drop(e)
	}
	t.byKey[next.key] = t.order.PushFront(next)
	t.size += next.size
	for e := t.order.Back(); e != nil && (t.size > tailsSize || next.written.Sub(e.Value.(*tail).written) > tailsAge); e = t.order.Back() {
		t.drop(e)
	}
}

func (t *tails) drop(e *lru.Element) {
	dropped := t.order.Remove(e).(*tail)
	delete(t.byKey, dropped.key)
	t.size -= dropped.size
}
