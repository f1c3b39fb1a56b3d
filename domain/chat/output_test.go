package chat_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"parley/domain/chat"
	"parley/domain/fault"
)

// However a run's output was produced, recorded and asked for, a follower who
// comes back with the last cursor has exactly the same output, in order.
func TestOutput_FollowersSeeEveryByteOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var produced, got chat.OutputLog
		var r chat.Reader
		for _, p := range rapid.SliceOf(anyDelta).Draw(t, "pieces") {
			produced.Append(p)
			if rapid.Bool().Draw(t, "asks now") {
				follow(t, &r, produced.Output(), &got)
			}
			if rapid.Bool().Draw(t, "comes back") {
				var err error
				if r, err = chat.NewReader(produced.Output(), r.Cursor()); err != nil {
					t.Fatalf("a cursor that was handed out: %v", err)
				}
			}
		}
		o := produced.Output()
		follow(t, &r, o, &got)
		if got.Output() != o {
			t.Fatalf("followed %q, produced %q", got.Output(), o)
		}
		if d := cmp.Diff(o.Parts(), chat.OutputOf(o.Parts()...).Parts(), cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("parts (-produced +of the parts):\n%s", d)
		}
		if o != chat.OutputOf(o.Parts()...) {
			t.Fatalf("%q is not the log of its parts, %q", o, chat.OutputOf(o.Parts()...))
		}
	})
}

// A simple client puts together what comes with each piece of text.
func TestOutput_PiecesMakeTheContent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var log chat.OutputLog
		var r chat.Reader
		var text strings.Builder
		for _, p := range rapid.SliceOf(anyDelta).Draw(t, "pieces") {
			log.Append(p)
			for _, d := range r.Read(log.Output()) {
				if d.Kind == chat.TextPart {
					text.WriteString(d.Separator + d.Text)
				}
			}
		}
		if got, want := text.String(), log.Output().Text(); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	})
}

var anyDelta = rapid.Custom(func(t *rapid.T) chat.Delta {
	text := rapid.StringN(0, 8, -1).Draw(t, "text")
	d := chat.Delta{Begins: rapid.Bool().Draw(t, "begins")}
	switch rapid.IntRange(0, 4).Draw(t, "kind") {
	case 0:
		d.Part = chat.Part{Kind: chat.ReasoningPart, Text: text}
	case 1:
		d.Part = chat.Part{Kind: chat.SourcePart, ID: "s", URL: "https://example.org/\x02", Title: text}
	case 2:
		d.Part = chat.Part{Kind: chat.ReasoningPart, State: "c3R1Yg==", Model: "m"}
	default:
		d.Part = chat.Part{Kind: chat.TextPart, Text: text}
	}
	return d
})

func follow(t *rapid.T, r *chat.Reader, o chat.Output, got *chat.OutputLog) {
	for _, d := range r.Read(o) {
		got.Append(d)
		if got.Len() != d.End {
			t.Fatalf("the cursor is %d behind %d bytes", d.End, got.Len())
		}
	}
	if r.Cursor() != o.Len() {
		t.Fatalf("the cursor is %d, not the end %d", r.Cursor(), o.Len())
	}
}

func TestOutput_Cursors(t *testing.T) {
	o := chat.OutputOf(
		chat.Part{Kind: chat.ReasoningPart, Text: "hm"},
		chat.Part{Kind: chat.TextPart, Text: "añb"},
		chat.Part{Kind: chat.SourcePart, URL: "https://example.org"},
		chat.Part{Kind: chat.TextPart, Text: "c"},
	)
	text := chat.Cursor(strings.IndexByte(string(o), 'a'))
	source := chat.Cursor(strings.IndexByte(string(o), '{'))
	for name, c := range map[string]struct {
		at    chat.Cursor
		valid bool
	}{
		"Before":              {chat.Before, true},
		"Start":               {0, true},
		"InsideReasoning":     {2, true},
		"BehindReasoning":     {3, true},
		"BehindTheBeginning":  {text, true},
		"BehindTheFirst":      {text + 1, true},
		"InsideACharacter":    {text + 2, false},
		"InsideASource":       {source + 3, false},
		"BeforeASourcesJSON":  {source, false},
		"BeforeTheLastLetter": {o.Len() - 1, true},
		"End":                 {o.Len(), true},
		"BehindTheEnd":        {o.Len() + 1, false},
		"FarBehindTheEnd":     {1 << 40, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := chat.NewReader(o, c.at)
			if c.valid != (err == nil) || err != nil && !fault.Is(err, fault.Invalid) {
				t.Fatalf("cursor %d: %v", c.at, err)
			}
			if err != nil {
				return
			}
			var rest chat.OutputLog
			for _, d := range r.Read(o) {
				rest.Append(d)
			}
			if got := string(rest.Output()); !strings.HasSuffix(string(o), strings.TrimLeft(got, "\x02\x03")) {
				t.Errorf("read %q behind %d of %q", got, c.at, o)
			}
		})
	}
}

func TestOutput_CutIsWhatAFollowerHas(t *testing.T) {
	o := chat.OutputOf(chat.Part{Kind: chat.ReasoningPart, Text: "think"}, chat.Part{Kind: chat.TextPart, Text: "reply"})
	for c := chat.Before; c <= o.Len()+2; c++ {
		cut := o.Cut(c)
		if got, want := cut.Len(), min(max(c, 0), o.Len()); got != want {
			t.Errorf("Cut(%d) holds %d bytes, want %d", c, got, want)
		}
		if !strings.HasPrefix(string(o), string(cut)) {
			t.Errorf("Cut(%d) = %q is not a prefix", c, cut)
		}
	}
}

// Text goes on where its part ends, and what cannot be stored is left out.
func TestOutputLog_Append(t *testing.T) {
	first := chat.TextOutput("one")
	l := chat.NewOutputLog(first)
	for _, d := range []chat.Delta{chat.TextDelta(" t\x02wo\x00"), chat.TextDelta(""), chat.ReasoningDelta("hm"), chat.TextDelta("three")} {
		grown := l.Append(d)
		if grown != (d.Text != "") {
			t.Errorf("%q: grown is %v", d.Text, grown)
		}
	}
	want := []chat.Part{{Kind: chat.TextPart, Text: "one two"}, {Kind: chat.ReasoningPart, Text: "hm"}, {Kind: chat.TextPart, Text: "three"}}
	if d := cmp.Diff(want, l.Output().Parts()); d != "" {
		t.Error(d)
	}
	if got := l.Output().Text(); got != "one two\n\nthree" {
		t.Errorf("content %q", got)
	}
}

func TestValidateContent(t *testing.T) {
	for name, c := range map[string]struct {
		in, message string
	}{
		"Empty":         {"", "Message content is required"},
		"Blank":         {" \t\n\u00a0\u2003", "Message content cannot be empty"},
		"TooLong":       {strings.Repeat("x", chat.MaxContent+1), "Message cannot exceed 10000 characters"},
		"LongestEmoji":  {strings.Repeat("😀", chat.MaxContent), ""},
		"NUL":           {"a\x00b", "Text must not contain control characters"},
		"Escape":        {"a\x1b[31m", "Text must not contain control characters"},
		"InvalidUTF8":   {"a\xffb", "Text must be valid Unicode"},
		"Script":        {"<script>alert(1)</script>", ""},
		"TabsAndBreaks": {"a\tb\r\nc", ""},
		"Joiners":       {"👩‍👩‍👧 \u202eabc", ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := chat.ValidateContent(c.in)
			switch {
			case c.message == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.message != "" && (!fault.Is(err, fault.Invalid) || fault.As(err).Message != c.message):
				t.Errorf("got %v, want %q", err, c.message)
			}
		})
	}
}

func TestCleanOutput(t *testing.T) {
	clean, dropped := chat.CleanOutput("a\x00b\xff\xfec\x1b\n")
	if clean != "abc\n" || dropped != 4 {
		t.Errorf("got %q, %d dropped; want \"abc\\n\", 4", clean, dropped)
	}
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
		clean, _ := chat.CleanOutput(string(in))
		if !utf8.ValidString(clean) || (clean != "" && chat.ValidateText(clean) != nil) {
			t.Fatalf("%q cannot be stored", clean)
		}
	})
}

func TestTitleFrom(t *testing.T) {
	for in, want := range map[string]string{
		"  Hello,   AI!\nmore":             "Hello, AI!",
		strings.Repeat("word ", 30):        strings.TrimSpace(strings.Repeat("word ", 11)) + "…",
		strings.Repeat("x", 100):           strings.Repeat("x", 59) + "…",
		strings.Repeat("😀", chat.MaxTitle): strings.Repeat("😀", 59) + "…",
	} {
		got := chat.TitleFrom(in)
		if got != want {
			t.Errorf("TitleFrom(%.20q) = %q, want %q", in, got, want)
		}
		if err := chat.ValidateTitle(got); err != nil {
			t.Errorf("TitleFrom(%.20q) is no valid title: %v", in, err)
		}
	}
}

func TestValidID(t *testing.T) {
	for id, want := range map[string]bool{
		"a": true, "0190-x_Y.z": true, strings.Repeat("a", 128): true,
		"": false, ".": false, "..": false, "a b": false, "a/b": false, `a\b`: false, "é": false, "a\x00": false,
		strings.Repeat("a", 129): false,
	} {
		if got := chat.ValidID(id); got != want {
			t.Errorf("ValidID(%q) = %v, want %v", id, got, want)
		}
	}
}
