package chat

import (
	"encoding/json"
	"strings"
	"unicode/utf8"

	"parley/domain/fault"
)

// Cursor is a position in a run's output: how many bytes of it a follower has.
// The start of a run is at 0, its terminal event one past the last byte.
type Cursor int64

// Before is the cursor of a follower who has nothing, not even the start.
const Before Cursor = -1

// Output is the log of what a run has produced. It is text that only grows: each
// part begins with one of the control characters below, which no text of a part
// has, and goes on to the next one. So a cursor is a number of bytes, a piece of
// the log a substring, and what is stored, published and followed is the same.
type Output string

// What begins a part in the log.
const (
	beginText      = '\x02' // text follows
	beginReasoning = '\x03' // reasoning follows
	beginPart      = '\x04' // the JSON of a whole part follows
)

func isBegin(c byte) bool { return c >= beginText && c <= beginPart }

const begins = "\x02\x03\x04"

// Delta is a piece of output.
type Delta struct {
	// Part is the piece: more text of a text or reasoning part, or a whole part
	// of another kind. Reasoning without text is the State of the part before.
	Part
	Begins    bool   // the part begins with this piece
	Separator string // between the text parts before and this one, as in ContentOf
	End       Cursor // the position after this piece
}

// TextDelta is a piece of text.
func TextDelta(text string) Delta { return Delta{Part: Part{Kind: TextPart, Text: text}} }

// ReasoningDelta is a piece of reasoning.
func ReasoningDelta(text string) Delta { return Delta{Part: Part{Kind: ReasoningPart, Text: text}} }

// OutputOf is the log of parts that are known as a whole.
func OutputOf(parts ...Part) Output {
	var l OutputLog
	for _, p := range parts {
		l.Append(Delta{Part: p, Begins: true})
	}
	return l.Output()
}

// TextOutput is the log of one text part; of none when text is "".
func TextOutput(text string) Output { return OutputOf(Part{Kind: TextPart, Text: text}) }

// Empty reports whether nothing has been produced.
func (o Output) Empty() bool { return o == "" }

// Len is the cursor of a follower who has all of it but not the end.
func (o Output) Len() Cursor { return Cursor(len(o)) }

// Cut returns the output as a follower at c has seen it.
func (o Output) Cut(c Cursor) Output { return o[:min(max(c, 0), o.Len())] }

// Parts returns the parts of the output.
func (o Output) Parts() (parts []Part) {
	if o != "" && o[0] == beginText && !strings.ContainsAny(string(o[1:]), begins) { // nearly all replies are one text
		return []Part{{Kind: TextPart, Text: string(o[1:])}}
	}
	var r Reader
	for _, d := range r.Read(o) {
		if d.Begins {
			parts = append(parts, d.Part)
			continue
		}
		last := &parts[len(parts)-1]
		last.State, last.Provider, last.Model = d.State, d.Provider, d.Model
	}
	return parts
}

// Text is the content of the output: see ContentOf.
func (o Output) Text() string { return ContentOf(o.Parts()) }

// OutputLog builds an Output. The zero value is empty.
type OutputLog struct {
	log  strings.Builder
	open PartKind // the part that can go on
}

// NewOutputLog returns a log that goes on where an output ends.
func NewOutputLog(o Output) *OutputLog {
	l := new(OutputLog)
	l.log.WriteString(string(o))
	if i := strings.LastIndexAny(string(o), begins); i >= 0 {
		l.open = kindOf(o[i])
	}
	return l
}

// kindOf is the kind of a part that can go on, by its first character.
func kindOf(begin byte) PartKind {
	switch begin {
	case beginText:
		return TextPart
	case beginReasoning:
		return ReasoningPart
	}
	return ""
}

func beginOf(k PartKind) byte {
	if k == TextPart {
		return beginText
	}
	return beginReasoning
}

// Append adds a piece, and reports whether the log has grown. Characters that
// cannot be stored are left out of it.
func (l *OutputLog) Append(d Delta) bool {
	before := l.log.Len()
	text, _ := CleanOutput(d.Text)
	switch d.Kind {
	case TextPart, ReasoningPart:
		if text != "" {
			if d.Begins || l.open != d.Kind {
				l.log.WriteByte(beginOf(d.Kind))
			}
			l.log.WriteString(text)
			l.open = d.Kind
		}
		if d.Kind == ReasoningPart && d.State != "" {
			l.whole(Part{Kind: ReasoningPart, State: d.State, Provider: d.Provider, Model: d.Model})
		}
	default:
		l.whole(d.Part)
	}
	return l.log.Len() > before
}

// whole adds a part as JSON, which has no control characters.
func (l *OutputLog) whole(p Part) {
	text, err := json.Marshal(p)
	if err != nil { // its data is no JSON
		return
	}
	l.log.WriteByte(beginPart)
	l.log.Write(text)
	l.open = ""
}

// Output returns what has been added so far. It shares the log's memory, which
// is only added to.
func (l *OutputLog) Output() Output { return Output(l.log.String()) }

// Len is the length of the output.
func (l *OutputLog) Len() Cursor { return Cursor(l.log.Len()) }

// Reader reads an output that grows, from a cursor on. The zero value reads from
// the start.
type Reader struct {
	at   Cursor
	open PartKind // the part that goes on at the cursor
	join joiner
}

// NewReader returns a reader of what a follower at c has yet to see. A cursor
// that is no position of the output was never handed out and is Invalid: one
// beyond its end, inside a character, or inside a part that comes as a whole.
func NewReader(o Output, c Cursor) (Reader, error) {
	var r Reader
	if c = max(c, 0); c > o.Len() {
		return r, badCursor()
	}
	if c < o.Len() && !isBegin(o[c]) {
		if !utf8.RuneStart(o[c]) {
			return r, badCursor()
		}
		if i := strings.LastIndexAny(string(o[:c]), begins); i < 0 || o[i] == beginPart {
			return r, badCursor()
		}
	}
	r.Read(o[:c])
	return r, nil
}

// Cursor is the position of the reader.
func (r *Reader) Cursor() Cursor { return r.at }

// Read returns what has been added behind the cursor: at most one piece for each
// part. An output that has not grown yields nothing.
func (r *Reader) Read(o Output) (deltas []Delta) {
	for r.at < o.Len() {
		rest := string(o[r.at:])
		d := Delta{Part: Part{Kind: r.open}}
		if isBegin(rest[0]) {
			d.Begins, d.Kind = true, kindOf(rest[0])
			rest = rest[1:]
			r.at++
		}
		if i := strings.IndexAny(rest, begins); i >= 0 {
			rest = rest[:i]
		}
		r.at += Cursor(len(rest))
		before := r.open
		d.End, r.open = r.at, d.Kind
		switch {
		case d.Kind != "":
			d.Text = rest
		case json.Unmarshal([]byte(rest), &d.Part) != nil: // not written by this program
			continue
		case d.Kind == ReasoningPart && before == ReasoningPart: // its state
			d.Begins = false
		}
		if d.Begins {
			if d.Kind == TextPart {
				d.Separator = r.join.separator()
			}
			r.join.add(d.Kind)
		}
		deltas = append(deltas, d)
	}
	return deltas
}

// Reader returns a reader of the run's output from a cursor on. A cursor that is
// no position of the run is Invalid: the end of a live run is what has been
// recorded of it, and nothing else was ever handed out.
func (r Run) Reader(c Cursor) (Reader, error) {
	if end := r.Output.Len(); r.State.Terminal() && c == end+1 { // behind the terminal event
		c = end
	}
	return NewReader(r.Output, c)
}

func badCursor() error { return fault.New(fault.Invalid, "The cursor is not a position of this reply") }
