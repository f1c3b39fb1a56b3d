package conversations_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"parley/adapters/memory"
	"parley/adapters/sqlstore"
	"parley/app/conversations"
	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/platform/testing/testdb"
	"parley/ports"
)

type bench struct {
	*testing.T
	store *sqlstore.Store
	*conversations.Service
	now time.Time
}

func (b *bench) Observe(context.Context, any) {}

// each runs a test on both databases.
func each(t *testing.T, test func(*bench)) {
	for name, url := range map[string]func(t *testing.T) string{
		"SQLite":   func(t *testing.T) string { return testdb.SQLite(t) },
		"Postgres": func(t *testing.T) string { return testdb.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(newBench(t, url(t)))
		})
	}
}

// newBench opens a database that lives as long as the test.
func newBench(t *testing.T, url string) *bench {
	t.Helper()
	store, err := sqlstore.Open(t.Context(), sqlstore.Options{URL: url, Timeout: 30 * time.Second, AcquireTimeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if _, err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := &bench{T: t, store: store, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	b.Service = &conversations.Service{
		History: store, Feedback: store, ShareStore: store, Index: store, Audit: store, Observer: ports.NopObserver{}, Feed: memory.NewFeed(), Now: func() time.Time { return b.now },
		NewID: func() string { return uuid.Must(uuid.NewV7()).String() },
	}
	return b
}

func (b *bench) create(user string, temporary bool) string {
	b.Helper()
	c, err := b.Create(b.Context(), conversations.Create{Principal: access.Principal{UserID: user}, Temporary: temporary})
	if err != nil {
		b.Fatal(err)
	}
	return c.ID
}

// say leaves a message and a reply in a conversation, or the default thread.
func (b *bench) say(user, conversation, text string) {
	b.Helper()
	b.now = b.now.Add(time.Millisecond)
	run := chat.Run{ID: b.NewID(), UserID: user, ConversationID: conversation, Kind: chat.Reply, AuditID: b.NewID(), CreatedAt: b.now}
	out, err := b.store.Admit(b.Context(), chat.AdmitRequest{
		Run: run, Message: &chat.Message{ID: b.NewID(), UserID: user, ConversationID: conversation, Role: chat.User, Content: text, CreatedAt: b.now},
		Audit: audit.Entry{ID: run.AuditID, UserID: user, Action: audit.ActionMessageSent, Resource: audit.ResourceMessage, Status: audit.Pending, CreatedAt: b.now, UpdatedAt: b.now},
		Owner: "here", Lease: time.Minute, Context: 50, Now: b.now,
	}, chat.Admit)
	if err != nil {
		b.Fatal(err)
	}
	r := out.Run
	_, err = b.store.Finish(b.Context(), chat.Outcome{UserID: user, RunID: r.ID, Attempt: r.Attempt, ConversationID: conversation, ParentID: r.ParentID,
		AuditID: r.AuditID, State: chat.Completed, Output: chat.TextOutput("re: " + text), At: b.now}, chat.Finish)
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) texts(user, conversation string) (list []string) {
	b.Helper()
	messages, _, err := b.Messages(b.Context(), access.Principal{UserID: user}, conversation, ports.Page{Limit: 1000})
	if err != nil && !fault.Is(err, fault.NotFound) {
		b.Fatal(err)
	}
	for _, m := range messages {
		list = append(list, m.Content)
	}
	return list
}

func TestExport_HoldsEverythingOfOneUser(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		b.say("ann", "", "alone")
		var want []string
		want = append(want, "#", "alone", "re: alone")
		long, short := b.create("ann", false), b.create("ann", false)
		for i := range 51 { // more messages than are read at a time
			b.say("ann", long, fmt.Sprint(i))
		}
		b.say("ann", short, "last")
		b.say("bob", b.create("bob", false), "secret")
		want = append(want, "#"+short, "last", "re: last", "#"+long)
		for i := range 51 {
			want = append(want, fmt.Sprint(i), "re: "+fmt.Sprint(i))
		}
		var got []string
		for piece, err := range b.Export(b.Context(), access.Principal{UserID: "ann"}, access.Caller{}) {
			switch {
			case err != nil:
				b.Fatal(err)
			case piece.Conversation != nil:
				got = append(got, "#"+piece.Conversation.ID)
			default:
				got = append(got, piece.Message.Content)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			b.Error(d)
		}
		for _, err := range b.Export(b.Context(), access.Principal{}, access.Caller{}) {
			if !fault.Is(err, fault.Unauthenticated) {
				b.Errorf("a stranger: %v", err)
			}
		}
	})
}

func TestRetentionWorker_DeletesWhatHasExpired(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		worker := &conversations.RetentionWorker{Service: b.Service, Expiry: b.store, Observer: b, Retention: 30 * 24 * time.Hour}
		old, busy, temporary := b.create("ann", false), b.create("ann", false), b.create("ann", true)
		b.say("ann", old, "old")
		b.say("ann", temporary, "fleeting")
		b.say("ann", "", "old thread")
		b.say("ann", busy, "first")
		list, _, err := b.List(b.Context(), access.Principal{UserID: "ann"}, ports.Page{Limit: 10})
		if err != nil || len(list) != 2 {
			b.Fatalf("%d conversations are listed, %v; a temporary one is not", len(list), err)
		}
		sweep := func(want int) {
			b.Helper()
			if gone, err := worker.Sweep(b.Context()); err != nil || gone != want {
				b.Fatalf("deleted %d, %v; want %d", gone, err, want)
			}
		}
		sweep(0)
		b.now = b.now.Add(chat.TemporaryTTL + time.Second)
		sweep(1)
		if got := b.texts("ann", temporary); got != nil {
			b.Errorf("the temporary one still holds %q", got)
		}
		b.now = b.now.Add(29 * 24 * time.Hour)
		b.say("ann", busy, "again")
		b.say("ann", "", "new thread")
		b.now = b.now.Add(2 * 24 * time.Hour)
		sweep(3) // a conversation and two messages
		if got := b.texts("ann", old); got != nil {
			b.Errorf("the old one still holds %q", got)
		}
		if d := cmp.Diff([]string{"first", "re: first", "again", "re: again"}, b.texts("ann", busy)); d != "" {
			b.Errorf("what is in use is kept whole:\n%s", d)
		}
		if d := cmp.Diff([]string{"new thread", "re: new thread"}, b.texts("ann", "")); d != "" {
			b.Error(d)
		}
		b.say("ann", "", "still works")
		branch, _, err := b.Branch(b.Context(), access.Principal{UserID: "ann"}, "", "current", 10)
		if err != nil || len(branch) != 4 {
			b.Errorf("branch of %d, %v", len(branch), err)
		}
		worker.Retention = 0
		b.now = b.now.Add(1000 * 24 * time.Hour)
		sweep(0)
	})
}

// A share that has ended is deleted, and no other.
func TestRetentionWorker_DeletesExpiredShares(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		worker := &conversations.RetentionWorker{Service: b.Service, Expiry: b.store, Observer: b}
		ann := access.Principal{UserID: "ann"}
		conversation := b.create("ann", false)
		b.say("ann", conversation, "one")
		for _, end := range []time.Time{{}, b.now.Add(time.Hour), b.now.Add(3 * time.Hour)} {
			if _, err := b.Share(b.Context(), conversations.ShareInput{Principal: ann, ConversationID: conversation, ExpiresAt: end}); err != nil {
				b.Fatal(err)
			}
		}
		b.now = b.now.Add(2 * time.Hour)
		if gone, err := worker.Sweep(b.Context()); err != nil || gone != 1 {
			b.Errorf("deleted %d, %v", gone, err)
		}
		b.now = b.now.Add(-2 * time.Hour) // at which none has expired
		if left, err := b.Shares(b.Context(), ann, conversation); err != nil || len(left) != 2 {
			b.Errorf("%d shares are left, %v", len(left), err)
		}
	})
}

// A search that reads many messages one by one has them indexed.
func TestSearchIndexer_IndexesWhatSearchesRead(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		conversation := b.create("ann", false)
		numbers := "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3300) "
		at := "datetime('2020-01-01', '+' || i || ' seconds') || '+00:00'"
		if b.store.Dialect() == "postgres" {
			at = "timestamptz '2020-01-01' + i * interval '1 second'"
		}
		if _, err := b.store.DB().Exec(numbers+"INSERT INTO chat_messages (user_id, id, conversation_id, role, content, created_at) SELECT 'ann', 'm' || i, $1, 'user', 'number ' || i, "+at+" FROM n", conversation); err != nil {
			b.Fatal(err)
		}
		find := func(text string) int {
			b.Helper()
			hits, _, err := b.Service.Search(b.Context(), access.Principal{UserID: "ann"}, text, nil, 50)
			if err != nil {
				b.Fatal(err)
			}
			return len(hits)
		}
		if n := find("nowhere"); n != 0 {
			b.Fatalf("%d hits", n)
		}
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			(&conversations.SearchIndexer{Index: b.store, Observer: b}).Serve(ctx)
		}()
		for segments := 0; segments < 3; time.Sleep(10 * time.Millisecond) {
			if err := b.store.DB().QueryRow("SELECT count(*) FROM chat_search_segments WHERE user_id = 'ann'").Scan(&segments); err != nil {
				b.Fatal(err)
			}
		}
		cancel()
		<-done
		if n := find("number 17"); n != 1 {
			b.Errorf("%d hits", n)
		}
	})
}
