package chat_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rivo/uniseg"
	"pgregory.net/rapid"

	"parley/domain/chat"
)

func TestTitleFrom_IsAPlainLine(t *testing.T) {
	for in, want := range map[string]string{
		"# Plan my week\nMonday ...":          "Plan my week",
		"## Plan my week ##":                  "Plan my week",
		"> quoted question":                   "quoted question",
		"- first\n- second":                   "first",
		"1. first\n2. second":                 "first",
		"**Why** is the *sky* __blue__?":      "Why is the sky blue?",
		"what does `go vet` do":               "what does go vet do",
		"```go\nfunc main() {}\n```":          "func main() {}",
		"see [the docs](https://x.example/a)": "see the docs",
		"---\n\nAfter a rule":                 "After a rule",
		"2 * 3 * 4 = 24":                      "2 * 3 * 4 = 24",
		"snake_case_name and __init__.py":     "snake_case_name and __init__.py",
		"C# or F#":                            "C# or F#",
		"-5 degrees":                          "-5 degrees",
		"\u202eevil\u202c text\u200b":         "evil text",
		"a\u00a0b\tc":                         "a b c",
		"***":                                 "***",
		"<think>is my text</think>":           "<think>is my text</think>",
		"Title: what I wrote":                 "Title: what I wrote",
	} {
		if got := chat.TitleFrom(in); got != want {
			t.Errorf("TitleFrom(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestTitleFrom_CutsBetweenCharacters(t *testing.T) {
	for name, character := range map[string]string{
		"Flag": "🇩🇪", "Family": "👨\u200d👩\u200d👧\u200d👦", "SkinTone": "👍🏽", "FlagOfScotland": "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
		"Heart": "❤️", "Keycap": "1️⃣", "Accent": "e\u0301", "Jamo": "\u1112\u1161\u11ab", "Devanagari": "क्षि", "Thai": "กำ",
	} {
		for pad := range 12 {
			in := strings.Repeat("x", pad) + strings.Repeat(character, 40)
			got := chat.TitleFrom(in)
			body, ok := strings.CutSuffix(got, "…")
			rest := strings.TrimPrefix(body, strings.Repeat("x", pad))
			if !ok || strings.ReplaceAll(rest, character, "") != "" || utf8.RuneCountInString(got) > 60 {
				t.Errorf("%s after %d: %+q", name, pad, got)
			}
		}
	}
}

// Whatever the text, a title ends where the full implementation of the standard
// ends a character.
func TestTitleFrom_AgreesWithTheStandard(t *testing.T) {
	alphabet := []rune("ab é한🇩🇪🇫👨👩👧🏽\u200d\ufe0f\u0301\u1112\u1161\u11ab각क्षิกำ\u0600\u0d4e🏴\U000e0067\U000e007f❤1⃣가ᄀ")
	rapid.Check(t, func(t *rapid.T) {
		runes := rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(alphabet), rapid.Rune()), 61, 90).Draw(t, "text")
		in := string(runes)
		got := chat.TitleFrom(in)
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > 60 {
			t.Fatalf("%q", got)
		}
		body, cut := strings.CutSuffix(got, "…")
		if !cut || !strings.HasPrefix(in, body) { // folded or plain: checked elsewhere
			return
		}
		ends, longest := map[int]bool{}, 0
		for g := uniseg.NewGraphemes(in); g.Next(); {
			from, to := g.Positions()
			ends[to] = true
			longest = max(longest, len([]rune(in[from:to])))
		}
		if longest < 10 && !ends[len(body)] {
			t.Fatalf("%+q is cut inside a character of %+q", body, in)
		}
	})
}
