package upstream

import (
	"errors"
	"unicode/utf8"

	"parley/domain/chat"
	"parley/domain/fault"
)

// Reply passes a provider's pieces on: clean, in whole characters, and within
// the limit of a reply.
type Reply struct {
	watch *Watch
	emit  func(chat.Delta)
	begun bool
	left  int       // code points that may still come
	parts [2]string // the first bytes of a character whose rest has yet to come, of text and reasoning
}

// NewReply returns the receiver of one reply.
func NewReply(w *Watch, emit func(chat.Delta)) *Reply {
	return &Reply{watch: w, emit: emit, left: w.limits.MaxReply}
}

// Text passes a piece of text on.
func (r *Reply) Text(s string) error { return r.pass(false, s) }

// Reasoning passes a piece of reasoning on.
func (r *Reply) Reasoning(s string) error { return r.pass(true, s) }

func (r *Reply) pass(reasoning bool, s string) error {
	if s == "" {
		return nil
	}
	r.watch.Begin()
	part := &r.parts[0]
	if reasoning {
		part = &r.parts[1]
	}
	s = *part + s
	cut := wholeCharacters(s)
	s, *part = s[:cut], s[cut:]
	s, _ = chat.CleanOutput(s)
	full := false
	if n := utf8.RuneCountInString(s); n > r.left {
		s, full = first(s, r.left), true
		r.left = 0
	} else {
		r.left -= n
	}
	if s != "" {
		r.begun = true
		r.emit(chat.Delta{Reasoning: reasoning, Text: s})
	}
	if full {
		return Fail(ReplyTooLong, errors.New("reply too long"))
	}
	return nil
}

// Failed is the fault of a reply that broke off. One that has begun to be
// shown is AIFailed whatever the reason: trying later does not complete it.
func (r *Reply) Failed(err error) error {
	f := fault.As(err)
	if !r.begun || f == nil || f.Kind != fault.AIUnavailable {
		return err
	}
	return fault.Wrap(f.Cause, fault.AIFailed, sayFailed).With(reasonDetail, string(ReasonOf(err)))
}

// wholeCharacters is the length of s without an unfinished character at its end.
func wholeCharacters(s string) int {
	for i := len(s) - 1; i >= 0 && len(s)-i < utf8.UTFMax; i-- {
		if utf8.RuneStart(s[i]) {
			if utf8.FullRuneInString(s[i:]) {
				return len(s)
			}
			return i
		}
	}
	return len(s)
}

// first is the first n code points of s.
func first(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}
