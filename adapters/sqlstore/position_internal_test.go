package sqlstore

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A server with other data is refused, however far it has come.
func TestStandby_Follows(t *testing.T) {
	at := position{system: 1, timeline: 2, lsn: 100}
	good := standby{inRecovery: true, system: 1, timeline: 2, replayed: 1000, secured: true}
	for name, c := range map[string]struct {
		change func(*standby)
		want   string
	}{
		"Standby":         {func(*standby) {}, ""},
		"Behind":          {func(s *standby) { s.replayed = 1 }, ""}, // is waited for
		"AnotherCluster":  {func(s *standby) { s.system = 7 }, "another cluster"},
		"Promoted":        {func(s *standby) { s.inRecovery = false }, "promoted"},
		"FormerTimeline":  {func(s *standby) { s.timeline = 1 }, "timeline 1"},
		"AnotherTimeline": {func(s *standby) { s.timeline = 3 }, "timeline 3"},
		"EvadesPolicies":  {func(s *standby) { s.secured = false }, "row-level security"},
	} {
		t.Run(name, func(t *testing.T) {
			s := good
			c.change(&s)
			err := s.follows(at)
			if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// Reads that come while the primary is asked share the next question: a question is
// answered for nobody who came after it was sent.
func TestPositions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent [10]time.Time
		var questions atomic.Int64
		start := time.Now()
		p := positions{ask: func(context.Context) (position, error) {
			n := questions.Add(1)
			sent[n-1] = time.Now() // before anyone gets the answer
			time.Sleep(10 * time.Millisecond)
			return position{lsn: n}, nil
		}}
		// After ms: a question begins at 0 and, for those that came meanwhile, at 10.
		for _, read := range []struct {
			after int
			lsn   int64
		}{{0, 1}, {1, 2}, {5, 2}, {9, 2}, {11, 3}, {19, 3}, {100, 4}} {
			go func() {
				time.Sleep(time.Duration(read.after) * time.Millisecond)
				came := time.Now()
				at, err := p.get(t.Context())
				if err != nil || at.lsn != read.lsn {
					t.Errorf("who came after %d ms got answer %d, %v, want %d", read.after, at.lsn, err, read.lsn)
				}
				if sent[at.lsn-1].Before(came) {
					t.Errorf("who came after %s got the answer to a question of %s", came.Sub(start), sent[at.lsn-1].Sub(start))
				}
			}()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := questions.Load(); n != 4 {
			t.Errorf("%d questions for 7 reads", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := p.get(ctx); err == nil {
			t.Error("a read whose time is over got an answer")
		}
		time.Sleep(time.Second)
	})
}
