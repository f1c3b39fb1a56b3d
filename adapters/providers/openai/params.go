package openai

import (
	"context"
	"errors"
	"net/http"
	"strings"

	sdk "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/shared"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/ports"
)

var (
	errBaseURL  = errors.New("openai: the base URL must be http(s)://host/path")
	errNoModels = errors.New("openai: the server did not answer with a list of models")
)

// params is the request for a prompt, and the names of the wishes that the
// model would refuse and that are therefore left out.
func (p *Provider) params(prompt ports.Prompt) (sdk.ChatCompletionNewParams, []string) {
	want := prompt.Params
	out := sdk.ChatCompletionNewParams{
		Model:         want.Model,
		StreamOptions: sdk.ChatCompletionStreamOptionsParam{IncludeUsage: sdk.Bool(true)},
	}
	if want.System != "" {
		out.Messages = append(out.Messages, sdk.SystemMessage(want.System))
	}
	for _, t := range upstream.Turns(prompt.Messages) {
		if t.Role == chat.Assistant {
			out.Messages = append(out.Messages, sdk.AssistantMessage(t.Text))
		} else {
			out.Messages = append(out.Messages, sdk.UserMessage(t.Text))
		}
	}
	var ignored []string
	if want.Temperature != nil {
		if p.official && reasons(want.Model) {
			ignored = append(ignored, "temperature")
		} else {
			out.Temperature = sdk.Float(*want.Temperature)
		}
	}
	if want.Reasoning != "" {
		out.ReasoningEffort = shared.ReasoningEffort(want.Reasoning)
	}
	switch {
	case want.MaxTokens == 0:
	case p.official:
		out.MaxCompletionTokens = sdk.Int(int64(want.MaxTokens))
	default:
		out.MaxTokens = sdk.Int(int64(want.MaxTokens))
	}
	if p.official && prompt.UserID != "" {
		out.SafetyIdentifier = sdk.String(upstream.Pseudonym(prompt.UserID))
	}
	return out, ignored
}

// reasons reports whether OpenAI's model of that name reasons, and therefore
// takes no temperature: the o series, and GPT-5 and later but for its chat variants.
func reasons(model string) bool {
	if len(model) > 1 && model[0] == 'o' && model[1] >= '0' && model[1] <= '9' {
		return true
	}
	rest, ok := strings.CutPrefix(model, "gpt-")
	return ok && rest != "" && rest[0] >= '5' && rest[0] <= '9' && !strings.Contains(rest, "chat")
}

// headroom tells the observer what the headers say of the rate limits.
func headroom(o ports.Observer) func(context.Context, http.Header) {
	if o == nil {
		return nil
	}
	return func(ctx context.Context, h http.Header) {
		for _, kind := range []string{"requests", "tokens"} {
			if ratio, ok := upstream.Headroom(h, "X-Ratelimit-Limit-"+kind, "X-Ratelimit-Remaining-"+kind); ok {
				o.Observe(ctx, ports.ProviderHeadroom{Provider: Name, Kind: kind, Ratio: ratio})
			}
		}
	}
}
