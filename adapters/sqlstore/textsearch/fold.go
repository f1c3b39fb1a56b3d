// Package textsearch finds words in texts of any language, and keeps an index of
// many texts that says which of them may have a word. It knows no table.
//
// Two texts that differ only in case, in the width of their characters, in
// composed or decomposed characters or in accents are folded into the same text. A word
// is found anywhere within a longer one, so that neither German compounds nor
// languages without spaces need a dictionary.
package textsearch

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Fold returns the folded form of a text.
func Fold(text string) string {
	if strings.IndexFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
		return strings.ToLower(text)
	}
	var b strings.Builder
	b.Grow(len(text))
	fold(text, func(folded string, _, _ int) { b.WriteString(folded) })
	return b.String()
}

// Folded is a folded text that knows where its parts come from.
type Folded struct {
	Text   string
	origin []int32 // of each byte of Text: where in the original the character begins
	end    []int32 // and where it ends
}

// FoldWithOrigin folds a text and remembers the origin of each byte.
func FoldWithOrigin(text string) Folded {
	var b strings.Builder
	f := Folded{origin: make([]int32, 0, len(text)), end: make([]int32, 0, len(text))}
	fold(text, func(folded string, from, to int) {
		b.WriteString(folded)
		for range len(folded) {
			f.origin, f.end = append(f.origin, int32(from)), append(f.end, int32(to))
		}
	})
	f.Text = b.String()
	return f
}

// original returns which bytes of the original a range of the folded text stands for.
func (f Folded) original(from, to int) (int, int) {
	return int(f.origin[from]), int(f.end[to-1])
}

const lower = "abcdefghijklmnopqrstuvwxyz"

// fold calls emit with pieces of the folded text, and with the bytes of the
// original that each stands for.
func fold(text string, emit func(folded string, from, to int)) {
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf && (i+1 == len(text) || text[i+1] < utf8.RuneSelf) { // no accent can follow
			if c >= 'A' && c <= 'Z' {
				emit(lower[c-'A':c-'A'+1], i, i+1)
			} else {
				emit(text[i:i+1], i, i+1)
			}
			i++
			continue
		}
		n := norm.NFKD.NextBoundaryInString(text[i:], true)
		if n <= 0 {
			n = len(text) - i
		}
		emit(foldCharacter(text[i:i+n]), i, i+n)
		i += n
	}
}

// foldCharacter folds one character with its combining marks.
func foldCharacter(s string) string {
	if r, n := utf8.DecodeRuneInString(s); n == len(s) && isIdeograph(r) {
		return s
	}
	t := norm.NFKC.String(s)
	accents := unicode.In(firstRune(t), unicode.Latin, unicode.Greek, unicode.Cyrillic, unicode.Arabic, unicode.Hebrew)
	if accents {
		t = norm.NFKD.String(s) // its accents become marks, which are left out
	}
	var b strings.Builder
	for _, r := range t {
		switch {
		case ignored(r), accents && unicode.Is(unicode.Mn, r):
		case r == 'ß' || r == 'ẞ':
			b.WriteString("ss")
		case r == 'ς':
			b.WriteRune('σ')
		case r == 'ı':
			b.WriteRune('i')
		default:
			b.WriteRune(unicode.ToLower(r))
		}
	}
	return b.String()
}

func firstRune(s string) rune {
	r, _ := utf8.DecodeRuneInString(s)
	return r
}

// isIdeograph reports whether a character is its own folded form, for the largest
// block of those that are.
func isIdeograph(r rune) bool { return r >= 0x4e00 && r <= 0x9fff }

// ignored are characters that are not seen: joiners, marks of direction, variation
// selectors, and the Arabic line that only makes a word longer.
func ignored(r rune) bool {
	switch {
	case r == 0xad, r == 0x640, r >= 0x200b && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2060 && r <= 0x2069, r == 0xfeff:
		return true
	}
	return r >= 0xfe00 && r <= 0xfe0f
}

// class is how characters make words.
type class int

const (
	space  class = iota // and punctuation
	letter              // letters and digits, of scripts with spaces between words
	dense               // scripts whose words follow each other without a space, and Hangul
	symbol              // each is a word
)

var denseScripts = []*unicode.RangeTable{
	unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Bopomofo, unicode.Hangul, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar,
	unicode.Tai_Tham, unicode.Tibetan, unicode.Yi,
}

func classOf(r rune) class {
	switch {
	case r < utf8.RuneSelf:
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' {
			return letter
		}
		return space
	case isIdeograph(r), r == 'ー', unicode.In(r, denseScripts...):
		return dense
	case unicode.IsLetter(r), unicode.IsNumber(r), unicode.IsMark(r):
		return letter
	case unicode.IsSymbol(r):
		return symbol
	}
	return space
}

// word is a run of characters of one class in a folded text.
type word struct {
	text  string
	class class
	runes int
}

// words calls found with each word of a folded text.
func words(folded string, found func(word)) {
	begin, runes, current := 0, 0, space
	flush := func(end int) {
		if current != space {
			found(word{folded[begin:end], current, runes})
		}
	}
	for i, r := range folded {
		if c := classOf(r); c != current || c == symbol {
			flush(i)
			begin, runes, current = i, 0, c
		}
		runes++
	}
	flush(len(folded))
}
