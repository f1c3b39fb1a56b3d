package sqlstore_test

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/platform/testing/testdb"
	"parley/ports"
)

// watcher is a hook that notes every statement and whose it was.
type watcher struct {
	mu   sync.Mutex
	seen map[string]string // statement -> name
}

func (w *watcher) BeforeQuery(ctx context.Context, e *bun.QueryEvent) context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range sqlstore.Statements(e) {
		w.seen[s] = sqlstore.StatementName(ctx)
	}
	return ctx
}

func (w *watcher) AfterQuery(context.Context, *bun.QueryEvent) {}

// TestStatements_UseIndexes asks the database how it would run each statement
// of the store. None may read a whole table.
func TestStatements_UseIndexes(t *testing.T) {
	t.Parallel()
	whole := map[string]*regexp.Regexp{
		"SQLite":   regexp.MustCompile(`SCAN (chat_\w+|audit_logs|[mrcoua])\b`),
		"Postgres": regexp.MustCompile(`Seq Scan on (chat_\w+|audit_logs)`),
	}
	explain := map[string]string{"SQLite": "EXPLAIN QUERY PLAN ", "Postgres": "EXPLAIN "}
	for name, open := range map[string]func(*testing.T, ...bun.QueryHook) *sqlstore.Store{
		"SQLite": func(t *testing.T, hooks ...bun.QueryHook) *sqlstore.Store {
			return migrated(t, sqlstore.Options{URL: filepath.Join(t.TempDir(), "parley.db"), Hooks: hooks})
		},
		"Postgres": func(t *testing.T, hooks ...bun.QueryHook) *sqlstore.Store {
			return migrated(t, sqlstore.Options{URL: testdb.Postgres(t), Hooks: hooks})
		},
		"Postgres/Fenced": func(t *testing.T, hooks ...bun.QueryHook) *sqlstore.Store {
			store, _ := openRowSecurity(t, hooks...)
			return store
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &watcher{seen: map[string]string{}}
			store := open(t, w)
			name, _, _ := strings.Cut(name, "/")
			useAll(t, store)
			conn, err := store.DB().Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if name == "Postgres" { // the tables are tiny: what would it do if it must not?
				if _, err := conn.ExecContext(t.Context(), "SET enable_seqscan = off"); err != nil {
					t.Fatal(err)
				}
			}
			names := map[string]bool{}
			for statement, by := range w.seen {
				if by == "" {
					t.Errorf("without a name: %s", statement)
				}
				names[by] = true
				if strings.Contains(statement, "*") && !strings.Contains(statement, "count(*)") {
					t.Errorf("%s selects a star: %s", by, statement)
				}
				switch verb, _, _ := strings.Cut(statement, " "); verb {
				case "SELECT", "UPDATE", "WITH", "DELETE":
				default:
					continue
				}
				found, err := conn.QueryContext(t.Context(), explain[name]+statement)
				if err != nil {
					t.Fatalf("explain %s: %v\n%s", by, err, statement)
				}
				plan := ""
				for _, row := range table(t, found, nil) {
					plan += row[len(row)-1] + "\n"
				}
				if whole[name].MatchString(plan) && !strings.Contains(plan, "chat_runs_lease_idx") && !strings.Contains(plan, "chat_search_segments_dirty_idx") {
					t.Errorf("%s reads a whole table:\n%s\n%s", by, statement, plan)
				}
			}
			for _, want := range []string{"admit", "finish", "checkpoint", "heartbeat", "claim", "release", "request_stop", "run", "recent", "resume",
				"messages", "branch", "message", "conversation", "conversations", "create_conversation", "update_conversation", "delete_conversation", "record", "ping", "import", "import_count"} {
				if !names[want] {
					t.Errorf("no statement of %s was seen", want)
				}
			}
		})
	}
}

// importSome imports a conversation and messages, a second time with one that was
// deleted and a message that belongs between others.
func importSome(ctx context.Context, store *sqlstore.Store) error {
	store.SetUserHash(func(user string) string { return "hash of " + user })
	defer store.SetUserHash(nil)
	at := time.Date(2025, 11, 6, 12, 0, 0, 0, time.UTC)
	message := func(id string, n int) chat.SourceMessage {
		return chat.SourceMessage{UserID: "imported", ID: id, ConversationID: "kept", ConversationOwner: "imported", Role: "user", Content: "x", CreatedAt: at.Add(time.Duration(n) * time.Second)}
	}
	keys := []chat.UserKey{{UserID: "imported", ID: "kept"}, {UserID: "imported", ID: "gone"}}
	for i, batch := range [][]chat.SourceMessage{{message("m1", 1), message("m3", 3)}, {message("m1", 1), message("m2", 2), message("m3", 3), message("m4", 4)}} {
		request := ports.ImportRequest{Users: []string{"imported", "ann"}, Conversations: keys}
		entries := []audit.Entry{entry("import" + string(rune('a'+i)))}
		entries[0].UserID = "imported"
		for _, request.DryRun = range []bool{true, false} {
			err := store.Import(ctx, request, func(state chat.ImportState) (chat.ImportPlan, []audit.Entry) {
				return chat.ImportConversations([]chat.SourceConversation{{UserID: "imported", ID: "kept", CreatedAt: at}}, state), nil
			})
			if err != nil {
				return err
			}
		}
		for _, m := range batch {
			request.Messages = append(request.Messages, chat.UserKey{UserID: m.UserID, ID: m.ID})
		}
		err := store.Import(ctx, request, func(state chat.ImportState) (chat.ImportPlan, []audit.Entry) {
			plan, _ := chat.ImportPosition{}.ImportMessages(batch, state)
			return plan, entries
		})
		if err != nil {
			return err
		}
	}
	conversations, err := store.CountConversations(ctx, keys)
	if err != nil {
		return err
	}
	messages, err := store.CountMessages(ctx, []chat.UserKey{{UserID: "imported", ID: "m2"}, {UserID: "imported", ID: "m4"}, {UserID: "ann", ID: "m1"}})
	if err == nil && (conversations != 1 || messages != 2) {
		err = fmt.Errorf("%d conversations and %d messages were imported", conversations, messages)
	}
	return err
}

// useAll calls every method of the ports at least once.
func useAll(t *testing.T, store *sqlstore.Store) {
	t.Helper()
	ctx := t.Context()
	now := time.Now()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(importSome(ctx, store))
	_, err := store.CreateConversation(ctx, chat.Conversation{ID: "c", UserID: "ann", CreatedAt: now}, entry("a1"))
	check(err)
	title := "t"
	_, err = store.UpdateConversation(ctx, "ann", "c", ports.ConversationChange{Title: &title, Now: now}, entry("a2"))
	check(err)
	for i, conv := range []string{"c", ""} {
		suffix := string(rune('x' + i))
		a := sending("ann", "hi")
		a.Run.ID, a.Message.ID, a.Run.AuditID = "run"+suffix, "msg"+suffix, "audit"+suffix
		a.Run.ConversationID, a.Run.IdempotencyKey = conv, "key"+suffix
		out, err := store.Admit(ctx, a, chat.Admit)
		check(err)
		_, err = store.Checkpoint(ctx, "here", []chat.Checkpoint{{UserID: "ann", RunID: out.Run.ID, Attempt: 1, New: chat.TextOutput("some")}})
		check(err)
		_, err = store.Heartbeat(ctx, "here", []string{out.Run.ID}, time.Hour)
		check(err)
		_, err = store.RequestStop(ctx, "ann", out.Run.ID, entry("stop"+suffix))
		check(err)
		check(store.Release(ctx, "here", []string{out.Run.ID}))
		got, err := store.Claim(ctx, "there", time.Minute, 5)
		check(err)
		_, _, err = store.Resume(ctx, got[0], 5)
		check(err)
		state := []chat.State{chat.Completed, chat.Failed}[i]
		o := chat.Outcome{UserID: "ann", RunID: out.Run.ID, ConversationID: conv, Attempt: got[0].Attempt, State: state, At: now}
		if state == chat.Completed {
			o.Output = chat.TextOutput("some more")
		}
		check(end(ctx, store, o))
		_, _, err = store.Messages(ctx, "ann", conv, ports.Page{Limit: 5, Before: &ports.Position{At: now.Add(time.Hour), ID: "z"}})
		check(err)
		_, _, err = store.Messages(ctx, "ann", conv, ports.Page{Limit: 5})
		check(err)
		_, _, err = store.Branch(ctx, "ann", conv, "current", 5)
		check(err)
	}
	a := sending("ann", "later")
	a.Owner, a.Run.ID, a.Message.ID, a.Run.AuditID = "", "runq", "msgq", "auditq"
	_, err = store.Admit(ctx, a, chat.Admit)
	check(err)
	a = sending("ann", "")
	a.Message, a.Source, a.Run.Kind, a.Run.ID, a.Run.AuditID = nil, "runx", chat.Regeneration, "runr", "auditr"
	_, err = store.Admit(ctx, a, chat.Admit)
	check(err)
	_, err = store.RequestStop(ctx, "ann", "runq", entry("stopq"))
	check(err)
	_, err = store.Run(ctx, "ann", "runx")
	check(err)
	_, err = store.Recent(ctx, "ann", now.Add(-time.Hour))
	check(err)
	_, err = store.Message(ctx, "ann", "msgx")
	check(err)
	_, _, err = store.SetFeedback(ctx, "ann", "runx", chat.Feedback{Rating: chat.Up}, entry("f1"))
	check(err)
	check(store.DeleteFeedback(ctx, "ann", "runx", entry("f2")))
	share := chat.Share{ID: "s", UserID: "ann", ConversationID: "c", LeafID: "runx", CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
	check(store.CreateShare(ctx, share, func(int) error { return nil }, entry("s1")))
	for _, of := range []string{"c", ""} {
		_, err = store.Shares(ctx, "ann", of, now)
		check(err)
	}
	_, _, err = store.SharedBranch(ctx, share.Digest, now, 5)
	check(err)
	_, err = store.SharedFile(ctx, share.Digest, now, "f")
	if !fault.Is(err, fault.NotFound) {
		t.Fatal(err)
	}
	check(store.DeleteShare(ctx, "ann", "s", entry("s2")))
	check(store.CreateShare(ctx, share, func(int) error { return nil }, entry("s3")))
	_, err = store.ExpireShares(ctx, now.Add(2*time.Hour), 5)
	check(err)
	_, err = store.DirtySearch(ctx, 5)
	check(err)
	_, err = store.IndexSome(ctx, "ann")
	check(err)
	_, _, err = store.Search(ctx, "ann", "hi", nil, 5)
	check(err)
	_, _, err = store.Search(ctx, "ann", "hi", &ports.SearchCursor{Begin: ports.Position{At: now.Add(time.Hour)}, End: ports.Position{At: now.Add(-time.Hour), ID: "a"}}, 5)
	check(err)
	_, err = store.Conversation(ctx, "ann", "c")
	check(err)
	_, _, err = store.Conversations(ctx, "ann", ports.Page{Limit: 5})
	check(err)
	_, _, err = store.Conversations(ctx, "ann", ports.Page{Limit: 5, After: &ports.Position{At: now, ID: "a"}})
	check(err)
	check(store.Record(ctx, audit.Entry{ID: "r", Action: "x", Resource: "y", CreatedAt: now}))
	check(store.DeleteConversation(ctx, "ann", "c", entry("a3")))
	check(store.Ping(ctx))
}
