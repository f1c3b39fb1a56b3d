package sqlstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"parley/adapters/sqlstore"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/platform/testing/testdb"
)

// speaker writes messages and gets replies in one conversation.
type speaker struct {
	*testing.T
	n int
}

// turn returns the context of the message, and ends the run in the state.
func (s *speaker) turn(store *sqlstore.Store, id string, state chat.State) string {
	s.Helper()
	s.n++
	a := sending("ann", id)
	a.Run.ID, a.Message.ID, a.Run.AuditID = fmt.Sprint("r-", s.n), id, fmt.Sprint("a-", s.n)
	a.Run.ConversationID, a.CreateConversation, a.Now = "c", true, a.Now.Add(time.Duration(s.n)*time.Millisecond)
	out, err := store.Admit(s.Context(), a, chat.Admit)
	if err != nil {
		s.Fatal(err)
	}
	o := chat.Outcome{UserID: "ann", RunID: out.Run.ID, Attempt: 1, ConversationID: "c", State: state, At: a.Now}
	if state == chat.Completed {
		o.Output = chat.TextOutput("re " + id)
	} else {
		o.Failure = "X"
	}
	if err := end(s.Context(), store, o); err != nil {
		s.Fatal(err)
	}
	var texts []string
	for _, m := range out.Context {
		texts = append(texts, m.Content)
	}
	return strings.Join(texts, " | ")
}

func (s *speaker) want(got, want string) {
	s.Helper()
	if got != want {
		s.Errorf("context %q, want %q", got, want)
	}
}

// TestTails_AreReadOnce changes the text of a stored message, which nothing of
// Parley does, to see whether a context is read again.
func TestTails_AreReadOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, store *sqlstore.Store) {
		s := &speaker{T: t}
		s.turn(store, "1", chat.Completed)
		if _, err := store.DB().Exec("UPDATE chat_messages SET content = 'tampered'"); err != nil {
			t.Fatal(err)
		}
		s.want(s.turn(store, "2", chat.Completed), "1 | re 1 | 2")
		s.want(s.turn(store, "3", chat.Failed), "1 | re 1 | 2 | re 2 | 3")
		s.want(s.turn(store, "4", chat.Completed), "1 | re 1 | 2 | re 2 | 3 | 4")
	})
}

// TestTails_OfTwoInstances: what another instance has written, deleted and begun
// anew under the same ids is seen.
func TestTails_OfTwoInstances(t *testing.T) {
	t.Parallel()
	url := testdb.Postgres(t)
	one, two := migrated(t, sqlstore.Options{URL: url}), open(t, sqlstore.Options{URL: url})
	s := &speaker{T: t}
	s.want(s.turn(one, "1", chat.Completed), "1")
	s.want(s.turn(two, "2", chat.Completed), "1 | re 1 | 2")
	s.want(s.turn(one, "3", chat.Completed), "1 | re 1 | 2 | re 2 | 3")
	s.want(s.turn(two, "4", chat.Failed), "1 | re 1 | 2 | re 2 | 3 | re 3 | 4")
	s.want(s.turn(one, "5", chat.Failed), "1 | re 1 | 2 | re 2 | 3 | re 3 | 4 | 5")
	if err := two.DeleteConversation(t.Context(), "ann", "c", audited("ann", "gone", audit.Success)); err != nil {
		t.Fatal(err)
	}
	s.want(s.turn(two, "0", chat.Completed), "0")
	s.want(s.turn(two, "5", chat.Failed), "0 | re 0 | 5") // as the tail of the first instance ends
	s.want(s.turn(one, "6", chat.Completed), "0 | re 0 | 5 | 6")
}

// TestTails_OtherBranches: what is kept is one branch and says so, and a decision
// that asks for messages of all branches gets them.
func TestTails_OtherBranches(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, store *sqlstore.Store) {
		s := &speaker{T: t}
		s.turn(store, "1", chat.Completed)
		edit := sending("ann", "edited")
		edit.EditOf, edit.Run.ConversationID, edit.Now = "1", "c", edit.Now.Add(time.Second)
		if _, err := store.Admit(t.Context(), edit, chat.Admit); err != nil {
			t.Fatal(err)
		}
		again := sending("ann", "again")
		again.Run.ConversationID, again.Now = "c", again.Now.Add(2*time.Second)
		var kept, all chat.Thread
		refusal := errors.New("seen enough")
		_, err := store.Admit(t.Context(), again, func(_ chat.AdmitRequest, state chat.AdmitState) (chat.AdmitPlan, error) {
			switch {
			case state.Thread == nil:
				return chat.AdmitPlan{}, &chat.Needs{Thread: true, ThreadID: "c"}
			case kept.ID == "":
				kept = *state.Thread
				return chat.AdmitPlan{}, &chat.Needs{Thread: true, ThreadID: "c", Branches: true}
			}
			all = *state.Thread
			return chat.AdmitPlan{}, refusal
		})
		if !errors.Is(err, refusal) {
			t.Fatal(err)
		}
		if !kept.OneBranch || len(kept.Recent) != 1 || kept.Recent[0].Content != "edited" {
			t.Errorf("kept %+v", kept)
		}
		if all.OneBranch || len(all.Recent) != 3 {
			t.Errorf("of all branches %+v", all)
		}
	})
}
