// Package demo is a provider that needs no network and no key. It is not AI: it
// streams the same words to the same message, and a directive in the message
// makes the reply slow, long, late or failed. Breakers, limits and budgets treat
// it like any other provider, so that the whole service can be tried with it.
package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// Name is the provider's name, and that of its only model.
const Name = "demo"

// Provider is the demo provider. The zero value streams as fast as it can.
type Provider struct {
	Delay  time.Duration // between two words
	Tokens ports.Tokens  // nil: every word is a token
}

// Generate implements ports.Model. The reply depends on the last message of the
// user alone, which may begin with a directive (see scriptFor). When the prompt
// ends with the beginning of the same reply, the rest of it is streamed.
func (p Provider) Generate(ctx context.Context, prompt ports.Prompt, emit func(chat.Delta)) (ports.Answer, error) {
	last := lastOf(prompt.Messages, chat.User)
	s := scriptFor(last.Text())
	free := int64(0)
	a := ports.Answer{
		Provider: Name, Model: Name, CostMicros: &free,
		Usage:    chat.Usage{Input: p.input(prompt), Estimated: true},
		Metadata: map[string]any{"demo": true},
	}
	attached, err := describeFiles(ctx, prompt, last)
	if err != nil {
		return a, err
	}
	s.text += attached
	if s.hang {
		<-ctx.Done()
		return a, upstream.Ended(ctx)
	}
	words := strings.SplitAfter(s.text, " ")
	sent := 0
	if n := len(prompt.Messages); n > 0 && prompt.Messages[n-1].Role == chat.Assistant {
		sent = wordsIn(words, prompt.Messages[n-1].Text())
	}
	pace := p.Delay
	if s.spread > 0 {
		pace = s.spread / time.Duration(len(words))
	}
	var text strings.Builder
	for i, word := range words[sent:] {
		err := pause(ctx, pace)
		if err == nil && s.fail && sent == 0 && i == len(words)/2 {
			err = upstream.Fail(upstream.ServerError, errors.New("demo: the message asks for a failure"))
		}
		if err != nil {
			a.Usage.Output = p.count(text.String())
			return a, err
		}
		emit(chat.TextDelta(word))
		text.WriteString(word)
	}
	a.Usage.Output, a.Usage.Estimated = p.count(text.String()), false
	a.FinishReason = "stop"
	return a, nil
}

// pause waits for d, and returns the fault of a context that has ended.
func pause(ctx context.Context, d time.Duration) error {
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return upstream.Ended(ctx)
}

// wordsIn returns how many of the words a prefix of the reply holds; 0 when it is
// a prefix of another reply.
func wordsIn(words []string, prefix string) int {
	for i, w := range words {
		if prefix == "" {
			return i
		}
		rest, ok := strings.CutPrefix(prefix, w)
		if !ok {
			return 0
		}
		prefix = rest
	}
	return 0
}

func lastOf(messages []ports.PromptMessage, role chat.Role) ports.PromptMessage {
	for i := len(messages) - 1; i >= 0; i-- {
		if messages[i].Role == role {
			return messages[i]
		}
	}
	return ports.PromptMessage{}
}

// describeFiles says which files a message has, as the end of a reply to it.
func describeFiles(ctx context.Context, prompt ports.Prompt, m ports.PromptMessage) (string, error) {
	var b strings.Builder
	for _, f := range m.Parts {
		if f.Kind != chat.FilePart {
			continue
		}
		data, err := upstream.ReadFile(ctx, prompt, f.ID)
		switch {
		case fault.Is(err, fault.NotFound):
			fmt.Fprintf(&b, " Its file %s is not available any more.", f.Name)
		case err != nil:
			return "", err
		default:
			fmt.Fprintf(&b, " Its file %s is %s of %d bytes.", f.Name, f.MediaType, len(data))
		}
	}
	return b.String(), nil
}

func (p Provider) input(prompt ports.Prompt) int64 {
	n := p.count(prompt.Params.System)
	for _, t := range prompt.Messages {
		n += p.count(t.Text())
	}
	return n
}

func (p Provider) count(text string) int64 {
	if p.Tokens == nil {
		n := int64(0)
		for range strings.FieldsSeq(text) {
			n++
		}
		return n
	}
	return int64(p.Tokens(text))
}

// label begins every reply without a directive, so that it is not taken for an
// answer.
const label = "This is Parley's demo provider, which is not AI: it streams the same words to everyone, " +
	"so that you can try the service before you give it a key."

// greeting returns the reply to a message without a directive.
func greeting(message string) string {
	words := len(strings.Fields(message))
	counted := fmt.Sprintf("%d words", words)
	if words == 1 {
		counted = "1 word"
	}
	return label + " Your message has " + counted + ". " +
		"Begin one with !slow 3s, !long 2000, !fail, !hang or !echo to see how a reply can be slow, long, " +
		"cut short, late or your own."
}
