package tokens

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// word is the length of the first word of a text that is not empty. Words are
// what the encoding never merges across: letters with the one character before
// them, up to three digits, punctuation, white space. It is the encoding's
// regular expression written out, which is many times faster than running it.
func word(s string) int {
	r, size := utf8.DecodeRuneInString(s)
	if n := letters(s, 0); n > 0 && unicode.IsLetter(r) {
		return n
	}
	if r != '\r' && r != '\n' && !unicode.IsNumber(r) {
		if n := letters(s, size); n > size {
			return n
		}
	}
	if unicode.IsNumber(r) {
		return digits(s)
	}
	if n := punctuation(s); n > 0 {
		return n
	}
	return space(s)
}

// letters is where a word of letters that begins at from ends, with a
// contraction such as 's; from itself when there is none. Capitals begin a word
// but for those that follow a small letter; letters without case do both.
func letters(s string, from int) int {
	i, lastBoth := from, from
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		if !begins(r) {
			break
		}
		i += size
		if goesOn(r) {
			lastBoth = i
		}
	}
	capitals := i
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		if !goesOn(r) {
			break
		}
		i += size
	}
	if i == capitals && lastBoth > from {
		i = lastBoth
	}
	if i == from {
		return from
	}
	return i + contraction(s[i:])
}

func begins(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= 'A' && r <= 'Z'
	}
	return unicode.In(r, unicode.Lu, unicode.Lt, unicode.Lm, unicode.Lo, unicode.M)
}

func goesOn(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= 'a' && r <= 'z'
	}
	return unicode.In(r, unicode.Ll, unicode.Lm, unicode.Lo, unicode.M)
}

func contraction(s string) int {
	if len(s) < 2 || s[0] != '\'' {
		return 0
	}
	for _, c := range []string{"s", "t", "re", "ve", "m", "ll", "d"} {
		if len(s) > len(c) && strings.EqualFold(s[1:1+len(c)], c) {
			return 1 + len(c)
		}
	}
	return 0
}

func digits(s string) int {
	i := 0
	for n := 0; n < 3 && i < len(s); n++ {
		r, size := utf8.DecodeRuneInString(s[i:])
		if !unicode.IsNumber(r) {
			break
		}
		i += size
	}
	return i
}

// punctuation may have a space before it, and line ends and slashes after.
func punctuation(s string) int {
	i := 0
	if s[0] == ' ' {
		i = 1
	}
	from := i
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		if unicode.IsSpace(r) || unicode.IsLetter(r) || unicode.IsNumber(r) {
			break
		}
		i += size
	}
	if i == from {
		return 0
	}
	for i < len(s) && (s[i] == '\r' || s[i] == '\n' || s[i] == '/') {
		i++
	}
	return i
}

// space is white space up to its last line end; without one, all of it but
// the last character, which goes with what follows.
func space(s string) int {
	end, line, last := 0, 0, 0
	for end < len(s) {
		r, size := utf8.DecodeRuneInString(s[end:])
		if !unicode.IsSpace(r) {
			break
		}
		last = end
		end += size
		if r == '\r' || r == '\n' {
			line = end
		}
	}
	switch {
	case line > 0:
		return line
	case end == len(s) || last == 0:
		return max(end, 1)
	}
	return last
}
