package main

import (
	"slices"
	"time"
)

// stopLimit is when a stop must have reached the provider: a second, and one
// more for a machine that is busy with faults.
const stopLimit = 2 * time.Second

// stops: the client that is stopped costs nothing any more. Runs that changed hands,
// and times in which an owner could not learn of anything, do not count.
func (b *ledger) stops(v *verdict, h *history) {
	for _, in := range h.intents {
		acked, left := h.stops[in.runID], b.s.Left[in.nonce]
		run := b.runByID[rowID{in.user, in.runID}]
		if acked.IsZero() || left.Before(acked) || run.State != "stopped" || run.Attempt != 1 || b.s.Calls[in.nonce] != 1 ||
			overlap(span{acked, left}, b.s.Deaf) > 0 {
			continue
		}
		took := left.Sub(acked)
		v.stops++
		v.slowestStop = max(v.slowestStop, took)
		if took > stopLimit {
			v.add("stop", "the provider was still asked for run %s %v after its stop", in.runID, took.Round(time.Millisecond))
		}
	}
}

// leaseInterval is the time in which one owner held a run.
type leaseInterval struct {
	run      string
	attempt  int
	owner    string
	from, to time.Time
}

// tenures reads from the steps who held what, and until when.
func leaseIntervals(steps []step) []leaseInterval {
	var out []leaseInterval
	open := map[rowID]int{} // index in out
	for _, st := range steps {
		id := rowID{st.UserID, st.RunID}
		if i, ok := open[id]; ok {
			t := &out[i]
			if !terminal(st.State) && st.Owner == t.owner && st.Attempt == t.attempt {
				continue
			}
			t.to = st.At
			delete(open, id)
		}
		if !terminal(st.State) && st.Owner != "" {
			open[id] = len(out)
			out = append(out, leaseInterval{run: st.RunID, attempt: st.Attempt, owner: st.Owner, from: st.At})
		}
	}
	return out
}

// recovery: the client that dies leaves nothing undecided for long. Time in which the
// database was away, or no instance was up, does not count.
func (b *ledger) recovery(v *verdict) {
	dead := map[string][]time.Time{}
	for _, d := range b.s.Deaths {
		dead[d.Owner] = append(dead[d.Owner], d.At)
	}
	for _, t := range leaseIntervals(b.s.Steps) {
		for _, died := range dead[t.owner] {
			b.checkOrphan(v, t, died)
		}
		b.checkLiveOwner(v, t, dead[t.owner])
	}
}

// longestReply is what the provider takes at most, and a little more.
const longestReply = 10 * time.Second

// checkLiveOwner: a live owner does not hold a run for longer than it takes, and to take
// it over when he never heard that he got it.
func (b *ledger) checkLiveOwner(v *verdict, t leaseInterval, dead []time.Time) {
	until := t.to
	for _, died := range dead {
		if until.IsZero() || died.Before(until) {
			until = died
		}
	}
	if until.IsZero() || until.Before(t.from) {
		return
	}
	held := span{t.from, until}
	took := until.Sub(t.from) - overlap(held, b.s.Outages) - overlap(held, b.s.Deaf)
	v.longestHeld = max(v.longestHeld, took)
	if took > longestReply+tolerance {
		v.add("I2", "run %s, attempt %d, was held for %v by %s, which was alive", t.run, t.attempt, took.Round(time.Millisecond), t.owner)
	}
}

func (b *ledger) checkOrphan(v *verdict, t leaseInterval, died time.Time) {
	switch {
	case !t.to.IsZero() && t.to.Before(died):
		return
	case t.from.After(died.Add(time.Second)): // it was only away, and is back
		return
	case t.from.After(died): // its last words
		died = t.from
	}
	v.orphans++
	if t.to.IsZero() {
		v.add("I2", "run %s, attempt %d, was never taken over from %s", t.run, t.attempt, t.owner)
		return
	}
	took := t.to.Sub(died) - overlap(span{died, t.to}, b.s.Outages)
	if took > v.slowest {
		v.slowest, v.slowestRun = took, t.run
	}
	if took > tolerance {
		v.add("I2", "run %s, attempt %d, was undecided for %v after the death of %s at %s",
			t.run, t.attempt, took.Round(time.Millisecond), t.owner, died.Format("15:04:05.000"))
	}
}

// overlap is how much of s lies in any of the others.
func overlap(s span, others []span) time.Duration {
	others = slices.SortedFunc(slices.Values(others), func(a, b span) int { return a.From.Compare(b.From) })
	var sum time.Duration
	at := s.From
	for _, o := range others {
		from, to := later(at, o.From), earlier(s.To, o.To)
		if to.After(from) {
			sum += to.Sub(from)
			at = to
		}
	}
	return sum
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
