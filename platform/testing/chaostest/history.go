package main

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"
)

// history is what the clients saw. Some contradictions show at once, when two
// observations do not agree; the rest shows when check compares it with what
// is stored.
type history struct {
	now func() time.Time

	mu         sync.Mutex
	intents    map[string]*intent // by key
	received   map[string]*received
	files      files
	sightings  map[ownedID]bool
	stops      map[string]time.Time // when a stop of a run was first acknowledged
	decisions  []limiterDecision
	violations []violation

	acks, reconnects, retries, bytes int64
	statuses                         map[int]int64
	during                           kind                   // the fault that is being injected
	refusals                         map[kind]time.Duration // the longest that a 503 was waited for, by the fault
}

// violation is one violated invariant with its evidence.
type violation struct{ rule, evidence string }

func (v violation) String() string { return v.rule + ": " + v.evidence }

// intent is one thing that a client wants exactly once, under one key.
type intent struct {
	user, key, nonce, content string
	kind                      string // reply, regeneration, continuation: as the run's
	target                    string // what is edited or answered again
	acked                     bool
	messageID, runID          string // as acknowledged
}

// received is what readers got of a run's output, and how they saw it end.
type received struct {
	user  string
	text  []byte // the log, as far as it was read
	ended string // the first terminal state that was told
	read  bool   // a reader got to the end

	content string // the finished message, as a reader got it
}

// sighting is a run or a message that a user was shown.
type ownedID struct{ user, id string }

// gated is a request that the limiter let pass: it was decided between the two
// times, by one instance alone if it could not ask the shared limiter in time.
type limiterDecision struct {
	user       string
	sent, back time.Time
	alone      bool
}

func newHistory() *history {
	return &history{
		now: time.Now, intents: map[string]*intent{}, received: map[string]*received{}, files: files{uploaded: map[rowID]string{}}, sightings: map[ownedID]bool{},
		stops: map[string]time.Time{}, statuses: map[int]int64{}, refusals: map[kind]time.Duration{},
	}
}

func (h *history) violate(rule, format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.violateLocked(rule, format, args...)
}

func (h *history) violateLocked(rule, format string, args ...any) {
	h.violations = append(h.violations, violation{rule, fmt.Sprintf(format, args...)})
}

// intend notes a request before it is first sent.
func (h *history) intend(in intent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.intents[in.key] = &in
}

// acknowledge notes that a server took an intent. Every repeat must name the
// same message and run; a start may lack the message.
func (h *history) acknowledge(key, messageID, runID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	in := h.intents[key]
	h.sightings[ownedID{in.user, runID}] = true
	if messageID == "" {
		messageID = in.messageID
	}
	if messageID != "" {
		h.sightings[ownedID{in.user, messageID}] = true
	}
	if !in.acked {
		in.acked, in.messageID, in.runID = true, messageID, runID
		h.acks++
		return
	}
	if in.messageID == "" {
		in.messageID = messageID
	}
	if in.messageID != messageID || in.runID != runID {
		h.violateLocked("I1", "key %s was acknowledged as message %s, run %s, then as %s, %s",
			key, in.messageID, in.runID, messageID, runID)
	}
}

// messageOf returns the message that was acknowledged for a key.
func (h *history) messageOf(key string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.intents[key].messageID
}

// saw notes that a user was shown these runs or messages.
func (h *history) saw(user string, ids ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		h.sightings[ownedID{user, id}] = true
	}
}

// read notes a text that a user was shown anywhere.
func (h *history) read(user, where, text string) {
	for _, n := range nonces(text) {
		if userOf(n) != user {
			h.violate("I4", "%s was shown text of %s in %s", user, n, where)
		}
	}
}

// stopped notes an acknowledged stop.
func (h *history) stopped(run string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stops[run].IsZero() {
		h.stops[run] = h.now()
	}
}

// pass notes a request that the limiter let pass.
func (h *history) pass(g limiterDecision) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.decisions = append(h.decisions, g)
}

// answer notes the status of any response and how long it took to come.
// prompt says that it is not one that comes with a finished reply.
func (h *history) answer(status int, took time.Duration, prompt bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.statuses[status]++
	if prompt && status == http.StatusServiceUnavailable {
		h.refusals[h.during] = max(h.refusals[h.during], took)
	}
}

// meanwhile notes which fault is being injected.
func (h *history) meanwhile(k kind) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.during = k
}

func (h *history) reconnected() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reconnects++
}

func (h *history) retried() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.retries++
}

func (h *history) of(user, run string) *received {
	r := h.received[run]
	if r == nil {
		r = &received{user: user}
		h.received[run] = r
	}
	if r.user != user {
		h.violateLocked("I4", "run %s was shown to %s and to %s", run, r.user, user)
	}
	return r
}

// anyByte stands for a byte of the log that readers are not shown: of a part
// that they get as a whole, in another form.
const anyByte = 0xff

// delta notes output that a reader who stood at from got with a cursor behind
// it, and returns where the reader stands now. begin is what begins a part of
// its kind in the log of the run: a piece that is a byte shorter than the way
// of the cursor begins one. A text part behind another one begins with a blank
// line, which is not in the log.
func (h *history) delta(user, run string, from, cursor int64, begin byte, text string) int64 {
	h.read(user, "run "+run, text)
	switch missing := cursor - from - int64(len(text)); {
	case begin == anyByte && missing >= 0:
		text += strings.Repeat(string([]byte{anyByte}), int(missing))
	case missing == 1:
		text = string(begin) + text
	case missing == -1 && strings.HasPrefix(text, "\n\n"):
		text = string(begin) + text[2:]
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.of(user, run)
	h.bytes += int64(len(text))
	if cursor != from+int64(len(text)) {
		h.violateLocked("I7", "run %s: %d bytes after cursor %d came with cursor %d", run, len(text), from, cursor)
		return max(from, cursor)
	}
	if int64(len(r.text)) < from {
		h.violateLocked("I7", "run %s: a reader at %d, where only %d bytes were ever shown", run, from, len(r.text))
		return cursor
	}
	known := r.text[from:min(int64(len(r.text)), cursor)]
	if !matches(known, text[:len(known)]) {
		h.violateLocked("I7", "run %s: at %d one reader got %q, another %q", run, from, clip(string(known)), clip(text))
		return cursor
	}
	r.text = append(r.text, text[len(known):]...)
	return cursor
}

// matches compares two stretches of a log.
func matches(a []byte, b string) bool {
	for i := range a {
		if a[i] != b[i] && a[i] != anyByte && b[i] != anyByte {
			return false
		}
	}
	return true
}

// ended records a terminal state that a reader was told; read says that it was a
// reader, who then has everything.
func (h *history) ended(user, run, state string, read bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.of(user, run)
	r.read = r.read || read
	switch {
	case r.ended == "":
		r.ended = state
	case state != "" && r.ended != state:
		h.violateLocked("I2", "run %s ended as %s, then as %s", run, r.ended, state)
	}
}

// finalContent records a finished message as a reader got it.
func (h *history) finalContent(user, run, content string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.of(user, run)
	if r.content == "" {
		r.content = content
	}
	if r.content != content {
		h.violateLocked("I1", "reply %s was given as %q and as %q", run, clip(r.content), clip(content))
	}
}

// counters returns what the summary tells of the load.
func (h *history) counters() (acks, reconnects, retries, bytes int64, statuses map[int]int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.acks, h.reconnects, h.retries, h.bytes, maps.Clone(h.statuses)
}

func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
