// Package chat holds conversations, messages and runs, and the rules for them:
// what a valid message is, how history branches (Tree), how requests for replies
// are decided (Admit) and how runs end (Finish, Stop, Delete), which states a run
// can have, and what a follower of its output has not seen yet. All of it is
// pure: it has no clock and no input or output.
package chat

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"parley/domain/fault"
)

// MaxContent is the longest message a user may send, in code points.
const MaxContent = 10_000

// MaxTitle is the longest conversation title, in code points.
const MaxTitle = 200

// MaxID is the longest id a client may bring, in bytes.
const MaxID = 128

// Role says who wrote a message.
type Role string

const (
	User      Role = "user"
	Assistant Role = "assistant"
)

// Message is one node of a tree. It never changes once written: an edit or a
// regeneration adds a sibling under the same parent.
type Message struct {
	ID             string
	UserID         string
	ConversationID string // "": the user's default thread
	ParentID       string // "": the first of its thread
	Role           Role
	Content        string          // the text of its parts, see ContentOf
	Parts          []Part          // nil: Content is all there is
	Metadata       json.RawMessage // an object without white space; nil: none
	CreatedAt      time.Time
	Siblings       []string  // ids under the same parent with the same role, this one included, oldest first; nil unless asked for
	Feedback       *Feedback // of its user, on a reply; nil: none, or not asked for
}

// DecodeMetadata reads the object that Message.Metadata is. Numbers stay as they were
// written, and nil stays nil. Text that is no object is an error of encoding/json.
func DecodeMetadata(text json.RawMessage) (m map[string]any, err error) {
	if text == nil {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	err = d.Decode(&m)
	return m, err
}

// EncodeMetadata is the inverse of DecodeMetadata. A value that JSON does not have is
// fault.Invalid.
func EncodeMetadata(m map[string]any) (json.RawMessage, error) {
	if m == nil {
		return nil, nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "Metadata must be JSON")
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// SetParts sets the parts of a message, and its content by them.
func (m *Message) SetParts(parts []Part) {
	m.Content = ContentOf(parts)
	if m.Parts = parts; len(parts) == 0 || len(parts) == 1 && parts[0].Kind == TextPart {
		m.Parts = nil
	}
}

// AllParts returns the parts of a message, also of one that is all text.
func (m Message) AllParts() []Part {
	switch {
	case m.Parts != nil:
		return m.Parts
	case m.Content == "":
		return nil
	}
	return []Part{{Kind: TextPart, Text: m.Content}}
}

// Files returns the ids of the files of a message, each once. What cannot be an
// id is left out.
func (m Message) Files() (ids []string) {
	for _, p := range m.Parts {
		if p.Kind == FilePart && ValidID(p.ID) && !slices.Contains(ids, p.ID) {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

// ValidateContent refuses what a user may not send. Text is otherwise kept as
// typed; it is made safe where it is shown.
func ValidateContent(s string) error {
	switch {
	case s == "":
		return fault.New(fault.Invalid, "Message content is required")
	case strings.TrimFunc(s, unicode.IsSpace) == "":
		return fault.New(fault.Invalid, "Message content cannot be empty")
	case utf8.RuneCountInString(s) > MaxContent:
		return fault.New(fault.Invalid, "Message cannot exceed %d characters", MaxContent)
	}
	return ValidateText(s)
}

// ValidateText refuses text that cannot be stored and given back as it was:
// invalid UTF-8, NUL, and control characters other than tab, LF and CR.
func ValidateText(s string) error {
	if !utf8.ValidString(s) {
		return fault.New(fault.Invalid, "Text must be valid Unicode")
	}
	for _, r := range s {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' {
			return fault.New(fault.Invalid, "Text must not contain control characters")
		}
	}
	return nil
}

// CleanOutput drops from a provider's text what could not be stored. Unlike a
// user, a model cannot be asked to fix its input. dropped counts code points.
func CleanOutput(s string) (clean string, dropped int) {
	if utf8.ValidString(s) && strings.IndexFunc(s, forbidden) < 0 {
		return s, 0
	}
	clean = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || forbidden(r) {
			dropped++
			return -1
		}
		return r
	}, s)
	return clean, dropped
}

func forbidden(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' }

// ValidID reports whether s can be an id: 1 to MaxID printable ASCII
// characters without space, slash or backslash, and not "." or "..".
func ValidID(s string) bool {
	if s == "" || len(s) > MaxID || s == "." || s == ".." {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '/' || c == '\\' {
			return false
		}
	}
	return true
}

// ValidModel reports whether s can be the name of a model: as an id, but with
// slashes, which names of open models have.
func ValidModel(s string) bool { return ValidID(strings.ReplaceAll(s, "/", "-")) }
