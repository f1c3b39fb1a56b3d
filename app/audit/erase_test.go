package audit_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	appaudit "parley/app/audit"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// the user whose traces are looked for; the name stands nowhere else.
const doomed = "user-to-be-erased-4711"

// chats gives a user something in every table that a request can fill.
func (b *bench) chats(user string) chat.Run {
	b.Helper()
	now := time.Now()
	entry := func(action string) audit.Entry {
		e := b.entry(user, audit.Success)
		e.Action = action
		return e
	}
	conversation := chat.Conversation{ID: "conv-" + user[:3], UserID: user, Title: "about " + user, CreatedAt: now}
	if _, err := b.store.CreateConversation(b.Context(), conversation, entry(audit.ActionConversationCreated)); err != nil {
		b.Fatal(err)
	}
	admit := func(id, conversation string) chat.Run {
		a := chat.AdmitRequest{
			Run:     chat.Run{ID: "run-" + id, UserID: user, ConversationID: conversation, Kind: chat.Reply, CreatedAt: now, AuditID: "audit-" + id},
			Message: &chat.Message{ID: "msg-" + id, UserID: user, ConversationID: conversation, Role: chat.User, Content: "I am " + user, CreatedAt: now},
			Audit:   audit.Entry{ID: "audit-" + id, UserID: user, Action: audit.ActionMessageSent, Resource: audit.ResourceMessage, Status: audit.Pending, CreatedAt: now},
			Owner:   "here", Lease: time.Minute, MaxQueue: 10, Context: 50, Now: now, WhenBusy: chat.Reject,
		}
		out, err := b.store.Admit(b.Context(), a, chat.Admit)
		if err != nil {
			b.Fatal(err)
		}
		return out.Run
	}
	for i := range 6 {
		run := admit(fmt.Sprintf("%s-%d", user[:3], i), []string{conversation.ID, ""}[i%2])
		_, err := b.store.Finish(b.Context(), chat.Outcome{UserID: user, RunID: run.ID, Attempt: 1, State: chat.Completed,
			Output: chat.TextOutput("hello " + user), At: time.Now()}, chat.Finish)
		if err != nil {
			b.Fatal(err)
		}
	}
	return admit(user[:3]+"-live", conversation.ID)
}

func (b *bench) erasure(user string) ports.Erasure {
	return ports.Erasure{UserID: user, UserHash: b.chainKeys().UserHash(user), At: time.Now()}
}

// traces looks for a text in every text column of every table.
func (b *bench) traces(text string) (found []string) {
	b.Helper()
	columns := `SELECT table_name || '.' || column_name FROM information_schema.columns
		WHERE table_schema = 'public' AND data_type IN ('text', 'character varying', 'jsonb', 'json', 'ARRAY')`
	if !b.postgres {
		columns = `SELECT m.name || '.' || p.name FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS p
			WHERE m.type = 'table' AND m.name <> 'atlas_schema_revisions'`
	}
	list := b.texts(columns)
	if len(list) < 30 {
		b.Fatalf("only %d columns: %v", len(list), list)
	}
	for _, column := range list {
		table, name, _ := strings.Cut(column, ".")
		if n := b.count("SELECT count(*) FROM "+table+" WHERE CAST("+name+" AS text) LIKE $1", "%"+text+"%"); n > 0 {
			found = append(found, fmt.Sprintf("%s (%d)", column, n))
		}
	}
	return found
}

func TestErase_LeavesNoTrace(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		service := b.newService(b.store, appaudit.Options{EraseRows: 4, StopWait: time.Millisecond}, "secret")
		b.chats(doomed)
		b.chats("bystander")
		b.record(b.entry(doomed, audit.Pending))
		b.seal()
		b.head()
		b.record(b.entry(doomed, audit.Success)) // not sealed yet
		links := b.count("SELECT count(*) FROM audit_chain")
		if found := b.traces(doomed); len(found) < 6 {
			b.Fatalf("traces only in %v", found)
		}
		before := b.rows("bystander")

		if err := service.EraseUser(b.Context(), doomed); err != nil {
			b.Fatal(err)
		}
		if found := b.traces(doomed); len(found) > 0 {
			b.Errorf("traces in %v", found)
		}
		if after := b.rows("bystander"); after != before || before == 0 {
			b.Errorf("another user had %d rows and has %d", before, after)
		}
		b.dense(links + 1)
		b.clean()
		if n := b.count("SELECT count(*) FROM audit_chain WHERE kind = 'erased'"); n != 1 {
			b.Errorf("%d links say so", n)
		}
		if err := service.EraseUser(b.Context(), doomed); !fault.Is(err, fault.NotFound) {
			b.Errorf("again: %v", err)
		}
		if err := service.EraseUser(b.Context(), ""); !fault.Is(err, fault.Invalid) {
			b.Errorf("without a user: %v", err)
		}

		// A user who comes back is a new user.
		b.chats(doomed)
		b.seal()
		b.head()
		b.clean()
		if n := b.count("SELECT count(*) FROM audit_chain AS l JOIN audit_keys AS k ON k.subject = l.subject WHERE k.user_id = $1 AND l.seq <= $2", doomed, links); n > 0 {
			b.Errorf("%d links from before lead to the new user", n)
		}
	})
}

// rows counts what a user has.
func (b *bench) rows(user string) (n int) {
	b.Helper()
	for _, table := range b.userTables() {
		n += b.count("SELECT count(*) FROM "+table+" WHERE user_id = $1", user)
	}
	return n
}

func (b *bench) userTables() []string {
	if b.postgres {
		return b.texts("SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' AND column_name = 'user_id' ORDER BY table_name")
	}
	return b.texts("SELECT m.name FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS p WHERE m.type = 'table' AND p.name = 'user_id' ORDER BY m.name")
}

// A table that is added later must be thought of: its rows go with the user's
// row, or EraseSome deletes them.
func TestErase_KnowsEveryTable(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		handled := map[string]bool{"chat_users": true, "audit_logs": true, "audit_unsealed": true, "audit_keys": true, "audit_erasures": true, "chat_run_output": true, "chat_webhook_events": true}
		for _, table := range b.userTables() {
			query := `SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND confdeltype = 'c'
				AND conrelid = CAST($1 AS regclass) AND confrelid IN (CAST('chat_users' AS regclass), CAST('chat_files' AS regclass), CAST('chat_messages' AS regclass), CAST('chat_conversations' AS regclass), CAST('chat_search_segments' AS regclass))`
			if !b.postgres {
				query = `SELECT count(*) FROM pragma_foreign_key_list($1) WHERE "table" IN ('chat_users', 'chat_files', 'chat_messages', 'chat_conversations', 'chat_search_segments') AND on_delete = 'CASCADE'`
			}
			if !handled[table] && b.count(query, table) == 0 {
				b.Errorf("%s holds something of users, and an erasure leaves it", table)
			}
		}
	})
}

// A live reply is asked to stop, and gets a moment to do so.
func TestErase_StopsLiveReplies(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		run := b.chats(doomed)
		service := b.newService(b.store, appaudit.Options{StopWait: 30 * time.Second}, "secret")
		var making sync.WaitGroup
		making.Go(func() { // who makes the reply, and looks at its heartbeat
			until(b, func() bool {
				held, err := b.store.Heartbeat(b.Context(), "here", nil, time.Minute)
				if err != nil {
					b.Error(err)
				}
				return len(held) == 1 && held[0].StopRequested
			})
			_, err := b.store.Finish(b.Context(), chat.Outcome{UserID: doomed, RunID: run.ID, Attempt: 1, State: chat.Stopped, At: time.Now()}, chat.Finish)
			if err != nil {
				b.Errorf("the reply could not end: %v", err)
			}
		})
		if err := service.EraseUser(b.Context(), doomed); err != nil {
			b.Fatal(err)
		}
		making.Wait()
		if found := b.traces(doomed); len(found) > 0 {
			b.Errorf("traces in %v", found)
		}
	})
}

// A reply that does not stop loses its run: its end finds nothing to write to.
func TestErase_DoesNotWaitForever(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		run := b.chats(doomed)
		service := b.newService(b.store, appaudit.Options{StopWait: time.Millisecond}, "secret")
		if err := service.EraseUser(b.Context(), doomed); err != nil {
			b.Fatal(err)
		}
		_, err := b.store.Finish(b.Context(), chat.Outcome{UserID: doomed, RunID: run.ID, Attempt: 1, State: chat.Completed,
			Output: chat.TextOutput("too late"), At: time.Now()}, chat.Finish)
		if !fault.Is(err, fault.Fenced) {
			b.Errorf("got %v", err)
		}
		if found := b.traces(doomed); len(found) > 0 {
			b.Errorf("traces in %v", found)
		}
	})
}

// An erasure whose instance died is finished by another one.
func TestErase_IsResumed(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		b.chats(doomed)
		b.seal()
		if _, err := b.store.DeclareErasure(b.Context(), b.erasure(doomed), b.chainKeys().Append); err != nil {
			b.Fatal(err)
		}
		if _, err := b.store.EraseSome(b.Context(), b.erasure(doomed), 2); err != nil {
			b.Fatal(err)
		}
		b.clean()
		if len(b.traces(doomed)) == 0 {
			b.Fatal("nothing is left to resume")
		}
		service := b.newService(b.store, appaudit.Options{Interval: time.Millisecond, Resume: time.Millisecond}, "secret")
		go service.Serve(b.Context())
		until(b, func() bool { return len(b.traces(doomed)) == 0 })
		b.clean()
	})
}

// A user who goes on writing while being erased leaves a chain that verifies.
func TestErase_WhileTheUserWrites(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		b.chats(doomed)
		b.seal()
		stop := make(chan struct{})
		var writing sync.WaitGroup
		writing.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					b.record(b.entry(doomed, audit.Success))
					time.Sleep(time.Millisecond)
				}
			}
		})
		writing.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					b.seal()
					b.clean()
				}
			}
		})
		service := b.newService(b.store, appaudit.Options{EraseRows: 10, StopWait: time.Millisecond}, "secret")
		for range 5 {
			if err := service.EraseUser(b.Context(), doomed); err != nil && !fault.Is(err, fault.NotFound) {
				b.Error(err)
			}
		}
		close(stop)
		writing.Wait()
		if err := service.EraseUser(b.Context(), doomed); err != nil && !fault.Is(err, fault.NotFound) {
			b.Error(err)
		}
		if found := b.traces(doomed); len(found) > 0 {
			b.Errorf("traces in %v", found)
		}
		b.clean()
	})
}

// An erasure that was declared without the chain's key, as an attacker can who has
// the application's rights in the database, is one finding that says so.
func TestVerify_ForgedErasure(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		b.chats("bystander")
		b.chats(doomed)
		b.seal()
		b.head()
		forger, err := audit.NewChainKeys(audit.NewRoot())
		if err != nil {
			b.Fatal(err)
		}
		e := b.erasure(doomed)
		if _, err := b.store.DeclareErasure(b.Context(), e, forger.Append); err != nil {
			b.Fatal(err)
		}
		for more := true; more; {
			var err error
			if more, err = b.store.EraseSome(b.Context(), e, 100); err != nil {
				b.Fatal(err)
			}
		}
		b.record(b.entry("bystander", audit.Success))
		b.seal()
		last := b.count("SELECT max(seq) FROM audit_chain")
		_, found, err := b.verify(b.heads())
		want := []appaudit.Finding{{Kind: appaudit.Forged, Seq: int64(last) - 1}}
		if diff := cmp.Diff(want, found); err != nil || diff != "" {
			b.Errorf("%v (-want +got):\n%s", err, diff)
		}
	})
}
