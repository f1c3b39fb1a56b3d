package sqlstore

import (
	linked "container/list"
	"slices"
	"testing"
)

// Under overload, what has been admitted is finished before more is admitted.
func TestTurnQueue_EndsGoFirst(t *testing.T) {
	var queue turnQueue
	enter := func(user, name string, end bool) *turn {
		turn := &turn{user: user, name: name, end: end}
		if queue.enter(turn) != (name == "leader") {
			t.Fatalf("%s waits: %t", name, name != "leader")
		}
		return turn
	}
	enter("zoe", "leader", false)
	enter("ann", "ann admits", false)
	impatient := enter("bob", "bob admits", false)
	enter("eve", "eve admits", false)
	enter("ann", "ann ends", true)
	enter("bob", "bob ends", true)
	enter("bob", "bob ends again", true)
	lead := func(want ...string) {
		t.Helper()
		var all []*turn
		for _, waiting := range []*linked.List{&queue.ends, &queue.admissions} {
			for e := waiting.Front(); e != nil; e = e.Next() {
				all = append(all, e.Value.(*turn))
			}
		}
		queue.next(3)
		var group []*turn
		for _, turn := range all {
			select {
			case got := <-turn.group:
				if group != nil {
					t.Fatal("two lead")
				}
				group = got
			default:
			}
		}
		var names []string
		for _, turn := range group {
			names = append(names, turn.name)
		}
		if !slices.Equal(names, want) {
			t.Errorf("the next group is %q, want %q", names, want)
		}
	}
	lead("ann ends", "bob ends", "eve admits") // one of each user
	if !queue.leave(impatient) || queue.leave(impatient) {
		t.Error("one that waits cannot leave once")
	}
	lead("bob ends again", "ann admits")
	lead()
	if queue.busy {
		t.Error("busy with nothing")
	}
}
