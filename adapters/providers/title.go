package providers

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"

	"parley/domain/chat"
	"parley/ports"
)

const (
	askTitle = "Name the conversation below in at most six words, in its own language. " +
		"Answer with the name alone, without quotes and without a full stop."
	titleTokens  = 512   // some models think first
	titleContext = 2_000 // code points of each message
	titleLength  = 80
)

// ErrNoTitle is a reply that is not a title.
var ErrNoTitle = errors.New("providers: the model gave no title")

// Title asks for the title of a conversation by its first turns. The answer
// says what that has cost, also when there is an error. The demo provider
// knows no titles.
func (r *Router) Title(ctx context.Context, user string, params chat.Params, turns []ports.PromptMessage) (string, ports.Answer, error) {
	var text strings.Builder
	for _, t := range turns {
		text.WriteString(string(t.Role) + ": " + cut(t.Text, titleContext) + "\n\n")
	}
	var said strings.Builder
	a, err := r.Generate(ctx, ports.Prompt{
		UserID:   user,
		Params:   chat.Params{Provider: params.Provider, Model: params.Model, System: askTitle, MaxTokens: titleTokens},
		Messages: []ports.PromptMessage{{Role: chat.User, Text: text.String()}},
	}, func(d chat.Delta) {
		if !d.Reasoning {
			said.WriteString(d.Text)
		}
	})
	if err != nil {
		return "", a, err
	}
	title := tidy(said.String())
	if a.Metadata["demo"] == true || chat.ValidateTitle(title) != nil || placeholder(title) {
		return "", a, ErrNoTitle
	}
	return title, a, nil
}

// tidy makes a title of what a model says: its first line, bare.
func tidy(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "Title:"))
	line = strings.Trim(strings.Join(strings.Fields(line), " "), " \"'`*#_“”„«».")
	if utf8.RuneCountInString(line) > titleLength {
		return chat.TitleFrom(line)
	}
	return line
}

// placeholder reports whether a title says nothing.
func placeholder(title string) bool {
	switch strings.ToLower(title) {
	case "new chat", "new conversation", "conversation", "chat", "untitled", "title":
		return true
	}
	return false
}

func cut(s string, most int) string {
	for i := range s {
		if most == 0 {
			return s[:i]
		}
		most--
	}
	return s
}
