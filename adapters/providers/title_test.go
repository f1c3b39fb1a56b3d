package providers

import (
	"errors"
	"strings"
	"testing"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

func TestRouter_Title(t *testing.T) {
	turns := []ports.PromptMessage{{Role: chat.User, Text: "how do I boil an egg?"}, {Role: chat.Assistant, Text: "In water."}}
	for said, want := range map[string]string{
		"Boiling an egg":                        "Boiling an egg",
		"\"Boiling an egg.\"\n\nAnything else?": "Boiling an egg",
		"**Title: Boiling an egg**":             "Title: Boiling an egg",
		"Title: Boiling an egg":                 "Boiling an egg",
		"  계란 삶기 ":                              "계란 삶기",
		strings.Repeat("egg ", 100):             strings.TrimSpace(strings.Repeat("egg ", 14)) + "…",
		"New chat":                              "",
		"...":                                   "",
		"":                                      "",
	} {
		a := &scripted{name: "a", outcomes: []outcome{say(said)}}
		got, answer, err := routerOf(nil, a).Title(t.Context(), "u", chat.Params{}, turns)
		if got != want || (want == "") != errors.Is(err, ErrNoTitle) || answer.Provider != "a" {
			t.Errorf("%q became %q, %v", said, got, err)
		}
	}
	t.Run("FailureIsTold", func(t *testing.T) {
		a := &scripted{name: "a", outcomes: []outcome{fail(upstream.BadRequest)}}
		if got, _, err := routerOf(nil, a).Title(t.Context(), "u", chat.Params{}, turns); got != "" || !fault.Is(err, fault.AIFailed) {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("TheDemoKnowsNone", func(t *testing.T) {
		r, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := r.Title(t.Context(), "u", chat.Params{}, turns); !errors.Is(err, ErrNoTitle) {
			t.Errorf("%q, %v", got, err)
		}
	})
}
