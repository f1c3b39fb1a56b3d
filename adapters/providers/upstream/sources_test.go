package upstream

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"parley/domain/chat"
)

// partsOf returns what a reply emits as parts.
func partsOf(t *testing.T, send func(r *Reply)) []chat.Part {
	t.Helper()
	_, w := NewWatchdog(context.Background(), Limits{}.OrDefaults())
	defer w.Stop()
	var log chat.OutputLog
	r := NewReply(w, "test", "m-1", func(d chat.Delta) { log.Append(d) })
	send(r)
	return log.Output().Parts()
}

func TestReply_Sources(t *testing.T) {
	page := func(n int) chat.Part {
		return chat.Part{Kind: chat.SourcePart, URL: fmt.Sprintf("https://example.com/%d", n), Title: fmt.Sprint("Page ", n)}
	}
	t.Run("OnceEach", func(t *testing.T) {
		got := partsOf(t, func(r *Reply) {
			_ = r.Text("a")
			r.Sources(page(1), page(1))
			_ = r.Text("b")
			r.Sources(page(2), page(1))
		})
		one, two := page(1), page(2)
		one.ID, two.ID = "source-1", "source-2"
		if d := cmp.Diff([]chat.Part{text("a"), one, text("b"), two}, got); d != "" {
			t.Error(d)
		}
	})
	t.Run("PagesOfTheWebOnly", func(t *testing.T) {
		got := partsOf(t, func(r *Reply) {
			_ = r.Text("a")
			for _, url := range []string{
				"", "[1]", "javascript:alert(1)", "data:text/html,x", "ftp://example.com", "//example.com", "https://", "https://user:secret@example.com/",
				"https://example.com/\n", "https://example.com/\xff", "https://example.com/" + strings.Repeat("x", 3000),
			} {
				r.Sources(chat.Part{Kind: chat.SourcePart, URL: url})
			}
		})
		if d := cmp.Diff([]chat.Part{text("a")}, got); d != "" {
			t.Error(d)
		}
	})
	t.Run("AreBounded", func(t *testing.T) {
		got := partsOf(t, func(r *Reply) {
			_ = r.Text("a")
			for n := range 500 {
				r.Sources(page(n))
			}
		})
		if len(got) != 1+maxSources {
			t.Errorf("%d parts", len(got))
		}
	})
	t.Run("CleanTitles", func(t *testing.T) {
		got := partsOf(t, func(r *Reply) {
			_ = r.Text("a")
			r.Sources(chat.Part{Kind: chat.SourcePart, URL: "https://example.com", Title: " a\x00\n\tb\xff " + strings.Repeat("x", 1000)})
		})
		if want := "a b " + strings.Repeat("x", maxSourceTitle-4); got[1].Title != want {
			t.Errorf("title %q", got[1].Title)
		}
	})
	// Another provider can be asked as long as no text was shown, so what comes
	// before it waits.
	t.Run("WaitForText", func(t *testing.T) {
		emitted := 0
		_, w := NewWatchdog(context.Background(), Limits{}.OrDefaults())
		defer w.Stop()
		r := NewReply(w, "test", "m-1", func(chat.Delta) { emitted++ })
		r.Sources(page(1))
		r.State("opaque")
		if emitted != 0 {
			t.Errorf("%d parts before the text", emitted)
		}
		_ = r.Text("a")
		if emitted != 3 {
			t.Errorf("%d parts in all", emitted)
		}
	})
	t.Run("WithoutText", func(t *testing.T) {
		got := partsOf(t, func(r *Reply) {
			r.Sources(page(1))
			r.Finish("stop")
			if err := r.end(t.Context(), nil, nil, false); err != nil {
				t.Error(err)
			}
		})
		if len(got) != 1 {
			t.Errorf("%+v", got)
		}
	})
}

func TestReply_State(t *testing.T) {
	got := partsOf(t, func(r *Reply) {
		_ = r.Reasoning("hmm")
		r.State("one")
		r.State("two")
		r.State("line\nend")
		r.State("\x00")
		r.State("é")
		_ = r.Text("a")
		r.State(strings.Repeat("x", maxStates))
	})
	state := func(text, state string) chat.Part {
		return chat.Part{Kind: chat.ReasoningPart, Text: text, State: state, Provider: "test", Model: "m-1"}
	}
	if d := cmp.Diff([]chat.Part{state("hmm", "one"), state("", "two"), text("a")}, got); d != "" {
		t.Error(d)
	}
}

func TestReadSources_IsBounded(t *testing.T) {
	deep := strings.Repeat("[", 100_000) + `"https://example.com"` + strings.Repeat("]", 100_000)
	if got := ReadSources(gjson.Parse(deep)); len(got) != 0 {
		t.Errorf("%d sources", len(got))
	}
	long := "[" + strings.Repeat(`"https://example.com",`, 100_000) + `""]`
	if got := ReadSources(gjson.Parse(long)); len(got) > 2*maxSources {
		t.Errorf("%d sources", len(got))
	}
}
