package rows

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func read(t *testing.T, text string) (m map[string]any) {
	t.Helper()
	m, err := unmarshal(text)
	if err != nil {
		t.Fatal(text, err)
	}
	return m
}

// What PostgreSQL makes of metadata is shown without its white space, and else as it is.
func TestCompact(t *testing.T) {
	for text, want := range map[string]string{
		`{"demo": true, "model": "a b", "n": [1.50, {"c": null}], "big": 123456789012345678901234567890}`: `{"demo":true,"model":"a b","n":[1.50,{"c":null}],"big":123456789012345678901234567890}`,
		` {"\" ": "\/<>& \u2028", "é 😀": -1e-7} `:                                                         `{"\" ":"\/<>& \u2028","é 😀":-1e-7}`,
		`{}`: `{}`, `{"a":1,"a":2}`: `{"a":1,"a":2}`,
	} {
		got, err := compact(text)
		if string(got) != want || err != nil {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	if got, err := compact(""); got != nil || err != nil {
		t.Errorf("nothing: %s, %v", got, err)
	}
	if got, err := compact(`{"a":`); err == nil {
		t.Errorf("got %s", got)
	}
}

// Metadata is written as encoding/json writes it, of whichever types.
func TestMarshal_IsWhatEncodingJSONWrites(t *testing.T) {
	for _, m := range []map[string]any{
		{}, {"b": true, "a": false, "none": nil, "n": -3, "big": int64(1) << 60, "f": 1.5, "number": json.Number("1e400")},
		{"text": "\"\\/<>&\u2028\t\x01 é 😀", "\"name\"\n": "", "broken": "a\xffb"},
		{"in": map[string]any{"list": []any{1, "x", nil, map[string]any{}}, "map": map[string]any(nil)}, "strings": []string{"a", "b"}},
	} {
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		written, err := marshal(m)
		if err != nil {
			t.Fatalf("%v: %v", m, err)
		}
		if diff := cmp.Diff(read(t, string(text)), read(t, written)); diff != "" {
			t.Errorf("%v: (-want +got):\n%s", m, diff)
		}
	}
	for _, m := range []map[string]any{{"f": func() {}}, {"in": map[string]any{"f": math.Inf(1)}}, {"nul": "\x00"}, {"nul\x00": 1}} {
		if text, err := marshal(m); err == nil {
			t.Errorf("%v: %s", m, text)
		}
	}
}
