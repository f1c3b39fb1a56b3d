package chat_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/domain/chat"
)

var states = []chat.State{chat.Queued, chat.Running, chat.Completed, chat.Stopped, chat.Failed, chat.Interrupted}

func TestState_TerminalIsForEver(t *testing.T) {
	for _, s := range states {
		for _, next := range states {
			if s.Terminal() && s.CanBecome(next) {
				t.Errorf("%s is terminal and may become %s", s, next)
			}
		}
	}
	if chat.Running.CanBecome(chat.Queued) || chat.Queued.CanBecome(chat.Completed) {
		t.Error("a run goes back, or skips its making")
	}
	for _, s := range states {
		if s != chat.Queued && s.CanBecome(chat.Running) {
			t.Errorf("a run that is %s can be claimed as if it waited", s)
		}
	}
}

func TestRun_Fate(t *testing.T) {
	text := chat.TextOutput("seen")
	for name, c := range map[string]struct {
		run  chat.Run
		want chat.Fate
	}{
		"NobodySawAToken":           {chat.Run{Attempt: 2}, chat.Retry},
		"LastAttempt":               {chat.Run{Attempt: 3}, chat.Retry},
		"TriedTooOften":             {chat.Run{Attempt: 4}, chat.GiveUp},
		"SeenText":                  {chat.Run{Attempt: 2, Output: text}, chat.Interrupt},
		"SeenReasoning":             {chat.Run{Attempt: 2, Output: chat.OutputOf(chat.Part{Kind: chat.ReasoningPart, Text: "hm"})}, chat.Interrupt},
		"SeenBeatsAttempts":         {chat.Run{Attempt: 9, Output: text}, chat.Interrupt},
		"StopBeatsAll":              {chat.Run{Attempt: 9, Output: text, StopRequested: true}, chat.Halt},
		"ContinuationNothingNew":    {chat.Run{Attempt: 2, Prefix: text, Output: text}, chat.Retry},
		"ContinuationSomethingMore": {chat.Run{Attempt: 2, Prefix: chat.TextOutput("se"), Output: text}, chat.Interrupt},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.run.Fate(3); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestTree_Regenerate(t *testing.T) {
	tree := chat.NewTree([]chat.Message{
		{ID: "u1", Role: chat.User},
		{ID: "a1", ParentID: "u1", Role: chat.Assistant},
		{ID: "u2", ParentID: "a1", Role: chat.User},
		{ID: "a1b", ParentID: "u1", Role: chat.Assistant},
		{ID: "u1b", Role: chat.User},
	}, nil)
	path := func(leaf string) []string {
		list, _ := tree.Path(leaf, 10)
		return ids(list)
	}
	t.Run("KeepsSiblings", func(t *testing.T) {
		if d := cmp.Diff([]string{"a1", "a1b"}, tree.Siblings("a1b")); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]string{"u1", "u1b"}, tree.Siblings("u1")); d != "" {
			t.Error(d)
		}
	})
	t.Run("LeavesTheOtherBranch", func(t *testing.T) {
		if d := cmp.Diff([]string{"u1", "a1", "u2"}, path("u2")); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]string{"u1", "a1b"}, path("a1b")); d != "" {
			t.Error(d)
		}
	})
	t.Run("ALoopEnds", func(t *testing.T) {
		loop := chat.NewTree([]chat.Message{{ID: "x", ParentID: "y"}, {ID: "y", ParentID: "x"}}, nil)
		if path, whole := loop.Path("x", 100); whole {
			t.Errorf("path of %d messages through two", len(path))
		}
	})
}

func ids(messages []chat.Message) (out []string) {
	for _, m := range messages {
		out = append(out, m.ID)
	}
	return out
}
