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
		kept.put(chat.Conversation{UserID: "ann", ID: id, LeafID: "m" + id}, []chat.Message{{ID: "m" + id, Content: strings.Repeat("x", size)}}, at)
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
