package openai

import (
	"strings"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/ports"
)

// completion is the body of a request for a chat completion.
type completion struct {
	Model               string         `json:"model"`
	Messages            []message      `json:"messages"`
	Stream              bool           `json:"stream"`
	StreamOptions       *streamOptions `json:"stream_options,omitempty"`
	Temperature         *float64       `json:"temperature,omitempty"`
	ReasoningEffort     string         `json:"reasoning_effort,omitempty"`
	MaxTokens           int64          `json:"max_tokens,omitempty"`
	MaxCompletionTokens int64          `json:"max_completion_tokens,omitempty"`
	SafetyIdentifier    string         `json:"safety_identifier,omitempty"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

type message struct {
	Role    string `json:"role"`
	Content any    `json:"content"` // a string, or []contentPart
}

// contentPart is a part of a user's message; one of the members is set.
type contentPart struct {
	Type     string    `json:"type"`
	Text     string    `json:"text,omitempty"`
	ImageURL *imageURL `json:"image_url,omitempty"`
	File     *fileData `json:"file,omitempty"`
}

type imageURL struct {
	URL string `json:"url"`
}

type fileData struct {
	Name string `json:"filename"`
	Data string `json:"file_data"` // a data URL
}

// request returns the request for a prompt, without the members in omit and
// without what the model is known to refuse.
func (p *Provider) request(prompt ports.Prompt, messages []upstream.Message, omit upstream.Members) upstream.Request {
	params := prompt.Params
	body := completion{Model: params.Model}
	req := upstream.Request{MaxOutput: int64(params.MaxTokens)}
	if params.System != "" {
		body.Messages = append(body.Messages, message{"system", params.System})
	}
	for _, m := range messages {
		text, parts := messageContent(m)
		switch {
		case m.Role == chat.Assistant:
			body.Messages = append(body.Messages, message{"assistant", text})
		case parts != nil:
			body.Messages = append(body.Messages, message{"user", parts})
		default:
			body.Messages = append(body.Messages, message{"user", text})
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
	if body.Stream = use("stream", ""); body.Stream && use("stream_options", "") {
		body.StreamOptions = &streamOptions{IncludeUsage: true}
	}
	switch {
	case params.Temperature == nil:
	case p.official && reasons(params.Model):
		req.Ignored = append(req.Ignored, "temperature")
	case use("temperature", "temperature"):
		body.Temperature = params.Temperature
	}
	if params.Reasoning != "" && use("reasoning_effort", "reasoning") {
		body.ReasoningEffort = params.Reasoning
	}
	if params.MaxTokens > 0 {
		p.bound(&body, int64(params.MaxTokens), omit, &req)
	}
	if p.official && prompt.UserID != "" && use("safety_identifier", "") {
		body.SafetyIdentifier = upstream.Pseudonym(prompt.UserID)
	}
	req.Body = body
	return req
}

// messageContent returns the content of a message: a text, or parts if there is anything
// else. Many servers take a text only.
func messageContent(m upstream.Message) (text string, parts []contentPart) {
	var texts []string
	only := true
	for _, b := range m.Blocks {
		switch b.Kind {
		case upstream.ImageFile:
			only = false
			parts = append(parts, contentPart{Type: "image_url", ImageURL: &imageURL{b.DataURL()}})
			continue
		case upstream.PDFFile:
			only = false
			parts = append(parts, contentPart{Type: "file", File: &fileData{b.FileName(), b.DataURL()}})
			continue
		case upstream.TextFile:
			b.Text = b.Inline()
		}
		texts = append(texts, b.Text)
		parts = append(parts, contentPart{Type: "text", Text: b.Text})
	}
	if only {
		return strings.Join(texts, "\n\n"), nil
	}
	return "", parts
}

// bound sets the bound of output tokens under the name that the server knows:
// OpenAI's newer one, or the older one of compatible servers. A server that
// refuses one of them is sent the other; a bound is never left out.
func (p *Provider) bound(body *completion, n int64, omit upstream.Members, req *upstream.Request) {
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
		body.MaxTokens = n
	} else {
		body.MaxCompletionTokens = n
	}
}

// ReadsFiles reports whether OpenAI's model of that name reads images and PDFs. A
// name that is not known is taken for a new model.
func ReadsFiles(model string) (images, pdf bool) {
	switch {
	case strings.HasPrefix(model, "gpt-4-turbo") && !strings.HasPrefix(model, "gpt-4-turbo-preview"):
		return true, false
	case model == "gpt-4", strings.HasPrefix(model, "gpt-4-"), strings.HasPrefix(model, "gpt-3.5"),
		strings.HasPrefix(model, "o1-mini"), strings.HasPrefix(model, "o1-preview"), strings.HasPrefix(model, "o3-mini"):
		return false, false
	}
	return true, true
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
