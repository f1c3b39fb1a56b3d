package upstream

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"
	"pgregory.net/rapid"

	"parley/domain/chat"
	"parley/ports"
)

// However a text is cut into JSON strings, in UTF-16 units that are escaped or
// in bytes, the same characters come out.
func TestString_CutsDoNotMatter(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringOf(rapid.RuneFrom([]rune("a\\\"é한\ud7ff\ue000😀🙂\U0010ffff"))).Draw(rt, "text")
		r, got := replyOf(t, Limits{})
		units := utf16.Encode([]rune(text))
		for len(units) > 0 {
			n := rapid.IntRange(1, min(len(units), 3)).Draw(rt, "cut")
			var raw strings.Builder
			for _, unit := range units[:n] {
				if rapid.Bool().Draw(rt, "upper") {
					fmt.Fprintf(&raw, `\u%04X`, unit)
				} else {
					fmt.Fprintf(&raw, `\u%04x`, unit)
				}
			}
			units = units[n:]
			s := String(gjson.Parse(`"` + raw.String() + `"`))
			if m := rapid.IntRange(0, len(s)).Draw(rt, "byte"); rapid.Bool().Draw(rt, "two") {
				if err := r.Text(s[:m]); err != nil {
					rt.Fatal(err)
				}
				s = s[m:]
			}
			if err := r.Text(s); err != nil {
				rt.Fatal(err)
			}
		}
		if got.String() != text {
			rt.Fatalf("%q became %q", text, got.String())
		}
	})
}

func TestString_Escapes(t *testing.T) {
	for raw, want := range map[string]string{
		`"\ud83d\ude00"`: "😀", `"\\ud83d"`: `\ud83d`, `"\\\ud83d\ude00\n\t\"\/"`: "\\😀\n\t\"/", `"\u0041\uD83D\uDE00b"`: "A😀b", `""`: "", `"\ud83"`: "",
	} {
		r, got := replyOf(t, Limits{})
		if err := r.Text(String(gjson.Parse(raw))); err != nil || got.String() != want && want != "" {
			t.Errorf("%s became %q, %v", raw, got.String(), err)
		}
	}
}

func TestContent_IsBounded(t *testing.T) {
	deep := strings.Repeat(`{"thinking":[`, 50_000) + `"a"` + strings.Repeat(`]}`, 50_000)
	if c := ReadContent(gjson.Parse(deep)); c.Unsupported != "nesting" {
		t.Errorf("%+v", c)
	}
}

// textsOf returns the messages that are made of text alone.
func textsOf(t *testing.T, in []ports.PromptMessage) []ports.PromptMessage {
	t.Helper()
	messages, err := Messages(t.Context(), ports.Prompt{Messages: in})
	if err != nil {
		t.Fatal(err)
	}
	out := []ports.PromptMessage{}
	for _, m := range messages {
		if len(m.Blocks) != 1 || m.Blocks[0].Kind != OtherFile {
			t.Errorf("%+v", m.Blocks)
		}
		out = append(out, ports.PromptText(m.Role, m.Blocks[0].Text))
	}
	return out
}

func TestMessages(t *testing.T) {
	user := func(text string) ports.PromptMessage { return ports.PromptText(chat.User, text) }
	reply := func(text string) ports.PromptMessage { return ports.PromptText(chat.Assistant, text) }
	for name, c := range map[string]struct{ in, want []ports.PromptMessage }{
		"Alternating":    {[]ports.PromptMessage{user("a"), reply("b"), user("c")}, []ports.PromptMessage{user("a"), reply("b"), user("c")}},
		"FailedReply":    {[]ports.PromptMessage{user("a"), user("b")}, []ports.PromptMessage{user("a\n\nb")}},
		"BlankReply":     {[]ports.PromptMessage{user("a"), reply(" \n"), user("b")}, []ports.PromptMessage{user("a\n\nb")}},
		"RepliesInARow":  {[]ports.PromptMessage{user("a"), reply("b"), reply("c"), user("d")}, []ports.PromptMessage{user("a"), reply("b\n\nc"), user("d")}},
		"LeadingReplies": {[]ports.PromptMessage{reply("a"), reply("b"), user("c")}, []ports.PromptMessage{user("c")}},
		"ToBeContinued":  {[]ports.PromptMessage{user("a"), user("b"), reply("c")}, []ports.PromptMessage{user("a\n\nb"), reply("c"), user(continueReply)}},
		"Nothing":        {[]ports.PromptMessage{reply("a"), user(" ")}, []ports.PromptMessage{}},
	} {
		t.Run(name, func(t *testing.T) {
			before := append([]ports.PromptMessage(nil), c.in...)
			if d := cmp.Diff(c.want, textsOf(t, c.in)); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(before, c.in); d != "" {
				t.Error("changed its input:", d)
			}
		})
	}
}
