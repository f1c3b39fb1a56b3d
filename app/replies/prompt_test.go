package replies

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"parley/domain/chat"
)

func words(s string) int { return len(strings.Fields(s)) }

func TestFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		branch := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) chat.Message {
			return chat.Message{Role: chat.User, Content: strings.Repeat("w ", rapid.IntRange(1, 40).Draw(t, "words"))}
		}), 1, 80).Draw(t, "branch")
		most, tokens := rapid.IntRange(1, 60).Draw(t, "most"), rapid.IntRange(1, 400).Draw(t, "tokens")
		w := trimToBudget(branch, "be kind", "", most, tokens, words)

		newest := branch[len(branch)-1].Content
		if n := len(w.turns); n == 0 || w.turns[n-1].Text() != newest {
			t.Fatal("the new message was dropped")
		}
		if len(w.turns) > most {
			t.Fatalf("%d turns, %d allowed", len(w.turns), most)
		}
		cost := 2
		for i, turn := range w.turns {
			cost += words(turn.Text()) + turnTokens
			if turn.Text() != branch[w.dropped+i].Content {
				t.Fatal("not the end of the branch, in order")
			}
		}
		if len(w.turns) > 1 && cost > tokens {
			t.Fatalf("%d tokens, %d allowed", cost, tokens)
		}
		if w.dropped+len(w.turns) != len(branch) {
			t.Fatalf("%d dropped and %d sent of %d", w.dropped, len(w.turns), len(branch))
		}
		if w.dropped > 0 && len(w.turns) < most && cost+words(branch[w.dropped-1].Content)+turnTokens <= tokens {
			t.Fatal("one more would have fitted")
		}
	})
}
