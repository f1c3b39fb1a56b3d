package upstream

import (
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"parley/domain/chat"
)

// Content is the text, the reasoning and the sources of a reply's JSON, in whichever shape a
// server gives it: a string, a part, or a list of either.
type Content struct {
	Parts []chat.Part // in the order of the JSON: text, reasoning and sources
	// Unsupported names a part that holds something other than text; "" if there is none.
	Unsupported string
}

// Empty reports whether there is neither text nor reasoning.
func (c Content) Empty() bool {
	return !slices.ContainsFunc(c.Parts, func(p chat.Part) bool { return p.Kind != chat.SourcePart })
}

// maxNesting bounds lists within lists.
const maxNesting = 8

// ReadContent reads a value of any shape.
func ReadContent(v gjson.Result) Content {
	return readContent(v, chat.TextPart)
}

// ReadReasoning reads a value that holds nothing but reasoning.
func ReadReasoning(v gjson.Result) string {
	var b strings.Builder
	for _, p := range readContent(v, chat.ReasoningPart).Parts {
		b.WriteString(p.Text)
	}
	return b.String()
}

func readContent(v gjson.Result, kind chat.PartKind) Content {
	if v.Type == gjson.String { // as almost always
		if v.Str == "" {
			return Content{}
		}
		return Content{Parts: []chat.Part{{Kind: kind, Text: String(v)}}}
	}
	var r contentReader
	r.read(v, kind, maxNesting)
	r.endPart()
	return r.content
}

type contentReader struct {
	content Content
	kind    chat.PartKind // of the part that is being read
	text    strings.Builder
}

// add adds text to the part that is being read, or begins another one.
func (r *contentReader) add(kind chat.PartKind, text string) {
	if text == "" {
		return
	}
	if kind != r.kind {
		r.endPart()
		r.kind = kind
	}
	r.text.WriteString(text)
}

func (r *contentReader) addSources(v gjson.Result) {
	if sources := ReadSources(v); len(sources) > 0 {
		r.endPart()
		r.kind = ""
		r.content.Parts = append(r.content.Parts, sources...)
	}
}

func (r *contentReader) endPart() {
	if r.text.Len() > 0 {
		r.content.Parts = append(r.content.Parts, chat.Part{Kind: r.kind, Text: r.text.String()})
		r.text.Reset()
	}
}

// read adds the text of v as a part of that kind.
func (r *contentReader) read(v gjson.Result, kind chat.PartKind, depth int) {
	switch {
	case depth == 0:
		r.refuse("nesting")
	case v.Type == gjson.Null:
	case v.Type == gjson.String:
		r.add(kind, String(v))
	case v.IsObject():
		r.readPart(v, kind, depth)
	case v.IsArray():
		v.ForEach(func(_, item gjson.Result) bool {
			r.read(item, kind, depth-1)
			return true
		})
	default: // a number or a truth value, which a server has made of a word
		r.add(kind, v.Raw)
	}
}

// Members of a part that may hold its text, the usual one first.
var (
	textMembers      = []string{"text", "content", "value", "refusal"}
	reasoningMembers = []string{"thinking", "reasoning", "text", "content", "summary"}
)

// readPart reads an object such as {"type":"text","text":"..."}.
func (r *contentReader) readPart(part gjson.Result, kind chat.PartKind, depth int) {
	name := part.Get("type").Str
	switch name {
	case "signature_delta", "redacted_thinking", "server_tool_use", // Anthropic
		"reasoning.encrypted": // OpenRouter
		return // they hold no text
	case "citations_delta": // Anthropic
		r.addSources(part.Get("citation"))
		return
	case "reference", "tool_reference": // Mistral
		r.addSources(part)
		return
	case "thinking", "thinking_delta", "reasoning", "reasoning_text", "reasoning.text", "reasoning.summary", "summary_text":
		r.readMember(part, reasoningMembers, chat.ReasoningPart, depth)
		return
	}
	if strings.HasSuffix(name, "_tool_result") { // Anthropic: of a tool that it calls itself
		r.addSources(part.Get("content"))
		return
	}
	found := r.readMember(part, reasoningMembers[:1], chat.ReasoningPart, depth)
	found = r.readMember(part, textMembers, kind, depth) || found
	r.addSources(part.Get("citations"))
	r.addSources(part.Get("annotations"))
	switch {
	case found, name == "text", name == "text_delta", name == "" && len(part.Map()) == 0:
	case name == "":
		r.refuse("object")
	default:
		r.refuse(name)
	}
}

// readMember reads the first of the members that part has.
func (r *contentReader) readMember(part gjson.Result, names []string, kind chat.PartKind, depth int) bool {
	for _, name := range names {
		if value := part.Get(name); value.Exists() {
			r.read(value, kind, depth-1)
			return true
		}
	}
	return false
}

func (r *contentReader) refuse(name string) {
	if r.content.Unsupported == "" {
		r.content.Unsupported = name
	}
}

// String returns the value of a JSON string. A half of a surrogate pair without
// its other half is kept, in three bytes as UTF-8 would encode it, because some
// servers cut a character between two events: Reply puts the halves together.
func String(v gjson.Result) string {
	if v.Type != gjson.String || !hasSurrogate(v.Raw) {
		return v.Str
	}
	var b strings.Builder
	for raw := strings.Trim(v.Raw, `"`); raw != ""; {
		if raw[0] != '\\' || len(raw) < 2 {
			b.WriteByte(raw[0])
			raw = raw[1:]
			continue
		}
		if raw[1] != 'u' || len(raw) < 6 {
			b.WriteString(gjson.Parse(`"` + raw[:2] + `"`).Str)
			raw = raw[2:]
			continue
		}
		r := hex4(raw[2:6])
		raw = raw[6:]
		if utf16.IsSurrogate(r) {
			b.WriteString(string([]byte{0xe0 | byte(r>>12), 0x80 | byte(r>>6)&0x3f, 0x80 | byte(r)&0x3f}))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// hasSurrogate reports whether a JSON string holds an escape of U+D800 to
// U+DFFF; it may report one where a backslash is escaped.
func hasSurrogate(raw string) bool {
	for {
		i := strings.Index(raw, `\u`)
		if i < 0 || len(raw) < i+4 {
			return false
		}
		if (raw[i+2]|0x20) == 'd' && raw[i+3] >= '8' {
			return true
		}
		raw = raw[i+2:]
	}
}

func hex4(s string) rune {
	var r rune
	for i := range len(s) {
		c := rune(s[i] | 0x20)
		if c >= 'a' {
			c -= 'a' - 10
		} else {
			c -= '0'
		}
		r = r<<4 | c&0xf
	}
	return r
}

// joinSurrogates puts the halves of surrogate pairs together that String has
// kept apart, and returns apart the bytes at the end of s that are a part of a
// character whose rest has not come yet.
func joinSurrogates(s string) (joined, rest string) {
	cut := len(s) - unfinished(s)
	s, rest = s[:cut], s[cut:]
	if !strings.Contains(s, "\xed") {
		return s, rest
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		high, low := surrogate(s[i:]), rune(-1)
		if high >= 0 {
			low = surrogate(s[i+3:])
		}
		if r := utf16.DecodeRune(high, low); low >= 0 && r != utf8.RuneError {
			b.WriteRune(r)
			i += 6
			continue
		}
		b.WriteByte(s[i])
		i++
	}
	return b.String(), rest
}

// surrogate decodes half of a pair at the start of s, or returns -1.
func surrogate(s string) rune {
	if len(s) < 3 || s[0] != 0xed || s[1] < 0xa0 || s[2]&0xc0 != 0x80 {
		return -1
	}
	return 0xd000 | rune(s[1]&0x3f)<<6 | rune(s[2]&0x3f)
}

// unfinished returns the length of the part of a character at the end of s.
func unfinished(s string) int {
	for n := 1; n <= min(len(s), 5); n++ {
		tail := s[len(s)-n:]
		if !utf8.RuneStart(tail[0]) {
			continue
		}
		if n < utf8.UTFMax && !utf8.FullRuneInString(tail) {
			if high := len(s) - n - 3; n < 3 && tail[0] == 0xed && high >= 0 && isHigh(s[high:]) {
				return n + 3 // the second half of a pair has begun
			}
			return n
		}
		switch {
		case n == 2 && tail[0] == 0xed && tail[1] >= 0xa0 && tail[1] < 0xb0: // of the first half of a pair
			return 2
		case n == 2 && tail[0] == 0xed && tail[1] >= 0xb0 && len(s) >= 5 && isHigh(s[len(s)-5:]):
			return 5
		case n == 3 && isHigh(tail):
			return 3
		}
		return 0
	}
	return 0
}

// isHigh reports whether s begins with the first half of a pair.
func isHigh(s string) bool {
	r := surrogate(s)
	return r >= 0xd800 && r < 0xdc00
}
