package files

import (
	"bytes"
	"io"
	"unicode/utf8"

	"parley/domain/fault"
)

// textReader passes text on, and refuses what is not UTF-8 or contains NUL: a file
// that begins as text may go on as something else.
type textReader struct {
	content io.Reader
	partial []byte // the beginning of a code point at the end of the last read
}

// Read implements io.Reader.
func (t *textReader) Read(p []byte) (int, error) {
	n, err := t.content.Read(p)
	// An error that wraps EOF is not the end
	if !t.valid(p[:n]) || err == io.EOF && len(t.partial) > 0 {
		return 0, fault.New(fault.MediaType, "A text file must be UTF-8, without NUL characters")
	}
	return n, err
}

// valid checks the next bytes.
func (t *textReader) valid(p []byte) bool {
	if bytes.IndexByte(p, 0) >= 0 {
		return false
	}
	for len(t.partial) > 0 && len(p) > 0 { // at most three times
		t.partial, p = append(t.partial, p[0]), p[1:]
		if utf8.FullRune(t.partial) {
			if r, _ := utf8.DecodeRune(t.partial); r == utf8.RuneError && !bytes.Equal(t.partial, []byte("\uFFFD")) {
				return false
			}
			t.partial = t.partial[:0]
		}
	}
	end := len(p)
	for back := 1; back <= min(utf8.UTFMax-1, len(p)); back++ {
		if utf8.RuneStart(p[len(p)-back]) {
			if !utf8.FullRune(p[len(p)-back:]) {
				end = len(p) - back
			}
			break
		}
	}
	t.partial = append(t.partial, p[end:]...)
	return utf8.Valid(p[:end])
}
