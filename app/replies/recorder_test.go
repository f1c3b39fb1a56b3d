package replies

import (
	"testing"
	"time"
)

// While replies begin all the time, the output of others is recorded as often as
// before; a slow store is asked less often.
func TestRecorder_Schedule(t *testing.T) {
	now := time.Now()
	r := newRecorder(New(Deps{}, Options{Eager: 100 * time.Millisecond}))
	r.schedule(now, now.Add(5*time.Millisecond))
	if want := now.Add(100 * time.Millisecond); !r.next.Equal(want) {
		t.Fatalf("after a flush: %v, want %v", r.next.Sub(now), want.Sub(now))
	}
	for _, first := range []int{20, 40, 60, 80} {
		begun := now.Add(time.Duration(first) * time.Millisecond)
		r.schedule(begun, begun.Add(5*time.Millisecond))
	}
	if want := now.Add(100 * time.Millisecond); !r.next.Equal(want) {
		t.Fatalf("after the first output of others: %v, want %v", r.next.Sub(now), want.Sub(now))
	}
	begun := now.Add(90 * time.Millisecond)
	r.schedule(begun, begun.Add(200*time.Millisecond))
	if want := begun.Add(200 * time.Millisecond); !r.next.Equal(want) {
		t.Fatalf("after a slow statement: %v, want %v", r.next.Sub(now), want.Sub(now))
	}
}

// due names times at which output is recorded.
func TestRecorder_Due(t *testing.T) {
	now := time.Now()
	r := newRecorder(New(Deps{}, Options{Eager: 100 * time.Millisecond}))
	if got := r.due(now); !got.Equal(now.Add(100 * time.Millisecond)) {
		t.Errorf("nothing is recorded: in %v", got.Sub(now))
	}
	r.next = now.Add(30 * time.Millisecond)
	for after, want := range map[int]int{0: 30, 20: 30, 30: 30, 40: 130, 130: 130, 140: 240} {
		if got := r.due(now.Add(time.Duration(after) * time.Millisecond)); !got.Equal(now.Add(time.Duration(want) * time.Millisecond)) {
			t.Errorf("after %d ms: in %v, want %d ms", after, got.Sub(now), want)
		}
	}
}
