package anthropic

import (
	"strings"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/ports"
)

// budgets are the thinking tokens of models that take a number. They count
// towards the bound of the reply, which is raised by as much.
var budgets = map[string]int64{"low": 1024, "medium": 4096, "high": 16384}

// messagesRequest is the body of a request for a message.
type messagesRequest struct {
	Model        string        `json:"model"`
	MaxTokens    int64         `json:"max_tokens"`
	Stream       bool          `json:"stream"`
	System       []block       `json:"system,omitempty"`
	Messages     []message     `json:"messages"`
	Temperature  *float64      `json:"temperature,omitempty"`
	Metadata     *metadata     `json:"metadata,omitempty"`
	Thinking     *thinking     `json:"thinking,omitempty"`
	OutputConfig *outputConfig `json:"output_config,omitempty"`
}

type metadata struct {
	UserID string `json:"user_id"`
}

type thinking struct {
	Type    string `json:"type"`
	Budget  int64  `json:"budget_tokens,omitempty"`
	Display string `json:"display,omitempty"`
}

type outputConfig struct {
	Effort string `json:"effort"`
}

type message struct {
	Role    string  `json:"role"`
	Content []block `json:"content"`
}

// block is a block of content: a text, or a source of an image or a document.
type block struct {
	Type   string  `json:"type"`
	Text   string  `json:"text,omitempty"`
	Title  string  `json:"title,omitempty"`
	Source *source `json:"source,omitempty"`
}

type source struct {
	Type      string `json:"type"`
	MediaType string `json:"media_type"`
	Data      string `json:"data"`
}

func textBlock(text string) block { return block{Type: "text", Text: text} }

// request returns the request for a prompt, without the members in omit and
// without what the model is known to refuse.
func (p *Provider) request(prompt ports.Prompt, messages []upstream.Message, omit upstream.Members) upstream.Request {
	params := prompt.Params
	body := messagesRequest{Model: params.Model, MaxTokens: p.maxTokens, Stream: true}
	var req upstream.Request
	if params.MaxTokens > 0 {
		body.MaxTokens = int64(params.MaxTokens)
	}
	if params.System != "" {
		body.System = []block{textBlock(params.System)}
	}
	for _, m := range messages {
		role := "user"
		if m.Role == chat.Assistant {
			role = "assistant"
		}
		body.Messages = append(body.Messages, message{role, blocks(m)})
	}
	if prompt.UserID != "" && !omit.Has("metadata") {
		req.Optional = append(req.Optional, "metadata")
		body.Metadata = &metadata{upstream.Pseudonym(prompt.UserID)}
	}
	g := generationOf(params.Model)
	thinks := params.Reasoning != "" && g != withoutThinking && !omit.Has("thinking") && !omit.Has("output_config")
	switch budget := budgets[params.Reasoning]; {
	case !thinks:
	case g == withBudget && budget > 0:
		req.Optional = append(req.Optional, "thinking")
		body.Thinking = &thinking{Type: "enabled", Budget: budget}
		body.MaxTokens += budget
	case g != withBudget:
		req.Optional = append(req.Optional, "thinking", "output_config")
		body.Thinking = &thinking{Type: "adaptive", Display: "summarized"}
		body.OutputConfig = &outputConfig{params.Reasoning}
	}
	if params.Reasoning != "" && !thinks {
		req.Ignored = append(req.Ignored, "reasoning")
	}
	switch {
	case params.Temperature == nil:
	case thinks, g == withoutSampling, omit.Has("temperature"):
		req.Ignored = append(req.Ignored, "temperature")
	default:
		req.Optional = append(req.Optional, "temperature")
		body.Temperature = new(min(*params.Temperature, 1)) // Anthropic's scale ends at 1
	}
	req.Body, req.MaxOutput = body, body.MaxTokens
	return req
}

// blocks returns the content of a message.
func blocks(m upstream.Message) (list []block) {
	for _, b := range m.Blocks {
		switch b.Kind {
		case upstream.ImageFile:
			list = append(list, block{Type: "image", Source: &source{"base64", b.File.MediaType, b.Base64()}})
		case upstream.PDFFile:
			list = append(list, document(b, source{"base64", "application/pdf", b.Base64()}))
		case upstream.TextFile:
			if strings.TrimSpace(b.FileText()) == "" { // a document must have text
				list = append(list, textBlock(b.Inline()))
				continue
			}
			list = append(list, document(b, source{"text", "text/plain", b.FileText()}))
		default:
			list = append(list, textBlock(b.Text))
		}
	}
	return list
}

// document is a document that is named by its file.
func document(b upstream.Block, from source) block {
	return block{Type: "document", Title: b.FileName(), Source: &from}
}

// ReadsFiles reports whether Anthropic's model of that name reads images and PDFs.
// A name that is not known is taken for a new model.
func ReadsFiles(model string) (images, pdf bool) {
	switch {
	case strings.HasPrefix(model, "claude-2"), strings.HasPrefix(model, "claude-instant"):
		return false, false
	case strings.HasPrefix(model, "claude-3-opus"), strings.HasPrefix(model, "claude-3-sonnet"), strings.HasPrefix(model, "claude-3-haiku"):
		return true, false
	}
	return true, true
}

// generation is how a model is asked to think.
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
