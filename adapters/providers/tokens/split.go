package tokens

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// firstWord returns the length in bytes of the first word of a text that is not
// empty. Tokens never span two words: letters with the one character before
// them, up to three digits, punctuation, white space. It is the encoding's
// regular expression written as code, which is many times faster.
func firstWord(s string) int {
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

// letters returns the end of the word of letters that begins at from, with a
// contraction such as 's, or from if there is none. An upper-case letter after
// a lower-case one begins a new word; letters without case count as both.
func letters(s string, from int) int {
	i, lastBoth := from, from
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		if !startsWord(r) {
			break
		}
		i += size
		if continuesWord(r) {
			lastBoth = i
		}
	}
	capitals := i
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		if !continuesWord(r) {
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

// startsWord reports whether the expression admits r in the first part of a word.
func startsWord(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= 'A' && r <= 'Z'
	}
	return unicode.In(r, unicode.Lu, unicode.Lt, unicode.Lm, unicode.Lo, unicode.M)
}

// continuesWord reports whether the expression admits r in the second part of a word.
func continuesWord(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= 'a' && r <= 'z'
	}
	return unicode.In(r, unicode.Ll, unicode.Lm, unicode.Lo, unicode.M)
}

// contraction returns the length of a contraction at the start of s, or 0.
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

// digits returns the length of up to three digits at the start of s.
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

// punctuation returns the length of punctuation with a space before it, and
// line ends and slashes after it.
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

// space returns the length of white space up to its last line end; without a
// line end, of all of it but the last character, which belongs to the next word.
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
