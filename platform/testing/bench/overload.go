package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// overload sends twice as many turns as Parley can take, whether or not earlier
// ones have been answered, and compares what it still finishes with its peak.
func (b *bench) overload(ctx context.Context) error {
	const patient = 4000 // turns that may wait at once
	s, err := b.startParley("overload")
	if err != nil {
		return err
	}
	defer s.stop()
	callers := make(chan *waiting, patient)
	defer func() {
		for len(callers) > 0 {
			(<-callers).close()
		}
	}()
	for i := range patient {
		c := s.caller(i)
		conversation, err := c.createConversation()
		if err != nil {
			return err
		}
		callers <- &waiting{c, conversation}
	}
	peak, err := s.load(ctx, users, b.seconds(3))
	if err != nil {
		return err
	}
	length, every := b.seconds(8), time.Duration(float64(time.Second)/(2*peak.rate))
	var (
		mu       sync.Mutex
		all      sync.WaitGroup
		finished []time.Duration
		refused  []time.Duration
		advised  int                // refused with Retry-After
		codes    = map[string]int{} // of refusals
		unsent   int
		failed   error
	)
	begun := time.Now()
	for n := 0; time.Since(begun) < length && ctx.Err() == nil; n++ {
		time.Sleep(time.Until(begun.Add(time.Duration(n) * every)))
		var c *waiting
		select {
		case c = <-callers:
		default:
			unsent++
			continue
		}
		all.Go(func() {
			at := time.Now()
			a, err := c.post("/api/chat/messages", fmt.Sprint("bench-", keys.Add(1)), fmt.Appendf(nil, `{"content":%s,"conversationId":%q}`, jsonContent, c.conversation))
			took := time.Since(at)
			mu.Lock()
			switch inTime := time.Since(begun) < length; {
			case err != nil:
				failed = errors.Join(failed, err)
			case a.status == http.StatusCreated && inTime:
				finished = append(finished, took)
			case a.status == http.StatusServiceUnavailable:
				refused = append(refused, took)
				codes[errorCode(a.body)]++
				if a.retryAfter != "" {
					advised++
				}
			case a.status != http.StatusCreated:
				failed = errors.Join(failed, fmt.Errorf("status %d: %.200s", a.status, a.body))
			}
			mu.Unlock()
			callers <- c
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if failed != nil {
		return failed
	}
	slices.Sort(finished)
	slices.Sort(refused)
	rate := float64(len(finished)) / length.Seconds()
	b.table.add(row{figure: "turns/s at twice the peak's load ÷ peak", parley: fmt.Sprintf("%.0f", rate), baseline: fmt.Sprintf("%.0f", peak.rate), value: rate / peak.rate, verb: "%.2f", goal: lowerBound(0.9)})
	slowest := ms(percentile(refused, 99)) / 1000
	what := "the excess: answered 503 with Retry-After, p99"
	switch {
	case len(refused) == 0: // so all of it waited
		what, slowest = "the excess: answered, none with 503, p99", ms(percentile(finished, 99))/1000
	case advised < len(refused):
		slowest = callTimeout.Seconds() // no advice is no refusal in time
	}
	b.table.add(row{figure: what, parley: fmt.Sprintf("%.2f s", slowest), value: slowest, goal: upperBound(1, " s")})
	b.table.section("## Overload\n\nFor %v, %.0f turns a second were sent, twice the peak at c=%d, from at most %d callers at once. %d were finished in time, after %.0f ms at the median and %.0f ms at the 99th percentile; "+
		"%d were answered 503 (%v), all but %d with Retry-After; for %d no caller was free.",
		length, 1/every.Seconds(), users, patient, len(finished), ms(percentile(finished, 50)), ms(percentile(finished, 99)), len(refused), codes, len(refused)-advised, unsent)
	return nil
}

// waiting is a caller with a conversation.
type waiting struct {
	*caller
	conversation string
}

// errorCode is the code of a refusal.
func errorCode(body []byte) string {
	var problem struct{ Error struct{ Code string } }
	if json.Unmarshal(body, &problem) != nil {
		return "no code"
	}
	return problem.Error.Code
}
