package providers

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"parley/adapters/providers/upstream"
)

func settled(b *breaker, outcomes ...error) {
	for _, o := range outcomes {
		if settle, ok := b.allow(); ok {
			settle(o)
		}
	}
}

func nothing(string, string) {}

func TestBreaker_Opens(t *testing.T) {
	t.Run("AfterFailuresInARow", func(t *testing.T) {
		b := newBreaker(Breaker{}, nothing)
		settled(b, errFailed, errFailed, errFailed, errFailed)
		if _, ok := b.allow(); !ok {
			t.Fatal("opened too early")
		}
		settled(b, errFailed)
		if _, ok := b.allow(); ok {
			t.Error("still closed")
		}
	})
	t.Run("WhenHalfOfTheWindowFailed", func(t *testing.T) {
		b := newBreaker(Breaker{}, nothing)
		for range 9 {
			settled(b, errFailed, nil)
		}
		settled(b, nil)
		if b.state() != "closed" {
			t.Fatal("opened before the window was full")
		}
		settled(b, errFailed)
		if b.state() != "open" {
			t.Errorf("%d of %d failed, and it is %v", b.failed, len(b.outcomes), b.gate.State())
		}
	})
	t.Run("HoweverLongFailuresTake", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBreaker(Breaker{}, nothing)
			for range 5 {
				settle, _ := b.allow()
				time.Sleep(10 * time.Minute)
				settle(errFailed)
			}
			if b.state() != "open" {
				t.Error(b.gate.State())
			}
		})
	})
	t.Run("NotForWhatIsExcluded", func(t *testing.T) {
		b := newBreaker(Breaker{}, nothing)
		for range 100 {
			settled(b, errExcluded)
		}
		settled(b, errFailed, errExcluded, errFailed, errExcluded, errFailed, errFailed)
		if b.state() != "closed" || b.failureRatio() != 1 {
			t.Errorf("%v, failing %v", b.gate.State(), b.failureRatio())
		}
		settled(b, errExcluded, errFailed)
		if b.state() != "open" {
			t.Errorf("%v: exclusions broke the row", b.gate.State())
		}
	})
}

func TestBreaker_Closes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var moves []string
		b := newBreaker(Breaker{}, func(from, to string) { moves = append(moves, from+">"+to) })
		settled(b, errFailed, errFailed, errFailed, errFailed, errFailed)
		time.Sleep(b.settings.Open + 1)
		probe, ok := b.allow()
		if !ok {
			t.Fatal("no probe was let through")
		}
		if _, ok := b.allow(); ok {
			t.Fatal("two probes were let through")
		}
		probe(errExcluded) // the client left: nothing is known
		probe, ok = b.allow()
		if !ok {
			t.Fatal("an excluded probe keeps its place")
		}
		probe(errFailed)
		if _, ok := b.allow(); ok {
			t.Fatal("a failed probe closed it")
		}
		time.Sleep(b.settings.Open + 1)
		settled(b, nil)
		if b.state() != "closed" || b.failureRatio() != 0 {
			t.Errorf("%v, failing %v", b.gate.State(), b.failureRatio())
		}
		want := "[closed>open open>half-open half-open>open open>half-open half-open>closed]"
		if got := fmt.Sprint(moves); got != want {
			t.Errorf("moves %s", got)
		}
	})
}

// Whatever happens: an open breaker lets nothing through before its time, a
// half-open one a single call at once, and a healthy provider is closed again
// at the first call after that time.
func TestBreaker_Properties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(0, 3), 1, 200).Draw(rt, "steps")
		synctest.Test(t, func(t *testing.T) {
			b := newBreaker(Breaker{}, nothing)
			var openedAt time.Time
			for _, step := range steps {
				before := b.state()
				settle, ok := b.allow()
				if before == "open" && ok && time.Since(openedAt) < b.settings.Open {
					rt.Fatal("an open breaker let a call through")
				}
				if before == "closed" && !ok {
					rt.Fatal("a closed breaker refused")
				}
				if ok {
					settle([]error{nil, errFailed, errFailed, errExcluded}[step])
				}
				if now := b.state(); now == "open" && before != "open" {
					openedAt = time.Now()
				}
				time.Sleep(time.Second)
			}
			time.Sleep(b.settings.Open + 1)
			settled(b, nil)
			if got := b.state(); got != "closed" {
				rt.Fatalf("%s after a good call", got)
			}
		})
	})
}

func TestClassify(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		begun bool
		want  error
	}{
		"Whole":                 {nil, true, nil},
		"Stopped":               {upstream.Fail(upstream.Canceled, nil), true, errExcluded},
		"StoppedBefore":         {upstream.Fail(upstream.Canceled, nil), false, errExcluded},
		"CallersFault":          {upstream.Fail(upstream.BadRequest, nil), false, errExcluded},
		"TooMuchText":           {upstream.Fail(upstream.TooLong, nil), false, errExcluded},
		"Overloaded":            {upstream.Fail(upstream.Overloaded, nil), false, errFailed},
		"KeyIsBad":              {upstream.Fail(upstream.KeyRefused, nil), false, errFailed},
		"Silence":               {upstream.Fail(upstream.Deadline, nil), false, errFailed},
		"LongReply":             {upstream.Fail(upstream.Deadline, nil), true, errExcluded},
		"Stall":                 {upstream.Fail(upstream.Idle, nil), true, errFailed},
		"OurOwnLimit":           {upstream.Fail(upstream.ReplyTooLong, nil), true, errExcluded},
		"SomethingUnheardOf":    {errPanicked, false, errFailed},
		"EndWithoutAnEndMarker": {upstream.Truncated(), true, errFailed},
	} {
		t.Run(name, func(t *testing.T) {
			if got := classify(c.err, c.begun); got != c.want { //nolint:errorlint // identity is meant
				t.Errorf("%v", got)
			}
		})
	}
}
