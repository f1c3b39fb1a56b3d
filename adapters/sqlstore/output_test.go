package sqlstore_test

import (
	"fmt"
	"testing"
	"time"

	"parley/adapters/sqlstore"
	"parley/domain/audit"
	"parley/domain/chat"
)

// counted returns what a statement counts.
func counted(t testing.TB, store *sqlstore.Store, statement string) (n int) {
	t.Helper()
	if err := store.DB().QueryRow(statement).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestOutput_GoesWithItsRun: nothing of the log of a run remains when the run has
// left its message or is gone, in whatever way.
func TestOutput_GoesWithItsRun(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, store *sqlstore.Store) {
		ctx, sent := t.Context(), 0
		live := func(conv string) chat.Run {
			t.Helper()
			sent++
			a := sending("ann", "hi")
			a.Run.ID, a.Message.ID, a.Run.AuditID, a.Audit.ID = fmt.Sprint("r", sent), fmt.Sprint("m", sent), fmt.Sprint("a", sent), fmt.Sprint("a", sent)
			a.Run.IdempotencyKey, a.Run.ConversationID, a.CreateConversation = "", conv, true
			out, err := store.Admit(ctx, a, chat.Admit)
			if err != nil {
				t.Fatal(err)
			}
			for at, piece := range []chat.Output{"\x03h", "m"} {
				points := []chat.Checkpoint{{UserID: "ann", RunID: out.Run.ID, Attempt: 1, At: chat.Cursor(2 * at), New: piece}}
				if fenced, err := store.Checkpoint(ctx, "here", points); err != nil || len(fenced) > 0 {
					t.Fatalf("fenced %v, %v", fenced, err)
				}
			}
			return out.Run
		}
		finish := func(run chat.Run, state chat.State, o chat.Output) {
			t.Helper()
			err := end(ctx, store, chat.Outcome{UserID: "ann", RunID: run.ID, ConversationID: run.ConversationID, Attempt: 1, State: state, Output: o, At: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
		}
		rows := func(what string, want int) {
			t.Helper()
			if n := counted(t, store, "SELECT count(*) FROM chat_run_output"); n != want {
				t.Errorf("%s: %d rows of output, want %d", what, n, want)
			}
		}

		run := live("c")
		rows("live", 2)
		points := []chat.Checkpoint{
			{UserID: "ann", RunID: run.ID, Attempt: 2, At: 3, New: "x"}, {UserID: "bob", RunID: run.ID, Attempt: 1, At: 3, New: "x"},
			{UserID: "ann", RunID: "nothing", Attempt: 1, At: 3, New: "x"},
		}
		if fenced, err := store.Checkpoint(ctx, "here", points); err != nil || len(fenced) != 3 {
			t.Errorf("fenced %v, %v", fenced, err)
		}
		if fenced, err := store.Checkpoint(ctx, "elsewhere", []chat.Checkpoint{{UserID: "ann", RunID: run.ID, Attempt: 1, At: 3, New: "x"}}); err != nil || len(fenced) != 1 {
			t.Errorf("fenced %v, %v", fenced, err)
		}
		rows("refused", 2)
		finish(run, chat.Completed, "\x03hm\x02yes")
		rows("ended with a message", 0)

		finish(live("c"), chat.Failed, "\x03hmm")
		rows("ended without one", 3)
		live("c")
		rows("and another one", 5)
		if err := store.DeleteConversation(ctx, "ann", "c", audited("ann", "gone", audit.Success)); err != nil {
			t.Fatal(err)
		}
		rows("with the conversation", 0)

		finish(live(""), chat.Failed, "\x03hmm")
		for range 5 { // until nothing that has ended is left
			if _, err := store.ExpireThreads(ctx, time.Now().Add(time.Hour), 100); err != nil {
				t.Fatal(err)
			}
		}
		rows("with the thread", 0)

		finish(live("d"), chat.Failed, "\x03hmm")
		live("d")
		e := erasure("ann")
		if known, err := store.DeclareErasure(ctx, e, appended); err != nil || !known {
			t.Fatalf("declare: %v, %v", known, err)
		}
		for more := true; more; {
			var err error
			if more, err = store.EraseSome(ctx, e, 1); err != nil {
				t.Fatal(err)
			}
		}
		rows("with the user", 0)
	})
}

// TestMessages_OneTextHasNoParts looks at the column: a message of one text part
// costs no more than its text, and no text is stored twice where it can be left out.
func TestMessages_OneTextHasNoParts(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, store *sqlstore.Store) {
		out, err := store.Admit(t.Context(), sending("ann", "hi"), chat.Admit)
		if err != nil {
			t.Fatal(err)
		}
		err = end(t.Context(), store, chat.Outcome{UserID: "ann", RunID: out.Run.ID, Attempt: 1, State: chat.Completed, Output: "\x03hm\x02yes", At: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if n := counted(t, store, "SELECT count(*) FROM chat_messages WHERE role = 'user' AND parts IS NULL"); n != 1 {
			t.Error("a message of one text has parts")
		}
		var parts string
		if err := store.DB().QueryRow("SELECT parts FROM chat_messages WHERE role = 'assistant'").Scan(&parts); err != nil {
			t.Fatal(err)
		}
		if want := `[{"type":"reasoning","text":"hm"},{"type":"text"}]`; parts != want {
			t.Errorf("parts %s, want %s", parts, want)
		}
	})
}
