package chat

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// titleHead is how much of a long line is looked at, in bytes. A title is made
// while the database waits.
const titleHead = 4096

// head returns the beginning of a line, behind white space.
func head(line string) string {
	line = strings.TrimLeftFunc(line, unicode.IsSpace)
	if len(line) <= titleHead {
		return line
	}
	end := titleHead
	for !utf8.RuneStart(line[end]) {
		end--
	}
	return line[:end]
}

// maxAutomaticTitle is the longest title that is made of a text, in code points.
const maxAutomaticTitle = 60

// TitleFrom makes a title from a first message or from a model's proposal: its
// first line that says something, without Markdown and without characters that
// do not show, white space folded, cut at a word to at most 60 code points.
func TitleFrom(content string) string {
	first := ""
	for line := range strings.Lines(content) {
		folded := foldLine(head(line))
		if folded == "" && len(line) > titleHead {
			folded = foldLine(line)
		}
		if first == "" {
			first = folded
		}
		if strings.HasPrefix(folded, "```") || strings.HasPrefix(folded, "~~~") {
			continue // the fence of a block of code
		}
		if title := PlainLine(folded); title != "" {
			return shorten(title)
		}
	}
	return shorten(first)
}

var (
	blockMarks = regexp.MustCompile(`^(?:#{1,6}\s+|>\s*|[-*+]\s+|\d{1,3}[.)]\s+)+`)
	headingEnd = regexp.MustCompile(`\s+#+$`)
	links      = regexp.MustCompile(`!?\[([^\[\]]*)\]\([^()\s]*\)`)
	codeSpans  = regexp.MustCompile("(`+)([^`]+)(`+)")
	emphasis   = []*regexp.Regexp{
		regexp.MustCompile(`\*\*\*(\S(?:[^*]*\S)?)\*\*\*`), regexp.MustCompile(`\*\*(\S(?:[^*]*\S)?)\*\*`),
		regexp.MustCompile(`(^|[\s("])\*(\S(?:[^*]*\S)?)\*($|[\s.,:;!?)"])`), regexp.MustCompile(`~~(\S(?:[^~]*\S)?)~~`),
		regexp.MustCompile(`(^|[\s("])__([^\s_](?:[^_]*[^\s_])?)__($|[\s,:;!?)"])`),
		regexp.MustCompile(`(^|[\s("])_([^\s_](?:[^_]*[^\s_])?)_($|[\s,:;!?)"])`),
	}
)

// PlainLine is one line without its Markdown: marks of headings, quotes and
// lists, links, code and emphasis.
func PlainLine(line string) string {
	line = foldLine(line)
	if strings.Trim(line, "-*_=#>` ") == "" {
		return "" // a rule, or marks alone
	}
	line = headingEnd.ReplaceAllString(blockMarks.ReplaceAllString(line, ""), "")
	line = links.ReplaceAllString(line, "$1")
	line = codeSpans.ReplaceAllString(line, "$2")
	for _, e := range emphasis {
		if e.NumSubexp() == 1 {
			line = e.ReplaceAllString(line, "$1")
		} else {
			line = e.ReplaceAllString(line, "$1$2$3")
		}
	}
	return strings.TrimSpace(line)
}

// foldLine drops characters that do not show or that turn the direction of
// others, and folds white space.
func foldLine(line string) string {
	line = strings.Map(func(r rune) rune {
		switch {
		case r == '\u200c', r == '\u200d', r >= 0xe0020 && r <= 0xe007f: // they belong to words and emoji
		case unicode.IsSpace(r):
			return ' '
		case r == utf8.RuneError, unicode.Is(unicode.Cc, r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Co, r):
			return -1
		}
		return r
	}, line)
	return strings.Join(strings.Fields(line), " ")
}

// shorten cuts a title at a word, or at least between characters as a reader
// sees them.
func shorten(title string) string {
	runes := []rune(title)
	if len(runes) <= maxAutomaticTitle {
		return title
	}
	end := cutAt(runes, maxAutomaticTitle-1)
	for i := end - 1; i > end/2; i-- {
		if runes[i] == ' ' && isBoundary(runes, i) {
			end = i
			break
		}
	}
	return strings.TrimRight(string(runes[:end]), " ") + "…"
}

// cutAt is the last place, at most limit, at which a text can be cut without
// dividing a character as a reader sees it. One that is longer than limit is
// divided.
func cutAt(runes []rune, limit int) int {
	for i := limit; i > 0; i-- {
		if isBoundary(runes, i) {
			return i
		}
	}
	return limit
}

// isBoundary reports whether a grapheme cluster surely ends before runes[i]. It
// is the standard's rules (UAX 29) without its tables: where they would be
// needed it says no. A test holds it to a full implementation, which this
// package may not import.
func isBoundary(runes []rune, i int) bool {
	before, after := runes[i-1], runes[i]
	switch {
	case extends(after), before == '\u200d', isVirama(before), isPrepended(before):
		return false
	case isRegional(before) && isRegional(after): // flags are pairs
		n := 0
		for n < i && isRegional(runes[i-1-n]) {
			n++
		}
		return n%2 == 0
	case unicode.Is(unicode.Hangul, before) && unicode.Is(unicode.Hangul, after):
		return isSyllable(before) && isSyllable(after) || isInitial(after) && !isInitial(before)
	}
	return true
}

func extends(r rune) bool {
	return unicode.Is(unicode.M, r) || unicode.Is(unicode.Other_Grapheme_Extend, r) || unicode.Is(unicode.Cf, r) ||
		r >= 0x1f3fb && r <= 0x1f3ff || // skin tones
		r == 0xe33 || r == 0xeb3 // vowels of Thai and Lao
}

// isVirama reports whether a mark may join its consonant with the next one.
func isVirama(r rune) bool {
	return unicode.Is(unicode.Mn, r) && unicode.Is(unicode.Diacritic, r) && (r >= 0x900 && r < 0x1b80 || r >= 0xa800 && r < 0xac00 || r >= 0x10000)
}

func isPrepended(r rune) bool {
	switch {
	case unicode.Is(unicode.Prepended_Concatenation_Mark, r), r == 0xd4e, r == 0x111c2, r == 0x111c3, r == 0x113d1, r == 0x1193f, r == 0x11941,
		r == 0x11a3a, r >= 0x11a84 && r <= 0x11a89, r == 0x11d46, r == 0x11f02:
		return true
	}
	return false
}

func isRegional(r rune) bool { return r >= 0x1f1e6 && r <= 0x1f1ff }

// isInitial reports whether r is a consonant that begins a Korean syllable.
func isInitial(r rune) bool { return r >= 0x1100 && r <= 0x115f || r >= 0xa960 && r <= 0xa97c }

// isSyllable reports whether r is a whole Korean syllable, not a part of one.
func isSyllable(r rune) bool { return r >= 0xac00 && r <= 0xd7a3 }
