package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// load is what twenty users do all the time.
type load struct {
	h     *history
	slots []*slot
	users []*user
	seq   atomic.Int64
	drawn atomic.Uint64 // streams of random numbers handed out
	seed  uint64

	mu      sync.Mutex
	strange []sighting // runs and conversations, and whose they are, for those who pry
}

// user is one of them: a few threads, and what came of earlier turns.
type user struct {
	*client
	l             *load
	conversations []string // the first is where replies are interrupted; "" is the default thread

	mu    sync.Mutex
	turns []turn
}

// turn is a message and a run that answered it.
type turn struct{ conversation, messageID, runID string }

func (l *load) rng() *rand.Rand { return rand.New(rand.NewPCG(l.seed, l.drawn.Add(1))) }

// run has every user do things until begin is done; what was begun by then is
// finished before end is.
func (l *load) run(begin, end context.Context) {
	var wg sync.WaitGroup
	for _, u := range l.users {
		for range 2 {
			rng := l.rng()
			wg.Go(func() {
				for begin.Err() == nil {
					u.act(end, rng)
					sleep(begin, time.Duration(rng.IntN(250))*time.Millisecond)
				}
			})
		}
	}
	for _, u := range l.users[:4] {
		rng := l.rng()
		wg.Go(func() { u.watchLive(begin, rng) })
	}
	wg.Wait()
}

// act does one thing.
func (u *user) act(ctx context.Context, rng *rand.Rand) {
	switch p := rng.IntN(100); {
	case p < 18:
		u.sendAndWait(ctx, rng)
	case p < 48:
		u.stream(ctx, rng)
	case p < 60:
		u.background(ctx, rng)
	case p < 68:
		u.stop(ctx, rng)
	case p < 75:
		u.again(ctx, rng, "regenerate", "regeneration")
	case p < 80:
		u.edit(ctx, rng)
	case p < 85:
		u.again(ctx, rng, "continue", "continuation")
	case p < 87:
		u.fifty(ctx, rng)
	case p < 91:
		u.race(ctx, rng)
	case p < 96:
		u.readHistory(ctx, rng)
	default:
		u.pry(ctx, rng)
	}
}

// message makes a request to send a message that nobody has sent before.
func (u *user) message(rng *rand.Rand, conversation, whenBusy string) request {
	n := u.l.seq.Add(1)
	nonce := newNonce(u.user, n)
	text := prose(rng, nonce+" please tell", 3+rng.IntN(30))
	body := map[string]any{"content": text}
	if conversation != "" {
		body["conversationId"] = conversation
	}
	if whenBusy != "" {
		body["whenBusy"] = whenBusy
	}
	return request{
		intent: intent{user: u.user, key: fmt.Sprintf("key-%d", n), nonce: nonce, content: text, kind: "reply"},
		method: "POST", path: "/api/chat/messages", body: body,
	}
}

// place draws a conversation, and what to do if it is busy.
func (u *user) place(rng *rand.Rand) (conversation, whenBusy string) {
	i := rng.IntN(len(u.conversations))
	switch p := rng.IntN(10); {
	case p < 3:
		whenBusy = "queue"
	case p < 6 && i == 0:
		whenBusy = "interrupt"
	}
	return u.conversations[i], whenBusy
}

func (u *user) remember(t turn) {
	if t.messageID == "" {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.turns = append(u.turns, t); len(u.turns) > 30 {
		u.turns = u.turns[1:]
	}
	u.l.mu.Lock()
	defer u.l.mu.Unlock()
	if u.l.strange = append(u.l.strange, sighting{u.user, t.runID}); len(u.l.strange) > 200 {
		u.l.strange = u.l.strange[1:]
	}
}

func (u *user) recall(rng *rand.Rand) (turn, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.turns) == 0 {
		return turn{}, false
	}
	return u.turns[rng.IntN(len(u.turns))], true
}

// take submits a request and follows what it started, or not.
func (u *user) take(ctx context.Context, rng *rand.Rand, r request, conversation string) {
	messageID, runID, ok := u.submit(ctx, rng, r)
	if !ok {
		return
	}
	u.remember(turn{conversation, messageID, runID})
	if r.background || rng.IntN(3) == 0 {
		u.newReader(runID, rng).follow(ctx, rng)
	}
}

// newReader makes a reader with habits of its own.
func (u *user) newReader(run string, rng *rand.Rand) *reader {
	r := &reader{c: u.client, run: run, cursor: -1}
	switch rng.IntN(6) {
	case 0:
		r.slow = time.Duration(20+rng.IntN(100)) * time.Millisecond
	case 1, 2:
		r.most = 1 + rng.IntN(6)
	}
	return r
}

func (u *user) sendAndWait(ctx context.Context, rng *rand.Rand) {
	conversation, busy := u.place(rng)
	u.take(ctx, rng, u.message(rng, conversation, busy), conversation)
}

func (u *user) background(ctx context.Context, rng *rand.Rand) {
	conversation, busy := u.place(rng)
	r := u.message(rng, conversation, busy)
	r.body["background"], r.background = true, true
	u.take(ctx, rng, r, conversation)
}

// stream sends a message and reads the reply as it comes; a break is mended by
// following, or by sending again if nothing had come yet.
func (u *user) stream(ctx context.Context, rng *rand.Rand) {
	conversation, busy := u.place(rng)
	r := u.message(rng, conversation, busy)
	r.path = "/api/chat/stream"
	if reader := u.openStream(ctx, rng, r); reader != nil {
		u.remember(turn{conversation, u.h.messageOf(r.key), reader.run})
		if rng.IntN(3) == 0 {
			sleep(ctx, time.Duration(rng.IntN(1500))*time.Millisecond)
		}
		reader.follow(ctx, rng)
	}
}

// openStream posts to the stream route until the reply has begun, and returns
// its reader, who may have read it to the end or been cut off.
func (u *user) openStream(ctx context.Context, rng *rand.Rand, r request) *reader {
	u.h.intend(r.intent)
	at := rng.IntN(len(u.slots))
	for try := 0; ctx.Err() == nil; try++ {
		if try > 0 {
			u.h.retried()
			sleep(ctx, time.Duration(min(try, 10))*time.Duration(10+rng.IntN(40))*time.Millisecond)
		}
		reader := u.newReader("", rng)
		a := u.streamOnce(ctx, u.slots[(at+try)%len(u.slots)], r, reader)
		if reader.run != "" {
			return reader
		}
		_, runID, taken, final := u.settle(r, a)
		switch {
		case taken: // the reply failed before it began
			reader.run = runID
			return reader
		case final:
			return nil
		}
		if a.status == http.StatusTooManyRequests || a.status == http.StatusConflict {
			sleep(ctx, min(max(a.after, 50*time.Millisecond), time.Second))
		}
	}
	u.h.violate("liveness", "key %s was not taken by the end", r.key)
	return nil
}

func (u *user) streamOnce(ctx context.Context, s *slot, r request, reader *reader) answer {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wait := time.AfterFunc(patience, cancel)
	defer wait.Stop()
	begun := time.Now()
	resp, err := u.open(ctx, s, r.method, r.path, r.key, nil, r.body)
	if err != nil {
		return answer{}
	}
	defer resp.Body.Close()
	u.h.answer(resp.StatusCode, time.Since(begun), true)
	a := newAnswer(resp)
	if resp.StatusCode != http.StatusOK {
		a.body = readEnvelope(resp.Body)
		u.judge(a, r.method, r.path)
		return a
	}
	wait.Stop()
	events(resp.Body, quiet, func(e event) bool {
		if reader.run == "" {
			if e.data.RunID == "" {
				return false
			}
			reader.run = e.data.RunID
			message := ""
			if m := e.data.UserMessage; m != nil {
				message = m.ID
			}
			u.h.acknowledge(r.key, message, reader.run)
		}
		return reader.take(e)
	})
	return answer{}
}

// stop begins a reply, stops it, and reads what is left.
func (u *user) stop(ctx context.Context, rng *rand.Rand) {
	conversation := u.conversations[1+rng.IntN(len(u.conversations)-1)] // replies are not interrupted there
	r := u.message(rng, conversation, "")
	r.body["background"], r.background = true, true
	messageID, runID, ok := u.submit(ctx, rng, r)
	if !ok {
		return
	}
	u.remember(turn{conversation, messageID, runID})
	sleep(ctx, time.Duration(rng.IntN(1500))*time.Millisecond)
	times := 1 + rng.IntN(2)
	for try := 0; times > 0 && ctx.Err() == nil; try++ {
		a := u.ask(ctx, u.slots[try%len(u.slots)], "POST", path(runID, "stop"), "", nil, 10*time.Second)
		switch a.status {
		case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
			u.h.stopped(runID)
			times--
		case 0, http.StatusServiceUnavailable:
			sleep(ctx, 50*time.Millisecond)
		default:
			u.h.violate("wire", "stop of run %s answered %d", runID, a.status)
			return
		}
	}
	u.newReader(runID, rng).follow(ctx, rng)
}

// again asks for another reply, or for the rest of one.
func (u *user) again(ctx context.Context, rng *rand.Rand, verb, kind string) {
	t, ok := u.recall(rng)
	if !ok {
		return
	}
	key := fmt.Sprintf("key-%d", u.l.seq.Add(1))
	r := request{
		intent: intent{user: u.user, key: key, kind: kind, target: t.runID},
		method: "POST", path: path(t.runID, verb), body: map[string]any{},
	}
	if rng.IntN(2) == 0 {
		r.body["background"], r.background = true, true
	}
	u.take(ctx, rng, r, t.conversation)
}

func (u *user) edit(ctx context.Context, rng *rand.Rand) {
	t, ok := u.recall(rng)
	if !ok {
		return
	}
	r := u.message(rng, "", "")
	r.method, r.path, r.target = "PATCH", path(t.messageID, ""), t.messageID
	if rng.IntN(2) == 0 {
		r.body["background"], r.background = true, true
	}
	u.take(ctx, rng, r, t.conversation)
}

// fifty sends one message fifty times at once.
func (u *user) fifty(ctx context.Context, rng *rand.Rand) {
	conversation, _ := u.place(rng)
	r := u.message(rng, conversation, "queue")
	r.body["background"], r.background = true, true
	u.h.intend(r.intent)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			a := u.ask(ctx, u.slots[i%len(u.slots)], r.method, r.path, r.key, r.body, patience)
			u.settle(r, a)
		})
	}
	wg.Wait()
	u.take(ctx, rng, r, conversation)
}

// race sends two messages to one conversation at once, to different instances.
func (u *user) race(ctx context.Context, rng *rand.Rand) {
	conversation := u.conversations[rng.IntN(len(u.conversations))]
	var wg sync.WaitGroup
	for range 2 {
		r, rng := u.message(rng, conversation, ""), u.l.rng()
		wg.Go(func() { u.take(ctx, rng, r, conversation) })
	}
	wg.Wait()
}

// readHistory looks at a thread.
func (u *user) readHistory(ctx context.Context, rng *rand.Rand) {
	query := "?limit=50"
	if c := u.conversations[rng.IntN(len(u.conversations))]; c != "" {
		query += "&conversationId=" + c
	}
	a := u.ask(ctx, u.pick(rng), "GET", "/api/chat/messages"+query, "", nil, 10*time.Second)
	for _, m := range a.body.Messages {
		u.h.saw(u.user, m.ID)
		u.h.read(u.user, "history", m.Content)
		if m.Role == "assistant" {
			u.h.whole(u.user, m.ID, m.Content)
		}
	}
}

// pry asks for what belongs to somebody else, in every way there is.
func (u *user) pry(ctx context.Context, rng *rand.Rand) {
	u.l.mu.Lock()
	i := slices.IndexFunc(u.l.strange, func(s sighting) bool { return s.user != u.user })
	var theirs sighting
	if i >= 0 {
		theirs = u.l.strange[i]
	}
	u.l.mu.Unlock()
	if i < 0 {
		return
	}
	victim := u.l.users[slices.IndexFunc(u.l.users, func(o *user) bool { return o.user == theirs.user })]
	content := map[string]any{"content": "let me in"}
	for _, try := range []struct {
		method, path string
		body         any
	}{
		{"GET", path(theirs.id, "stream"), nil},
		{"POST", path(theirs.id, "stop"), nil},
		{"POST", path(theirs.id, "regenerate"), map[string]any{}},
		{"POST", path(theirs.id, "continue"), map[string]any{}},
		{"PATCH", path(theirs.id, ""), content},
		{"GET", "/api/chat/messages?conversationId=" + victim.conversations[0], nil},
		{"POST", "/api/chat/messages", map[string]any{"content": "let me in", "conversationId": victim.conversations[0]}},
	} {
		a := u.ask(ctx, u.pick(rng), try.method, try.path, "", try.body, 10*time.Second)
		switch a.status {
		case 0, http.StatusNotFound, http.StatusServiceUnavailable, http.StatusTooManyRequests:
		default:
			u.h.violate("I4", "%s got %d from %s %s of %s", u.user, a.status, try.method, try.path, theirs.user)
		}
	}
}

// watchLive keeps the feed of all of the user's replies open.
func (u *user) watchLive(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		func() {
			ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
			defer cancel()
			resp, err := u.open(ctx, u.pick(rng), "GET", "/api/chat/live", "", nil, nil)
			if err != nil {
				return
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return
			}
			events(resp.Body, 20*time.Second, func(e event) bool {
				for _, r := range e.data.Runs {
					u.h.saw(u.user, r.RunID)
					if terminal(r.State) {
						u.h.ended(u.user, r.RunID, r.State, false)
					}
				}
				return true
			})
		}()
		sleep(ctx, 100*time.Millisecond)
	}
}

// hammer sends as fast as it can and never tries again: what passes is what
// the limiter let pass.
func (u *user) hammer(begin, end context.Context, rng *rand.Rand, limit int, gap time.Duration) {
	var wg sync.WaitGroup
	for begin.Err() == nil {
		r := u.message(rng, "", "")
		r.body["background"], r.background = true, true
		u.h.intend(r.intent)
		s := u.pick(rng)
		wg.Go(func() {
			sent := time.Now()
			a := u.ask(end, s, r.method, r.path, r.key, r.body, 10*time.Second)
			if _, _, taken, _ := u.settle(r, a); taken && !a.replayed {
				u.h.pass(gated{u.user, sent, time.Now(), a.limit != limit})
			}
		})
		sleep(begin, gap)
	}
	wg.Wait()
}

// threads gives every user some conversations.
func (l *load) threads(ctx context.Context) error {
	for _, u := range l.users {
		for range 3 {
			a := u.ask(ctx, l.slots[0], "POST", "/api/chat/conversations", "", map[string]any{}, 10*time.Second)
			if a.status != http.StatusCreated || strings.TrimSpace(a.body.ID) == "" {
				return fmt.Errorf("create a conversation: status %d", a.status)
			}
			u.conversations = append(u.conversations, a.body.ID)
		}
		u.conversations = append(u.conversations, "")
	}
	return nil
}
