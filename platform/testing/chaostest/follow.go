package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// quiet is how long a reader waits for a sign of life before it asks
// elsewhere. It is shorter than the heartbeat: moving costs nothing.
const quiet = 4 * time.Second

// event is one server-sent event.
type event struct {
	id   string // "" when it has none
	data payload
}

type payload struct {
	Type             string
	Content          string
	RunID            string
	State            string
	UserMessage      *message
	AssistantMessage *message
	Runs             []struct{ RunID, State string }
}

// events reads server-sent events until handle says that it has enough, or the
// stream ends. Comments count as signs of life.
func events(body io.ReadCloser, quiet time.Duration, handle func(event) bool) {
	watchdog := time.AfterFunc(quiet, func() { body.Close() })
	defer watchdog.Stop()
	lines := bufio.NewReader(body)
	var e event
	var data strings.Builder
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		watchdog.Reset(quiet)
		line = strings.TrimRight(line, "\r\n")
		switch name, value, _ := strings.Cut(line, ":"); {
		case line == "":
			if data.Len() > 0 && json.Unmarshal([]byte(data.String()), &e.data) == nil && !handle(e) {
				return
			}
			e = event{}
			data.Reset()
		case name == "id":
			e.id = strings.TrimPrefix(value, " ")
		case name == "data":
			data.WriteString(strings.TrimPrefix(value, " "))
		}
	}
}

// begins is what begins a part in the log of a run, by the type of its events.
var begins = map[string]byte{"chunk": 2, "reasoning": 3, "part": anyByte}

// reader follows one run, from any instance to any other.
type reader struct {
	c      *client
	run    string
	cursor int64 // -1: has not even seen the start
	done   bool
	slow   time.Duration // pause after each event
	most   int           // hang up after so many events; 0: never
}

// take handles one event of the run. It returns false when there is nothing
// more to come, or this reader has had enough.
func (r *reader) take(e event) bool {
	id, err := strconv.ParseInt(e.id, 10, 64)
	numbered := err == nil
	switch e.data.Type {
	case "start":
		r.cursor = max(r.cursor, 0)
	case "chunk", "reasoning", "part":
		if !numbered {
			r.c.h.violate("I7", "run %s: a piece came without a cursor", r.run)
			return false
		}
		r.cursor = r.c.h.delta(r.c.user, r.run, max(r.cursor, 0), id, begins[e.data.Type], e.data.Content)
	case "end", "error":
		r.end(e, id, numbered)
		return false
	case "reconnect":
		return false
	}
	if r.slow > 0 {
		time.Sleep(r.slow)
	}
	if r.most > 0 {
		if r.most--; r.most == 0 {
			return false
		}
	}
	return true
}

func (r *reader) end(e event, id int64, numbered bool) {
	r.done = true
	if numbered && id != max(r.cursor, 0)+1 {
		r.c.h.violate("I7", "run %s ended at %d for a reader at %d", r.run, id, r.cursor)
	}
	r.c.h.ended(r.c.user, r.run, e.data.State, true)
	if m := e.data.AssistantMessage; m != nil && m.Content != "" {
		r.c.h.finalContent(r.c.user, r.run, m.Content)
	}
}

// once follows from one instance until the stream ends somehow.
func (r *reader) once(ctx context.Context, s *slot) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	header := http.Header{}
	if r.cursor >= 0 {
		header.Set("Last-Event-ID", strconv.FormatInt(r.cursor, 10))
	}
	wait := time.AfterFunc(quiet, cancel)
	begun := time.Now()
	resp, err := r.c.open(ctx, s, "GET", path(r.run, "stream"), "", header, nil)
	wait.Stop()
	if err != nil {
		return
	}
	defer resp.Body.Close()
	r.c.h.answer(resp.StatusCode, time.Since(begun), true)
	switch resp.StatusCode {
	case http.StatusOK:
		events(resp.Body, quiet, r.take)
	case http.StatusNoContent:
		r.c.h.violate("I7", "run %s: there was nothing to follow for a reader at %d who had not seen the end", r.run, r.cursor)
		r.done = true
	case http.StatusNotFound:
		r.c.h.violate("I1", "run %s, which was acknowledged, was not found", r.run)
		r.done = true
	default:
		a := newAnswer(resp)
		a.body = readEnvelope(resp.Body)
		r.c.judge(a, "GET", "stream")
	}
}

// follow reads a run to its end, from one instance after another.
func (r *reader) follow(ctx context.Context, rng *rand.Rand) {
	for try := 0; !r.done && ctx.Err() == nil; try++ {
		if try > 0 {
			r.c.h.reconnected()
			sleep(ctx, time.Duration(min(try, 10))*time.Duration(5+rng.IntN(20))*time.Millisecond)
		}
		r.once(ctx, r.c.pick(rng))
	}
	if !r.done {
		r.c.h.violate("liveness", "run %s did not end for its reader", r.run)
	}
}
