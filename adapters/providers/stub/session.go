package stub

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"parley/domain/chat"
)

// session sends one reply to one client.
type session struct {
	w      http.ResponseWriter
	r      *http.Request
	reply  Reply
	call   Call
	closed <-chan struct{} // of the server
	output int64           // tokens sent
	usage  []any           // reports left to send
	events int

	block     int    // Anthropic: index of the block that is open, or comes next
	blockType string // "": none is open

	held []byte // by Coalesce, and the end of an event by Unterminated
}

var errDisconnected = errors.New("the client disconnected")

// encoder writes a reply in a provider's events.
type encoder interface {
	begin() error
	reasoning(text string) error
	text(chunk string) error
	part(p chat.Part) error
	ping() error
	fail(kind string) error
	end() error
	document() any
}

// run sends the reply. complete: to its end. disconnected: the client disconnected first.
func (s *session) run() (complete, disconnected bool) {
	if s.reply.Hang || !s.wait(s.reply.Delay) {
		if s.reply.Hang {
			s.wait(time.Hour)
		}
		return false, s.r.Context().Err() != nil
	}
	for k, v := range s.reply.Header {
		s.w.Header().Set(k, v)
	}
	if s.reply.Raw != "" || s.reply.Status != 0 {
		return s.writeRaw() && s.reply.Status == 0, s.r.Context().Err() != nil
	}
	e := encoder(openAIEncoder{s})
	if s.call.Provider == Anthropic {
		e = anthropicEncoder{s}
	}
	if s.reply.Document {
		return s.writeDocument(e), s.r.Context().Err() != nil
	}
	if s.w.Header().Get("Content-Type") == "" {
		s.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	}
	s.w.WriteHeader(http.StatusOK)
	err := s.stream(e)
	if err == nil && s.held != nil && !s.reply.Unterminated {
		_, _ = s.w.Write(s.held)
	}
	return err == nil && s.reply.Cut == "", errors.Is(err, errDisconnected) || s.r.Context().Err() != nil
}

func (s *session) writeRaw() bool {
	if s.w.Header().Get("Content-Type") == "" {
		kind := "application/json"
		if s.reply.Status == 0 {
			kind = "text/event-stream"
		}
		s.w.Header().Set("Content-Type", kind)
	}
	if s.reply.Status != 0 {
		s.w.WriteHeader(s.reply.Status)
	}
	_, err := s.w.Write([]byte(s.reply.Raw))
	return err == nil
}

func (s *session) writeDocument(e encoder) bool {
	s.output = Tokens(s.reply.Reasoning) + Tokens(strings.Join(s.chunks(), ""))
	for _, p := range s.reply.Output {
		s.output += Tokens(p.Text)
	}
	s.w.Header().Set("Content-Type", "application/json")
	_, err := s.w.Write([]byte(encode(e.document())))
	return err == nil
}

func (s *session) chunks() []string {
	if s.reply.Chunks == nil && s.reply.Text != "" {
		return strings.SplitAfter(s.reply.Text, " ")
	}
	return s.reply.Chunks
}

func (s *session) stream(e encoder) error {
	for _, raw := range s.reply.RawChunks {
		if !s.wait(s.reply.Pace) {
			return errDisconnected
		}
		if err := s.write(raw); err != nil {
			return err
		}
	}
	if s.reply.RawChunks != nil {
		return s.cut(e)
	}
	s.usage = s.reply.Usage
	if err := e.begin(); err != nil {
		return err
	}
	if s.reply.Output != nil {
		return s.streamParts(e)
	}
	if s.reply.Reasoning != "" {
		if err := e.reasoning(s.reply.Reasoning); err != nil {
			return err
		}
		s.output += Tokens(s.reply.Reasoning)
	}
	for i, chunk := range s.chunks() {
		if s.reply.Cut != "" && i == s.reply.After {
			return s.cut(e)
		}
		if i == s.reply.After && !s.waitForGate() || !s.wait(s.reply.Pace) {
			return errDisconnected
		}
		if s.reply.Ping {
			if err := e.ping(); err != nil {
				return err
			}
		}
		if err := e.text(chunk); err != nil {
			return err
		}
		s.output += Tokens(chunk)
	}
	if s.reply.Cut != "" {
		return s.cut(e)
	}
	return e.end()
}

func (s *session) cut(e encoder) error {
	switch s.reply.Cut {
	case Stall:
		s.wait(time.Hour)
		return errDisconnected
	case Reset:
		if conn, _, err := http.NewResponseController(s.w).Hijack(); err == nil {
			reset(conn)
		}
		return nil
	case Overload:
		return e.fail("overloaded_error")
	}
	return nil
}

// nextUsage returns the next report of Reply.Usage; ok is false when none is left.
func (s *session) nextUsage() (report any, ok bool) {
	if len(s.usage) == 0 {
		return nil, false
	}
	report, s.usage = s.usage[0], s.usage[1:]
	return report, true
}

// wait reports false when the client disconnected, or the server was killed.
func (s *session) wait(d time.Duration) bool {
	if d <= 0 {
		return s.r.Context().Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.r.Context().Done():
	case <-s.closed:
	}
	return false
}

// waitForGate reports false when the client disconnected, or the server was
// killed, before the gate was opened.
func (s *session) waitForGate() bool {
	if s.reply.Gate == nil {
		return true
	}
	select {
	case <-s.reply.Gate:
		return true
	case <-s.r.Context().Done():
	case <-s.closed:
	}
	return false
}

// event writes one event; "" is no name.
func (s *session) event(name string, data any) error {
	text := encode(data)
	if s.reply.SplitSurrogates {
		text = escapeSurrogates(text)
	}
	if name != "" {
		text = "event: " + name + "\ndata: " + text
	} else {
		text = "data: " + text
	}
	return s.write(text + "\n\n")
}

// write sends the bytes of a whole event in the cuts that the reply asks for.
func (s *session) write(text string) error {
	if s.reply.ByteMark && s.events == 0 {
		text = "\xef\xbb\xbf" + text
	}
	s.events++
	if s.reply.LineEnd != "" {
		text = strings.ReplaceAll(text, "\n", s.reply.LineEnd)
	}
	if s.reply.Unterminated { // the end of an event comes with the next one
		event := strings.TrimRight(text, "\r\n")
		text, s.held = string(s.held)+event, []byte(text[len(event):])
	}
	if s.reply.Coalesce {
		s.held = append(s.held, text...)
		return nil
	}
	n := s.reply.Split
	if n <= 0 {
		n = len(text)
	}
	for len(text) > 0 {
		n = min(n, len(text))
		if _, err := s.w.Write([]byte(text[:n])); err != nil {
			return errDisconnected
		}
		if http.NewResponseController(s.w).Flush() != nil {
			return errDisconnected
		}
		text = text[n:]
	}
	return nil
}

// splitSurrogates cuts chunks in the middle of each character beyond U+FFFF.
// The halves are written as private characters, which escapeSurrogates turns
// into escapes.
func splitSurrogates(chunk string) []string {
	chunks := []string{""}
	for _, r := range chunk {
		if r <= 0xffff {
			chunks[len(chunks)-1] += string(r)
			continue
		}
		r -= 0x10000
		chunks[len(chunks)-1] += halfMark(0xd800 + r>>10)
		chunks = append(chunks, halfMark(0xdc00+r&0x3ff))
	}
	return chunks
}

func halfMark(half rune) string { return fmt.Sprintf("<half %04x>", half) }

func escapeSurrogates(text string) string {
	for {
		before, after, found := strings.Cut(text, `\u003chalf `)
		if !found {
			return text
		}
		text = before + `\u` + after[:4] + strings.TrimPrefix(after[4:], `\u003e`)
	}
}
