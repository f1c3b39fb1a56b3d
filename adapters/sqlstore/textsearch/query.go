package textsearch

import (
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"parley/domain/chat"
)

// Query is what is looked for: all of its terms.
type Query struct{ terms []term }

// term is a word. One of one or two letters is found as a whole word only, others
// within longer words as well.
type term struct {
	word
	whole bool
}

// maxTerms bounds the work that one query makes. Further words are passed over.
const maxTerms = 16

// Parse makes a query of plain text: no character in it is an operator.
func Parse(text string) (q Query) {
	words(Fold(text), func(w word) {
		t := term{w, w.class == letter && w.runes <= 2}
		if len(q.terms) < maxTerms && !slices.Contains(q.terms, t) {
			q.terms = append(q.terms, t)
		}
	})
	return q
}

// Empty reports whether nothing is looked for.
func (q Query) Empty() bool { return len(q.terms) == 0 }

// next returns where a term is found next, -1 if nowhere.
func (t term) next(folded string, from int) int {
	for {
		i := strings.Index(folded[from:], t.text)
		if i < 0 {
			return -1
		}
		i += from
		if !t.whole || begins(folded, i) && ends(folded, i+len(t.text)) {
			return i
		}
		from = i + len(t.text)
	}
}

// begins reports whether no letter stands before a position.
func begins(folded string, at int) bool {
	r, n := utf8.DecodeLastRuneInString(folded[:at])
	return n == 0 || classOf(r) != letter
}

// ends reports whether no letter stands behind a position.
func ends(folded string, at int) bool {
	r, n := utf8.DecodeRuneInString(folded[at:])
	return n == 0 || classOf(r) != letter
}

// Score says how well a folded text matches: whole words count more than
// beginnings of words and these more than parts, more occurrences count a bit more,
// and terms in the order of the query most. 0: it does not match.
func (q Query) Score(folded string) int {
	score, at, ordered := 0, 0, true
	for n, t := range q.terms {
		best, count, here := 0, 0, -1
		for i := t.next(folded, 0); i >= 0 && count < 100; i = t.next(folded, i+len(t.text)) {
			count++
			quality := 10
			if t.class != letter {
				quality = 30
			} else if begins(folded, i) {
				if quality = 20; ends(folded, i+len(t.text)) {
					quality = 30
				}
			}
			best = max(best, quality)
			if here < 0 && i >= at {
				here = i
			}
		}
		if count == 0 {
			return 0
		}
		if n > 0 && (here < 0 || here-at > 4) {
			ordered = false
		}
		if here >= 0 {
			at = here + len(t.text)
		}
		score += best + int(4*math.Log2(float64(count)))
	}
	if ordered && len(q.terms) > 1 {
		score += 20 * len(q.terms)
	}
	return score
}

// Marks returns where a text has the terms, in order and without overlaps.
func (q Query) Marks(text string) []chat.Span {
	f := FoldWithOrigin(text)
	var found []chat.Span
	for _, t := range q.terms {
		for i := t.next(f.Text, 0); i >= 0; i = t.next(f.Text, i+len(t.text)) {
			from, to := f.original(i, i+len(t.text))
			found = append(found, chat.Span{From: from, To: to})
		}
	}
	slices.SortFunc(found, func(a, b chat.Span) int { return a.From - b.From })
	merged := found[:0]
	for _, s := range found {
		if n := len(merged); n > 0 && s.From <= merged[n-1].To {
			merged[n-1].To = max(merged[n-1].To, s.To)
			continue
		}
		merged = append(merged, s)
	}
	return merged
}

// snippetRunes is how many characters of a text are shown.
const snippetRunes = 200

// Snippet returns the part of a text around the first match, with the matches in
// it. What was cut off at an end is told by an ellipsis.
func (q Query) Snippet(text string) (string, []chat.Span) {
	marks := q.Marks(text)
	from := 0
	if len(marks) > 0 {
		from = marks[0].From
		for range snippetRunes / 4 { // what comes before it
			_, n := utf8.DecodeLastRuneInString(text[:from])
			from -= n
		}
	}
	to := from
	for range snippetRunes {
		_, n := utf8.DecodeRuneInString(text[to:])
		to += n
	}
	if len(marks) > 0 {
		to = max(to, min(marks[0].To, from+16*snippetRunes))
	}
	const ellipsis = "…"
	shown, shift := text[from:to], -from
	if from > 0 {
		shown, shift = ellipsis+shown, len(ellipsis)-from
	}
	var within []chat.Span
	for _, m := range marks {
		if m.From >= from && m.To <= to {
			within = append(within, chat.Span{From: m.From + shift, To: m.To + shift})
		}
	}
	if to < len(text) {
		shown += ellipsis
	}
	return shown, within
}
