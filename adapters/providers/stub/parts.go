package stub

import (
	"encoding/base64"
	"strings"

	"parley/domain/chat"
)

// streamParts sends the parts of Reply.Output, text word by word.
func (s *session) streamParts(e encoder) error {
	sent := 0
	for _, p := range s.reply.Output {
		pieces := []chat.Part{p}
		if p.Kind == chat.TextPart {
			pieces = nil
			for _, word := range strings.SplitAfter(p.Text, " ") {
				pieces = append(pieces, chat.Part{Kind: chat.TextPart, Text: word})
			}
		}
		for _, piece := range pieces {
			if s.reply.Cut != "" && sent == s.reply.After {
				return s.cut(e)
			}
			if !s.wait(s.reply.Pace) {
				return errDisconnected
			}
			if err := e.part(piece); err != nil {
				return err
			}
			s.output += Tokens(piece.Text)
			sent++
		}
	}
	if s.reply.Cut != "" {
		return s.cut(e)
	}
	return e.end()
}

// textOf returns the text of the parts of a kind.
func textOf(parts []chat.Part, kind chat.PartKind) string {
	var b strings.Builder
	for _, p := range parts {
		if p.Kind == kind {
			b.WriteString(p.Text)
		}
	}
	return b.String()
}

func (e openAIEncoder) part(p chat.Part) error {
	switch p.Kind {
	case chat.TextPart:
		return e.text(p.Text)
	case chat.ReasoningPart:
		return e.reasoning(p.Text)
	}
	return e.delta(map[string]any{"annotations": []any{e.citation(p)}}, nil)
}

func (e openAIEncoder) citation(p chat.Part) any {
	return map[string]any{"type": "url_citation", "url_citation": map[string]any{
		"url": p.URL, "title": p.Title, "start_index": 0, "end_index": 1,
	}}
}

// addParts adds what Reply.Output has to the message of a document.
func (e openAIEncoder) addParts(message map[string]any) {
	message["content"] = textOf(e.s.reply.Output, chat.TextPart)
	if reasoning := textOf(e.s.reply.Output, chat.ReasoningPart); reasoning != "" {
		message["reasoning_content"] = reasoning
	}
	annotations := []any{}
	for _, p := range e.s.reply.Output {
		if p.Kind == chat.SourcePart {
			annotations = append(annotations, e.citation(p))
		}
	}
	message["annotations"] = annotations
}

func (e anthropicEncoder) part(p chat.Part) error {
	switch {
	case p.Kind == chat.TextPart:
		if err := e.open("text", map[string]any{"type": "text", "text": ""}); err != nil {
			return err
		}
		return e.delta(e.s.block, map[string]any{"type": "text_delta", "text": p.Text})
	case p.Kind == chat.SourcePart:
		if err := e.open("text", map[string]any{"type": "text", "text": "", "citations": []any{}}); err != nil {
			return err
		}
		return e.delta(e.s.block, map[string]any{"type": "citations_delta", "citation": e.citation(p)})
	case p.Text == "" && e.s.blockType != "thinking":
		if err := e.open("redacted_thinking", map[string]any{"type": "redacted_thinking", "data": p.State}); err != nil {
			return err
		}
		return e.closeBlock()
	}
	if p.Text != "" {
		if err := e.open("thinking", map[string]any{"type": "thinking", "thinking": "", "signature": ""}); err != nil {
			return err
		}
		if err := e.delta(e.s.block, map[string]any{"type": "thinking_delta", "thinking": p.Text}); err != nil {
			return err
		}
	}
	if p.State == "" {
		return nil
	}
	if err := e.delta(e.s.block, map[string]any{"type": "signature_delta", "signature": p.State}); err != nil {
		return err
	}
	return e.closeBlock()
}

// open begins a block, unless one of that type is open.
func (e anthropicEncoder) open(name string, block map[string]any) error {
	if e.s.blockType == name {
		return nil
	}
	if err := e.closeBlock(); err != nil {
		return err
	}
	e.s.blockType = name
	return e.start(e.s.block, block)
}

func (e anthropicEncoder) closeBlock() error {
	if e.s.blockType == "" {
		return nil
	}
	e.s.blockType = ""
	e.s.block++
	return e.event("content_block_stop", map[string]any{"index": e.s.block - 1})
}

func (e anthropicEncoder) citation(p chat.Part) any {
	return map[string]any{
		"type": "web_search_result_location", "url": p.URL, "title": p.Title, "cited_text": "", "encrypted_index": "eA==",
	}
}

// blocks returns what Reply.Output has as the content of a document.
func (e anthropicEncoder) blocks() []any {
	content := []any{}
	for _, p := range e.s.reply.Output {
		switch {
		case p.Kind == chat.TextPart:
			content = append(content, map[string]any{"type": "text", "text": p.Text})
		case p.Kind == chat.SourcePart:
			content = append(content, map[string]any{"type": "text", "text": "", "citations": []any{e.citation(p)}})
		case p.Text == "":
			content = append(content, map[string]any{"type": "redacted_thinking", "data": p.State})
		default:
			content = append(content, map[string]any{"type": "thinking", "thinking": p.Text, "signature": p.State})
		}
	}
	return content
}

// File is a file of a message, as the provider was given it.
type File struct {
	Name      string // "" for an image
	MediaType string
	Data      []byte
}

// contentFiles reads the files of content that is a list of blocks.
func contentFiles(content any) (files []File) {
	list, _ := content.([]any)
	for _, item := range list {
		block, _ := item.(map[string]any)
		image, _ := block["image_url"].(map[string]any)
		file, _ := block["file"].(map[string]any)
		source, _ := block["source"].(map[string]any)
		text := func(m map[string]any, name string) string { s, _ := m[name].(string); return s }
		switch {
		case image != nil:
			files = append(files, fileOfURL("", text(image, "url")))
		case file != nil:
			files = append(files, fileOfURL(text(file, "filename"), text(file, "file_data")))
		case source != nil:
			f := File{Name: text(block, "title"), MediaType: text(source, "media_type"), Data: []byte(text(source, "data"))}
			if text(source, "type") == "base64" {
				f.Data, _ = base64.StdEncoding.DecodeString(text(source, "data"))
			}
			files = append(files, f)
		}
	}
	return files
}

// fileOfURL reads a data: URL.
func fileOfURL(name, url string) File {
	mediaType, data, _ := strings.Cut(strings.TrimPrefix(url, "data:"), ";base64,")
	decoded, _ := base64.StdEncoding.DecodeString(data)
	return File{Name: name, MediaType: mediaType, Data: decoded}
}
