package demo

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

func generate(t *testing.T, p Provider, messages ...ports.PromptMessage) (chunks []string, a ports.Answer, err error) {
	t.Helper()
	a, err = p.Generate(t.Context(), ports.Prompt{Messages: messages}, func(d chat.Delta) { chunks = append(chunks, d.Text) })
	return chunks, a, err
}

func user(text string) ports.PromptMessage { return ports.PromptText(chat.User, text) }
func reply(text string) ports.PromptMessage {
	return ports.PromptText(chat.Assistant, text)
}

func TestDemo_Reply(t *testing.T) {
	t.Run("IsLabelled", func(t *testing.T) {
		chunks, a, err := generate(t, Provider{}, user("hello"))
		text := strings.Join(chunks, "")
		if err != nil || !strings.Contains(text, "not AI") || a.Metadata["demo"] != true || *a.CostMicros != 0 {
			t.Fatalf("got %q, %+v, %v", text, a, err)
		}
		if a.FinishReason != "stop" || a.Usage.Estimated || a.Usage.Input != 1 || a.Usage.Output != int64(len(chunks)) {
			t.Errorf("answer %+v for %d words", a, len(chunks))
		}
	})
	t.Run("IsDeterministic", func(t *testing.T) {
		first, _, _ := generate(t, Provider{}, user("hello"))
		again, _, _ := generate(t, Provider{}, user("earlier"), reply("indeed"), user("hello"))
		if d := cmp.Diff(first, again); d != "" {
			t.Error(d)
		}
	})
	t.Run("ContinuesAFailedReply", func(t *testing.T) {
		begun, _, _ := generate(t, Provider{}, user("!fail"))
		if strings.Contains(strings.Join(begun, ""), "your own.") {
			t.Fatal("!fail did not fail")
		}
		rest, a, err := generate(t, Provider{}, user("!fail"), reply(strings.Join(begun, "")))
		if got := strings.Join(append(begun, rest...), ""); err != nil || got != greeting("!fail") || a.FinishReason != "stop" {
			t.Errorf("together %q, %v", got, err)
		}
	})
}

func TestDemo_Directives(t *testing.T) {
	for message, want := range map[string]string{
		"!echo one two":      "one two",
		"!echo\nline  apart": "line  apart",
		"  !echo 😀":          "😀",
		"!echo":              greeting("!echo"),
		"!long 3":            "[demo] " + lorem[2] + " " + lorem[3],
		"!long -3":           greeting("!long -3"),
		"!slow soon":         greeting("!slow soon"),
		"say !echo two":      greeting("say !echo two"),
	} {
		t.Run(message, func(t *testing.T) {
			chunks, _, err := generate(t, Provider{}, user(message))
			if d := cmp.Diff(want, strings.Join(chunks, "")); err != nil || d != "" {
				t.Error(err, d)
			}
		})
	}
	t.Run("LongIsBounded", func(t *testing.T) {
		chunks, _, _ := generate(t, Provider{}, user("!long 999999999"))
		if len(chunks) != maxWords {
			t.Errorf("%d words", len(chunks))
		}
	})
	t.Run("FailsInTheMiddle", func(t *testing.T) {
		chunks, a, err := generate(t, Provider{}, user("!fail"))
		if !fault.Is(err, fault.AIFailed) || len(chunks) == 0 || a.FinishReason != "" || !a.Usage.Estimated {
			t.Errorf("%d chunks, %+v, %v", len(chunks), a, err)
		}
	})
}

func TestDemo_SaysWhichFilesItGot(t *testing.T) {
	m := user("hello there")
	for _, id := range []string{"1", "gone"} {
		m.Parts = append(m.Parts, chat.Part{Kind: chat.FilePart, ID: id, Name: id + ".txt", MediaType: "text/plain"})
	}
	var text strings.Builder
	_, err := Provider{}.Generate(t.Context(), ports.Prompt{
		Messages: []ports.PromptMessage{m},
		ReadFile: func(_ context.Context, _, id string) ([]byte, error) {
			if id != "1" {
				return nil, chat.FileNotFound()
			}
			return []byte("content"), nil
		},
	}, func(d chat.Delta) { text.WriteString(d.Text) })
	for _, want := range []string{"2 words", "Its file 1.txt is text/plain of 7 bytes.", "Its file gone.txt is not available any more."} {
		if err != nil || !strings.Contains(text.String(), want) {
			t.Errorf("%q lacks %q, %v", text.String(), want, err)
		}
	}
}

func TestDemo_Pace(t *testing.T) {
	t.Run("WordByWord", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			_, _, err := generate(t, Provider{Delay: 20 * time.Millisecond}, user("!long 100"))
			if took := time.Since(begun); err != nil || took != 2*time.Second {
				t.Errorf("took %v, %v", took, err)
			}
		})
	})
	t.Run("SlowIsSpread", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			chunks, _, err := generate(t, Provider{}, user("!slow 3s"))
			if took := time.Since(begun).Round(10 * time.Millisecond); err != nil || took != 3*time.Second || len(chunks) < 10 {
				t.Errorf("%d chunks in %v, %v", len(chunks), took, err)
			}
		})
	})
	t.Run("HangEndsWithItsContext", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := Provider{}.Generate(ctx, ports.Prompt{Messages: []ports.PromptMessage{user("!hang")}}, func(chat.Delta) {
				t.Error("emitted a word")
			})
			if !fault.Is(err, fault.AIFailed) {
				t.Errorf("ended with %v", err)
			}
		})
	})
	t.Run("StopsWhenCancelled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(50*time.Millisecond, cancel)
			words := 0
			a, err := Provider{Delay: 20 * time.Millisecond}.Generate(ctx,
				ports.Prompt{Messages: []ports.PromptMessage{user("!long 100")}}, func(chat.Delta) { words++ })
			if !fault.Is(err, fault.Canceled) || words != 2 || a.Usage.Output != 2 {
				t.Errorf("%d words, %+v, %v", words, a, err)
			}
		})
	})
}
