package memory

import (
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"parley/domain/chat"
	"parley/ports"
	"parley/ports/portstest"
)

func TestFeed(t *testing.T) {
	portstest.Feed(t, func(testing.TB) (ports.Feed, ports.Feed) {
		f := NewFeed()
		return f, f
	})
}

func TestFeed_WakesCollapse(t *testing.T) {
	f := NewFeed()
	w := f.Watch(t.Context(), "u", "r")
	defer w.Close()
	for i := range 100 {
		f.Publish(t.Context(), ports.Progress{UserID: "u", RunID: "r", Attempt: 1, State: chat.Running,
			Output: chat.TextOutput(fmt.Sprintf("%0*d", i+1, 0))})
	}
	<-w.Changed()
	select {
	case <-w.Changed():
		t.Error("a second wake for what the first has shown")
	default:
	}
	if p, ok := w.Latest(t.Context()); !ok || len(p.Output.Text()) != 100 {
		t.Errorf("got %d bytes, held %v; want the newest, 100", len(p.Output.Text()), ok)
	}
}

func TestFeed_Ended(t *testing.T) {
	end := func(f *Feed, run string) {
		f.Publish(t.Context(), ports.Progress{UserID: "u", RunID: run, Attempt: 1, State: chat.Completed})
	}
	held := func(f *Feed, run string) bool {
		w := f.Watch(t.Context(), "u", run)
		defer w.Close()
		_, ok := w.Latest(t.Context())
		return ok
	}
	t.Run("LeavesByItself", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := NewFeed()
			end(f, "a")
			time.Sleep(linger / 2)
			end(f, "b")
			time.Sleep(linger/2 - time.Millisecond)
			if !held(f, "a") {
				t.Error("a has left early")
			}
			time.Sleep(time.Millisecond)
			synctest.Wait()
			if held(f, "a") || !held(f, "b") {
				t.Errorf("held: a %v, b %v; want b alone", held(f, "a"), held(f, "b"))
			}
			time.Sleep(linger)
			synctest.Wait()
			if n := len(f.runs); n != 0 || f.timer != nil {
				t.Errorf("%d runs are kept, timer %v", n, f.timer)
			}
		})
	})
	t.Run("IsBounded", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := NewFeed()
			for i := range maxEnded + 10 {
				end(f, fmt.Sprint(i))
			}
			if n := len(f.runs); n != maxEnded {
				t.Errorf("%d ended runs are kept, want %d", n, maxEnded)
			}
			if held(f, "9") || !held(f, "10") {
				t.Error("not the oldest were dropped")
			}
			time.Sleep(linger)
		})
	})
}

func TestFeed_LeavesNothingBehind(t *testing.T) {
	f := NewFeed()
	w := f.Watch(t.Context(), "u", "r")
	_, stop := f.Listen("topic")
	f.Publish(t.Context(), ports.Progress{UserID: "u", RunID: "r", Attempt: 1, State: chat.Running})
	f.Forget(t.Context(), "u", "r")
	w.Close()
	stop()
	stop()
	if len(f.runs) != 0 || len(f.wakes) != 0 {
		t.Errorf("left: %d runs, %d topics", len(f.runs), len(f.wakes))
	}
}

// An end costs the same, however many are kept.
func BenchmarkFeedEnds(b *testing.B) {
	f := NewFeed()
	n := 0
	for b.Loop() {
		f.Publish(b.Context(), ports.Progress{UserID: "u", RunID: strconv.Itoa(n), Attempt: 1, State: chat.Completed})
		n++
	}
}
