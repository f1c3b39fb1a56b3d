package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// tolerance is how long after its owner's death a run may be undecided.
const tolerance = 15 * time.Second

// verdict is what check found out.
type verdict struct {
	violations  []violation
	lost        int // acknowledged, and not stored as sent
	duplicated  int // stored more than once
	nonTerminal int
	orphans     int           // runs whose owner died
	slowest     time.Duration // from an owner's death to a terminal state or a new owner
	slowestRun  string
	stops       int           // of which the provider noticed
	longestHeld time.Duration // by an owner that lived
	slowestStop time.Duration // from the acknowledgement to the provider's hearing of it
	states      map[string]int
	attempts    int // beyond the first ones
	windows     int // rolling minutes of which the limit was checked
	undisturbed int // those of them in which the shared limiter decided everything and lost nothing
	files       int // uploads that were acknowledged
	alone       int // requests that one instance let pass alone
}

func (v *verdict) add(rule, format string, args ...any) {
	v.violations = append(v.violations, violation{rule, fmt.Sprintf(format, args...)})
}

// check compares what the clients saw with what is stored. It believes neither.
func check(h *history, s snapshot, limits map[string]int) verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := verdict{violations: slices.Clone(h.violations), states: map[string]int{}}
	for _, w := range s.Wrongs {
		v.add(w.Rule, "%s", w.Evidence)
	}
	b := newLedger(s)
	b.intents(&v, h)
	b.messages(&v)
	b.runs(&v)
	b.readers(&v, h)
	b.files(&v, h)
	b.audit(&v, h)
	b.provider(&v)
	b.recovery(&v)
	b.stops(&v, h)
	checkLimits(&v, h, s, limits)
	return v
}

type rowID struct{ user, id string }

// ledger is the snapshot's rows, indexed by what they are looked up by.
type ledger struct {
	s           snapshot
	messageByID map[rowID]messageRow
	runByID     map[rowID]runRow
	byKey       map[rowID][]runRow
	byNonce     map[string][]messageRow // messages of users
	answers     map[rowID][]runRow      // runs by the message they answer
	users       map[string]string       // the owner of a run or message, by id
}

func newLedger(s snapshot) *ledger {
	b := &ledger{
		s: s, messageByID: map[rowID]messageRow{}, runByID: map[rowID]runRow{}, byKey: map[rowID][]runRow{},
		byNonce: map[string][]messageRow{}, answers: map[rowID][]runRow{}, users: map[string]string{},
	}
	for _, m := range s.Messages {
		b.messageByID[rowID{m.UserID, m.ID}] = m
		b.users[m.ID] = m.UserID
		if m.Role == "user" {
			n := firstNonce(m.Content)
			b.byNonce[n] = append(b.byNonce[n], m)
		}
	}
	for _, r := range s.Runs {
		b.runByID[rowID{r.UserID, r.ID}] = r
		b.users[r.ID] = r.UserID
		b.answers[rowID{r.UserID, r.ParentID}] = append(b.answers[rowID{r.UserID, r.ParentID}], r)
		if r.Key != "" {
			b.byKey[rowID{r.UserID, r.Key}] = append(b.byKey[rowID{r.UserID, r.Key}], r)
		}
	}
	return b
}

// intents: what was acknowledged is stored, once, as it was sent; what was not
// is stored once or not at all.
func (b *ledger) intents(v *verdict, h *history) {
	for _, in := range h.intents {
		runs := b.byKey[rowID{in.user, in.key}]
		if len(runs) > 1 {
			v.duplicated++
			v.add("I1", "key %s made %d runs", in.key, len(runs))
		}
		if in.kind == "reply" {
			stored := b.byNonce[in.nonce]
			if len(stored) > 1 {
				v.duplicated++
				v.add("I1", "the message %s is stored %d times", in.nonce, len(stored))
			}
			if len(stored) == 1 && (stored[0].Content != in.content || stored[0].UserID != in.user) {
				v.add("I1", "the message %s is not stored as it was sent", in.nonce)
			}
			if len(stored) == 0 && len(runs) > 0 {
				v.add("I1", "run %s answers %s, which is not stored", runs[0].ID, in.nonce)
			}
		}
		if !in.acked {
			continue
		}
		run, ok := b.runByID[rowID{in.user, in.runID}]
		if !ok {
			v.lost++
			v.add("I1", "key %s was acknowledged with run %s, which is not stored", in.key, in.runID)
			continue
		}
		if run.Key != in.key || run.Kind != in.kind {
			v.add("I1", "run %s of kind %s has key %q; acknowledged as %s for key %s", run.ID, run.Kind, run.Key, in.kind, in.key)
		}
		callCounts := cmp.Or(in.messageID, run.ParentID) // a start may come without its message
		message, ok := b.messageByID[rowID{in.user, callCounts}]
		switch {
		case !ok:
			v.lost++
			v.add("I1", "key %s was acknowledged with message %s, which is not stored", in.key, callCounts)
		case in.kind == "reply" && message.Content != in.content:
			v.lost++
			v.add("I1", "message %s is stored as %q, was sent as %q", message.ID, clip(message.Content), clip(in.content))
		case run.ParentID != message.ID:
			v.add("I1", "run %s answers %s, was acknowledged for %s", run.ID, run.ParentID, message.ID)
		}
	}
}

// messages: every message is its user's, and says what its author said.
func (b *ledger) messages(v *verdict) {
	for _, m := range b.s.Messages {
		for _, n := range nonces(m.Content) {
			if userOf(n) != m.UserID {
				v.add("I4", "message %s of %s holds text of %s", m.ID, m.UserID, n)
			}
		}
		if m.ParentID != "" {
			parent, ok := b.messageByID[rowID{m.UserID, m.ParentID}]
			if !ok || parent.ConversationID != m.ConversationID {
				v.add("I4", "the parent %s of message %s is not in its thread", m.ParentID, m.ID)
			}
		}
		if m.Role != "assistant" {
			if answers := b.answers[rowID{m.UserID, m.ID}]; count(answers, func(r runRow) bool { return r.Kind == "reply" }) != 1 {
				v.add("I1", "message %s has %d first replies", m.ID, count(answers, func(r runRow) bool { return r.Kind == "reply" }))
			}
			continue
		}
		if run, ok := b.runByID[rowID{m.UserID, m.ID}]; !ok || run.ParentID != m.ParentID {
			v.add("I1", "reply %s has no run that made it", m.ID)
		}
	}
}

// runs: every run has ended, by a way that a run may go.
func (b *ledger) runs(v *verdict) {
	last := map[rowID]step{}
	ends := map[rowID]int{}
	seen := map[rowID]bool{} // taken over when a reader may have seen output
	for _, st := range b.s.Steps {
		id := rowID{st.UserID, st.RunID}
		if before, ok := last[id]; ok && terminal(before.State) {
			v.add("I2", "run %s was %s, then %s", st.RunID, before.State, st.State)
		}
		if before, ok := last[id]; ok && !terminal(st.State) && st.Attempt > before.Attempt && len(st.Recorded) > len(b.runByID[id].Prefix) {
			seen[id] = true
		}
		if terminal(st.State) {
			ends[id]++
			if m := b.messageByID[id]; !strings.HasPrefix(m.log(), st.Recorded) && m.ID != "" {
				v.add("I7", "reply %s does not begin with what had been recorded of it", st.RunID)
			}
		}
		last[id] = st
	}
	for _, r := range b.s.Runs {
		id := rowID{r.UserID, r.ID}
		v.states[r.State]++
		v.attempts += max(0, r.Attempt-1)
		if !terminal(r.State) {
			v.nonTerminal++
			v.add("I2", "run %s is %s, attempt %d", r.ID, r.State, r.Attempt)
			continue
		}
		if ends[id] != 1 {
			v.add("I2", "run %s ended %d times", r.ID, ends[id])
		}
		if seen[id] && r.State != "interrupted" && r.State != "stopped" {
			v.add("I2", "run %s is %s; it was taken over after output was recorded, and must be interrupted or stopped", r.ID, r.State)
		}
		m, written := b.messageByID[id]
		if r.State == "completed" && (!written || m.Content == "") {
			v.add("I1", "run %s completed without a reply", r.ID)
		}
		if written && m.Role != "assistant" {
			v.add("I1", "run %s left a message of role %s", r.ID, m.Role)
		}
	}
}

// readers: what a follower has read is the beginning of what is stored, whole if the
// reader saw the end, and the end that was told is the one that is stored.
func (b *ledger) readers(v *verdict, h *history) {
	for run, got := range h.received {
		id := rowID{got.user, run}
		row, ok := b.runByID[id]
		if !ok {
			v.add("I7", "%s read run %s, which is not stored", got.user, run)
			continue
		}
		stored := row.Prefix + row.Log
		if m, ok := b.messageByID[id]; ok {
			stored = m.log()
		}
		if len(stored) < len(got.text) || !matches(got.text, stored[:len(got.text)]) {
			v.add("I7", "run %s (%s, attempt %d): readers got %d bytes that are not the beginning of the %d stored: %q, %q",
				run, row.State, row.Attempt, len(got.text), len(stored), clip(string(got.text)), clip(stored))
		}
		if got.ended != "" && got.ended != row.State {
			v.add("I2", "run %s is %s; a reader was told %s", run, row.State, got.ended)
		}
		if got.content != "" && got.content != b.messageByID[id].Content {
			v.add("I7", "run %s: a client was given a reply of %d bytes that is not the stored one of %d",
				run, len(got.content), len(b.messageByID[id].Content))
		}
		if got.read && len(got.text) != len(stored) {
			v.add("I7", "run %s: a reader read to the end and got %d of %d bytes", run, len(got.text), len(stored))
		}
	}
	for seen := range h.sightings {
		if owner, ok := b.users[seen.id]; !ok || owner != seen.user {
			v.add("I4", "%s was shown %s, which belongs to %q", seen.user, seen.id, owner)
		}
	}
}

// provider: no run was requested from the provider more often than it had attempts.
func (b *ledger) provider(v *verdict) {
	for nonce, calls := range b.s.Calls {
		attempts := 0
		for _, m := range b.byNonce[nonce] {
			for _, r := range b.answers[rowID{m.UserID, m.ID}] {
				attempts += r.Attempt
			}
		}
		if calls > attempts {
			v.add("provider", "was asked %d times about %s in %d attempts", calls, nonce, attempts)
		}
	}
}

func count[T any](list []T, is func(T) bool) int {
	n := 0
	for _, x := range list {
		if is(x) {
			n++
		}
	}
	return n
}

// sorted orders violations so that like stands beside like.
func sorted(list []violation) []violation {
	return slices.SortedStableFunc(slices.Values(list), func(a, b violation) int { return cmp.Compare(a.rule, b.rule) })
}
