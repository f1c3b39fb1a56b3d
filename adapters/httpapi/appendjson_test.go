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

// TestAppendJSON_IsWhatEncodingJSONWrites: of whatever JSON was read into, and of
// what else metadata may hold.
func TestAppendJSON_IsWhatEncodingJSONWrites(t *testing.T) {
	many := map[string]any{}
	for i := range 40 {
		many[strings.Repeat("k", 40-i)] = i
	}
	for _, v := range []any{
		nil, true, 0, -7, 1.5, 1e21, "a<b>&\u2028\"", json.Number("1.50"), json.Number("-12"), json.Number("0"), json.Number("12"), json.Number(""),
		[]any(nil), []any{}, map[string]any(nil), map[string]any{}, []string{"x"}, int64(9), many,
		map[string]any{"b": []any{nil, false, map[string]any{"é\xff": "<"}}, "a": json.Number("12"), "": struct{ X int }{1}, "A": map[string]int{"x": 1}},
	} {
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := httpapi.AppendJSON([]byte("before "), v); err != nil || string(got) != "before "+string(want) {
			t.Errorf("%#v: %s, %v, want %s", v, got, err, want)
		}
	}
	for _, v := range []any{json.Number("1x"), json.Number("01"), func() {}, map[string]any{"a": []any{make(chan int)}}} {
		if _, err := httpapi.AppendJSON(nil, v); err == nil {
			t.Errorf("%#v was written", v)
		}
	}
}

// A page of history writes the metadata of fifty messages.
func TestAppendJSON_Allocations(t *testing.T) {
	metadata := map[string]any{"provider": "demo", "model": "demo", "demo": true, "contextLength": json.Number("21"), "generatedAt": "2026-11-27T20:51:36.123Z", "nested": map[string]any{"list": []any{"x", nil}}}
	b := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { b, _ = httpapi.AppendJSON(b[:0], metadata) }); n > 0 {
		t.Errorf("%v allocations", n)
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
