package rows

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// unmarshal reads metadata, without the reflection of encoding/json: nearly every
// reply has some. Numbers stay as they were written, so that what a user sent comes
// back.
func unmarshal(text string) (map[string]any, error) {
	if text == "" {
		return nil, nil
	}
	d := jsontext.NewDecoder(bytes.NewBufferString(text), jsontext.AllowDuplicateNames(true))
	v, err := readValue(d)
	if err != nil {
		return nil, fmt.Errorf("read metadata: %w", err)
	}
	m, ok := v.(map[string]any)
	if !ok && v != nil {
		return nil, fmt.Errorf("read metadata: it is a %T", v)
	}
	return m, nil
}

// readValue reads a value of any type, as encoding/json does with UseNumber.
func readValue(d *jsontext.Decoder) (any, error) {
	token, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case jsontext.KindTrue, jsontext.KindFalse:
		return token.Bool(), nil
	case jsontext.KindString:
		return token.String(), nil
	case jsontext.KindNumber:
		return json.Number(token.String()), nil
	case jsontext.KindBeginObject:
		m := map[string]any{}
		for d.PeekKind() != jsontext.KindEndObject {
			name, err := d.ReadToken()
			if err != nil {
				return nil, err
			}
			key := name.String() // before the token's text is overwritten
			if m[key], err = readValue(d); err != nil {
				return nil, err
			}
		}
		_, err := d.ReadToken()
		return m, err
	case jsontext.KindBeginArray:
		list := []any{}
		for d.PeekKind() != jsontext.KindEndArray {
			v, err := readValue(d)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.ReadToken()
		return list, err
	}
	return nil, nil
}

// appendValue appends a value as JSON, without reflection for what metadata mostly
// consists of. Names are in order.
func appendValue(b []byte, v any) (_ []byte, err error) {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case int:
		return strconv.AppendInt(b, int64(v), 10), nil
	case string:
		return jsontext.AppendQuote(b, strings.ToValidUTF8(v, "\ufffd"))
	case map[string]any:
		if v != nil {
			return appendObject(b, v)
		}
	}
	raw, err := json.Marshal(v)
	return append(b, raw...), err
}

func appendObject(b []byte, m map[string]any) (_ []byte, err error) {
	var few [16]string // mostly enough
	names := slices.AppendSeq(few[:0], maps.Keys(m))
	slices.Sort(names)
	b = append(b, '{')
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendValue(b, name); err != nil {
			return nil, err
		}
		if b, err = appendValue(append(b, ':'), m[name]); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}
