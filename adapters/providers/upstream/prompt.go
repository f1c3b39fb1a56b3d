package upstream

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"parley/domain/chat"
	"parley/ports"
)

// goOn asks for the rest of a reply. Providers differ in what they make of a
// prompt that ends with the assistant: one begins anew, another refuses it.
// All of them understand a sentence.
const goOn = "Your last reply was cut off. Go on exactly where it stopped: do not repeat any of it, " +
	"and do not say that you are going on."

// Turns is a prompt's messages as every provider takes them: none of them
// blank, the first and the last the user's. A prompt that ends with the
// beginning of a reply asks for the rest of it.
func Turns(turns []ports.PromptMessage) []ports.PromptMessage {
	out := make([]ports.PromptMessage, 0, len(turns)+1)
	for _, t := range turns {
		if strings.TrimSpace(t.Text) == "" || len(out) == 0 && t.Role == chat.Assistant {
			continue
		}
		out = append(out, t)
	}
	if n := len(out); n > 0 && out[n-1].Role == chat.Assistant {
		out = append(out, ports.PromptMessage{Role: chat.User, Text: goOn})
	}
	return out
}

// Pseudonym is a user's name for a provider's abuse reports: always the same,
// and nobody's name.
func Pseudonym(user string) string {
	sum := sha256.Sum256([]byte("parley user " + user))
	return hex.EncodeToString(sum[:16])
}
