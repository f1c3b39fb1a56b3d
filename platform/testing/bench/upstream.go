package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// upstream is a provider with OpenAI's API, whose model does what the message
// says: see script.
type upstream struct {
	server http.Server
	url    string
	mu     sync.Mutex
	sent   map[string]time.Duration // by mark: from the request to its first token
}

// script is a message that has the upstream send so many words, the first after a
// while and then one every pace. mark tells the request from others.
func script(words int, first, pace time.Duration, mark string) string {
	return fmt.Sprintf("words=%d first=%dus pace=%dus mark=%s;", words, first.Microseconds(), pace.Microseconds(), mark)
}

var scripted = regexp.MustCompile(`words=(\d+) first=(\d+)us pace=(\d+)us mark=([^;]*);`)

func startUpstream() (*upstream, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &upstream{url: "http://" + l.Addr().String() + "/v1", sent: map[string]time.Duration{}}
	u.server.Handler = http.HandlerFunc(u.serve)
	go u.server.Serve(l)
	return u, nil
}

func (u *upstream) close() { u.server.Close() }

// settings are those of a Parley that asks it.
func (u *upstream) settings() []string {
	return []string{"AI_PROVIDERS=openai", "OPENAI_API_KEY=none", "OPENAI_BASE_URL=" + u.url, "OPENAI_MODEL=gpt-4o-mini", "AI_FIRST_TOKEN_TIMEOUT=10m"}
}

var (
	word    = []byte(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"lorem "},"finish_reason":null}]}` + "\n\n")
	lastTwo = []byte(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-mini","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":150,"completion_tokens":100,"total_tokens":250}}` + "\n\ndata: [DONE]\n\n")
)

func (u *upstream) serve(w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	body, _ := io.ReadAll(r.Body)
	all := scripted.FindAllSubmatch(body, -1) // those of earlier messages come first
	if len(all) == 0 || bytes.Contains(body, []byte(`"stream":false`)) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"object":"list","data":[{"id":"gpt-4o-mini","object":"model"}]}`)
		return
	}
	last := all[len(all)-1]
	words, first, pace := number(last[1]), time.Duration(number(last[2]))*time.Microsecond, time.Duration(number(last[3]))*time.Microsecond
	w.Header().Set("Content-Type", "text/event-stream")
	flusher := http.NewResponseController(w)
	if flusher.Flush() != nil || !wait(r, at.Add(first)) {
		return
	}
	u.mu.Lock()
	u.sent[string(last[4])] = time.Since(at)
	u.mu.Unlock()
	at = time.Now()
	for n := range words {
		if n > 0 && !wait(r, at.Add(time.Duration(n)*pace)) {
			return
		}
		if _, err := w.Write(word); err != nil {
			return
		}
		if flusher.Flush() != nil {
			return
		}
	}
	w.Write(lastTwo)
}

// wait waits until a time, or until the client has gone.
func wait(r *http.Request, until time.Time) bool {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// took is how long the request with a mark waited for its first token.
func (u *upstream) took(mark string) (d time.Duration, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	d, ok = u.sent[mark]
	return d, ok
}

func number(digits []byte) int {
	n, _ := strconv.Atoi(string(digits))
	return n
}
