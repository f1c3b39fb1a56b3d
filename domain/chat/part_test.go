package chat_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/domain/chat"
	"parley/domain/fault"
)

func TestContentOf(t *testing.T) {
	text := func(s string) chat.Part { return chat.Part{Kind: chat.TextPart, Text: s} }
	of := func(k chat.PartKind) chat.Part { return chat.Part{Kind: k} }
	for name, c := range map[string]struct {
		parts []chat.Part
		want  string
	}{
		"None":             {nil, ""},
		"One":              {[]chat.Part{text("a")}, "a"},
		"Paragraphs":       {[]chat.Part{text("a"), text("b")}, "a\n\nb"},
		"SourceInSentence": {[]chat.Part{text("a"), of(chat.SourcePart), of(chat.SourcePart), text(" b")}, "a b"},
		"Reasoning":        {[]chat.Part{of(chat.ReasoningPart), text("a"), of(chat.ReasoningPart), text("b")}, "a\n\nb"},
		"SourceThenCall":   {[]chat.Part{text("a"), of(chat.SourcePart), of(chat.ToolCallPart), of(chat.DataPart), text("b")}, "a\n\nb"},
		"FileFirst":        {[]chat.Part{of(chat.FilePart), text("a")}, "a"},
		"NoText":           {[]chat.Part{of(chat.FilePart)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := chat.ContentOf(c.parts); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestMessage_Parts(t *testing.T) {
	var m chat.Message
	m.SetParts([]chat.Part{{Kind: chat.TextPart, Text: "a"}})
	if m.Parts != nil || m.Content != "a" {
		t.Errorf("one text is stored as %+v", m)
	}
	parts := []chat.Part{{Kind: chat.TextPart, Text: "a"}, {Kind: chat.FilePart, ID: "f"}, {Kind: chat.FilePart, ID: "f"}}
	m.SetParts(parts)
	if d := cmp.Diff(parts, m.AllParts()); d != "" || m.Content != "a" || len(m.Files()) != 1 {
		t.Errorf("%+v %s", m, d)
	}
}

// A part of a kind that a newer version has written stays as it is.
func TestPart_UnknownKindsAreKept(t *testing.T) {
	const stored = `[{"type":"text","text":"a"},{"type":"hologram","depth":3,"text":"\u0041"}]`
	var parts []chat.Part
	if err := json.Unmarshal([]byte(stored), &parts); err != nil {
		t.Fatal(err)
	}
	if parts[1].Known() || parts[1].Kind != "hologram" || chat.ContentOf(parts) != "a" {
		t.Errorf("%+v", parts[1])
	}
	again, err := json.Marshal(parts)
	if err != nil || string(again) != stored {
		t.Errorf("%s, %v", again, err)
	}
}

func TestValidateMessage(t *testing.T) {
	file := chat.Part{Kind: chat.FilePart, ID: "f"}
	many := func(p chat.Part, n int) (list []chat.Part) {
		for range n {
			list = append(list, p)
		}
		return list
	}
	for name, c := range map[string]struct {
		parts []chat.Part
		want  string
	}{
		"FileAlone":    {[]chat.Part{file}, ""},
		"FileAndText":  {[]chat.Part{file, {Kind: chat.TextPart, Text: "a"}}, ""},
		"Blank":        {[]chat.Part{file, {Kind: chat.TextPart, Text: " "}}, "Message content cannot be empty"},
		"DataAlone":    {[]chat.Part{{Kind: chat.DataPart, Name: "page", Data: json.RawMessage(`1`)}}, "Message content is required"},
		"NoData":       {[]chat.Part{{Kind: chat.DataPart, Name: "page"}}, "A data part needs data"},
		"LongData":     {[]chat.Part{{Kind: chat.DataPart, Name: "page", Data: json.RawMessage(`"` + strings.Repeat("x", chat.MaxDataSize) + `"`)}}, "A data part cannot exceed 16384 bytes"},
		"BadName":      {[]chat.Part{{Kind: chat.DataPart, Name: "a b", Data: json.RawMessage(`1`)}}, "The name of a data part must be letters, digits, '.', '_' and '-', at most 64"},
		"Reasoning":    {[]chat.Part{{Kind: chat.ReasoningPart, Text: "a"}}, `A message cannot have parts of the type "reasoning"`},
		"Unknown":      {[]chat.Part{{Kind: "holo\x00gram"}}, `A message cannot have parts of the type "hologram"`},
		"TooManyFiles": {many(file, chat.MaxFiles+1), "A message cannot have more than 10 files"},
		"TooManyParts": {many(chat.Part{Kind: chat.TextPart, Text: "a"}, chat.MaxParts+1), "A message cannot have more than 32 parts"},
	} {
		t.Run(name, func(t *testing.T) {
			err := chat.ValidateMessage(chat.ContentOf(c.parts), c.parts)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (fault.As(err) == nil || fault.As(err).Message != c.want):
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// A message may only refer to files that are the user's and whole. What is known
// of a file is the store's word, not the client's.
func TestAdmit_Files(t *testing.T) {
	w := newWorld(t)
	w.files = map[string]*chat.File{
		"whole":     {ID: "whole", Name: "a.png", MediaType: "image/png", Size: 7, State: chat.FileReady},
		"uploading": {ID: "uploading", State: chat.FileUploading},
	}
	send := func(ids ...string) (chat.Admitted, error) {
		r := w.sending("", "look")
		parts := []chat.Part{{Kind: chat.TextPart, Text: "look"}}
		for _, id := range ids {
			parts = append(parts, chat.Part{Kind: chat.FilePart, ID: id, MediaType: "text/html", Name: "x"})
		}
		r.Message.SetParts(parts)
		return w.admit(r)
	}
	for _, id := range []string{"uploading", "foreign", "../f", ""} {
		if _, err := send("whole", id); !fault.Is(err, fault.NotFound) || fault.As(err).Message != chat.FileNotFound().Message {
			t.Errorf("%s: %v", id, err)
		}
	}
	out, err := send("whole")
	if err != nil {
		t.Fatal(err)
	}
	want := chat.Part{Kind: chat.FilePart, ID: "whole", Name: "a.png", MediaType: "image/png", Size: 7}
	if d := cmp.Diff(want, out.UserMessage.Parts[1]); d != "" {
		t.Error(d)
	}
}
