package tokens

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// The counts are those of the reference implementation of the encoding.
func TestCount_Reference(t *testing.T) {
	for text, want := range map[string]int{
		"":              0,
		"a":             1,
		"Hello, world!": 4,
		"안녕하세요 세계":      3,
		"Привет, мир":   4,
		"नमस्ते दुनिया": 5,
		"😀🏳️\u200d🌈":    7,
		"   \n\n  x":    3,
		"func main() {\n\tfmt.Println(\"hi\")\n}\n": 10,
		"It's 12345 o'clock — isn't it?":            10,
		"HTTPServer camelCase snake_case":           6,
		"<script>alert(1)</script>":                 7,
		strings.Repeat("a", 100):                    13,
	} {
		if got := Count(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestCount_Properties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.RuneFrom([]rune("aB 'sé한ア\n\t/1😀\u0301.")), 0, 200, -1).Draw(t, "text")
		n := Count(text)
		if n > len(text) || text != "" && n == 0 {
			t.Fatalf("%d tokens in %d bytes", n, len(text))
		}
		if again := Count(text); again != n {
			t.Fatalf("%d, then %d", n, again)
		}
		words := 0
		for rest := text; rest != ""; words++ {
			end := firstWord(rest)
			if end <= 0 || !utf8.ValidString(rest[:end]) {
				t.Fatalf("word of %d bytes in %q", end, rest)
			}
			rest = rest[end:]
		}
		if words > n {
			t.Fatalf("%d words, %d tokens", words, n)
		}
	})
}

// A long word is cut, because merging takes quadratic time.
func TestCount_LongWordIsCheap(t *testing.T) {
	done := make(chan int, 1)
	go func() { done <- Count(strings.Repeat("zq", 500_000)) }()
	select {
	case n := <-done:
		if n < 1000 {
			t.Errorf("%d tokens", n)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("not counted after 30 s")
	}
}

func BenchmarkCount(b *testing.B) {
	text := strings.Repeat("The quick brown fox doesn't jump over 12 lazy dogs.\n", 12)
	b.Run("First", func(b *testing.B) {
		e := loaded()
		for b.Loop() {
			e.count(text)
		}
	})
	b.Run("Again", func(b *testing.B) {
		for b.Loop() {
			Count(text)
		}
	})
}
