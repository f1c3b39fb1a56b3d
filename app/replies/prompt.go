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
		left -= messageTokens(branch[i], count)
		if i < len(branch)-1 && (left < 0 || len(branch)-i > most) {
			break
		}
		first = i
	}
	w := promptWindow{turns: make([]ports.PromptMessage, 0, len(branch)-first+1), dropped: first}
	texts := make([]chat.Part, len(branch)-first) // of the messages that are all text
	for i, m := range branch[first:] {
		var parts []chat.Part
		switch {
		case m.Parts != nil:
			parts = forModel(m.Parts)
		case m.Content != "":
			texts[i] = chat.Part{Kind: chat.TextPart, Text: m.Content}
			parts = texts[i : i+1 : i+1]
		}
		if len(parts) > 0 {
			w.turns = append(w.turns, ports.PromptMessage{Role: m.Role, Parts: parts})
		}
	}
	if prefix != "" {
		w.turns = append(w.turns, ports.PromptText(chat.Assistant, prefix))
	}
	return w
}

// forModel are the parts of a message that a model gets.
func forModel(all []chat.Part) (parts []chat.Part) {
	for _, p := range all {
		if isForModel(p) {
			parts = append(parts, p)
		}
	}
	return parts
}

func isForModel(p chat.Part) bool {
	return p.Kind == chat.TextPart && p.Text != "" || p.Kind == chat.FilePart
}

// messageTokens is what a message takes of a context window.
func messageTokens(m chat.Message, count ports.Tokens) int {
	n := turnTokens
	for _, p := range m.AllParts() {
		switch {
		case !isForModel(p):
		case p.Kind == chat.FilePart:
			n += chat.FileTokens(p.MediaType, p.Size)
		default:
			n += count(p.Text)
		}
	}
	return n
}
