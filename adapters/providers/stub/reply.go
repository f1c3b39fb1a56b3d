package stub

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Reply is how a call is answered. The zero value says nothing, whole.
type Reply struct {
	Delay time.Duration // before the first byte
	Hang  bool          // instead of a first byte

	// Without a stream: a status, or a body as it is.
	Status int
	Header map[string]string
	Raw    string // the body, instead of what would be made of the rest

	Reasoning  string
	Text       string   // said word by word
	Pieces     []string // instead of Text: said piece by piece
	Pace       time.Duration
	Ping       bool // comments or pings between pieces
	Split      int  // every write is cut into so many bytes
	Coalesce   bool // everything in one write
	NoUsage    bool
	CacheRead  int64 // part of the input, as it came from a prompt cache
	CacheWrite int64 // part of the input, as it went into one; Anthropic only
	Finish     string

	// Cut ends the stream its own way after so many pieces.
	Cut   Cut
	After int
}

// Cut is a way to break off.
type Cut string

const (
	Stall    Cut = "stall"    // nothing more, and no end
	EOF      Cut = "eof"      // a clean end, without a terminal marker
	Reset    Cut = "reset"    // the connection is torn down
	Overload Cut = "overload" // an error event of that type
)

// Echo says the last message again.
func Echo(c Call) Reply { return Reply{Text: c.Last()} }

// Always gives the same reply to every call.
func Always(r Reply) Script { return func(Call) Reply { return r } }

// Say is a script of one text.
func Say(text string) Script { return Always(Reply{Text: text}) }

// Refuse is an error response with a body in the provider's words.
func Refuse(status int, kind string, header ...string) Reply {
	r := Reply{Status: status, Header: map[string]string{}}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header[header[i]] = header[i+1]
	}
	body, _ := json.Marshal(map[string]any{
		"type":  "error",
		"error": map[string]any{"type": kind, "code": kind, "message": "The stub was told to refuse.", "param": nil},
	})
	r.Raw = string(body)
	return r
}

// performance is one reply on its way.
type performance struct {
	w      http.ResponseWriter
	r      *http.Request
	reply  Reply
	call   Call
	closed <-chan struct{}
	said   int64
	held   []byte // of Coalesce
}

var errGone = errors.New("the client has left")

// run plays the reply. whole: to its end. gone: the client left first.
func (p *performance) run() (whole, gone bool) {
	if p.reply.Hang || !p.wait(p.reply.Delay) {
		if p.reply.Hang {
			p.wait(time.Hour)
		}
		return false, p.r.Context().Err() != nil
	}
	for k, v := range p.reply.Header {
		p.w.Header().Set(k, v)
	}
	if p.reply.Raw != "" || p.reply.Status != 0 {
		return p.raw() && p.reply.Status == 0, p.r.Context().Err() != nil
	}
	p.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	p.w.WriteHeader(http.StatusOK)
	v := voice(openAIVoice{p})
	if p.call.Provider == Anthropic {
		v = anthropicVoice{p}
	}
	err := p.speak(v)
	if err == nil && p.held != nil {
		_, _ = p.w.Write(p.held)
	}
	return err == nil && p.reply.Cut == "", errors.Is(err, errGone) || p.r.Context().Err() != nil
}

func (p *performance) raw() bool {
	if p.w.Header().Get("Content-Type") == "" {
		kind := "application/json"
		if p.reply.Status == 0 {
			kind = "text/event-stream"
		}
		p.w.Header().Set("Content-Type", kind)
	}
	if p.reply.Status != 0 {
		p.w.WriteHeader(p.reply.Status)
	}
	_, err := p.w.Write([]byte(p.reply.Raw))
	return err == nil
}

// voice puts a reply into a provider's events.
type voice interface {
	begin() error
	reason(piece string) error
	say(piece string) error
	ping() error
	fail(kind string) error
	end() error
}

func (p *performance) speak(v voice) error {
	pieces := p.reply.Pieces
	if pieces == nil && p.reply.Text != "" {
		pieces = strings.SplitAfter(p.reply.Text, " ")
	}
	if err := v.begin(); err != nil {
		return err
	}
	if p.reply.Reasoning != "" {
		if err := v.reason(p.reply.Reasoning); err != nil {
			return err
		}
		p.said += Tokens(p.reply.Reasoning)
	}
	for i, piece := range pieces {
		if p.reply.Cut != "" && i == p.reply.After {
			return p.cut(v)
		}
		if !p.wait(p.reply.Pace) {
			return errGone
		}
		if p.reply.Ping {
			if err := v.ping(); err != nil {
				return err
			}
		}
		if err := v.say(piece); err != nil {
			return err
		}
		p.said += Tokens(piece)
	}
	if p.reply.Cut != "" {
		return p.cut(v)
	}
	return v.end()
}

func (p *performance) cut(v voice) error {
	switch p.reply.Cut {
	case Stall:
		p.wait(time.Hour)
		return errGone
	case Reset:
		if conn, _, err := http.NewResponseController(p.w).Hijack(); err == nil {
			reset(conn)
		}
		return nil
	case Overload:
		return v.fail("overloaded_error")
	}
	return nil
}

// wait reports false when the client, or the server, went away meanwhile.
func (p *performance) wait(d time.Duration) bool {
	if d <= 0 {
		return p.r.Context().Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.r.Context().Done():
	case <-p.closed:
	}
	return false
}

// write sends bytes at once, in the asked cuts.
func (p *performance) write(s string) error {
	if p.reply.Coalesce {
		p.held = append(p.held, s...)
		return nil
	}
	n := p.reply.Split
	if n <= 0 {
		n = len(s)
	}
	for len(s) > 0 {
		n = min(n, len(s))
		if _, err := p.w.Write([]byte(s[:n])); err != nil {
			return errGone
		}
		if http.NewResponseController(p.w).Flush() != nil {
			return errGone
		}
		s = s[n:]
	}
	return nil
}

func encode(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return strconv.Quote(fmt.Sprint(err))
	}
	return string(data)
}
