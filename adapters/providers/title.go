package providers

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/ports"
)

const (
	askTitle = "Name the conversation below in at most six words, in its own language. " +
		"Answer with the name alone, without quotes and without a full stop."
	titleTokens  = 512   // some models think first
	titleContext = 2_000 // code points of each message
)

// ErrNoTitle is a reply that is not a title.
var ErrNoTitle = errors.New("providers: the model gave no title")

// Title generates the title of a conversation from its first messages. The
// answer holds the usage, also with an error. The demo provider has no titles.
func (r *Router) Title(ctx context.Context, user string, params chat.Params, turns []ports.PromptMessage) (string, ports.Answer, error) {
	var text strings.Builder
	for _, t := range turns {
		text.WriteString(string(t.Role) + ": ")
		for _, f := range filesOf(t.Parts) {
			text.WriteString(upstream.FileNote(f, "is attached").Text + " ")
		}
		text.WriteString(cut(t.Text(), titleContext) + "\n\n")
	}
	var reply strings.Builder
	a, err := r.Generate(ctx, ports.Prompt{
		UserID:   user,
		Params:   chat.Params{Provider: params.Provider, Model: params.Model, System: askTitle, MaxTokens: titleTokens, Priced: params.Priced},
		Messages: []ports.PromptMessage{ports.PromptText(chat.User, text.String())},
	}, func(d chat.Delta) {
		if d.Kind == chat.TextPart {
			reply.WriteString(d.Text)
		}
	})
	if err != nil {
		return "", a, err
	}
	title := cleanTitle(reply.String())
	if a.Metadata["demo"] == true || chat.ValidateTitle(title) != nil || placeholder(title) {
		return "", a, ErrNoTitle
	}
	return title, a, nil
}

// thinkingTags are what models put around what is not meant to be shown.
const thinkingTags = `(?:think|thinking|thought|thoughts|reasoning|reflection|analysis|scratchpad)`

var (
	thinking      = regexp.MustCompile(`(?is)[<\[◁]` + thinkingTags + `\b[^<>\[\]▷]*[>\]▷].*?[<\[◁]/` + thinkingTags + `\s*[>\]▷]`)
	thinkingEnd   = regexp.MustCompile(`(?is)^.*[<\[◁]/` + thinkingTags + `\s*[>\]▷]`)          // its beginning was part of the prompt
	thinkingBegin = regexp.MustCompile(`(?is)[<\[◁]` + thinkingTags + `\b[^<>\[\]▷]*[>\]▷].*$`) // its end never came
	channel       = regexp.MustCompile(`(?s)^.*<\|message\|>`)
	tokenMarks    = regexp.MustCompile(`<\|[^|<>]*\|>|</?s>`)
	htmlTags      = regexp.MustCompile(`(?i)</?(?:title|name|b|i|em|strong|h[1-6]|p|span|br|code|answer|output|response)\s*/?>`)
	jsonTitle     = regexp.MustCompile(`(?is)["'](?:conversation_?|chat_?)?(?:title|name|topic)["']\s*:\s*"((?:[^"\\]|\\.)*)`)
	titleLabel    = regexp.MustCompile(`(?i)^[*_\s]*(?:(?:the|a|my|suggested|proposed|possible|conversation|chat|short|concise|new|final)\s+)*` +
		`(?:title|name|topic|subject|titel|titre|título|titulo|titolo|тема|название|标题|標題|タイトル|題名|제목)` +
		`(?:\s+(?:of|for)\s+(?:the|this)\s+(?:conversation|chat))?\s*[*_]*\s*(?:[:：=]|\s[-–—]\s|\sis:?\s)[*_\s]*`)
	introduction = regexp.MustCompile(`(?i)(?:here(?:'s| is| are)|sure|certainly|of course|title).*:$`)
)

// cleanTitle makes a title of what a model says: without thinking, labels,
// quotes, Markdown and JSON, as one line.
func cleanTitle(s string) string {
	s = thinking.ReplaceAllString(s, "")
	s = thinkingEnd.ReplaceAllString(s, "")
	s = thinkingBegin.ReplaceAllString(s, "")
	s = tokenMarks.ReplaceAllString(channel.ReplaceAllString(s, ""), "")
	s = htmlTags.ReplaceAllString(fromJSON(s), "")
	lines := slices.Collect(strings.Lines(strings.TrimSpace(s)))
	for i, line := range lines {
		if mark := strings.TrimSpace(line); strings.HasPrefix(mark, "```") && strings.Count(mark, "```") == 1 || strings.HasPrefix(mark, "~~~") {
			continue // the fence of a block of code
		}
		if i < len(lines)-1 && introduction.MatchString(strings.Trim(strings.TrimSpace(line), "*_")) {
			continue
		}
		if line = bareLine(line); line != "" {
			return chat.TitleFrom(line)
		}
	}
	return ""
}

// bareLine takes labels, Markdown, quotes and the full stop from a line until
// none is left.
func bareLine(line string) string {
	for before := ""; line != before; {
		before = line
		line = chat.PlainLine(titleLabel.ReplaceAllString(chat.PlainLine(line), ""))
		line = unquote(line)
		if strings.HasSuffix(line, ".") && !strings.HasSuffix(line, "..") {
			line = strings.TrimSuffix(line, ".")
		}
		if strings.Trim(line, " .…\"'`*#_-:") == "" {
			return ""
		}
	}
	return line
}

// quotes are pairs; where both are the same, the line must hold no other.
var quotes = []string{`""`, "''", "``", "**", "__", "“”", "„“", "„”", "«»", "»«", "‘’", "「」", "『』", "《》"}

// unquote takes one pair of quotes from around a line, or one that was left
// alone when the reply was cut off.
func unquote(line string) string {
	for _, pair := range quotes {
		runes := []rune(pair)
		opening, closing := string(runes[0]), string(runes[1])
		inner := strings.TrimSuffix(strings.TrimPrefix(line, opening), closing)
		opened, closed := strings.HasPrefix(line, opening), strings.HasSuffix(line, closing) && len(line) > len(opening)
		switch {
		case opened && closed && !strings.Contains(inner, opening) && !strings.Contains(inner, closing):
			return strings.TrimSpace(inner)
		case opened && strings.Count(line, opening) == 1 && strings.Count(line, closing) <= 1 && !closed && opening != "'":
			return strings.TrimSpace(strings.TrimPrefix(line, opening))
		}
	}
	return line
}

// fromJSON is the title in a reply that is JSON, whole or cut off, or holds some.
func fromJSON(s string) string {
	body := strings.TrimSpace(s)
	body = strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(body, "```json"), "```"), "```"))
	var v any
	if json.Unmarshal([]byte(body), &v) == nil {
		switch v.(type) {
		case string, []any, map[string]any:
			return titleIn(v)
		}
	}
	if m := jsonTitle.FindStringSubmatch(s); m != nil {
		var title string
		if json.Unmarshal([]byte(`"`+m[1]+`"`), &title) == nil {
			return title
		}
	}
	return s
}

// titleIn finds the title in a JSON value: a string, the member that is called
// so, the only string of an object, or the first of a list.
func titleIn(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []any:
		if len(v) > 0 {
			return titleIn(v[0])
		}
	case map[string]any:
		for _, name := range []string{"title", "name", "topic", "conversation_title", "conversationTitle", "chat_title"} {
			for key, value := range v {
				if strings.EqualFold(key, name) {
					return titleIn(value)
				}
			}
		}
		if len(v) == 1 {
			for _, value := range v {
				return titleIn(value)
			}
		}
	}
	return ""
}

// placeholder reports whether a title tells nothing of the conversation.
func placeholder(title string) bool {
	switch strings.ToLower(title) {
	case "new chat", "new conversation", "conversation", "chat", "untitled", "title":
		return true
	}
	return false
}

// cut is the first code points of s.
func cut(s string, limit int) string {
	for i := range s {
		if limit == 0 {
			return s[:i]
		}
		limit--
	}
	return s
}
