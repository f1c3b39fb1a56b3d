package httpapi_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"parley/adapters/httpapi"
)

// TestAppendJSONString_IsWhatEncodingJSONWrites covers every character, every
// byte that is none, and both between others.
func TestAppendJSONString_IsWhatEncodingJSONWrites(t *testing.T) {
	check := func(s string) {
		t.Helper()
		want, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := httpapi.AppendJSONString(nil, s); string(got) != string(want) {
			t.Fatalf("%q: got %s, want %s", s, got, want)
		}
	}
	for r := rune(0); r <= utf8.MaxRune; r++ {
		check(string(r))
		if r < 0x3000 {
			check("a" + string(r) + "\u2028" + string(r) + "z")
		}
	}
	for c := range 256 {
		for at := range 20 { // within, across and after eight plain bytes
			text := []byte("abcdefghijklmnopqrst")
			text[at] = byte(c)
			check(string(text))
		}
		check(string([]byte{byte(c)}))
		check("é" + string([]byte{0xE2, 0x80, byte(c)}) + "<")
		check("a" + string([]byte{0xE2, byte(c)}))
	}
	check("")
}

// An object is written as encoding/json writes it.
func TestObject_IsWhatEncodingJSONWrites(t *testing.T) {
	for _, text := range []httpapi.Object{nil, httpapi.Object(`{}`), httpapi.Object(`{"a":[1.50,"<b>&\u2028 é"]," ":null,"€":1e400}`)} {
		want, err := json.Marshal(text)
		got, failed := text.AppendJSON([]byte("before "))
		if err != nil || failed != nil || string(got) != "before "+string(want) {
			t.Errorf("%s: %s, %v, want %s", text, got, err, want)
		}
	}
}

func BenchmarkAppendJSONString(b *testing.B) {
	text := strings.Repeat("How do I keep a sourdough starter alive while I'm away?\nIt is new. ", 9)
	b.SetBytes(int64(len(text)))
	var out []byte
	for b.Loop() {
		out = httpapi.AppendJSONString(out[:0], text)
	}
}

func FuzzAppendJSONString(f *testing.F) {
	f.Add("how do I <b>keep</b> it & \"use\" it?\n\u2029")
	f.Fuzz(func(t *testing.T, s string) {
		want, err := json.Marshal(s)
		if got := httpapi.AppendJSONString(nil, s); err != nil || string(got) != string(want) {
			t.Errorf("%q: got %s, want %s, %v", s, got, want, err)
		}
	})
}
