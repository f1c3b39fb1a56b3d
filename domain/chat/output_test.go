package chat_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"parley/domain/chat"
	"parley/domain/fault"
)

// However a run's output was produced, recorded and asked for, a follower who
// comes back with the last cursor has exactly the text, in order.
func TestOutput_FollowersSeeEveryByteOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOf(rapid.Custom(func(t *rapid.T) chat.Delta {
			return chat.Delta{Reasoning: rapid.Bool().Draw(t, "reasoning"), Text: rapid.StringN(0, 8, -1).Draw(t, "text")}
		})).Draw(t, "pieces")
		var o chat.Output
		var got chat.Output
		cursor := chat.Before
		for _, p := range pieces {
			o.Append(p)
			if !rapid.Bool().Draw(t, "asks now") {
				continue
			}
			cursor = follow(t, o, cursor, &got)
		}
		follow(t, o, cursor, &got)
		if got != o {
			t.Fatalf("followed %q, produced %q", got, o)
		}
	})
}

func follow(t *rapid.T, o chat.Output, cursor chat.Cursor, got *chat.Output) chat.Cursor {
	deltas, err := o.After(cursor)
	if err != nil {
		t.Fatalf("After(%d): %v", cursor, err)
	}
	for _, d := range deltas {
		if d.End <= cursor {
			t.Fatalf("cursor went from %d to %d", cursor, d.End)
		}
		if d.Reasoning && got.Text != "" {
			t.Fatal("reasoning after text")
		}
		got.Append(d)
		cursor = d.End
	}
	return cursor
}

func TestOutput_After(t *testing.T) {
	o := chat.Output{Reasoning: "hm", Text: "añb"}
	t.Run("InsideACharacter", func(t *testing.T) {
		if _, err := o.After(4); !fault.Is(err, fault.Invalid) {
			t.Errorf("a cursor between the bytes of ñ: %v, want Invalid", err)
		}
	})
	t.Run("BehindTheEnd", func(t *testing.T) {
		for _, c := range []chat.Cursor{o.Len(), o.Len() + 1, 1 << 40} {
			if d, err := o.After(c); err != nil || len(d) != 0 {
				t.Errorf("After(%d) = %v, %v; want nothing", c, d, err)
			}
		}
	})
}

func TestOutput_CutIsWhatAFollowerHas(t *testing.T) {
	o := chat.Output{Reasoning: "think", Text: "reply"}
	for c := chat.Before; c <= o.Len()+2; c++ {
		cut := o.Cut(c)
		if got, want := cut.Len(), min(max(c, 0), o.Len()); got != want {
			t.Errorf("Cut(%d) holds %d bytes, want %d", c, got, want)
		}
		if !strings.HasPrefix(o.Reasoning+o.Text, cut.Reasoning+cut.Text) {
			t.Errorf("Cut(%d) = %q is not a prefix", c, cut)
		}
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
