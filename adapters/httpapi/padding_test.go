package httpapi_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestStreamPadding looks at the bytes on the wire: the size of an event says
// nothing of the words in it, and what clients parse is the same as ever.
func TestStreamPadding(t *testing.T) {
	t.Parallel()
	padded := setup(t, func(s *settings) { s.StreamPadding = true })
	sizes := map[int]int{}
	events := 0
	for range 20 {
		res, err := padded.server.Client().Do(padded.request("ann", "POST", "/api/chat/stream", `{"content":"!echo a bb ccc dddd eeeee incomprehensibilities"}`))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%d %s %v", res.StatusCode, raw, err)
		}
		text := ""
		for block := range strings.SplitAfterSeq(string(raw), "\n\n") {
			if block == "" || block == ": waiting\n\n" {
				continue
			}
			events++
			if len(block)%128 != 0 {
				t.Errorf("%d bytes: %q", len(block), block)
			}
			lines := strings.Split(strings.TrimSuffix(block, "\n\n"), "\n")
			if len(lines) != 3 || !strings.HasPrefix(lines[0], "id: ") || !strings.HasPrefix(lines[1], "data: {") || !strings.HasPrefix(lines[2], ": ") {
				t.Fatalf("%q", block)
			}
			if _, rest, ok := strings.Cut(lines[1], `"type":"chunk","content":"`); ok {
				sizes[len(block)]++
				text += strings.TrimSuffix(rest, `"}`)
			}
		}
		if text != "a bb ccc dddd eeeee incomprehensibilities" {
			t.Errorf("said %q", text)
		}
	}
	if len(sizes) < 2 {
		t.Errorf("the size of an event is always the same, or a function of its words: %v", sizes)
	}
	plain := setup(t).do("ann", "POST", "/api/chat/stream", `{"content":"!echo a"}`).must(200)
	if strings.Contains(plain.raw, "\n: ") || events == 0 {
		t.Errorf("padded unasked: %q", plain.raw)
	}
}
