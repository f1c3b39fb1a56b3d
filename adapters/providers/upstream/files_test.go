package upstream

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

func text(s string) chat.Part { return chat.Part{Kind: chat.TextPart, Text: s} }

func file(id, mediaType string) chat.Part {
	return chat.Part{Kind: chat.FilePart, ID: id, Name: id + ".x", MediaType: mediaType, Size: int64(len("bytes of " + id))}
}

// readFiles reads any file but those whose ids begin with gone.
func readFiles(_ context.Context, _, id string) ([]byte, error) {
	if strings.HasPrefix(id, "gone") {
		return nil, chat.FileNotFound()
	}
	return []byte("bytes of " + id), nil
}

// shown writes messages down: text as it is, files as <kind id: content>.
func shown(messages []Message) (list []string) {
	for _, m := range messages {
		var b strings.Builder
		b.WriteString(string(m.Role))
		for _, block := range m.Blocks {
			switch block.Kind {
			case OtherFile:
				b.WriteString(" | " + block.Text)
			default:
				b.WriteString(" | <" + block.File.ID + ": " + string(block.Data) + ">")
			}
		}
		list = append(list, b.String())
	}
	return list
}

func TestMessages_Files(t *testing.T) {
	user := func(parts ...chat.Part) ports.PromptMessage {
		return ports.PromptMessage{Role: chat.User, Parts: parts}
	}
	reply := func(parts ...chat.Part) ports.PromptMessage {
		return ports.PromptMessage{Role: chat.Assistant, Parts: parts}
	}
	for name, c := range map[string]struct {
		in   []ports.PromptMessage
		want []string
	}{
		"InTheirOrder": {[]ports.PromptMessage{user(text("a"), file("1", "image/png"), text("b"), file("2", "application/pdf"))},
			[]string{"user | a | <1: bytes of 1> | b | <2: bytes of 2>"}},
		"AFileAlone":    {[]ports.PromptMessage{user(file("1", "image/png"))}, []string{"user | <1: bytes of 1>"}},
		"BlankText":     {[]ports.PromptMessage{user(text(" \n"), file("1", "text/csv"))}, []string{"user | <1: bytes of 1>"}},
		"Gone":          {[]ports.PromptMessage{user(text("a"), file("gone", "image/png"))}, []string{"user | a | [file gone.x is not available any more]"}},
		"Unreadable":    {[]ports.PromptMessage{user(file("1", "video/mp4"))}, []string{"user | [file 1.x cannot be read by this model]"}},
		"OfAReply":      {[]ports.PromptMessage{user(text("a")), reply(file("1", "image/png")), user(text("b"))}, []string{"user | a", "assistant | [file 1.x was part of this reply]", "user | b"}},
		"MergedTexts":   {[]ports.PromptMessage{user(file("1", "image/png"), text("a")), user(text("b"), file("2", "image/gif"))}, []string{"user | <1: bytes of 1> | a\n\nb | <2: bytes of 2>"}},
		"MergedFiles":   {[]ports.PromptMessage{user(text("a"), file("1", "image/png")), user(text("b"))}, []string{"user | a | <1: bytes of 1> | b"}},
		"OtherPartsOut": {[]ports.PromptMessage{user(text("a"), chat.Part{Kind: chat.DataPart, Name: "x"})}, []string{"user | a"}},
		"ReplyMerged": {[]ports.PromptMessage{user(text("a")), reply(text("b"), chat.Part{Kind: chat.SourcePart, URL: "https://example.com"}, text("c"), chat.Part{Kind: chat.ReasoningPart, Text: "hm"}, text("d")), user(text("e"))},
			[]string{"user | a", "assistant | bc\n\nd", "user | e"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Messages(t.Context(), ports.Prompt{Messages: c.in, ReadFile: readFiles})
			if d := cmp.Diff(c.want, shown(got)); d != "" || err != nil {
				t.Error(err, d)
			}
		})
	}
	t.Run("Unavailable", func(t *testing.T) {
		_, err := Messages(t.Context(), ports.Prompt{
			Messages: []ports.PromptMessage{user(file("1", "image/png"))},
			ReadFile: func(context.Context, string, string) ([]byte, error) { return nil, errors.New("canary") },
		})
		if !fault.Is(err, fault.AIUnavailable) || ReasonOf(err) != FilesUnavailable || strings.Contains(err.Error(), "canary") {
			t.Error(err)
		}
	})
	t.Run("NothingToReadWith", func(t *testing.T) {
		got, err := Messages(t.Context(), ports.Prompt{Messages: []ports.PromptMessage{user(file("1", "image/png"))}})
		if d := cmp.Diff([]string{"user | [file 1.x is not available any more]"}, shown(got)); d != "" || err != nil {
			t.Error(err, d)
		}
	})
}

// The tags around a text file name it and do not occur in it.
func TestBlock_Inline(t *testing.T) {
	for content, want := range map[string]string{
		"a,b\n":                   "<file name=\"n.csv\" type=\"text/csv\">\na,b\n</file>",
		"a,b":                     "<file name=\"n.csv\" type=\"text/csv\">\na,b\n</file>",
		"</file> and </file-2>\n": "<file-3 name=\"n.csv\" type=\"text/csv\">\n</file> and </file-2>\n</file-3>",
	} {
		b := Block{Kind: TextFile, File: chat.Part{Name: "n\n\".csv", MediaType: "text/csv"}, Data: []byte(content)}
		if d := cmp.Diff(want, b.Inline()); d != "" {
			t.Error(d)
		}
	}
}

func TestBlock_FileText(t *testing.T) {
	for content, want := range map[string]string{
		"a é\r\n":                       "a é\r\n",
		"\xef\xbb\xbfa":                 "a",
		"\xff\xfea\x00\xe9\x00\n\x00":   "aé\n",
		"\xfe\xff\x00a\xd8\x3d\xde\x00": "a😀",
		"\xff\xfea\x00b":                "a",
		"a\xe9\x00\x1bb":                "ab",
		"":                              "",
	} {
		if got := (Block{Data: []byte(content)}).FileText(); got != want {
			t.Errorf("%q became %q", content, got)
		}
	}
}

// A file's name cannot end its note.
func TestFileNote_Names(t *testing.T) {
	for name, want := range map[string]string{
		"a.png":    "[file a.png is gone]",
		"a].png\n": "[file a.png is gone]",
		"":         "[file without a name is gone]",
	} {
		if got := FileNote(chat.Part{Name: name}, "is gone").Text; got != want {
			t.Errorf("%q: %q", name, got)
		}
	}
}

func TestRefusal_OfFile(t *testing.T) {
	for name, c := range map[string]struct {
		r    Refusal
		want bool
	}{
		"DeepSeek":       {Refusal{Status: 400, Message: "Failed to deserialize the JSON body: messages[0]: unknown variant `image_url`, expected `text`"}, true},
		"vLLM":           {Refusal{Status: 400, Type: "BadRequestError", Message: "llama is not a multimodal model"}, true},
		"Groq":           {Refusal{Status: 400, Type: "invalid_request_error", Message: "'messages.0' : for 'role:user' the following must be satisfied[('messages.0.content' : value must be a string)] content must be a string"}, true},
		"OpenRouter":     {Refusal{Status: 404, Message: "No endpoints found that support image input"}, true},
		"LlamaCpp":       {Refusal{Status: 500, Type: "server_error", Message: "image input is not supported - hint: you may need to provide the mmproj"}, true},
		"OpenAICode":     {Refusal{Status: 400, Type: "invalid_request_error", Code: "invalid_image_format", Message: "You uploaded an unsupported one."}, true},
		"Anthropic":      {Refusal{Status: 400, Type: "invalid_request_error", Message: "Could not process image"}, true},
		"AnthropicSize":  {Refusal{Status: 400, Type: "invalid_request_error", Message: "messages.0.content.0.image.source.base64: image exceeds 5 MB maximum"}, true},
		"AnthropicPDF":   {Refusal{Status: 400, Type: "invalid_request_error", Message: "The PDF specified was not valid."}, true},
		"SomethingElse":  {Refusal{Status: 400, Type: "invalid_request_error", Message: "temperature must be at most 2"}, false},
		"TooLong":        {Refusal{Status: 400, Code: "context_length_exceeded", Message: "maximum context length, your images are large"}, false},
		"Policy":         {Refusal{Status: 400, Code: "content_policy_violation", Message: "Your image is not allowed"}, false},
		"MissingModel":   {Refusal{Status: 404, Code: "model_not_found", Message: "The model vision-1 does not exist"}, false},
		"Crash":          {Refusal{Status: 500, Type: "server_error", Message: "cannot open file"}, false},
		"RateLimit":      {Refusal{Status: 429, Message: "too many images"}, false},
		"ServiceIsDown":  {Refusal{Status: 503, Message: "image service"}, false},
		"KeyIsNotForPDF": {Refusal{Status: 403, Message: "no pdf for this key"}, false},
	} {
		if got := c.r.ofFile(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
