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

func say(t *testing.T, p Provider, turns ...ports.PromptMessage) (pieces []string, a ports.Answer, err error) {
	t.Helper()
	a, err = p.Generate(t.Context(), ports.Prompt{Messages: turns}, func(d chat.Delta) { pieces = append(pieces, d.Text) })
	return pieces, a, err
}

func user(text string) ports.PromptMessage { return ports.PromptMessage{Role: chat.User, Text: text} }
func reply(text string) ports.PromptMessage {
	return ports.PromptMessage{Role: chat.Assistant, Text: text}
}

func TestDemo_Reply(t *testing.T) {
	t.Run("SaysWhatItIs", func(t *testing.T) {
		pieces, a, err := say(t, Provider{}, user("hello"))
		text := strings.Join(pieces, "")
		if err != nil || !strings.Contains(text, "not AI") || a.Metadata["demo"] != true || *a.CostMicros != 0 {
			t.Fatalf("got %q, %+v, %v", text, a, err)
		}
		if a.FinishReason != "stop" || a.Usage.Estimated || a.Usage.Input != 1 || a.Usage.Output != int64(len(pieces)) {
			t.Errorf("answer %+v for %d words", a, len(pieces))
		}
	})
	t.Run("IsTheSameEveryTime", func(t *testing.T) {
		first, _, _ := say(t, Provider{}, user("hello"))
		again, _, _ := say(t, Provider{}, user("earlier"), reply("indeed"), user("hello"))
		if d := cmp.Diff(first, again); d != "" {
			t.Error(d)
		}
	})
	t.Run("GoesOnFromWhereItBroke", func(t *testing.T) {
		whole, _, _ := say(t, Provider{}, user("!fail"))
		if strings.Contains(strings.Join(whole, ""), "your own.") {
			t.Fatal("!fail did not break off")
		}
		rest, a, err := say(t, Provider{}, user("!fail"), reply(strings.Join(whole, "")))
		if got := strings.Join(append(whole, rest...), ""); err != nil || got != greeting("!fail") || a.FinishReason != "stop" {
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
			pieces, _, err := say(t, Provider{}, user(message))
			if d := cmp.Diff(want, strings.Join(pieces, "")); err != nil || d != "" {
				t.Error(err, d)
			}
		})
	}
	t.Run("LongIsBounded", func(t *testing.T) {
		pieces, _, _ := say(t, Provider{}, user("!long 999999999"))
		if len(pieces) != maxWords {
			t.Errorf("%d words", len(pieces))
		}
	})
	t.Run("FailBreaksInTheMiddle", func(t *testing.T) {
		pieces, a, err := say(t, Provider{}, user("!fail"))
		if !fault.Is(err, fault.AIFailed) || len(pieces) == 0 || a.FinishReason != "" || !a.Usage.Estimated {
			t.Errorf("%d pieces, %+v, %v", len(pieces), a, err)
		}
	})
}

func TestDemo_Pace(t *testing.T) {
	t.Run("WordByWord", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			_, _, err := say(t, Provider{Delay: 20 * time.Millisecond}, user("!long 100"))
			if took := time.Since(begun); err != nil || took != 2*time.Second {
				t.Errorf("took %v, %v", took, err)
			}
		})
	})
	t.Run("SlowIsSpread", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			pieces, _, err := say(t, Provider{}, user("!slow 3s"))
			if took := time.Since(begun).Round(10 * time.Millisecond); err != nil || took != 3*time.Second || len(pieces) < 10 {
				t.Errorf("%d pieces in %v, %v", len(pieces), took, err)
			}
		})
	})
	t.Run("HangEndsWithItsContext", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := Provider{}.Generate(ctx, ports.Prompt{Messages: []ports.PromptMessage{user("!hang")}}, func(chat.Delta) {
				t.Error("said something")
			})
			if !fault.Is(err, fault.AIFailed) {
				t.Errorf("ended with %v", err)
			}
		})
	})
	t.Run("StopIsHeard", func(t *testing.T) {
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
