package anthropic_test

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/adapters/providers/anthropic"
	"parley/adapters/providers/stub"
	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

func text(s string) chat.Part { return chat.Part{Kind: chat.TextPart, Text: s} }

func source(id, url, title string) chat.Part {
	return chat.Part{Kind: chat.SourcePart, ID: id, URL: url, Title: title}
}

// thought is reasoning with the state that goes with it.
func thought(text, state string) chat.Part {
	p := chat.Part{Kind: chat.ReasoningPart, Text: text, State: state}
	if state != "" {
		p.Provider, p.Model = "anthropic", "claude-sonnet-4-5"
	}
	return p
}

func TestDecode_Sources(t *testing.T) {
	const cited = `{"type":"web_search_result_location","url":"https://a.example/","title":"A","cited_text":"canary","encrypted_index":"eA=="}`
	a, b := source("source-1", "https://a.example/", "A"), source("source-2", "https://b.example/", "B")
	say := func(s string) [2]string { return blockDelta(`{"type":"text_delta","text":"` + s + `"}`) }
	results := blockStart(`{"type":"web_search_tool_result","tool_use_id":"1","content":[{"type":"web_search_result","url":"https://a.example/","title":"A","encrypted_content":"eA==","page_age":null},{"type":"web_search_result","url":"https://b.example/","title":"B"}]}`)
	for name, c := range map[string]struct {
		reply stub.Reply
		want  []chat.Part
	}{
		"Citations": {raw(start, say("x"), blockDelta(`{"type":"citations_delta","citation":`+cited+`}`), say("y"), blockDelta(`{"type":"citations_delta","citation":`+cited+`}`), delta, stop), []chat.Part{text("x"), a, text("y")}},
		"WebSearch": {raw(start, say("x"), blockStart(`{"type":"server_tool_use","id":"1","name":"web_search","input":{}}`),
			blockDelta(`{"type":"input_json_delta","partial_json":"{\"query\":\"x\"}"}`), results, say("y"), delta, stop), []chat.Part{text("x"), a, b, text("y")}},
		"SearchFirst":   {raw(start, results, say("x"), delta, stop), []chat.Part{a, b, text("x")}},
		"SearchFailed":  {raw(start, blockStart(`{"type":"web_search_tool_result","tool_use_id":"1","content":{"type":"web_search_tool_result_error","error_code":"unavailable"}}`), say("x"), delta, stop), []chat.Part{text("x")}},
		"Fetch":         {raw(start, blockStart(`{"type":"web_fetch_tool_result","tool_use_id":"1","content":{"type":"web_fetch_result","url":"https://a.example/","content":{"type":"document","title":"A","source":{"type":"text","data":"canary"}}}}`), say("x"), delta, stop), []chat.Part{a, text("x")}},
		"OtherTool":     {raw(start, blockStart(`{"type":"code_execution_tool_result","tool_use_id":"1","content":{"type":"code_execution_result","stdout":"canary"}}`), say("x"), delta, stop), []chat.Part{text("x")}},
		"OfADocument":   {raw(start, say("x"), blockDelta(`{"type":"citations_delta","citation":{"type":"char_location","document_index":0,"document_title":"D","cited_text":"canary"}}`), delta, stop), []chat.Part{text("x")}},
		"NotStreamed":   {stub.Reply{Raw: `{"type":"message","content":[{"type":"text","text":"x","citations":[` + cited + `]},{"type":"text","text":"y","citations":null}],"stop_reason":"end_turn"}`}, []chat.Part{text("x"), a, text("y")}},
		"InBlockStart":  {raw(start, blockStart(`{"type":"text","text":"x","citations":[`+cited+`]}`), say("y"), delta, stop), []chat.Part{text("x"), a, text("y")}},
		"WithoutAPlace": {raw(start, say("x"), blockDelta(`{"type":"citations_delta","citation":"canary"}`), blockDelta(`{"type":"citations_delta"}`), delta, stop), []chat.Part{text("x")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, p := open(t, stub.Always(c.reply))
			r := ask(t.Context(), p, chat.Params{})
			if d := cmp.Diff(c.want, r.log.Output().Parts()); d != "" || r.err != nil {
				t.Error(r.err, d)
			}
		})
	}
}

func TestDecode_ReasoningState(t *testing.T) {
	end := [2]string{"content_block_stop", `{"type":"content_block_stop","index":0}`}
	thinking := func(s string) [2]string { return blockDelta(`{"type":"thinking_delta","thinking":"` + s + `"}`) }
	signature := func(s string) [2]string {
		return blockDelta(`{"type":"signature_delta","signature":"` + s + `"}`)
	}
	begin := blockStart(`{"type":"thinking","thinking":"","signature":""}`)
	redacted := blockStart(`{"type":"redacted_thinking","data":"eA=="}`)
	signed := thought("hmm", `{"signature":"c2ln"}`)
	for name, c := range map[string]struct {
		reply stub.Reply
		want  []chat.Part
	}{
		"Signature":          {raw(start, begin, thinking("hmm"), signature("c2ln"), end, hello, delta, stop), []chat.Part{signed, text("hello")}},
		"SignatureInPieces":  {raw(start, begin, thinking("hmm"), signature("c2"), signature("ln"), end, hello, delta, stop), []chat.Part{signed, text("hello")}},
		"NoEndOfTheBlock":    {raw(start, begin, thinking("hmm"), signature("c2ln"), blockStart(`{"type":"text","text":""}`), hello, delta, stop), []chat.Part{signed, text("hello")}},
		"EndsWithIt":         {raw(start, hello, begin, thinking("hmm"), signature("c2ln"), delta, stop), []chat.Part{text("hello"), signed}},
		"TwoBlocks":          {raw(start, begin, thinking("hmm"), signature("c2ln"), end, begin, thinking("hmm"), signature("c2ln"), end, hello, delta, stop), []chat.Part{signed, signed, text("hello")}},
		"Redacted":           {raw(start, redacted, end, hello, delta, stop), []chat.Part{thought("", `{"redacted":"eA=="}`), text("hello")}},
		"RedactedAfterOther": {raw(start, begin, thinking("hmm"), signature("c2ln"), end, redacted, end, hello, delta, stop), []chat.Part{signed, thought("", `{"redacted":"eA=="}`), text("hello")}},
		"NotShown":           {raw(start, begin, signature("c2ln"), end, hello, delta, stop), []chat.Part{thought("", `{"signature":"c2ln"}`), text("hello")}},
		"Interleaved":        {raw(start, begin, thinking("hmm"), signature("c2ln"), end, hello, begin, thinking("hmm"), signature("c2ln"), end, hello, delta, stop), []chat.Part{signed, text("hello"), signed, text("hello")}},
		"Document": {stub.Reply{Raw: `{"type":"message","content":[{"type":"thinking","thinking":"hmm","signature":"c2ln"},{"type":"redacted_thinking","data":"eA=="},{"type":"text","text":"hello"}],"stop_reason":"end_turn"}`},
			[]chat.Part{signed, thought("", `{"redacted":"eA=="}`), text("hello")}},
		"NotPrintable": {raw(start, begin, thinking("hmm"), signature(`c\u00e9`), end, hello, delta, stop), []chat.Part{thought("hmm", ""), text("hello")}},
		"TooLarge":     {raw(start, begin, thinking("hmm"), signature(strings.Repeat("x", 600_000)), signature(strings.Repeat("x", 600_000)), end, hello, delta, stop), []chat.Part{thought("hmm", ""), text("hello")}},
		"TheStubsOwn": {stub.Reply{Output: []chat.Part{{Kind: chat.ReasoningPart, Text: "hmm", State: "c2ln"}, {Kind: chat.ReasoningPart, State: "eA=="}, text("hello"), source("", "https://a.example/", "A"), text("again")}},
			[]chat.Part{signed, thought("", `{"redacted":"eA=="}`), text("hello"), source("source-1", "https://a.example/", "A"), text("again")}},
		"TheStubsDocument": {stub.Reply{Document: true, Output: []chat.Part{{Kind: chat.ReasoningPart, Text: "hmm", State: "c2ln"}, text("hello"), source("", "https://a.example/", "A"), text("again")}},
			[]chat.Part{signed, text("hello"), source("source-1", "https://a.example/", "A"), text("again")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, p := open(t, stub.Always(c.reply))
			r := ask(t.Context(), p, chat.Params{})
			if d := cmp.Diff(c.want, r.log.Output().Parts()); d != "" || r.err != nil {
				t.Errorf("%v %.2000s", r.err, d)
			}
		})
	}
	t.Run("ATryWithNothingElseCanBeRepeated", func(t *testing.T) {
		_, p := open(t, stub.Always(raw(start, begin, signature("c2ln"), end, [2]string{"error", `{"type":"error","error":{"type":"overloaded_error","message":"x"}}`})))
		r := ask(t.Context(), p, chat.Params{})
		if !fault.Is(r.err, fault.AIUnavailable) || !r.log.Output().Empty() {
			t.Errorf("%q, %v", r.log.Output(), r.err)
		}
	})
}

func TestRequest_Files(t *testing.T) {
	files := map[string]string{"notes": "# Notes\n", "image": "\x89PNG", "pdf": "%PDF-1.7", "table": "a,b", "empty": "\n"}
	file := func(id, name, mediaType string) chat.Part {
		return chat.Part{Kind: chat.FilePart, ID: id, Name: name, MediaType: mediaType, Size: int64(len(files[id]))}
	}
	s, p := open(t, stub.Say("ok"))
	prompt := ports.Prompt{
		UserID: "u", Params: chat.Params{Model: "claude-sonnet-4-5"},
		Messages: []ports.PromptMessage{
			{Role: chat.User, Parts: []chat.Part{file("notes", "notes.md", "text/markdown"), text("read this")}},
			ports.PromptText(chat.Assistant, "done"),
			{Role: chat.User, Parts: []chat.Part{
				text("and these"), file("image", "cat.png", "image/png"), file("pdf", "paper.pdf", "application/pdf"),
				file("table", "t.csv", "text/csv"), file("gone", "old.gif", "image/gif"), file("empty", "empty.txt", "text/plain"),
			}},
		},
		ReadFile: func(_ context.Context, user, id string) ([]byte, error) {
			if data, ok := files[id]; ok && user == "u" {
				return []byte(data), nil
			}
			return nil, chat.FileNotFound()
		},
	}
	if _, err := p.Generate(t.Context(), prompt, func(chat.Delta) {}); err != nil {
		t.Fatal(err)
	}
	call := s.Calls()[0]
	got, err := json.MarshalIndent(map[string]any{"messages": call.Body["messages"]}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/request_files.json")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.TrimSpace(string(want)), string(got)); d != "" {
		t.Error(d)
	}
	wantFiles := []stub.File{
		{MediaType: "image/png", Data: []byte("\x89PNG")}, {Name: "paper.pdf", MediaType: "application/pdf", Data: []byte("%PDF-1.7")},
		{Name: "t.csv", MediaType: "text/plain", Data: []byte("a,b")},
	}
	if d := cmp.Diff(wantFiles, call.Messages[2].Files); d != "" {
		t.Error(d)
	}
	t.Run("Refused", func(t *testing.T) {
		s.Play(stub.Always(stub.Reply{Status: 400, Raw: `{"type":"error","error":{"type":"invalid_request_error","message":"canary: Could not process image"}}`}))
		_, err := p.Generate(t.Context(), prompt, func(chat.Delta) {})
		if upstream.ReasonOf(err) != upstream.FileRefused || strings.Contains(err.Error(), "canary") || len(s.Calls()) != 2 {
			t.Errorf("%v after %d calls", err, len(s.Calls()))
		}
	})
}

func TestReadsFiles(t *testing.T) {
	for model, want := range map[string][2]bool{
		"claude-2.1": {false, false}, "claude-instant-1": {false, false}, "claude-3-haiku-20240307": {true, false},
		"claude-3-5-haiku-20241022": {true, true}, "claude-sonnet-5-5": {true, true}, "brand-new": {true, true},
	} {
		if images, pdf := anthropic.ReadsFiles(model); images != want[0] || pdf != want[1] {
			t.Errorf("%s: images %v, PDFs %v", model, images, pdf)
		}
	}
}
