package textsearch

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// Whatever matches is among the candidates of the index.
func TestIndex_MissesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("the a of house Monatsrechnung Straße über 人工智能的未来 東京タワー ｶﾞﾗｽ ข้าวผัด مرحبا 학교에서 🎉 👍🏽 C++ snake_case v1.2.3 don't x1 日本 é e\u0301 ﬁne")
	for i := range 500 {
		words = append(words, fmt.Sprintf("w%d", i), fmt.Sprintf("term%dlong", i*i))
	}
	texts := make([]string, SegmentSize)
	for i := range texts {
		for range 1 + r.IntN(40) {
			texts[i] += words[r.IntN(len(words))] + []string{" ", ", ", "\n", "-"}[r.IntN(4)]
		}
	}
	buckets := Build(texts)
	size, candidates, matches := 0, 0, 0
	for _, b := range buckets {
		size += len(b)
	}
	for range 400 {
		text := words[r.IntN(len(words))]
		if r.IntN(2) == 0 {
			text += " " + words[r.IntN(len(words))]
		}
		if runes := []rune(text); r.IntN(3) == 0 && len(runes) > 4 {
			text = string(runes[1 : len(runes)-1])
		}
		q := Parse(text)
		if q.Empty() {
			continue
		}
		var docs Docs
		for i := range docs {
			docs[i] = ^uint64(0)
		}
		for _, g := range q.Grams(6) {
			of, err := Lookup(buckets[g.Bucket()], g)
			if err != nil {
				t.Fatal(err)
			}
			docs.And(of)
		}
		may := map[int]bool{}
		docs.Descending(func(doc int) { may[doc] = true })
		candidates += len(may)
		for doc, content := range texts {
			if q.Score(Fold(content)) > 0 {
				if matches++; !may[doc] {
					t.Fatalf("%q is not found in %q", text, content)
				}
			}
		}
	}
	t.Logf("%d bytes for %d texts, %d candidates for %d matches", size, len(texts), candidates, matches)
	if matches < 1000 || candidates > 3*matches {
		t.Errorf("%d candidates for %d matches", candidates, matches)
	}
}

func FuzzLookup(f *testing.F) {
	for _, b := range Build([]string{"a seed of words", "words"}) {
		f.Add(b, uint32(1))
	}
	f.Fuzz(func(t *testing.T, bucket []byte, g uint32) {
		_, _ = Lookup(bucket, Gram(g)) // must not panic
	})
}

func FuzzSnippet(f *testing.F) {
	for _, text := range []string{"the quick brown fox", "Straße ß", "ｶﾞﾗｽ", "e\u0301", "\xff\xfe", "ﬁ 👍🏽"} {
		f.Add(text, text)
	}
	f.Fuzz(func(t *testing.T, text, query string) {
		q := Parse(query)
		snippet, marks := q.Snippet(text)
		at := 0
		for _, m := range marks {
			if m.From < at || m.To <= m.From || m.To > len(snippet) {
				t.Fatalf("marks %v in %q", marks, snippet)
			}
			at = m.To
		}
		if len(text) < 200 && q.Score(Fold(text)) > 0 && len(marks) == 0 {
			t.Fatalf("%q is found in %q, and not marked", query, text)
		}
	})
}
