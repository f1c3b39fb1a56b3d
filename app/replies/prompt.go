package replies

import (
	"parley/domain/chat"
	"parley/ports"
)

// promptWindow is the part of a branch that is sent to the provider.
type promptWindow struct {
	turns   []ports.PromptMessage
	dropped int // messages of the branch that were left out, as far as they were read
}

// turnTokens is how many tokens a message costs in addition to its text.
const turnTokens = 4

// trimToBudget takes the newest messages of a branch that fit into the bounds, oldest
// first. The last message is never dropped, however long it is.
func trimToBudget(branch []chat.Message, system, prefix string, most, tokens int, count ports.Tokens) promptWindow {
	left := tokens - count(system) - count(prefix)
	first := len(branch)
	for i := len(branch) - 1; i >= 0; i-- {
		left -= count(branch[i].Content) + turnTokens
		if i < len(branch)-1 && (left < 0 || len(branch)-i > most) {
			break
		}
		first = i
	}
	w := promptWindow{dropped: first}
	for _, m := range branch[first:] {
		w.turns = append(w.turns, ports.PromptMessage{Role: m.Role, Text: m.Content})
	}
	if prefix != "" {
		w.turns = append(w.turns, ports.PromptMessage{Role: chat.Assistant, Text: prefix})
	}
	return w
}
