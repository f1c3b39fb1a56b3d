package chat

import (
	"unicode/utf8"

	"parley/domain/fault"
)

// Cursor is a position in a run's output: how many bytes of it (reasoning,
// then text, UTF-8) a follower has. The start of a run is at 0, its
// terminal event one past the last byte.
type Cursor int64

// Before is the cursor of a follower who has nothing, not even the start.
const Before Cursor = -1

// Output is what a run has produced: append-only, reasoning first, then text.
// Once text has begun, reasoning does not grow any more.
type Output struct {
	Reasoning string
	Text      string
}

// Empty reports whether nothing has been produced.
func (o Output) Empty() bool { return o.Reasoning == "" && o.Text == "" }

// Len is the cursor of a follower who has all of it but not the end.
func (o Output) Len() Cursor { return Cursor(len(o.Reasoning) + len(o.Text)) }

// Delta is a piece of output.
type Delta struct {
	Reasoning bool
	Text      string
	End       Cursor // the position after this piece
}

// Append adds a piece. Reasoning that comes after text is dropped, so that the
// order of the log never changes.
func (o *Output) Append(d Delta) {
	switch {
	case !d.Reasoning:
		o.Text += d.Text
	case o.Text == "":
		o.Reasoning += d.Text
	}
}

// After returns what a follower at c has yet to see: at most one piece of
// reasoning and one of text. A cursor that lies inside a character was never
// handed out and is Invalid; one beyond the end yields nothing.
func (o Output) After(c Cursor) ([]Delta, error) {
	c = max(c, 0)
	var out []Delta
	r := Cursor(len(o.Reasoning))
	if c < r {
		if !utf8.RuneStart(o.Reasoning[c]) {
			return nil, badCursor()
		}
		out = append(out, Delta{Reasoning: true, Text: o.Reasoning[c:], End: r})
	}
	if t := max(c-r, 0); t < Cursor(len(o.Text)) {
		if !utf8.RuneStart(o.Text[t]) {
			return nil, badCursor()
		}
		out = append(out, Delta{Text: o.Text[t:], End: o.Len()})
	}
	return out, nil
}

// CheckCursor returns an Invalid fault for a cursor that is no position of the
// run: beyond its end, or inside a character. The end of a live run is what
// has been recorded of it, and nothing else was ever handed out.
func (r Run) CheckCursor(c Cursor) error {
	end := r.Output.Len()
	if r.State.Terminal() {
		end++ // the terminal event
	}
	if c > end {
		return badCursor()
	}
	_, err := r.Output.After(c)
	return err
}

// Cut returns the output as a follower at c has seen it.
func (o Output) Cut(c Cursor) Output {
	c = min(max(c, 0), o.Len())
	r := Cursor(len(o.Reasoning))
	if c <= r {
		return Output{Reasoning: o.Reasoning[:c]}
	}
	return Output{Reasoning: o.Reasoning, Text: o.Text[:c-r]}
}

func badCursor() error { return fault.New(fault.Invalid, "The cursor is not a position of this reply") }
