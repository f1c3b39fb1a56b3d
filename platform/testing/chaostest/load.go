package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
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
	foreign []ownedID // runs and conversations, and their owners, for accessForeignIDs
}

// user is one of them: a few threads, and what came of earlier turns.
type user struct {
	*client
	l             *load
	conversations []string // the first is where replies are interrupted; "" is the default thread

	mu    sync.Mutex
	turns []turn
	files []string // whose upload was acknowledged
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
	case p < 44:
		u.stream(ctx, rng)
	case p < 46:
		u.upload(ctx, rng)
	case p < 48:
		u.download(ctx, rng)
	case p < 60:
		u.background(ctx, rng)
	case p < 68:
		u.stop(ctx, rng)
	case p < 75:
		u.replyAgain(ctx, rng, "regenerate", "regeneration")
	case p < 80:
		u.edit(ctx, rng)
	case p < 85:
		u.replyAgain(ctx, rng, "continue", "continuation")
	case p < 87:
		u.concurrentDuplicates(ctx, rng)
	case p < 91:
		u.race(ctx, rng)
	case p < 96:
		u.readHistory(ctx, rng)
	default:
		u.accessForeignIDs(ctx, rng)
	}
}

// message makes a request to send a new message.
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
	if file := u.anyFile(rng); file != "" && rng.IntN(6) == 0 {
		body["files"] = []string{file}
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
	if u.l.foreign = append(u.l.foreign, ownedID{u.user, t.runID}); len(u.l.foreign) > 200 {
		u.l.foreign = u.l.foreign[1:]
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

// threads gives every user some conversations.
func (l *load) createConversations(ctx context.Context) error {
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
