package portstest

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/domain/chat"
	"parley/ports"
)

// Feed holds every feed to the same contract. open returns the feeds of two
// instances; a feed of one process returns itself twice.
func Feed(t *testing.T, open func(t testing.TB) (here, there ports.Feed)) {
	for name, test := range map[string]func(*testing.T, *feedBench){
		"ShowsTheNewest":   showsTheNewest,
		"ShowsLatecomers":  showsLatecomers,
		"KeepsUsersApart":  keepsUsersApart,
		"NeverGoesBack":    neverGoesBack,
		"CarriesAllText":   carriesAllText,
		"ForgetsOnRequest": forgetsOnRequest,
		"ForgetsUsers":     forgetsUsers,
		"Notifies":         notifies,
		"FollowersAgree":   followersAgree,
		"CallsOnChange":    callsOnChange,
	} {
		t.Run(name, func(t *testing.T) {
			here, there := open(t)
			test(t, &feedBench{here: here, there: there})
		})
	}
}

type feedBench struct {
	here, there ports.Feed
}

var feedRuns atomic.Int64

// progress is the first attempt of a run that no other test knows.
func (b *feedBench) progress(text string) ports.Progress {
	n := feedRuns.Add(1)
	return ports.Progress{
		UserID: fmt.Sprintf("user-%d", n), RunID: fmt.Sprintf("run-%d", n), Attempt: 1,
		State: chat.Running, Output: chat.TextOutput(text),
	}
}

// watches follows a run on both instances.
func (b *feedBench) watches(t *testing.T, p ports.Progress) map[string]ports.Watch {
	t.Helper()
	out := map[string]ports.Watch{
		"here":  b.here.Watch(t.Context(), p.UserID, p.RunID),
		"there": b.there.Watch(t.Context(), p.UserID, p.RunID),
	}
	t.Cleanup(func() {
		for _, w := range out {
			w.Close()
		}
	})
	return out
}

// await reads a watch, again after every wake, until want accepts it.
func await(t *testing.T, name string, w ports.Watch, want func(p ports.Progress, ok bool) bool) {
	t.Helper()
	deadline := time.After(waitTimeout)
	for {
		p, ok := w.Latest(t.Context())
		if want(p, ok) {
			return
		}
		select {
		case <-w.Changed():
		case <-deadline:
			t.Fatalf("%s: still %q, attempt %d, %s, held %v", name, p.Output.Text(), p.Attempt, p.State, ok)
		}
	}
}

func (b *feedBench) awaitAll(t *testing.T, ws map[string]ports.Watch, want ports.Progress) {
	t.Helper()
	want.Ended, want.Message = nil, nil // these need not travel
	for name, w := range ws {
		await(t, name, w, func(p ports.Progress, ok bool) bool {
			p.Ended, p.Message = nil, nil
			return ok && cmp.Equal(p, want)
		})
	}
}

func showsTheNewest(t *testing.T, b *feedBench) {
	p := b.progress("")
	ws := b.watches(t, p)
	for name, w := range ws {
		if got, ok := w.Latest(t.Context()); ok {
			t.Errorf("%s: nothing was published, got %+v", name, got)
		}
	}
	for _, text := range []string{"", "Hel", "Hello", "Hello, world"} {
		p.Output = chat.TextOutput(text)
		b.here.Publish(t.Context(), p)
		b.awaitAll(t, ws, p)
	}
	p.State = chat.Completed
	b.here.Publish(t.Context(), p)
	b.awaitAll(t, ws, p)
}

func showsLatecomers(t *testing.T, b *feedBench) {
	live, done := b.progress("as far as it is"), b.progress("all of it")
	done.State = chat.Stopped
	b.here.Publish(t.Context(), live, done)
	b.awaitAll(t, b.watches(t, live), live)
	b.awaitAll(t, b.watches(t, done), done)
}

func keepsUsersApart(t *testing.T, b *feedBench) {
	mine := b.progress("mine")
	theirs := mine
	theirs.UserID += "-other"
	b.here.Publish(t.Context(), mine)
	ws := b.watches(t, theirs)
	b.awaitAll(t, b.watches(t, mine), mine)
	for name, w := range ws {
		if p, ok := w.Latest(t.Context()); ok {
			t.Errorf("%s: another user sees %q", name, p.Output.Text())
		}
	}
	theirs.Output = chat.TextOutput("theirs, longer")
	b.here.Publish(t.Context(), theirs)
	b.awaitAll(t, ws, theirs)
	b.awaitAll(t, b.watches(t, mine), mine)
}

// neverGoesBack publishes outdated progress followed by a marker: once the marker
// has arrived, the outdated progress has been handled and must have changed nothing.
func neverGoesBack(t *testing.T, b *feedBench) {
	second := b.progress("second attempt")
	second.Attempt = 2
	ws := b.watches(t, second)
	b.here.Publish(t.Context(), second)
	b.awaitAll(t, ws, second)

	first := second
	first.Attempt, first.Output = 1, chat.TextOutput("first attempt, which wrote a lot")
	shorter := second
	shorter.Output = chat.TextOutput("second")
	marker := b.progress("marker")
	ms := b.watches(t, marker)
	b.here.Publish(t.Context(), first)
	b.there.Publish(t.Context(), first)
	b.here.Publish(t.Context(), shorter)
	b.here.Publish(t.Context(), marker)
	b.awaitAll(t, ms, marker)
	b.awaitAll(t, ws, second)

	third := second // another instance has taken over
	third.Attempt, third.State, third.Output = 3, chat.Interrupted, chat.TextOutput("second attempt, rescued")
	b.there.Publish(t.Context(), third)
	b.awaitAll(t, ws, third)

	again := third
	again.State = chat.Running
	again.Output += " and revived"
	marker.Output = chat.TextOutput("marker again")
	b.here.Publish(t.Context(), again, second)
	b.here.Publish(t.Context(), marker)
	b.awaitAll(t, ms, marker)
	b.awaitAll(t, ws, third)
}

func carriesAllText(t *testing.T, b *feedBench) {
	p := b.progress("")
	ws := b.watches(t, p)
	var log chat.OutputLog
	for _, d := range []chat.Delta{
		chat.ReasoningDelta("Hmm"),
		chat.ReasoningDelta(", 日本語 \"' \\ \r\n"),
		chat.TextDelta("👩‍👩‍👧"),
		{Part: chat.Part{Kind: chat.SourcePart, URL: "https://example.org/é"}},
		chat.TextDelta(" " + strings.Repeat("<script>é</script>", 5000)),
	} {
		log.Append(d)
		p.Output = log.Output()
		b.here.Publish(t.Context(), p)
		b.awaitAll(t, ws, p)
	}
}

func forgetsOnRequest(t *testing.T, b *feedBench) {
	p := b.progress("of an instance that has lost its lease")
	ws := b.watches(t, p)
	b.here.Publish(t.Context(), p)
	b.awaitAll(t, ws, p)
	b.here.Forget(t.Context(), p.UserID, p.RunID)
	await(t, "here", ws["here"], func(_ ports.Progress, ok bool) bool { return !ok })

	p.Attempt, p.Output = 2, chat.TextOutput("of its heir")
	b.there.Publish(t.Context(), p)
	b.awaitAll(t, ws, p)

	p.State = chat.Completed
	b.there.Publish(t.Context(), p)
	b.awaitAll(t, ws, p)
	b.there.Forget(t.Context(), p.UserID, p.RunID) // an end is not forgotten
	b.awaitAll(t, ws, p)
}

func forgetsUsers(t *testing.T, b *feedBench) {
	live, ended, other := b.progress("live"), b.progress("ended"), b.progress("of another user")
	ended.UserID, ended.State = live.UserID, chat.Completed
	other.UserID = live.UserID + ":x" // begins alike
	for _, p := range []ports.Progress{live, ended, other} {
		b.here.Publish(t.Context(), p)
		ws := b.watches(t, p) // wherever it is kept, it is there now
		b.awaitAll(t, ws, p)
		for _, w := range ws {
			w.Close()
		}
	}
	if err := b.here.ForgetUser(t.Context(), live.UserID); err != nil {
		t.Fatal(err)
	}
	for _, p := range []ports.Progress{live, ended} {
		w := b.here.Watch(t.Context(), p.UserID, p.RunID)
		if got, ok := w.Latest(t.Context()); ok {
			t.Errorf("%q is still there", got.Output.Text())
		}
		w.Close()
	}
	b.awaitAll(t, b.watches(t, other), other)
}

// callsOnChange: a watch calls a function instead of sending, for a change that
// was not received as well, until it is to send again.
func callsOnChange(t *testing.T, b *feedBench) {
	p := b.progress("one")
	for name, w := range b.watches(t, p) {
		called := make(chan struct{}, 100)
		call := func() { called <- struct{}{} }
		wait := func(c <-chan struct{}, what string) {
			t.Helper()
			select {
			case <-c:
			case <-time.After(waitTimeout):
				t.Fatalf("%s: %s", name, what)
			}
		}
		grow := func() {
			p.Output += "x"
			b.here.Publish(t.Context(), p)
		}
		grow()
		await(t, name, w, func(got ports.Progress, ok bool) bool { return ok && got.Output == p.Output })
		w.OnChange(call)
		grow()
		wait(called, "not called")
		w.OnChange(nil)
		grow()
		wait(w.Changed(), "not sent")
		grow()
		await(t, name, w, func(got ports.Progress, ok bool) bool { return ok && got.Output == p.Output })
		grow()
		if name == "here" { // at once, so that the change waits to be received
			w.OnChange(call)
			wait(called, "not called for what had come")
		}
	}
}

func notifies(t *testing.T, b *feedBench) {
	for name, f := range map[string]ports.Feed{"here": b.here, "there": b.there} {
		topic := ports.TopicUser("listener-" + name)
		wake, stop := f.Listen(topic)
		second, stopSecond := f.Listen(topic)
		defer stopSecond()
		for range 3 {
			b.here.Notify(t.Context(), topic)
			b.here.Notify(t.Context(), topic)
			for i, c := range []<-chan struct{}{wake, second} {
				select {
				case <-c:
				case <-time.After(waitTimeout):
					t.Fatalf("%s: listener %d was not woken", name, i+1)
				}
			}
		}
		stop()
		b.here.Notify(t.Context(), topic)
		select {
		case <-second:
		case <-time.After(waitTimeout):
			t.Errorf("%s: one listener's stop silenced the other", name)
		}
	}
}

// followersAgree publishes growing runs while followers on both instances read
// them by cursor. Each must read exactly the published bytes.
func followersAgree(t *testing.T, b *feedBench) {
	const runs, chunks = 8, 60
	var wg sync.WaitGroup
	defer wg.Wait()
	for n := range runs {
		p := b.progress("")
		var full strings.Builder
		for i := range chunks {
			fmt.Fprintf(&full, "%d·%d ", n, i)
		}
		text := full.String()
		for name, w := range b.watches(t, p) {
			wg.Go(func() {
				var got strings.Builder
				var reader chat.Reader
				deadline := time.After(waitTimeout)
				for {
					if now, ok := w.Latest(t.Context()); ok {
						for _, d := range reader.Read(now.Output) {
							got.WriteString(d.Text)
						}
						if now.State.Terminal() {
							break
						}
					}
					select {
					case <-w.Changed():
					case <-deadline:
						t.Errorf("%s: run %d has not ended; %d of %d bytes", name, n, got.Len(), len(text))
						return
					}
				}
				if got.String() != text {
					t.Errorf("%s: run %d: got %q, want %q", name, n, got.String(), text)
				}
			})
		}
		wg.Go(func() {
			for i := range text {
				if text[i] == ' ' {
					p.Output = chat.TextOutput(text[:i])
					b.here.Publish(t.Context(), p)
				}
			}
			p.State, p.Output = chat.Completed, chat.TextOutput(text)
			b.here.Publish(t.Context(), p)
		})
	}
}
