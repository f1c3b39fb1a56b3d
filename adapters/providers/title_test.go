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
	turns := []ports.PromptMessage{ports.PromptText(chat.User, "how do I boil an egg?"), ports.PromptText(chat.Assistant, "In water.")}
	for said, want := range map[string]string{
		"Boiling an egg":                                           "Boiling an egg",
		"\"Boiling an egg.\"\n\nAnything else?":                    "Boiling an egg",
		"**Title: Boiling an egg**":                                "Boiling an egg",
		"Title: Boiling an egg":                                    "Boiling an egg",
		"TITLE: Boiling an egg":                                    "Boiling an egg",
		"title : \"Boiling an egg\"":                               "Boiling an egg",
		"**Title:** Boiling an egg":                                "Boiling an egg",
		"Conversation Title: Boiling an egg":                       "Boiling an egg",
		"Title - Boiling an egg":                                   "Boiling an egg",
		"Titel: Eier kochen":                                       "Eier kochen",
		"제목: 계란 삶기":                                                "계란 삶기",
		"标题：煮鸡蛋":                                                   "煮鸡蛋",
		"# Boiling an egg":                                         "Boiling an egg",
		"## **Boiling** an `egg` ##":                               "Boiling an egg",
		"- Boiling an egg\n- Eggs":                                 "Boiling an egg",
		"1. Boiling an egg\n2. Eggs":                               "Boiling an egg",
		"```\nBoiling an egg\n```":                                 "Boiling an egg",
		"`Boiling an egg`":                                         "Boiling an egg",
		"“Boiling an egg”":                                         "Boiling an egg",
		"「煮鸡蛋」":                                                    "煮鸡蛋",
		"\"Boiling an egg":                                         "Boiling an egg",
		"Here is a title for this conversation:\n\nBoiling an egg": "Boiling an egg",
		"Sure! Here's a title:\n**Boiling an egg**":                "Boiling an egg",
		"<title>Boiling an egg</title>":                            "Boiling an egg",
		"<think>eggs, hm</think>Boiling an egg":                    "Boiling an egg",
		"<think>\neggs\n</think>\n\nTitle: Boiling an egg":         "Boiling an egg",
		"<THINKING type=\"x\">eggs</THINKING> Boiling an egg":      "Boiling an egg",
		"[THINK]eggs[/THINK]Boiling an egg":                        "Boiling an egg",
		"◁think▷eggs◁/think▷Boiling an egg":                        "Boiling an egg",
		"eggs are eggs</think>Boiling an egg":                      "Boiling an egg",
		"Boiling an egg<think>was that good":                       "Boiling an egg",
		"<think>I should name it":                                  "",
		"<think>a</think>":                                         "",
		"<|channel|>analysis<|message|>eggs<|end|><|start|>assistant<|channel|>final<|message|>Boiling an egg<|return|>": "Boiling an egg",
		"{\"title\": \"Boiling an egg\"}":                     "Boiling an egg",
		"```json\n{\"title\": \"Boiling an egg\"}\n```":       "Boiling an egg",
		"{\"Title\":\"Boiling \\\"an\\\" egg\"}":              "Boiling \"an\" egg",
		"{\"conversation\": {\"title\": \"Boiling an egg\"}}": "Boiling an egg",
		"[\"Boiling an egg\", \"Eggs\"]":                      "Boiling an egg",
		"{\"title\": \"Boiling an eg":                         "Boiling an eg",
		"Here you go: {\"title\": \"Boiling an egg\"}":        "Boiling an egg",
		"\n\n  Boiling\tan  egg  \n":                          "Boiling an egg",
		"Boiling\u202e an\u200b egg\x00":                      "Boiling an egg",
		"Learning C#":                                         "Learning C#",
		".NET basics":                                         ".NET basics",
		"\"Rust\" or \"Go\"":                                  "\"Rust\" or \"Go\"",
		"The dogs' dinner":                                    "The dogs' dinner",
		"vector<int> in C++":                                  "vector<int> in C++",
		"Title case in headlines":                             "Title case in headlines",
		"Names: a history":                                    "Names: a history",
		"  계란 삶기 ":                                            "계란 삶기",
		strings.Repeat("🇩🇪", 50):                              strings.Repeat("🇩🇪", 29) + "…",
		strings.Repeat("👨\u200d👩\u200d👧\u200d👦", 20):          strings.Repeat("👨\u200d👩\u200d👧\u200d👦", 8) + "…",
		strings.Repeat("egg ", 100):                           strings.TrimSpace(strings.Repeat("egg ", 14)) + "…",
		"New chat":                                            "",
		"Title: New Chat":                                     "",
		"...":                                                 "",
		"***":                                                 "",
		"{}":                                                  "",
		"":                                                    "",
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
