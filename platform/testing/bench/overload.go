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
	var peaks, rates, ratios []float64
	var all overloaded
	for range b.rounds() {
		peak, err := s.load(ctx, users, b.seconds(2))
		if err != nil {
			return err
		}
		profiled := s.profile(ctx, patient, b.seconds(4))
		o, err := flood(ctx, callers, 2*peak.rate, b.seconds(4))
		if err := errors.Join(err, <-profiled); err != nil {
			return err
		}
		rate := float64(len(o.finished)) / o.length.Seconds()
		b.note("overload: peak %.0f turns/s, at twice that load %.0f, refused %d", peak.rate, rate, len(o.refused))
		peaks, rates, ratios = append(peaks, peak.rate), append(rates, rate), append(ratios, rate/peak.rate)
		all.add(o)
	}
	slices.Sort(all.finished)
	slices.Sort(all.refused)
	b.table.add(row{figure: "turns/s at twice the peak's load ÷ peak", parley: fmt.Sprintf("%.0f", median(rates)), baseline: fmt.Sprintf("%.0f", median(peaks)), value: median(ratios), verb: "%.2f", goal: lowerBound(0.9)})
	slowest := ms(percentile(all.refused, 99)) / 1000
	what := "the excess: answered 503 with Retry-After, p99"
	switch {
	case len(all.refused) == 0: // so all of it waited
		what, slowest = "the excess: answered, none with 503, p99", ms(percentile(all.finished, 99))/1000
	case all.advised < len(all.refused):
		slowest = callTimeout.Seconds() // no advice is no refusal in time
	}
	b.table.add(row{figure: what, parley: fmt.Sprintf("%.2f s", slowest), value: slowest, goal: upperBound(1, " s")})
	b.table.section("## Overload\n\nFor %v in all, twice as many turns a second were sent as the peak at c=%d just before, from at most %d callers at once. %d were finished in time, after %.0f ms at the median and %.0f ms at the 99th percentile; "+
		"%d were answered 503 (%v), all but %d with Retry-After; for %d no caller was free. turns/s ÷ peak within a round: %s",
		all.length, users, patient, len(all.finished), ms(percentile(all.finished, 50)), ms(percentile(all.finished, 99)), len(all.refused), all.codes, len(all.refused)-all.advised, all.unsent, spreadOf(ratios))
	return nil
}

// overloaded is what became of turns that were sent at a rate.
type overloaded struct {
	length            time.Duration
	finished, refused []time.Duration
	advised           int            // refused with Retry-After
	codes             map[string]int // of refusals
	unsent            int            // no caller was free
}

func (o *overloaded) add(more overloaded) {
	o.length += more.length
	o.finished, o.refused = append(o.finished, more.finished...), append(o.refused, more.refused...)
	o.advised, o.unsent = o.advised+more.advised, o.unsent+more.unsent
	if o.codes == nil {
		o.codes = map[string]int{}
	}
	for code, n := range more.codes {
		o.codes[code] += n
	}
}

// flood sends so many turns a second for a time, whether or not earlier ones have been
// answered, and waits for all of them.
func flood(ctx context.Context, callers chan *waiting, rate float64, length time.Duration) (o overloaded, err error) {
	o = overloaded{length: length, codes: map[string]int{}}
	every := time.Duration(float64(time.Second) / rate)
	var (
		mu     sync.Mutex
		all    sync.WaitGroup
		failed error
	)
	begun := time.Now()
	for n := 0; time.Since(begun) < length && ctx.Err() == nil; n++ {
		time.Sleep(time.Until(begun.Add(time.Duration(n) * every)))
		var c *waiting
		select {
		case c = <-callers:
		default:
			o.unsent++
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
				o.finished = append(o.finished, took)
			case a.status == http.StatusServiceUnavailable:
				o.refused = append(o.refused, took)
				o.codes[errorCode(a.body)]++
				if a.retryAfter != "" {
					o.advised++
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
		return o, context.Cause(ctx)
	}
	return o, failed
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
