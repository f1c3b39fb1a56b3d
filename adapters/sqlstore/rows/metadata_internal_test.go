package rows

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func byEncodingJSON(text string) (m map[string]any, err error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	err = d.Decode(&m)
	return m, err
}

const metadataOfAReply = `{"demo": true, "model": "demo", "provider": "demo", "finishReason": "stop", "contextLength": 21, "generatedAt": "2026-11-27T20:51:36.123Z"}`

// Metadata is what encoding/json reads, of whichever types.
func TestUnmarshal_IsWhatEncodingJSONReads(t *testing.T) {
	for _, text := range []string{
		`{}`, `null`, metadataOfAReply,
		`{"a":[],"b":[1,"x",null,true,false,{"c":{}}],"n":1.50,"big":123456789012345678901234567890,"e":-1e-7}`,
		`{"":"", "é\u0041\n\ud83d\ude00":"\"\\\/<>&\u2028"}`,
		` { "a" : { "b" : [ [ [ ] ] ] } } `,
	} {
		want, err := byEncodingJSON(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := unmarshal(text)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", text, err, diff)
		}
	}
	for _, text := range []string{`[]`, `"x"`, `{`, `{"a"}`, `{"a":[}`, `x`} {
		if m, err := unmarshal(text); err == nil {
			t.Errorf("%s: %v", text, m)
		}
	}
	if m, err := unmarshal(""); m != nil || err != nil {
		t.Errorf("nothing: %v, %v", m, err)
	}
}

// A page of history reads the metadata of fifty messages.
func TestUnmarshal_Allocations(t *testing.T) {
	old := testing.AllocsPerRun(100, func() { _, _ = byEncodingJSON(metadataOfAReply) })
	now := testing.AllocsPerRun(100, func() { _, _ = unmarshal(metadataOfAReply) })
	if now > old*4/5 {
		t.Errorf("%v allocations, with encoding/json %v", now, old)
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	for name, read := range map[string]func(string) (map[string]any, error){"Old": byEncodingJSON, "New": unmarshal} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := read(metadataOfAReply); err != nil {
					b.Fatal(err)
				}
			}
		})
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
		want, err := byEncodingJSON(string(text))
		if err != nil {
			t.Fatal(err)
		}
		written, err := marshal(m)
		if err != nil {
			t.Fatalf("%v: %v", m, err)
		}
		got, err := byEncodingJSON(written)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v: %v (-want +got):\n%s", m, err, diff)
		}
	}
	for _, m := range []map[string]any{{"f": func() {}}, {"in": map[string]any{"f": math.Inf(1)}}, {"nul": "\x00"}, {"nul\x00": 1}} {
		if text, err := marshal(m); err == nil {
			t.Errorf("%v: %s", m, text)
		}
	}
}
