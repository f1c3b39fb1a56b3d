package rows

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"parley/domain/chat"
	"parley/domain/fault"
)

// marshal returns JSON text, "" for no metadata.
func marshal(m map[string]any) (string, error) {
	text, err := chat.EncodeMetadata(m)
	if err != nil {
		return "", err
	}
	return storable(text)
}

// storable refuses NUL, which a jsonb column cannot keep, everywhere.
func storable(metadata json.RawMessage) (string, error) {
	text := string(metadata)
	if hasNUL(text) {
		return "", fault.New(fault.Invalid, "Metadata must not contain control characters")
	}
	return text, nil
}

// hasNUL reports whether JSON text names NUL: \u0000 behind an even number of
// backslashes.
func hasNUL(text string) bool {
	for at := 0; ; {
		i := strings.Index(text[at:], `\u0000`)
		if i < 0 {
			return false
		}
		i += at
		slashes := 0
		for i-slashes > 0 && text[i-slashes-1] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return true
		}
		at = i + 1
	}
}

// unmarshal is the inverse of marshal.
func unmarshal(text string) (map[string]any, error) {
	if text == "" {
		return nil, nil
	}
	m, err := chat.DecodeMetadata(json.RawMessage(text))
	if err != nil {
		return nil, fmt.Errorf("read metadata: %w", err)
	}
	return m, nil
}

// compact takes the white space out that PostgreSQL puts into jsonb.
func compact(text string) (json.RawMessage, error) {
	if text == "" {
		return nil, nil
	}
	v := jsontext.Value(text)
	if err := v.Compact(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)); err != nil {
		return nil, fmt.Errorf("read metadata: %w", err)
	}
	return json.RawMessage(v), nil
}
