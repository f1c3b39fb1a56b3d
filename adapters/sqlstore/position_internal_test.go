package sqlstore

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Reads that come while the primary is asked share the next question: a question is
// answered for nobody who came after it was sent.
func TestPositions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []time.Time
		start := time.Now()
		p := positions{ask: func(context.Context) (position, error) {
			sent = append(sent, time.Now())
			time.Sleep(10 * time.Millisecond)
			return position{lsn: int64(len(sent))}, nil
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
		if len(sent) != 4 {
			t.Errorf("%d questions for 7 reads", len(sent))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := p.get(ctx); err == nil {
			t.Error("a read whose time is over got an answer")
		}
		time.Sleep(time.Second)
	})
}
