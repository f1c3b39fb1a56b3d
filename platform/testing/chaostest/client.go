package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// client speaks for one user to whichever instance it likes.
type client struct {
	user, token string
	limited     bool // by a rate that the load reaches
	h           *history
	slots       []*slot
	http        *http.Client
}

func newClient(user, token string, h *history, slots []*slot) *client {
	return &client{user: user, token: token, h: h, slots: slots, http: &http.Client{Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: time.Second}).DialContext,
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     2 * time.Second, // so that counts of descriptors come to rest
	}}}
}

// answer is a response as far as the load cares. A status of 0 says that there
// was none, whatever happened to the request.
type answer struct {
	status   int
	replayed bool
	after    time.Duration // Retry-After
	limit    int           // that the caller was told; an instance that decides alone tells its share
	body     envelope
}

// ask sends one request to one instance and reads the whole response.
func (c *client) ask(ctx context.Context, s *slot, method, path, key string, body any, replyTimeout time.Duration) answer {
	ctx, cancel := context.WithTimeout(ctx, replyTimeout)
	defer cancel()
	begun := time.Now()
	resp, err := c.open(ctx, s, method, path, key, nil, body)
	if err != nil {
		return answer{}
	}
	a, ok := c.read(resp, method, path)
	if ok {
		c.h.answer(a.status, time.Since(begun), prompt(method, path, body))
	}
	return a
}

// exchange sends a request that was made elsewhere.
func (c *client) exchange(req *http.Request) (answer, bool) {
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, false
	}
	return c.read(resp, req.Method, req.URL.Path)
}

// read reads a response to its end, and judges it; ok is false if it has none.
func (c *client) read(resp *http.Response, method, path string) (a answer, ok bool) {
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, false
	}
	a = newAnswer(resp)
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &a.body); err != nil {
			c.h.violate("wire", "%s %s answered %d with what is no JSON: %s", method, path, a.status, clip(string(raw)))
		}
	}
	c.judge(a, method, path)
	return a, true
}

func newAnswer(resp *http.Response) answer {
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	limit, _ := strconv.Atoi(resp.Header.Get("X-RateLimit-Limit"))
	return answer{
		limit: limit, status: resp.StatusCode, replayed: resp.Header.Get("Idempotency-Replayed") == "true",
		after: time.Duration(seconds) * time.Second,
	}
}

// judge notes an answer that no fault excuses. A server in trouble says 503,
// and when to come back.
func (c *client) judge(a answer, method, path string) {
	switch {
	case a.status == http.StatusInternalServerError:
		c.h.violate("wire", "%s %s answered 500 %s", method, path, a.body.Error.Code)
	case a.status == http.StatusServiceUnavailable && a.after == 0:
		c.h.violate("wire", "%s %s answered 503 %s without Retry-After", method, path, a.body.Error.Code)
	case a.status == http.StatusTooManyRequests && !c.limited:
		c.h.violate("I6", "%s, who is far from any limit, was refused: %s, limit %d", c.user, a.body.Error.Code, a.limit)
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden, a.status == http.StatusBadRequest:
		c.h.violate("wire", "%s %s answered %d %s: %s", method, path, a.status, a.body.Error.Code, a.body.Error.Message)
	}
}

// open sends one request and returns its response, body unread.
func (c *client) open(ctx context.Context, s *slot, method, path, key string, header http.Header, body any) (*http.Response, error) {
	var in io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.addr+path, in)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	return c.http.Do(req)
}

// envelope is any JSON body that the load reads.
type envelope struct {
	ID               string
	UserMessage      *message
	AssistantMessage *message
	RunID            string
	Messages         []message
	Error            struct {
		Code, Message string
		RunID         string
		UserMessage   *message
	}
}

type message struct {
	ID, Content, Role string
	Metadata          map[string]any
}

// taken returns the ids that an answer acknowledges; ok is false when it
// acknowledges nothing.
func (a answer) taken() (messageID, runID string, ok bool) {
	m := a.body.UserMessage
	runID = a.body.RunID
	if m == nil {
		m = a.body.Error.UserMessage
	}
	if runID == "" {
		runID = a.body.Error.RunID
	}
	if a.body.AssistantMessage != nil {
		runID = a.body.AssistantMessage.ID
	}
	if m == nil || runID == "" {
		return "", "", false
	}
	return m.ID, runID, true
}

func readEnvelope(body io.Reader) (e envelope) {
	raw, _ := io.ReadAll(io.LimitReader(body, 64<<10))
	_ = json.Unmarshal(raw, &e) // whatever is missing counts as not said
	return e
}

// replyTimeout is how long a whole reply may take: the longest one, and a recovery.
const replyTimeout = 30 * time.Second

// request is something to be done once, under one key.
type request struct {
	intent
	method, path string
	body         map[string]any
	background   bool
}

// submit sends a request, with one key, to one instance after another, until
// it is taken or refused for good. ok is false when it was refused, or ctx
// ended first.
func (c *client) submit(ctx context.Context, rng *rand.Rand, r request) (messageID, runID string, ok bool) {
	c.h.intend(r.intent)
	at := rng.IntN(len(c.slots))
	for try := 0; ctx.Err() == nil; try++ {
		if try > 0 {
			c.h.retried()
			sleep(ctx, time.Duration(min(try, 10))*time.Duration(10+rng.IntN(40))*time.Millisecond)
		}
		a := c.ask(ctx, c.slots[(at+try)%len(c.slots)], r.method, r.path, r.key, r.body, replyTimeout)
		messageID, runID, taken, final := c.settle(r, a)
		if taken {
			c.learn(runID, a)
			return messageID, runID, true
		}
		if final {
			return "", "", false
		}
		if a.status == http.StatusTooManyRequests || a.status == http.StatusConflict {
			sleep(ctx, min(max(a.after, 50*time.Millisecond), time.Second))
		}
	}
	c.h.violate("liveness", "key %s was not taken by the end", r.key)
	return "", "", false
}

// settle says what an answer means for a request.
func (c *client) settle(r request, a answer) (messageID, runID string, taken, final bool) {
	if messageID, runID, ok := a.taken(); ok {
		c.h.acknowledge(r.key, messageID, runID)
		return messageID, runID, true, true
	}
	switch a.status {
	case 0, http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusInternalServerError:
		return "", "", false, false
	case http.StatusConflict:
		// Busy passes; that a reply cannot be continued does not.
		return "", "", false, a.body.Error.Code != "REPLY_IN_PROGRESS"
	}
	c.h.violate("wire", "%s %s for key %s answered %d %s", r.method, r.path, r.key, a.status, a.body.Error.Code)
	return "", "", false, true
}

// learn notes what a finished answer tells of a reply.
func (c *client) learn(runID string, a answer) {
	m := a.body.AssistantMessage
	if m == nil || m.Content == "" {
		return
	}
	c.h.read(c.user, "a reply", m.Content)
	c.h.finalContent(c.user, runID, m.Content)
}

func (c *client) pick(rng *rand.Rand) *slot { return c.slots[rng.IntN(len(c.slots))] }

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// prompt reports whether a request is answered without waiting for a reply.
func prompt(method, path string, body any) bool {
	m, _ := body.(map[string]any)
	return method == "GET" || m["background"] == true || strings.HasSuffix(path, "/stop")
}

// path makes the path of a message's route.
func path(id, verb string) string {
	if verb == "" {
		return "/api/chat/messages/" + id
	}
	return fmt.Sprintf("/api/chat/messages/%s/%s", id, verb)
}
