package anthropic

import (
	"strings"

	sdk "github.com/anthropics/anthropic-sdk-go"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/ports"
)

// budgets are the thinking tokens of models that take a number. They count
// towards the bound of the reply, which is raised by as much.
var budgets = map[string]int64{"low": 1024, "medium": 4096, "high": 16384}

// request returns the request for a prompt, without the members in omit and
// without what the model is known to refuse.
func (p *Provider) request(prompt ports.Prompt, messages []upstream.Message, omit upstream.Members) upstream.Request {
	params := prompt.Params
	body := sdk.MessageNewParams{Model: params.Model, MaxTokens: p.maxTokens}
	var req upstream.Request
	if params.MaxTokens > 0 {
		body.MaxTokens = int64(params.MaxTokens)
	}
	if params.System != "" {
		body.System = []sdk.TextBlockParam{{Text: params.System}}
	}
	for _, m := range messages {
		if m.Role == chat.Assistant {
			body.Messages = append(body.Messages, sdk.NewAssistantMessage(blocks(m)...))
		} else {
			body.Messages = append(body.Messages, sdk.NewUserMessage(blocks(m)...))
		}
	}
	if prompt.UserID != "" && !omit.Has("metadata") {
		req.Optional = append(req.Optional, "metadata")
		body.Metadata = sdk.MetadataParam{UserID: sdk.String(upstream.Pseudonym(prompt.UserID))}
	}
	g := generationOf(params.Model)
	thinks := params.Reasoning != "" && g != withoutThinking && !omit.Has("thinking") && !omit.Has("output_config")
	switch budget := budgets[params.Reasoning]; {
	case !thinks:
	case g == withBudget && budget > 0:
		req.Optional = append(req.Optional, "thinking")
		body.Thinking = sdk.ThinkingConfigParamOfEnabled(budget)
		body.MaxTokens += budget
	case g != withBudget:
		req.Optional = append(req.Optional, "thinking", "output_config")
		body.Thinking = sdk.ThinkingConfigParamUnion{OfAdaptive: &sdk.ThinkingConfigAdaptiveParam{
			Display: sdk.ThinkingConfigAdaptiveDisplaySummarized,
		}}
		body.OutputConfig = sdk.OutputConfigParam{Effort: sdk.OutputConfigEffort(params.Reasoning)}
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
		body.Temperature = sdk.Float(min(*params.Temperature, 1)) // Anthropic's scale ends at 1
	}
	req.Params, req.MaxOutput = body, body.MaxTokens
	return req
}

// blocks returns the content of a message.
func blocks(m upstream.Message) (list []sdk.ContentBlockParamUnion) {
	for _, b := range m.Blocks {
		switch b.Kind {
		case upstream.ImageFile:
			list = append(list, sdk.NewImageBlockBase64(b.File.MediaType, b.Base64()))
		case upstream.PDFFile:
			list = append(list, document(b, sdk.NewDocumentBlock(sdk.Base64PDFSourceParam{Data: b.Base64()})))
		case upstream.TextFile:
			if strings.TrimSpace(b.FileText()) == "" { // a document must have text
				list = append(list, sdk.NewTextBlock(b.Inline()))
				continue
			}
			list = append(list, document(b, sdk.NewDocumentBlock(sdk.PlainTextSourceParam{Data: b.FileText()})))
		default:
			list = append(list, sdk.NewTextBlock(b.Text))
		}
	}
	return list
}

// document names a document by its file.
func document(b upstream.Block, block sdk.ContentBlockParamUnion) sdk.ContentBlockParamUnion {
	block.OfDocument.Title = sdk.String(b.FileName())
	return block
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
