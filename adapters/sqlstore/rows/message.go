package rows

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"parley/domain/chat"
	"parley/domain/fault"
)

// FromMessage makes a row. Parts and metadata that cannot be stored are
// fault.Invalid.
func FromMessage(m chat.Message) (Message, error) {
	parts, err := marshalParts(m)
	if err != nil {
		return Message{}, err
	}
	metadata, err := storable(m.Metadata)
	return Message{
		UserID: m.UserID, ID: m.ID, ConversationID: m.ConversationID, ParentID: m.ParentID,
		Role: string(m.Role), Content: m.Content, Parts: parts, Metadata: metadata, CreatedAt: Time(m.CreatedAt),
	}, err
}

// Domain returns the noun, without siblings.
func (m *Message) Domain() (chat.Message, error) {
	parts, err := m.parts()
	if err != nil {
		return chat.Message{}, err
	}
	metadata, err := compact(m.Metadata)
	return chat.Message{
		ID: m.ID, UserID: m.UserID, ConversationID: m.ConversationID, ParentID: m.ParentID,
		Role: chat.Role(m.Role), Content: m.Content, Parts: parts, Metadata: metadata, CreatedAt: Time(m.CreatedAt),
	}, err
}

// marshalParts returns the parts of a message as JSON text, "" when its content
// is all there is. The text of the only text part is left out: it is the content.
func marshalParts(m chat.Message) (string, error) {
	if len(m.Parts) == 0 || len(m.Parts) == 1 && m.Parts[0].Kind == chat.TextPart {
		return "", nil
	}
	parts := m.Parts
	if i := onlyText(parts); i >= 0 && parts[i].Text == m.Content {
		parts = slices.Clone(parts)
		parts[i].Text = ""
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(parts); err != nil {
		return "", fault.Wrap(err, fault.Invalid, "The data of a part must be JSON")
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// parts is the inverse of marshalParts.
func (m *Message) parts() ([]chat.Part, error) {
	if m.Parts == "" {
		return nil, nil
	}
	var parts []chat.Part
	if err := json.Unmarshal([]byte(m.Parts), &parts); err != nil {
		return nil, fmt.Errorf("read parts of message %s: %w", m.ID, err)
	}
	if i := onlyText(parts); i >= 0 && parts[i].Text == "" {
		parts[i].Text = m.Content
	}
	return parts, nil
}

// onlyText returns the index of the text part if there is exactly one, else -1.
func onlyText(parts []chat.Part) int {
	only := -1
	for i, p := range parts {
		if p.Kind != chat.TextPart {
			continue
		}
		if only >= 0 {
			return -1
		}
		only = i
	}
	return only
}
