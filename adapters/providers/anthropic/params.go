package anthropic

import (
	"context"
	"net/http"
	"strings"

	sdk "github.com/anthropics/anthropic-sdk-go"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/ports"
)

// budgets are the thinking tokens of models that want a number. They count
// towards the reply's maximum, which is raised by as much.
var budgets = map[string]int64{"low": 1024, "medium": 4096, "high": 16384}

// params is the request for a prompt, and the names of the wishes that the
// model would refuse and that are therefore left out.
func (p *Provider) params(prompt ports.Prompt) (sdk.MessageNewParams, []string) {
	want := prompt.Params
	out := sdk.MessageNewParams{Model: want.Model, MaxTokens: p.maxTokens}
	if want.MaxTokens > 0 {
		out.MaxTokens = int64(want.MaxTokens)
	}
	if want.System != "" {
		out.System = []sdk.TextBlockParam{{Text: want.System}}
	}
	for _, t := range upstream.Turns(prompt.Messages) {
		block := sdk.NewTextBlock(t.Text)
		if t.Role == chat.Assistant {
			out.Messages = append(out.Messages, sdk.NewAssistantMessage(block))
		} else {
			out.Messages = append(out.Messages, sdk.NewUserMessage(block))
		}
	}
	if prompt.UserID != "" {
		out.Metadata = sdk.MetadataParam{UserID: sdk.String(upstream.Pseudonym(prompt.UserID))}
	}
	g := generationOf(want.Model)
	thinks := want.Reasoning != "" && g != withoutThinking
	switch budget := budgets[want.Reasoning]; {
	case !thinks:
	case g == withBudget && budget > 0:
		out.Thinking = sdk.ThinkingConfigParamOfEnabled(budget)
		out.MaxTokens += budget
	case g != withBudget:
		out.Thinking = sdk.ThinkingConfigParamUnion{OfAdaptive: &sdk.ThinkingConfigAdaptiveParam{
			Display: sdk.ThinkingConfigAdaptiveDisplaySummarized,
		}}
		out.OutputConfig = sdk.OutputConfigParam{Effort: sdk.OutputConfigEffort(want.Reasoning)}
	}
	var ignored []string
	if want.Reasoning != "" && !thinks {
		ignored = append(ignored, "reasoning")
	}
	if want.Temperature != nil {
		if thinks || g == withoutSampling {
			ignored = append(ignored, "temperature")
		} else {
			out.Temperature = sdk.Float(min(*want.Temperature, 1)) // Anthropic's scale ends at 1
		}
	}
	return out, ignored
}

// generation is how a model wants to be asked to think.
type generation int

const (
	withoutThinking generation = iota // before Claude 3.7
	withBudget                        // up to 4.5: a number of tokens
	withEffort                        // 4.6: effort, and still a temperature
	withoutSampling                   // since 4.7: effort, and no temperature
)

// generationOf reads the version from a model's name: claude-3-7-sonnet-20250219,
// claude-opus-4-1, claude-sonnet-5. A name without one is taken for a new model.
func generationOf(model string) generation {
	major, minor, known := 0, 0, false
	for _, part := range strings.Split(model, "-") {
		n, ok := small(part)
		if !ok {
			if known {
				break
			}
			continue
		}
		if known {
			minor = n
			break
		}
		major, known = n, true
	}
	switch v := major*10 + minor; {
	case !known, v >= 47:
		return withoutSampling
	case v == 46:
		return withEffort
	case v >= 37:
		return withBudget
	}
	return withoutThinking
}

// small reads a number of one digit: a part of a version, not a date.
func small(s string) (int, bool) {
	if len(s) != 1 || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	return int(s[0] - '0'), true
}

// headroom tells the observer what the headers say of the rate limits.
func headroom(o ports.Observer) func(context.Context, http.Header) {
	if o == nil {
		return nil
	}
	return func(ctx context.Context, h http.Header) {
		for _, kind := range []string{"requests", "tokens"} {
			prefix := "Anthropic-Ratelimit-" + kind
			if ratio, ok := upstream.Headroom(h, prefix+"-Limit", prefix+"-Remaining"); ok {
				o.Observe(ctx, ports.ProviderHeadroom{Provider: Name, Kind: kind, Ratio: ratio})
			}
		}
	}
}
