package upstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// continueReply asks for the rest of a reply. Providers disagree about a
// prompt that ends with an assistant's message: one begins anew, another
// refuses it. All of them accept this.
const continueReply = "Your last reply was cut off. Go on exactly where it stopped: do not repeat any of it, " +
	"and do not say that you are going on."

// Message is a message of a prompt with the content of its files.
type Message struct {
	Role   chat.Role
	Blocks []Block // never none
}

// Block is text or a file.
type Block struct {
	Text string
	Kind FileKind  // OtherFile: the block is text
	File chat.Part // what is known about the file
	Data []byte    // its content
}

// Messages returns a prompt's messages as every provider accepts them: none is
// blank, the first and the last are the user's, and the roles alternate, which
// some servers demand. Neighbours of one role, as a failed reply leaves them,
// become one message. A prompt that ends with the beginning of a reply asks
// for the rest of it.
//
// A note takes the place of a file that is gone, and of one that no model can
// read. The error is a fault with FilesUnavailable: the files cannot be read now.
func Messages(ctx context.Context, p ports.Prompt) ([]Message, error) {
	out := make([]Message, 0, len(p.Messages)+1)
	for _, m := range p.Messages {
		blocks, err := blocksOf(ctx, p, m)
		if err != nil {
			return nil, err
		}
		last := len(out) - 1
		switch {
		case len(blocks) == 0, last < 0 && m.Role == chat.Assistant:
		case last >= 0 && out[last].Role == m.Role:
			out[last].Blocks = merge(out[last].Blocks, blocks)
		default:
			out = append(out, Message{Role: m.Role, Blocks: blocks})
		}
	}
	if n := len(out); n > 0 && out[n-1].Role == chat.Assistant {
		out = append(out, Message{Role: chat.User, Blocks: []Block{{Text: continueReply}}})
	}
	return out, nil
}

// paragraph separates the texts of neighbours.
const paragraph = "\n\n"

// merge puts the blocks of two messages together; the text at the end of the
// first and that at the start of the second become one block.
func merge(first, second []Block) []Block {
	last := len(first) - 1
	if first[last].Kind == OtherFile && second[0].Kind == OtherFile {
		first = slices.Clone(first)
		first[last].Text += paragraph + second[0].Text
		second = second[1:]
	}
	return append(slices.Clip(first), second...)
}

// blocksOf returns the text and the files of a message, in their order, and
// leaves out blank text. The files of a reply are only named.
func blocksOf(ctx context.Context, p ports.Prompt, m ports.PromptMessage) (blocks []Block, err error) {
	var text []chat.Part // since the last file
	endText := func() {
		if t := chat.ContentOf(text); strings.TrimSpace(t) != "" {
			blocks = append(blocks, Block{Text: t})
		}
		text = nil
	}
	for _, part := range m.Parts {
		if part.Kind != chat.FilePart {
			text = append(text, part)
			continue
		}
		b := Block{File: part, Kind: FileKindOf(part.MediaType)}
		endText()
		switch {
		case m.Role == chat.Assistant:
			b = Block{Text: FileNote(part, "was part of this reply").Text}
		case b.Kind == OtherFile:
			b = Block{Text: FileNote(part, NotReadable).Text}
		default:
			if b.Data, err = ReadFile(ctx, p, part.ID); fault.Is(err, fault.NotFound) {
				b = Block{Text: FileNote(part, "is not available any more").Text}
			} else if err != nil {
				return nil, err
			}
		}
		blocks = append(blocks, b)
	}
	endText()
	return blocks, nil
}

// ReadFile reads a file of a prompt. Faults: NotFound, or one with
// FilesUnavailable.
func ReadFile(ctx context.Context, p ports.Prompt, id string) ([]byte, error) {
	if p.ReadFile == nil {
		return nil, chat.FileNotFound()
	}
	data, err := p.ReadFile(ctx, p.UserID, id)
	switch ended := Ended(ctx); {
	case err == nil:
		return data, nil
	case fault.Is(err, fault.NotFound):
		return nil, err
	case ended != nil:
		return nil, ended
	case ReasonOf(err) == FilesUnavailable:
		return nil, err
	}
	return nil, Fail(FilesUnavailable, errors.New("read file: "+string(fault.KindOf(err))))
}

// hasFiles reports whether any message has a file.
func hasFiles(messages []Message) bool {
	return slices.ContainsFunc(messages, func(m Message) bool {
		return slices.ContainsFunc(m.Blocks, func(b Block) bool { return b.Kind != OtherFile })
	})
}

// Pseudonym returns a stable name for a user in a provider's abuse reports,
// from which the user's id cannot be read.
func Pseudonym(user string) string {
	sum := sha256.Sum256([]byte("parley user " + user))
	return hex.EncodeToString(sum[:16])
}
