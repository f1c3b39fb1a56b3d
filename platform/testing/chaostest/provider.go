package main

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// provider is a scripted server of chat completions. What it says follows from
// the nonce in the last message of the user and from how often that nonce was
// asked about, so that text of two attempts can be told apart.
type provider struct {
	listener net.Listener
	server   *http.Server
	history  *history
	silent   atomic.Bool // replies that begin now say nothing for longer than a drain takes

	mu    sync.Mutex
	calls map[string]int       // by nonce
	left  map[string]time.Time // when the caller of a nonce hung up before the end
}

func newProvider(h *history) (*provider, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &provider{listener: l, history: h, calls: map[string]int{}, left: map[string]time.Time{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", p.complete)
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"object":"list","data":[{"id":"scripted","object":"model","created":1,"owned_by":"crash"}]}`)
	})
	p.server = &http.Server{Handler: mux}
	go p.server.Serve(l) // ends with close
	return p, nil
}

func (p *provider) url() string { return "http://" + p.listener.Addr().String() + "/v1" }

// asked returns how often each nonce was asked about.
func (p *provider) callCounts() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.calls)
}

// hungUp returns when callers left before the end of their reply, by nonce.
func (p *provider) disconnects() map[string]time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.left)
}

func (p *provider) complete(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Messages []struct{ Role, Content string }
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, `{"error":{"message":"bad request","type":"invalid_request_error"}}`, http.StatusBadRequest)
		return
	}
	nonce := ""
	var everyone []string
	for _, m := range in.Messages {
		everyone = append(everyone, nonces(m.Content)...)
		if n := lastNonce(m.Content); n != "" && m.Role == "user" {
			nonce = n
		}
	}
	if nonce == "" {
		p.history.violate("provider", "was asked about a message that no client sent")
	}
	for _, other := range everyone {
		if userOf(other) != userOf(nonce) {
			p.history.violate("I4", "the context of %s held text of %s", nonce, other)
		}
	}
	p.mu.Lock()
	p.calls[nonce]++
	call := p.calls[nonce]
	p.mu.Unlock()
	s := newScript(nonce, call)
	if p.silent.Load() {
		s.first = shutdownTimeout + 3*time.Second
	}
	if !p.play(w, r, s) {
		p.mu.Lock()
		p.left[nonce] = time.Now()
		p.mu.Unlock()
	}
}

// script is one reply as it will be played.
type script struct {
	reasoning, text []string // pieces
	more            []string // further reasoning, in the middle of the text
	source          bool     // the text refers to a page
	first, gap      time.Duration
	cut             bool // the connection breaks half way
}

// newScript derives a reply. Most are short; some are long enough to outlive
// their instance, some late enough to be retried unseen, a few break.
func newScript(nonce string, call int) script {
	sum := fnv.New64a()
	io.WriteString(sum, nonce+"#"+strconv.Itoa(call))
	rng := rand.New(rand.NewPCG(sum.Sum64(), 1))
	var s script
	var words int
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	switch p := rng.IntN(200); {
	case p < 30:
		words = 5 + rng.IntN(30)
	case p < 100:
		words, s.first, s.gap = 10+rng.IntN(20), ms(20), ms(10)
	case p < 160:
		words, s.first, s.gap = 30+rng.IntN(30), ms(100), ms(25)
	case p < 184:
		words, s.first, s.gap = 80+rng.IntN(60), ms(300), ms(40)
	case p < 194:
		words, s.first, s.gap = 10+rng.IntN(20), ms(1000+rng.IntN(3000)), ms(10)
	case p < 199:
		words, s.first, s.gap = 10, ms(7000), ms(10)
	default:
		words, s.first, s.gap, s.cut = 40, ms(50), ms(10), true
	}
	if rng.IntN(8) == 0 {
		s.reasoning = pieces(rng, prose(rng, "hm "+nonce+"#"+strconv.Itoa(call), 5+rng.IntN(15)))
	}
	if rng.IntN(8) == 0 {
		s.more = pieces(rng, prose(rng, "so", 3+rng.IntN(5)))
	}
	s.source = rng.IntN(8) == 0
	s.text = pieces(rng, prose(rng, "re "+nonce+"#"+strconv.Itoa(call), words))
	return s
}

// vocabulary has characters of one to four bytes.
var vocabulary = strings.Fields(`the quick brown fox löwe über straße naïve 東京 日本語 данные проверка
	🙂 👩‍🚀 مرحبا <b>bold</b> "quoted" back\slash line
	retry lease cursor commit`)

func prose(rng *rand.Rand, opening string, words int) string {
	var b strings.Builder
	b.WriteString(opening)
	for i := range words {
		if i%12 == 11 {
			b.WriteByte('\n')
		} else {
			b.WriteByte(' ')
		}
		b.WriteString(vocabulary[rng.IntN(len(vocabulary))])
	}
	return b.String()
}

// pieces cuts a text between characters.
func pieces(rng *rand.Rand, text string) []string {
	var out []string
	for runes := []rune(text); len(runes) > 0; {
		n := min(1+rng.IntN(12), len(runes))
		out = append(out, string(runes[:n]))
		runes = runes[n:]
	}
	return out
}

// play streams a script and reports whether the caller stayed to the end.
func (p *provider) play(w http.ResponseWriter, r *http.Request, s script) bool {
	ctx := r.Context()
	flush := http.NewResponseController(w)
	wait := func(d time.Duration) bool {
		if d == 0 {
			return ctx.Err() == nil
		}
		select {
		case <-time.After(d):
			return true
		case <-ctx.Done():
			return false
		}
	}
	w.Header().Set("Content-Type", "text/event-stream")
	chunk := func(delta map[string]any, finish any) bool {
		b, _ := json.Marshal(map[string]any{
			"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "scripted",
			"choices": []any{map[string]any{"index": 0, "delta": delta, "finish_reason": finish}},
		})
		if _, err := fmt.Fprintf(w, "data: %s\n\n", b); err != nil {
			return false
		}
		return s.gap == 0 || flush.Flush() == nil
	}
	if !wait(s.first) || !chunk(map[string]any{"role": "assistant"}, nil) {
		return false
	}
	for _, delta := range s.reasoning {
		if !wait(s.gap) || !chunk(map[string]any{"reasoning_content": delta}, nil) {
			return false
		}
	}
	for i, delta := range s.text {
		if s.cut && i == len(s.text)/2 {
			panic(http.ErrAbortHandler)
		}
		if !wait(s.gap) || !chunk(map[string]any{"content": delta}, nil) {
			return false
		}
		if i != len(s.text)/3 {
			continue
		}
		for _, delta := range s.more {
			if !wait(s.gap) || !chunk(map[string]any{"reasoning_content": delta}, nil) {
				return false
			}
		}
		if s.source && !chunk(map[string]any{"annotations": []any{map[string]any{
			"type": "url_citation", "url_citation": map[string]any{"url": "https://example.org/" + strconv.Itoa(len(s.text)), "title": "A page"},
		}}}, nil) {
			return false
		}
	}
	chunk(map[string]any{}, "stop")
	_, err := io.WriteString(w, `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"scripted","choices":[],`+
		`"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}`+"\n\ndata: [DONE]\n\n")
	return err == nil
}

// rest ends idle connections, so that nobody who holds some looks as if they
// leaked.
func (p *provider) rest() { p.server.SetKeepAlivesEnabled(false) }

func (p *provider) close() { p.server.Close() }
