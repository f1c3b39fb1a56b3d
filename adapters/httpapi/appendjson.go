package httpapi

import (
	"encoding/json"
	"sync"
	"unicode/utf8"
)

// JSONAppender is an answer that writes itself: exactly what encoding/json makes
// of it, for a part of the time, where answers are long or frequent.
type JSONAppender interface {
	AppendJSON(b []byte) ([]byte, error)
}

// buffers keeps what answers were written in.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// maxBuffer is the largest buffer that is kept.
const maxBuffer = 256 << 10

// plain marks the bytes that stand for themselves in a JSON string. Of those
// above ASCII, only 0xE2 may begin a character that does not: U+2028 or U+2029.
var plain = func() (t [256]bool) {
	for c := ' '; c < 256; c++ {
		t[c] = true
	}
	for _, c := range "\"\\<>&" {
		t[c] = false
	}
	t[0xE2] = false
	return t
}()

// AppendJSONString appends s as encoding/json writes it: safe to be put into a
// script element.
func AppendJSONString(b []byte, s string) []byte {
	if !utf8.ValidString(s) {
		quoted, _ := json.Marshal(s) // a string can always be
		return append(b, quoted...)
	}
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if plain[c] {
			continue
		}
		if c == 0xE2 { // of three bytes, since s is valid
			if s[i+1] == 0x80 && s[i+2]&^1 == 0xA8 {
				b = append(append(b, s[from:i]...), `\u202`...)
				b = append(b, hex[s[i+2]&0xF])
				from = i + 3
			}
			i += 2
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, `\b`...)
		case '\f':
			b = append(b, `\f`...)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, `\u00`...)
			b = append(b, hex[c>>4], hex[c&0xF])
		}
	}
	return append(append(b, s[from:]...), '"')
}

// AppendJSON appends any value as encoding/json writes it.
func AppendJSON(b []byte, v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	return append(b, raw...), err
}
