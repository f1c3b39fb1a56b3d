package upstream

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"parley/domain/chat"
	"parley/ports"
)

// continueReply asks for the rest of a reply. Providers disagree about a
// prompt that ends with an assistant's message: one begins anew, another
// refuses it. All of them accept this.
const continueReply = "Your last reply was cut off. Go on exactly where it stopped: do not repeat any of it, " +
	"and do not say that you are going on."

// Messages returns a prompt's messages as every provider accepts them: none is
// blank, the first and the last are the user's, and the roles alternate, which
// some servers demand. Neighbours of one role, as a failed reply leaves them,
// become one message. A prompt that ends with the beginning of a reply asks
// for the rest of it.
func Messages(messages []ports.PromptMessage) []ports.PromptMessage {
	out := make([]ports.PromptMessage, 0, len(messages)+1)
	for _, m := range messages {
		last, text := len(out)-1, m.Text()
		switch {
		case strings.TrimSpace(text) == "", last < 0 && m.Role == chat.Assistant:
		case last >= 0 && out[last].Role == m.Role:
			out[last] = ports.PromptText(m.Role, out[last].Text()+"\n\n"+text)
		default:
			out = append(out, ports.PromptText(m.Role, text))
		}
	}
	if n := len(out); n > 0 && out[n-1].Role == chat.Assistant {
		out = append(out, ports.PromptText(chat.User, continueReply))
	}
	return out
}

// Pseudonym returns a stable name for a user in a provider's abuse reports,
// from which the user's id cannot be read.
func Pseudonym(user string) string {
	sum := sha256.Sum256([]byte("parley user " + user))
	return hex.EncodeToString(sum[:16])
}
