package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// hardUnits are texts that, repeated, cost parsers of Markdown more than
// their length.
var hardUnits = []string{
	"- ", "+ ", "* ", "1. ", "1) ", ">", "> ", "> - ", "- > ", "-\t", "1.\t> ", "- 1. ", " >- ", "- a\n", "> a\n", "1. a\n",
	"*", "*a ", "*a_ ", "*a **b ", "a**b", "_a __b ", "*_", "*~ ", "~~a ", "a* ", " * ", "**a *a", "*_a", "a_*",
	"`", "`a", "``a` ", "\n\\```", "1.`", "`\\|`|", "```\n", "~~~\n", "` `` ",
	"[", "![", "[a](", "[a]: <", "[a]:\n", "[a]: b\n", "[a]: b '", "]", "[]([", "[a][", "![[]()", "[a](<b", "[a](b \"",
	"|", "|a", "|-", "|-|\n", "a|b\n-|-\n", "|\n\n",
	"<", "<a", "<a ", "<!--", "<?", "<div>\n", "<a@", "<http://",
	"&", "&#", "&amp", "\\", "\\\n", "http://", "www.a", "http://a.b(", "a@", "a_a", "_a@b", "~a.", "(http://a.b/", "a@b.c ",
	"#", "# a\n", "===\n", "a\n===\n", "---\n", "a\n---\n", "    a\n", "\t", "\n", "a\n", "\r", " ", "^", "[^a]", "[^a]: b\n", ":", "a  \n",
}

// nested returns texts whose blocks contain each other over many lines.
func nested(size int) (out []string) {
	for _, marker := range []string{"- a\n", "1. a\n", "> a\n", "- - a\n", "> - a\n"} {
		var b strings.Builder
		for depth := 0; b.Len() < size; depth++ {
			fmt.Fprintf(&b, "%s%s", strings.Repeat(" ", 2*depth), marker)
		}
		out = append(out, b.String()[:size])
	}
	columns := size / 6
	table := strings.Repeat("|a", columns) + "\n" + strings.Repeat("|-", columns) + "\n"
	out = append(out, table+strings.Repeat("|\n", (size-len(table))/2))
	var ticks strings.Builder
	for n := 1; ticks.Len() < size; n++ {
		ticks.WriteString(strings.Repeat("`", n) + " ")
	}
	out = append(out, ticks.String()[:size])
	for _, unit := range []string{"- ", "> ", "1. "} {
		deep := strings.Repeat(unit, maxBlockDepth) + "a\n"
		out = append(out, deep+strings.Repeat("\n", size-len(deep)), deep+strings.Repeat("a\n", (size-len(deep))/2),
			strings.Repeat(deep, size/len(deep)))
	}
	return out
}

func hardTexts(size int) []string {
	out := nested(size)
	for i, a := range hardUnits {
		out = append(out, strings.Repeat(a, size/len(a)))
		b := hardUnits[(i*7+3)%len(hardUnits)]
		out = append(out, strings.Repeat(a, size/2/len(a))+strings.Repeat(b, size/2/len(b)), strings.Repeat(a+b, size/len(a+b)))
	}
	return out
}

// rendering renders a text and returns what that took.
type rendering struct {
	steps, nodes, depth, bytes int
	allocated                  uint64
	err                        error
}

func measure(markdown string) (r rendering) {
	w := newWork(context.Background())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var out bytes.Buffer
	r.err = w.render([]byte(markdown), &out)
	runtime.ReadMemStats(&after)
	r.steps, r.bytes, r.allocated = maxPageSteps-w.page, out.Len(), after.TotalAlloc-before.TotalAlloc
	r.nodes, r.depth = strings.Count(out.String(), "<"), deepest(out.String())
	return r
}

// deepest returns how deep the blocks of some HTML are nested.
func deepest(html string) (most int) {
	depth := 0
	for i := range len(html) {
		for _, tag := range []string{"<ul", "<ol", "<blockquote"} {
			if strings.HasPrefix(html[i:], tag) {
				depth++
			}
		}
		for _, tag := range []string{"</ul", "</ol", "</blockquote"} {
			if strings.HasPrefix(html[i:], tag) {
				depth--
			}
		}
		most = max(most, depth)
	}
	return most
}

// linear reports what is out of proportion to the length of a text.
func (r rendering) linear(size int) error {
	switch {
	case r.steps > minSteps+stepsPerByte*size+1:
		return fmt.Errorf("%d steps for %d bytes", r.steps, size)
	case r.depth > maxBlockDepth:
		return fmt.Errorf("blocks nested %d deep", r.depth)
	case r.nodes > 100+20*size || r.bytes > 10_000+100*size:
		return fmt.Errorf("%d tags in %d bytes for %d bytes", r.nodes, r.bytes, size)
	case r.allocated > uint64(1<<20+10_000*size):
		return fmt.Errorf("%d bytes allocated for %d bytes", r.allocated, size)
	}
	return nil
}

// TestContentHTML_NestedListsAreText: blocks that are nested too deep are shown
// as they were written.
func TestContentHTML_NestedListsAreText(t *testing.T) {
	for _, unit := range []string{"- ", "* ", "+ ", "1. ", "> ", "- > ", "> 1. ", "- 1) "} {
		s := strings.Repeat(unit, 2000) + "end"
		got := contentHTML(newWork(t.Context()), s)
		if !strings.HasPrefix(got, "<pre>") || !strings.Contains(got, "end") {
			t.Errorf("%q: %.80s", unit, got)
		}
	}
}

// TestContentHTML_OrdinaryTextIsRendered: what people and models write takes a
// small part of the work that is allowed.
func TestContentHTML_OrdinaryTextIsRendered(t *testing.T) {
	paragraph := "A *reply* with **emphasis**, `code`, a [link](https://example.com/a?b=c), https://example.com and words, words (and more).\n"
	for name, unit := range map[string]string{
		"Paragraphs": paragraph + "\n",
		"OneBlock":   paragraph,
		"OneLine":    strings.ReplaceAll(paragraph, "\n", " "),
		"List":       "- an *item* of a list with `code`\n",
		"Nested":     "- one\n  - two\n    - three\n      1. four\n",
		"Table":      "\n| a | b | c |\n|---|:-:|--:|\n| 1 | *2* | `3` |\n| 4 | 5 | 6 |\n| 7 | 8 | 9 |\n",
		"Code":       "```go\nfunc f() { a[i] = b[i] * c[j] }\n```\n",
		"Headings":   "## A heading\n\nText below.\n\n",
		"Quotes":     "> > quoted\n> once\n\n",
	} {
		for _, size := range []int{10_000, 60_000} {
			s := strings.Repeat(unit, size/len(unit))
			r := measure(s)
			if r.err != nil {
				t.Errorf("%s of %d bytes: %v", name, size, r.err)
			} else if r.steps > (minSteps+stepsPerByte*size)/2 {
				t.Errorf("%s of %d bytes: %d steps", name, size, r.steps)
			}
		}
	}
}

// TestContentHTML_PageIsBounded: a page of hard messages takes no more work
// than a page may, and what is not rendered is shown as it is written.
func TestContentHTML_PageIsBounded(t *testing.T) {
	w := newWork(t.Context())
	hard := strings.Repeat("*a_ ", 2500)
	for range 100 {
		if got := contentHTML(w, hard); !strings.Contains(got, "*a_ *a_") {
			t.Fatalf("%.80s", got)
		}
	}
	if w.page < 0 || w.page > maxPageSteps/2 {
		t.Errorf("%d steps are left of %d", w.page, maxPageSteps)
	}
}

// TestContentHTML_StopsWithItsReader: nothing is rendered for nobody.
func TestContentHTML_StopsWithItsReader(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	w := newWork(ctx)
	if err := w.render([]byte("*a*"), &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	leave()
	before := w.page
	for _, s := range append(hardTexts(10_000), "*a*") {
		if err := w.render([]byte(s), &bytes.Buffer{}); !errors.Is(err, context.Canceled) {
			t.Fatalf("%.24q: %v", s, err)
		}
	}
	if spent := before - w.page; spent > 1000 {
		t.Errorf("%d steps without a reader", spent)
	}
}
