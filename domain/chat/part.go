package chat

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"parley/domain/fault"
)

// PartKind is the kind of a part. The values are stored.
type PartKind string

// Parts of messages. A user's message has text, files and data; a reply has the
// others as well.
const (
	TextPart       PartKind = "text"
	ReasoningPart  PartKind = "reasoning"
	FilePart       PartKind = "file"
	SourcePart     PartKind = "source"      // a page or document that a reply refers to
	DataPart       PartKind = "data"        // the app's own, by name; never sent to a model
	ToolCallPart   PartKind = "tool-call"   //
	ToolResultPart PartKind = "tool-result" // of the call with the same ID
	ApprovalPart   PartKind = "approval"    // of the call with the same ID
)

// Part is one part of a message. Which members it has depends on its kind.
type Part struct {
	Kind PartKind `json:"type"`
	Text string   `json:"text,omitempty"` // of text and reasoning

	ID        string          `json:"id,omitempty"`        // of a file, a source, data, a call
	Name      string          `json:"name,omitempty"`      // of a file, a tool, data
	MediaType string          `json:"mediaType,omitempty"` // of a file or a source
	Size      int64           `json:"size,omitempty"`      // of a file, in bytes
	URL       string          `json:"url,omitempty"`       // of a source
	Title     string          `json:"title,omitempty"`     // of a source
	Data      json.RawMessage `json:"data,omitempty"`      // of data; the input of a call, the output of a result

	// State is what a provider wants back with its reasoning, for the model that
	// made it alone.
	State    string `json:"state,omitempty"`
	Provider string `json:"provider,omitempty"`
	Model    string `json:"model,omitempty"`

	Raw json.RawMessage `json:"-"` // all of a part whose kind this version does not know
}

// Known reports whether this version knows the kind of the part. Others are
// kept as they are, and passed over.
func (p Part) Known() bool {
	switch p.Kind {
	case TextPart, ReasoningPart, FilePart, SourcePart, DataPart, ToolCallPart, ToolResultPart, ApprovalPart:
		return true
	}
	return false
}

// part is Part without methods.
type part Part

// MarshalJSON returns the stored form.
func (p Part) MarshalJSON() ([]byte, error) {
	if p.Raw != nil {
		return p.Raw, nil
	}
	return json.Marshal(part(p))
}

// UnmarshalJSON reads the stored form. A part of an unknown kind keeps all that
// it has.
func (p *Part) UnmarshalJSON(text []byte) error {
	*p = Part{}
	var kind struct {
		Kind PartKind `json:"type"`
	}
	if err := json.Unmarshal(text, &kind); err != nil {
		return err
	}
	if p.Kind = kind.Kind; !p.Known() {
		p.Raw = slices.Clone(text)
		return nil
	}
	return json.Unmarshal(text, (*part)(p))
}

// ContentOf is the text of parts: of its text parts, in order. A text part
// begins a new paragraph, unless it continues one that only sources, files or
// data interrupt.
func ContentOf(parts []Part) string {
	texts, last := 0, 0
	for i := range parts {
		if parts[i].Kind == TextPart {
			texts, last = texts+1, i
		}
	}
	switch texts { // nearly all messages are one text, which need not be copied
	case 0:
		return ""
	case 1:
		return parts[last].Text
	}
	var b strings.Builder
	var j joiner
	for i := range parts {
		if parts[i].Kind == TextPart {
			b.WriteString(j.separator())
			b.WriteString(parts[i].Text)
		}
		j.add(parts[i].Kind)
	}
	return b.String()
}

// paragraph separates text parts in the content of a message.
const paragraph = "\n\n"

// joiner finds what separates a text part from the one before. The zero value
// has seen no text.
type joiner int

const (
	noText  joiner = iota
	inText         // the last part was text
	aside          // only what can be part of a paragraph has come since
	outside        // something else has
)

func (j joiner) separator() string {
	if j == noText || j == aside {
		return ""
	}
	return paragraph
}

func (j *joiner) add(k PartKind) {
	switch {
	case k == TextPart:
		*j = inText
	case *j == noText || *j == outside:
	case k == SourcePart || k == FilePart || k == DataPart:
		*j = aside
	default:
		*j = outside
	}
}

// Bounds of the parts that a user may send.
const (
	MaxParts    = 32
	MaxFiles    = 10
	MaxDataSize = 16 << 10 // bytes of JSON of a data part
)

var dataName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// ValidateMessage refuses what a user may not send: content without text,
// unless there is a file, and parts of kinds that only replies have. content is
// the text of parts, or all there is when parts is nil.
func ValidateMessage(content string, parts []Part) error {
	files := 0
	for _, p := range parts {
		switch {
		case p.Kind == TextPart:
		case p.Kind == FilePart:
			files++
		case p.Kind != DataPart:
			return fault.New(fault.Invalid, "A message cannot have parts of the type %q", printable(string(p.Kind)))
		case !dataName.MatchString(p.Name):
			return fault.New(fault.Invalid, "The name of a data part must be letters, digits, '.', '_' and '-', at most 64")
		case len(p.Data) > MaxDataSize:
			return fault.New(fault.Invalid, "A data part cannot exceed %d bytes", MaxDataSize)
		case !json.Valid(p.Data):
			return fault.New(fault.Invalid, "A data part needs data")
		}
	}
	switch {
	case len(parts) > MaxParts:
		return fault.New(fault.Invalid, "A message cannot have more than %d parts", MaxParts)
	case files > MaxFiles:
		return fault.New(fault.Invalid, "A message cannot have more than %d files", MaxFiles)
	case files > 0 && content == "":
		return nil
	}
	return ValidateContent(content)
}

// printable makes a short name that came from outside safe to be shown.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
	if len(s) > 64 {
		s = s[:64]
	}
	return strings.ToValidUTF8(s, "")
}

// Tokens of files, as the large providers count them.
const (
	imageTokens   = 1600   // of an image at the size to which it is scaled down
	bytesOfAPage  = 25_000 // of a PDF of text and drawings
	tokensOfAPage = 2500   // of a page, which is read as text and as an image
	maxFileTokens = 100_000
)

// FileTokens estimates the tokens of a file in a prompt, closely enough for a
// context window.
func FileTokens(mediaType string, size int64) int {
	switch {
	case strings.HasPrefix(mediaType, "image/"):
		return imageTokens
	case mediaType == "application/pdf":
		size = (1 + size/bytesOfAPage) * tokensOfAPage
	default:
		size /= bytesPerToken
	}
	return int(min(size, maxFileTokens))
}
