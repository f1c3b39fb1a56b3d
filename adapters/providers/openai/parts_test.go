package openai_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/adapters/providers/openai"
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

func TestDecode_Sources(t *testing.T) {
	const (
		cited = `{"type":"url_citation","url_citation":{"url":"https://a.example/","title":"A","start_index":0,"end_index":1}}`
		flat  = `{"type":"url_citation","url":"https://b.example/","title":"B"}`
	)
	a, b := source("source-1", "https://a.example/", "A"), source("source-2", "https://b.example/", "B")
	for name, c := range map[string]struct {
		reply stub.Reply
		want  []chat.Part
	}{
		"Annotations":         {raw(delta(`{"content":"x"}`), delta(`{"annotations":[`+cited+`]}`), delta(`{"content":"y","annotations":[`+cited+`,`+flat+`]}`), finished), []chat.Part{text("x"), a, text("y"), b}},
		"AnnotationsFirst":    {raw(delta(`{"annotations":[`+cited+`],"content":"x"}`), finished), []chat.Part{text("x"), a}},
		"OfADocument":         {stub.Reply{Raw: `{"choices":[{"message":{"content":"x","annotations":[` + cited + `,` + flat + `]},"finish_reason":"stop"}]}`}, []chat.Part{text("x"), a, b}},
		"BesideTheEnd":        {raw(delta(`{"content":"x"}`), `{"choices":[{"delta":{"annotations":[`+cited+`]},"finish_reason":"stop"}]}`), []chat.Part{text("x"), a}},
		"Perplexity":          {raw(`{"citations":["https://a.example/","https://b.example/"],"search_results":[{"title":"A","url":"https://a.example/","date":null},{"title":"B","url":"https://b.example/"}],"choices":[{"delta":{"content":"x[1]"}}]}`, `{"citations":["https://a.example/"],"choices":[{"delta":{"content":"y"},"finish_reason":"stop"}]}`), []chat.Part{text("x[1]"), a, b, text("y")}},
		"XAI":                 {raw(delta(`{"content":"x"}`), finished, `{"choices":[],"citations":["https://a.example/"]}`), []chat.Part{text("x"), source("source-1", "https://a.example/", "")}},
		"Mistral":             {raw(delta(`{"content":[{"type":"text","text":"x"},{"type":"tool_reference","tool":"web_search","title":"A","url":"https://a.example/"},{"type":"text","text":"y"},{"type":"reference","reference_ids":[1]}]}`), finished), []chat.Part{text("x"), a, text("y")}},
		"LiteLLM":             {raw(delta(`{"content":"x","provider_specific_fields":{"citations":[[{"type":"web_search_result_location","url":"https://a.example/","title":"A"}]]}}`), finished), []chat.Part{text("x"), a}},
		"TextWithAnnotations": {raw(delta(`{"content":[{"type":"text","text":{"value":"x","annotations":[`+cited+`]}}]}`), finished), []chat.Part{text("x"), a}},
		"NoPages":             {raw(delta(`{"content":"x","annotations":[{"type":"file_citation","file_citation":{"file_id":"1"}}],"citations":["[1]",7,null]}`), finished), []chat.Part{text("x")}},
		"OtherShapes":         {raw(delta(`{"content":"x","annotations":"none","citations":{}}`), finished), []chat.Part{text("x")}},
		"MirroredReasoning":   {raw(delta(`{"reasoning":"hm","annotations":[`+cited+`]}`), delta(`{"reasoning_content":"hm"}`), delta(`{"content":"x"}`), finished), []chat.Part{{Kind: chat.ReasoningPart, Text: "hm"}, a, text("x")}},
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

// The stub's own stream and document have the same parts.
func TestDecode_StubParts(t *testing.T) {
	think := chat.Part{Kind: chat.ReasoningPart, Text: "hmm so"}
	a := source("source-1", "https://a.example/", "A")
	for name, c := range map[string]struct {
		reply stub.Reply
		want  []chat.Part
	}{
		"Stream":   {stub.Reply{Output: []chat.Part{think, text("one two"), a, think, text("three")}}, []chat.Part{think, text("one two"), a, think, text("three")}},
		"Document": {stub.Reply{Document: true, Output: []chat.Part{think, text("one two"), a}}, []chat.Part{think, text("one two"), a}},
	} {
		_, p := open(t, stub.Always(c.reply))
		r := ask(t.Context(), p, chat.Params{})
		if d := cmp.Diff(c.want, r.log.Output().Parts()); d != "" || r.err != nil {
			t.Error(name, r.err, d)
		}
	}
}

// filesPrompt has a file of each kind, and one that is gone.
func filesPrompt(files map[string]string) ports.Prompt {
	file := func(id, name, mediaType string) chat.Part {
		return chat.Part{Kind: chat.FilePart, ID: id, Name: name, MediaType: mediaType, Size: int64(len(files[id]))}
	}
	return ports.Prompt{
		UserID: "u", Params: chat.Params{Model: "gpt-4o"},
		Messages: []ports.PromptMessage{
			{Role: chat.User, Parts: []chat.Part{file("notes", "notes.md", "text/markdown"), text("read this")}},
			ports.PromptText(chat.Assistant, "done"),
			{Role: chat.User, Parts: []chat.Part{
				text("and these"), file("image", "cat.png", "image/png"), file("pdf", "paper.pdf", "application/pdf"),
				file("table", "t.csv", "text/csv"), file("gone", "old.gif", "image/gif"),
			}},
		},
		ReadFile: func(_ context.Context, user, id string) ([]byte, error) {
			data, ok := files[id]
			if !ok || user != "u" {
				return nil, chat.FileNotFound()
			}
			return []byte(data), nil
		},
	}
}

var someFiles = map[string]string{"notes": "# Notes\n", "image": "\x89PNG", "pdf": "%PDF-1.7", "table": "a,b"}

// golden compares the messages of a request with a file.
func golden(t *testing.T, name string, call stub.Call) {
	t.Helper()
	got, err := json.MarshalIndent(map[string]any{"messages": call.Body["messages"]}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.TrimSpace(string(want)), string(got)); d != "" {
		t.Error(d)
	}
}

func TestRequest_Files(t *testing.T) {
	s, p := open(t, stub.Say("ok"))
	if _, err := p.Generate(t.Context(), filesPrompt(someFiles), func(chat.Delta) {}); err != nil {
		t.Fatal(err)
	}
	call := s.Calls()[0]
	golden(t, "testdata/request_files.json", call)
	want := []stub.File{{MediaType: "image/png", Data: []byte("\x89PNG")}, {Name: "paper.pdf", MediaType: "application/pdf", Data: []byte("%PDF-1.7")}}
	if d := cmp.Diff(want, call.Messages[2].Files); d != "" {
		t.Error(d)
	}
}

func TestRequest_FilesUnavailable(t *testing.T) {
	s, p := open(t, stub.Say("ok"))
	prompt := filesPrompt(someFiles)
	prompt.ReadFile = func(context.Context, string, string) ([]byte, error) {
		return nil, fault.New(fault.Unavailable, "The files are away")
	}
	_, err := p.Generate(t.Context(), prompt, func(chat.Delta) { t.Error("a chunk") })
	if upstream.ReasonOf(err) != upstream.FilesUnavailable || !fault.Is(err, fault.AIUnavailable) || len(s.Calls()) > 0 {
		t.Errorf("%v after %d calls", err, len(s.Calls()))
	}
}

func TestRequest_FileRefused(t *testing.T) {
	refusal := stub.Reply{Status: 400, Raw: `{"error":{"message":"canary: unknown variant image_url, expected text","type":"invalid_request_error"}}`}
	s, p := open(t, stub.Always(refusal))
	_, err := p.Generate(t.Context(), filesPrompt(someFiles), func(chat.Delta) {})
	if upstream.ReasonOf(err) != upstream.FileRefused || !fault.Is(err, fault.AIFailed) || strings.Contains(err.Error(), "canary") || len(s.Calls()) != 1 {
		t.Errorf("%v after %d calls", err, len(s.Calls()))
	}
	if r := ask(t.Context(), p, chat.Params{}); upstream.ReasonOf(r.err) != upstream.BadRequest {
		t.Errorf("without a file: %v", r.err)
	}
}

// While a reply is read, what was sent for it is not kept in memory.
func TestRequest_IsReleased(t *testing.T) {
	const size = 16 << 20
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: "+delta(`{"content":"a"}`)+"\n\n")
		_ = http.NewResponseController(w).Flush()
		<-release
		_, _ = io.WriteString(w, "data: "+finished+"\n\n")
	}))
	defer server.Close()
	p, err := openai.New(openai.Config{BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	prompt := ports.Prompt{
		Params: chat.Params{Model: "gpt-4o"},
		Messages: []ports.PromptMessage{{Role: chat.User, Parts: []chat.Part{
			{Kind: chat.FilePart, ID: "1", MediaType: "image/png", Size: size}}}},
		ReadFile: func(context.Context, string, string) ([]byte, error) { return make([]byte, size), nil },
	}
	_, err = p.Generate(t.Context(), prompt, func(chat.Delta) {
		defer close(release)
		kept := int64(0)
		for begun := time.Now(); time.Since(begun) < time.Minute; time.Sleep(10 * time.Millisecond) {
			if kept = heap() - before; kept < size/2 {
				return
			}
		}
		t.Errorf("%d bytes are kept", kept)
	})
	if err != nil {
		t.Error(err)
	}
}

func TestReadsFiles(t *testing.T) {
	for model, want := range map[string][2]bool{
		"gpt-3.5-turbo": {false, false}, "gpt-4": {false, false}, "gpt-4-0613": {false, false}, "gpt-4-turbo": {true, false},
		"gpt-4-turbo-preview": {false, false}, "o3-mini": {false, false}, "o3": {true, true}, "gpt-4o-mini": {true, true},
		"gpt-4.1": {true, true}, "gpt-5.4-mini": {true, true}, "brand-new": {true, true},
	} {
		if images, pdf := openai.ReadsFiles(model); images != want[0] || pdf != want[1] {
			t.Errorf("%s: images %v, PDFs %v", model, images, pdf)
		}
	}
}
