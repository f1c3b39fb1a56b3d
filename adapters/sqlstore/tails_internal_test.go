package sqlstore

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"parley/domain/chat"
)

func TestTails_AreBounded(t *testing.T) {
	var kept tails
	now := time.Now()
	put := func(i int, size int, at time.Time) {
		id := fmt.Sprint(i)
		kept.put(chat.Conversation{UserID: "ann", ID: id, LeafID: "m" + id}, []chat.Message{{ID: "m" + id, Content: strings.Repeat("x", size)}}, false, at)
	}
	for i := range 100 {
		put(i, tailsSize/10, now)
	}
	if kept.size > tailsSize || kept.get("ann", "99") == nil || kept.get("ann", "0") != nil || len(kept.byKey) != kept.order.Len() {
		t.Errorf("%d bytes in %d tails", kept.size, len(kept.byKey))
	}
	put(99, 10, now)
	put(100, 10, now.Add(2*tailsAge))
	if len(kept.byKey) != 1 || kept.size > 1000 {
		t.Errorf("%d bytes in %d tails, of which one is young", kept.size, len(kept.byKey))
	}
	kept.forget("ann", "100")
	kept.forget("ann", "100")
	if kept.size != 0 || kept.order.Len() != 0 {
		t.Errorf("%d bytes of nothing", kept.size)
	}
}

// TestTails_RepliesAreNotOverwritten: a reply goes into the room behind its context,
// unless the memory may be another one's too, as that of a message that is answered
// again.
func TestTails_RepliesAreNotOverwritten(t *testing.T) {
	var kept tails
	conversation := chat.Conversation{UserID: "ann", ID: "c", LeafID: "question"}
	reply := func(id string) []chat.Message {
		kept.add(chat.Message{ID: id, UserID: "ann", ConversationID: "c", ParentID: "question"}, time.Now())
		return kept.get("ann", "c").messages
	}
	context := append(make([]chat.Message, 0, 2), chat.Message{ID: "question"})
	kept.put(conversation, context, true, time.Now())
	first := reply("first")
	if &first[0] != &context[0] {
		t.Error("the context was copied for its reply")
	}
	kept.put(conversation, context, false, time.Now())
	if second := reply("second"); first[1].ID != "first" || second[1].ID != "second" {
		t.Errorf("%q was overwritten by %q", first[1].ID, second[1].ID)
	}
	kept.add(chat.Message{ID: "third", UserID: "ann", ConversationID: "c", ParentID: "second"}, time.Now())
	kept.add(chat.Message{ID: "lost", UserID: "ann", ConversationID: "c", ParentID: "second"}, time.Now())
	if got := kept.get("ann", "c").messages; len(got) != 3 || got[2].ID != "third" {
		t.Errorf("the tail ends with %q", got[len(got)-1].ID)
	}
}
