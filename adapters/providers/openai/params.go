package openai

import (
	"strings"

	sdk "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/shared"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/ports"
)

// request returns the request for a prompt, without the members in omit and
// without what the model is known to refuse.
func (p *Provider) request(prompt ports.Prompt, omit upstream.Members) upstream.Request {
	params := prompt.Params
	body := sdk.ChatCompletionNewParams{Model: params.Model}
	req := upstream.Request{MaxOutput: int64(params.MaxTokens)}
	if params.System != "" {
		body.Messages = append(body.Messages, sdk.SystemMessage(params.System))
	}
	for _, m := range upstream.Messages(prompt.Messages) {
		if m.Role == chat.Assistant {
			body.Messages = append(body.Messages, sdk.AssistantMessage(m.Text()))
		} else {
			body.Messages = append(body.Messages, sdk.UserMessage(m.Text()))
		}
	}
	// use reports whether to send an optional member.
	use := func(name, parameter string) bool {
		if !omit.Has(name) {
			req.Optional = append(req.Optional, name)
			return true
		}
		if parameter != "" {
			req.Ignored = append(req.Ignored, parameter)
		}
		return false
	}
	if req.Document = !use("stream", ""); !req.Document && use("stream_options", "") {
		body.StreamOptions = sdk.ChatCompletionStreamOptionsParam{IncludeUsage: sdk.Bool(true)}
	}
	switch {
	case params.Temperature == nil:
	case p.official && reasons(params.Model):
		req.Ignored = append(req.Ignored, "temperature")
	case use("temperature", "temperature"):
		body.Temperature = sdk.Float(*params.Temperature)
	}
	if params.Reasoning != "" && use("reasoning_effort", "reasoning") {
		body.ReasoningEffort = shared.ReasoningEffort(params.Reasoning)
	}
	if params.MaxTokens > 0 {
		p.bound(&body, int64(params.MaxTokens), omit, &req)
	}
	if p.official && prompt.UserID != "" && use("safety_identifier", "") {
		body.SafetyIdentifier = sdk.String(upstream.Pseudonym(prompt.UserID))
	}
	req.Params = body
	return req
}

// bound sets the bound of output tokens under the name that the server knows:
// OpenAI's newer one, or the older one of compatible servers. A server that
// refuses one of them is sent the other; a bound is never left out.
func (p *Provider) bound(body *sdk.ChatCompletionNewParams, n int64, omit upstream.Members, req *upstream.Request) {
	name, other := "max_tokens", "max_completion_tokens"
	if p.official {
		name, other = other, name
	}
	if omit.Has(name) {
		name = other
	} else {
		req.Optional = append(req.Optional, name)
	}
	if name == "max_tokens" {
		body.MaxTokens = sdk.Int(n)
	} else {
		body.MaxCompletionTokens = sdk.Int(n)
	}
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
