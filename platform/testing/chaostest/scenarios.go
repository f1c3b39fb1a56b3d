package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

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

// stream sends a message and reads the reply as it comes; a broken stream is repaired by
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
	wait := time.AfterFunc(replyTimeout, cancel)
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
func (u *user) replyAgain(ctx context.Context, rng *rand.Rand, verb, kind string) {
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

// concurrentDuplicates sends one message fifty times at once.
func (u *user) concurrentDuplicates(ctx context.Context, rng *rand.Rand) {
	conversation, _ := u.place(rng)
	r := u.message(rng, conversation, "queue")
	r.body["background"], r.background = true, true
	u.h.intend(r.intent)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			a := u.ask(ctx, u.slots[i%len(u.slots)], r.method, r.path, r.key, r.body, replyTimeout)
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
			u.h.finalContent(u.user, m.ID, m.Content)
		}
	}
}

// accessForeignIDs requests runs and conversations of other users, in every way that the API has.
func (u *user) accessForeignIDs(ctx context.Context, rng *rand.Rand) {
	u.l.mu.Lock()
	i := slices.IndexFunc(u.l.foreign, func(s ownedID) bool { return s.user != u.user })
	var theirs ownedID
	if i >= 0 {
		theirs = u.l.foreign[i]
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
func (u *user) sendOverLimit(begin, end context.Context, rng *rand.Rand, limit int, gap time.Duration) {
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
				u.h.pass(limiterDecision{u.user, sent, time.Now(), a.limit != limit})
			}
		})
		sleep(begin, gap)
	}
	wg.Wait()
}
