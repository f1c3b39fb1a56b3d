// Package stub is a provider for tests: a server that implements the APIs of
// OpenAI and Anthropic, down to event names and blank lines, and answers by a
// script, which may ask for failures and for the shapes of other servers. It
// counts input and output by a simple rule of its own (a word is a token), so
// that usage and cost can be checked against it.
package stub

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Providers, as Call names them.
const (
	OpenAI    = "openai"
	Anthropic = "anthropic"
)

// Call is one request, and how it was answered.
type Call struct {
	N            int // from 1
	Provider     string
	Model        string
	Messages     []Message // the system prompt included
	Body         map[string]any
	Header       http.Header
	Query        string // of the address
	At           time.Time
	Input        int64 // tokens of the messages
	Output       int64 // tokens sent
	Complete     bool  // sent to its end
	Disconnected bool  // the client disconnected first
}

// Message is one message of a call.
type Message struct {
	Role, Text string
	Files      []File
}

// Last returns the text of the last message.
func (c Call) Last() string {
	if len(c.Messages) == 0 {
		return ""
	}
	return c.Messages[len(c.Messages)-1].Text
}

// Server is a running stub.
type Server struct {
	addr   string
	listen func(addr string) (net.Listener, error)

	mu       sync.Mutex
	script   Script
	models   []string
	calls    []*Call
	conns    map[net.Conn]bool
	opened   int
	http     *http.Server
	listener net.Listener
	closed   chan struct{}
}

// Start listens on a free port of the loopback interface. With a nil script
// every reply is Echo.
func Start(script Script) (*Server, error) {
	s := newServer("127.0.0.1:0", script)
	s.listen = func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }
	return s, s.Resume()
}

func newServer(addr string, script Script) *Server {
	return &Server{addr: addr, script: script, conns: map[net.Conn]bool{}}
}

// Resume listens again after Kill, on the same port.
func (s *Server) Resume() error {
	l, err := s.listen(s.addr)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addr = l.Addr().String()
	s.closed, s.listener = make(chan struct{}), l
	s.http = &http.Server{Handler: http.HandlerFunc(s.serve), ConnState: s.track, ReadHeaderTimeout: time.Minute}
	go s.http.Serve(l)
	return nil
}

// Kill drops every connection and refuses new ones.
func (s *Server) Kill() {
	s.mu.Lock()
	h, l, closed := s.http, s.listener, s.closed
	s.http = nil
	for c := range s.conns {
		reset(c)
	}
	s.mu.Unlock()
	if h != nil {
		close(closed)
		l.Close() // the server does not know it yet if it has just been started
		_ = h.Close()
	}
}

// Close stops the server.
func (s *Server) Close() { s.Kill() }

// Play sets the script of the calls from now on.
func (s *Server) Play(script Script) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = script
}

// Offer sets the models that GET /v1/models lists from now on. Until it is
// called there is no such list.
func (s *Server) Offer(models ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.models = append([]string{}, models...)
}

func (s *Server) listModels(w http.ResponseWriter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.models == nil {
		http.Error(w, `{"error":{"message":"no such route"}}`, http.StatusNotFound)
		return
	}
	list := []any{}
	for _, name := range s.models {
		list = append(list, map[string]any{"id": name, "object": "model", "created": 1, "owned_by": "stub"})
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(encode(map[string]any{"object": "list", "data": list})))
}

// OpenAIURL returns the base URL for an OpenAI client.
func (s *Server) OpenAIURL() string { return "http://" + s.addr + "/v1" }

// AnthropicURL returns the base URL for an Anthropic client.
func (s *Server) AnthropicURL() string { return "http://" + s.addr }

// Calls returns the calls so far, in order.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Call, len(s.calls))
	for i, c := range s.calls {
		out[i] = *c
	}
	return out
}

// Connections returns how many connections were opened so far.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

func (s *Server) track(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.conns[c] = true
		s.opened++
	case http.StateClosed, http.StateHijacked:
		delete(s.conns, c)
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	c := &Call{Header: r.Header, Query: r.URL.RawQuery, At: time.Now()}
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/v1/chat/completions":
		c.Provider = OpenAI
	case r.Method == http.MethodPost && r.URL.Path == "/v1/messages":
		c.Provider = Anthropic
	case r.Method == http.MethodGet && r.URL.Path == "/v1/models":
		s.listModels(w)
		return
	default:
		http.NotFound(w, r)
		return
	}
	if json.NewDecoder(r.Body).Decode(&c.Body) != nil {
		http.Error(w, "not JSON", http.StatusBadRequest)
		return
	}
	c.read()
	s.mu.Lock()
	s.calls = append(s.calls, c)
	c.N = len(s.calls)
	script, closed, call := s.script, s.closed, *c
	s.mu.Unlock()
	if script == nil {
		script = Echo
	}
	session := &session{w: w, r: r, reply: script(call), call: call, closed: closed}
	complete, disconnected := session.run()
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Output, c.Complete, c.Disconnected = session.output, complete, disconnected
}

// read fills the fields that both APIs have from the body.
func (c *Call) read() {
	c.Model, _ = c.Body["model"].(string)
	if system := contentText(c.Body["system"]); system != "" {
		c.Messages = append(c.Messages, Message{Role: "system", Text: system})
	}
	list, _ := c.Body["messages"].([]any)
	for _, item := range list {
		m, _ := item.(map[string]any)
		role, _ := m["role"].(string)
		c.Messages = append(c.Messages, Message{Role: role, Text: contentText(m["content"]), Files: contentFiles(m["content"])})
	}
	for _, m := range c.Messages {
		c.Input += Tokens(m.Text)
	}
}

// contentText reads content that is a string or a list of blocks.
func contentText(content any) string {
	switch v := content.(type) {
	case string:
		return v
	case []any:
		var b strings.Builder
		for _, item := range v {
			block, _ := item.(map[string]any)
			s, _ := block["text"].(string)
			b.WriteString(s)
		}
		return b.String()
	}
	return ""
}

// Tokens returns the number of words, which are the stub's tokens.
func Tokens(text string) int64 { return int64(len(strings.Fields(text))) }

// reset closes a connection with a reset instead of an orderly end.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}
