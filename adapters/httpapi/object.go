package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
)

// Object is a member that holds any object of JSON, as text, or null, which is nil. A
// value of another kind is refused, as it is for a map.
type Object json.RawMessage

// MarshalJSON implements json.Marshaler.
func (o Object) MarshalJSON() ([]byte, error) { return json.RawMessage(o).MarshalJSON() }

// UnmarshalJSON implements json.Unmarshaler.
func (o *Object) UnmarshalJSON(text []byte) error {
	switch {
	case string(text) == "null":
		*o = nil
	case text[0] != '{':
		return errors.New("it is not an object")
	default:
		*o = slices.Clone(text)
	}
	return nil
}

// AppendJSON implements JSONAppender. The text must be without white space.
func (o Object) AppendJSON(b []byte) ([]byte, error) {
	switch {
	case o == nil:
		return append(b, "null"...), nil
	case bytes.ContainsAny(o, "<>&") || bytes.IndexByte(o, 0xE2) >= 0:
		var safe bytes.Buffer
		json.HTMLEscape(&safe, o)
		o = safe.Bytes()
	}
	return append(b, o...), nil
}
