package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/tidwall/gjson"
)

// Event is one server-sent event.
type Event struct {
	Name string // of its event field
	Data []byte // its data lines, joined by line feeds; valid until the next call of Next
	// Unterminated says that the body ended before the empty line that ends an
	// event. What a cut has left of it may be incomplete.
	Unterminated bool
}

// JSON returns the data of the event. It returns nothing for blank data and
// for what a cut has left of an event, and the fault of a malformed event for
// data that is not JSON.
func (e Event) JSON() (gjson.Result, error) {
	switch {
	case gjson.ValidBytes(e.Data):
		return gjson.ParseBytes(e.Data), nil
	case e.Unterminated, len(bytes.TrimSpace(e.Data)) == 0:
		return gjson.Result{}, nil
	}
	return gjson.Result{}, Fail(NotAStream, errors.New("malformed event"))
}

// errTooLong is a line, an event or an error page beyond the limit.
var errTooLong = errors.New("line or event too long")

// EventReader reads server-sent events by the grammar of the WHATWG's HTML
// standard, with two differences. An event at the end of the body that lacks
// its empty line is returned, marked as Unterminated, because some providers
// end a stream like that. And bytes that are not UTF-8 are passed on as they
// are, because some providers cut a character in two events.
//
// A body whose first character is a brace is not a stream of events but one JSON
// document: a server that does not stream. It is returned as a single event.
type EventReader struct {
	lines    *bufio.Scanner
	maxEvent int
	event    Event
	data     bytes.Buffer
	err      error

	unmarked bool // a byte order mark has been looked for
	started  bool // the kind of body is known
	document bool // the body is one JSON document
	scanned  int  // bytes of the next line that hold no line end
	skipLF   bool // the last line ended with CR: a line feed that follows belongs to it
	atEnd    bool // the last line had no line end
}

// NewEventReader returns a reader of the events of a response body. maxEvent
// bounds a line and the data of an event, maxDocument a JSON document, both in bytes.
func NewEventReader(body io.Reader, maxEvent, maxDocument int) *EventReader {
	r := &EventReader{maxEvent: maxEvent, lines: bufio.NewScanner(body)}
	r.lines.Buffer(make([]byte, 0, min(4096, maxEvent)), max(maxEvent, maxDocument)+1)
	r.lines.Split(r.split)
	return r
}

// Event returns the event that Next has read.
func (r *EventReader) Event() Event { return r.event }

// Document reports whether the body is a JSON document instead of events.
func (r *EventReader) Document() bool { return r.document }

// Err returns why Next has returned false; nil at a clean end of the body.
func (r *EventReader) Err() error { return r.err }

// Next reads the next event that has data, and reports false at the end of the body.
func (r *EventReader) Next() bool {
	r.event = Event{}
	r.data.Reset()
	hasData := false
	for r.lines.Scan() {
		line := r.lines.Bytes()
		if r.document {
			r.event.Data = line
			return true
		}
		if len(line) == 0 {
			if r.atEnd {
				break
			}
			if hasData {
				r.event.Data = r.data.Bytes()
				return true
			}
			r.event.Name = ""
			continue
		}
		name, value, _ := bytes.Cut(line, colon)
		value = bytes.TrimPrefix(value, space)
		switch string(name) {
		case "event":
			r.event.Name = string(value)
		case "data":
			if hasData {
				r.data.WriteByte('\n')
			}
			r.data.Write(value)
			hasData = true
		}
		if r.data.Len() > r.maxEvent {
			r.err = errTooLong
			return false
		}
	}
	if r.err = r.lines.Err(); errors.Is(r.err, bufio.ErrTooLong) {
		r.err = errTooLong
		return false
	}
	r.event.Data, r.event.Unterminated = r.data.Bytes(), true
	return hasData
}

var (
	colon    = []byte(":")
	space    = []byte(" ")
	byteMark = []byte("\xef\xbb\xbf") // may begin a body
)

// split is the bufio.SplitFunc of lines, which end with CR, LF or both. It
// returns every line as soon as its end is there: after a call without a line
// the scanner waits for more bytes.
func (r *EventReader) split(data []byte, atEOF bool) (advance int, line []byte, err error) {
	skip := 0
	if !r.started {
		var decided bool
		if skip, decided = r.start(data, atEOF); !decided {
			return skip, nil, nil
		}
	}
	if r.document {
		if atEOF && len(data) > skip {
			return len(data), data[skip:], nil
		}
		return skip, nil, nil
	}
	if r.skipLF && len(data) > 0 {
		r.skipLF = false
		if data[0] == '\n' {
			skip = 1
		}
	}
	rest := data[skip:]
	end := lineEnd(rest[r.scanned:])
	if end >= 0 {
		end += r.scanned
	}
	r.scanned = 0
	switch {
	case end > r.maxEvent, end < 0 && len(rest) > r.maxEvent:
		return 0, nil, errTooLong
	case end >= 0:
		r.skipLF = rest[end] == '\r'
		return skip + end + 1, rest[:end:end], nil
	case atEOF && len(rest) > 0:
		r.atEnd = true
		return len(data), rest, nil
	}
	r.scanned = len(rest)
	return skip, nil, nil
}

// start looks at the first bytes of the body, which may be a byte order mark
// and blank lines, and decides whether a JSON document follows. It returns what
// to skip of them, and false when more bytes are needed.
func (r *EventReader) start(data []byte, atEOF bool) (skip int, decided bool) {
	if !r.unmarked {
		if !atEOF && bytes.HasPrefix(byteMark, data) {
			return 0, false // empty, a part of the mark, or the mark and nothing after it yet
		}
		r.unmarked = true
		skip = len(data) - len(bytes.TrimPrefix(data, byteMark))
	}
	rest := data[skip:]
	text := bytes.TrimLeft(rest, " \t\r\n")
	if len(text) == 0 && !atEOF && len(rest) < maxBlank {
		return skip + bytes.LastIndexAny(rest, "\r\n") + 1, false
	}
	r.started = true
	r.document = bytes.HasPrefix(text, []byte("{"))
	return skip, true
}

// maxBlank bounds the blank line before a JSON document.
const maxBlank = 4096

// lineEnd returns the index of the first CR or LF, or -1.
func lineEnd(data []byte) int {
	lf := bytes.IndexByte(data, '\n')
	if lf >= 0 {
		data = data[:lf]
	}
	if cr := bytes.IndexByte(data, '\r'); cr >= 0 {
		return cr
	}
	return lf
}
