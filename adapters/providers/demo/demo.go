// Package demo is a provider without a mind and without a network: it says the
// same words to the same message, says that it is not AI, and can be told to
// be slow, long-winded or broken. It goes through the same breaker, limits and
// accounts as the real ones, so that everything can be tried without a key.
package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/ports"
)

// Name is the provider's name, and that of its only model.
const Name = "demo"

// Provider is the demo provider. The zero value streams as fast as it can.
type Provider struct {
	Delay  time.Duration // between two words
	Tokens ports.Tokens  // nil: every word is a token
}

// Generate implements ports.Model. What it says depends on the last message of
// the user alone; a message may begin with a directive (see script). When the
// prompt ends with the beginning of that very reply, the rest of it follows.
func (p Provider) Generate(ctx context.Context, prompt ports.Prompt, emit func(chat.Delta)) (ports.Answer, error) {
	s := scriptFor(lastOf(prompt.Messages, chat.User))
	words := strings.SplitAfter(s.text, " ")
	already := 0
	if n := len(prompt.Messages); n > 0 && prompt.Messages[n-1].Role == chat.Assistant {
		already = said(words, prompt.Messages[n-1].Text)
	}
	free := int64(0)
	a := ports.Answer{
		Provider: Name, Model: Name, CostMicros: &free,
		Usage:    chat.Usage{Input: p.input(prompt), Estimated: true},
		Metadata: map[string]any{"demo": true},
	}
	if s.hang {
		<-ctx.Done()
		return a, upstream.Ended(ctx)
	}
	pace := p.Delay
	if s.spread > 0 {
		pace = s.spread / time.Duration(len(words))
	}
	var text strings.Builder
	for i, word := range words[already:] {
		err := pause(ctx, pace)
		if err == nil && s.fail && already == 0 && i == len(words)/2 {
			err = upstream.Fail(upstream.ServerError, errors.New("demo: told to fail"))
		}
		if err != nil {
			a.Usage.Output = p.count(text.String())
			return a, err
		}
		emit(chat.Delta{Text: word})
		text.WriteString(word)
	}
	a.Usage.Output, a.Usage.Estimated = p.count(text.String()), false
	a.FinishReason = "stop"
	return a, nil
}

// pause waits for the next word; with no pause it still notices the end of ctx.
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

// said is how many of words the beginning of a reply holds; 0 when it is the
// beginning of something else.
func said(words []string, prefix string) int {
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

func lastOf(turns []ports.PromptMessage, role chat.Role) string {
	for i := len(turns) - 1; i >= 0; i-- {
		if turns[i].Role == role {
			return turns[i].Text
		}
	}
	return ""
}

func (p Provider) input(prompt ports.Prompt) int64 {
	n := p.count(prompt.Params.System)
	for _, t := range prompt.Messages {
		n += p.count(t.Text)
	}
	return n
}

func (p Provider) count(text string) int64 {
	if p.Tokens == nil {
		return int64(len(strings.Fields(text)))
	}
	return int64(p.Tokens(text))
}

// label opens every reply that was not told what to be, so that nobody takes
// it for an answer.
const label = "This is Parley's demo provider, which is not AI: it streams the same words to everyone, " +
	"so that you can try the service before you give it a key."

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
