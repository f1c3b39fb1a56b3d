package sqlstore_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/adapters/sqlstore"
	"parley/domain/chat"
	"parley/platform/testing/testdb"
)

// movedTables are those that deploy/scale/partition.sql divides.
var movedTables = []string{"chat_messages", "chat_runs", "audit_logs"}

// Tables are divided while users send, give feedback, delete and are erased. The move
// is killed in the middle and executed again. No request fails, and no row is lost,
// comes back or differs.
func TestPartition_MovesUnderLoad(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a server")
	}
	url := loadedDatabase(t, 8000)
	store := migrated(t, sqlstore.Options{URL: url, MaxConns: 12})
	// The users that are there and do nothing meanwhile.
	idle := func() (digests []string) {
		for _, table := range movedTables {
			var digest string
			err := store.DB().QueryRow("SELECT count(*) || ' ' || md5(string_agg(r::text, ' ' ORDER BY user_id, id)) FROM " + table + " AS r WHERE user_id LIKE 'u%'").Scan(&digest)
			if err != nil {
				t.Fatal(err)
			}
			digests = append(digests, table+" "+digest)
		}
		return digests
	}
	before := idle()
	load := startTurns(t, store, 6)
	load.wait(50)

	// Killed when some of the messages are copied.
	first := testdb.Partition(t, url, "partitions=4", "batch=100", "pause=0.05")
	var out bytes.Buffer
	first.Stdout, first.Stderr = &out, &out
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	copied := func() (n int) {
		if err := store.DB().QueryRow("SELECT copied FROM public_move.progress WHERE name = 'chat_messages'").Scan(&n); err != nil {
			return 0 // the table is not there yet
		}
		return n
	}
	waitUntil(t, "messages are copied", func() bool { return copied() >= 500 })
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	first.Wait() // it was killed
	waitUntil(t, "its session has ended", func() bool { return movingSessions(t, store, "") == 0 })
	if n := copied(); n >= 8000 {
		t.Fatalf("all %d messages were copied before it was killed\n%s", n, out.String())
	}
	load.wait(50)

	t.Log(partition(t, url, "partitions=4", "batch=500"))
	load.wait(50)
	load.stop()

	if diff := cmp.Diff(before, idle()); diff != "" {
		t.Errorf("rows of users who did nothing (-before +after):\n%s", diff)
	}
	load.check(t)
	differences, err := store.SchemaDifferences(t.Context())
	if err != nil || len(differences) > 0 {
		t.Errorf("%v, %v", differences, err)
	}
	for table, orphans := range map[string]string{
		"chat_messages": "conversation_id IS NOT NULL AND NOT EXISTS (SELECT FROM chat_conversations AS c WHERE c.user_id = t.user_id AND c.id = t.conversation_id)",
		"chat_feedback": "NOT EXISTS (SELECT FROM chat_messages AS m WHERE m.user_id = t.user_id AND m.id = t.message_id)",
		"audit_logs":    "user_id LIKE 'load%' AND NOT EXISTS (SELECT FROM audit_chain AS l WHERE l.entry_id = t.id) AND NOT EXISTS (SELECT FROM audit_unsealed AS q WHERE q.entry_id = t.id)",
	} {
		var n int
		if err := store.DB().QueryRow("SELECT count(*) FROM " + table + " AS t WHERE " + orphans).Scan(&n); err != nil || n > 0 {
			t.Errorf("%s: %d rows refer to nothing, or are not sealed, %v", table, n, err)
		}
	}
}

// turns is a load of users who send, give feedback, delete and are erased.
type turns struct {
	store   *sqlstore.Store
	all     sync.WaitGroup
	cancel  context.CancelFunc
	done    atomic.Int64
	longest atomic.Int64
	mu      sync.Mutex
	held    map[[2]string]string // content of the messages that were acknowledged, by user and id
	gone    map[[2]string]bool   // messages whose deletion was acknowledged
	failed  []error
}

func startTurns(t *testing.T, store *sqlstore.Store, users int) *turns {
	ctx, cancel := context.WithCancel(context.Background())
	l := &turns{store: store, cancel: cancel, held: map[[2]string]string{}, gone: map[[2]string]bool{}}
	for u := range users {
		l.all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				began := time.Now()
				err := l.turn(u, n)
				l.longest.Store(max(l.longest.Load(), int64(time.Since(began))))
				if err != nil {
					l.mu.Lock()
					l.failed = append(l.failed, fmt.Errorf("user %d, turn %d: %w", u, n, err))
					l.mu.Unlock()
				}
				l.done.Add(1)
			}
		})
	}
	l.all.Go(func() {
		for ctx.Err() == nil {
			if _, _, err := store.Seal(context.Background(), 100, linked); err != nil {
				l.mu.Lock()
				l.failed = append(l.failed, fmt.Errorf("seal: %w", err))
				l.mu.Unlock()
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	t.Cleanup(l.stop)
	return l
}

// turn sends a message and stores the reply, in parts. Every fifth turn rates it,
// every seventh deletes the conversation, every twentieth erases the user.
func (l *turns) turn(u, n int) error {
	ctx := context.Background()
	user, id := fmt.Sprintf("load%d-%d", u, n/20), fmt.Sprintf("%d-%d", u, n)
	conversation := fmt.Sprintf("c%d-%d", u, n/7)
	a := sending(user, "question "+id)
	a.Run.ID, a.Message.ID, a.Run.AuditID, a.Run.IdempotencyKey = "r"+id, "m"+id, "a"+id, "k"+id
	a.Run.ConversationID, a.CreateConversation = conversation, true
	out, err := l.store.Admit(ctx, a, chat.Admit)
	if err != nil {
		return fmt.Errorf("admit: %w", err)
	}
	point := chat.Checkpoint{UserID: user, RunID: out.Run.ID, Attempt: 1, New: chat.TextOutput("answer ")}
	if fenced, err := l.store.Checkpoint(ctx, "here", []chat.Checkpoint{point}); err != nil || len(fenced) > 0 {
		return fmt.Errorf("checkpoint: %v, %w", fenced, err)
	}
	err = end(ctx, l.store, chat.Outcome{UserID: user, RunID: out.Run.ID, ConversationID: conversation, Attempt: 1,
		State: chat.Completed, Output: chat.TextOutput("answer " + id), At: time.Now()})
	if err != nil {
		return fmt.Errorf("finish: %w", err)
	}
	l.note(user, "m"+id, "question "+id)
	l.note(user, "r"+id, "answer "+id)
	if n%5 == 4 {
		rated := entry("f" + id)
		rated.UserID = user
		if _, _, err := l.store.SetFeedback(ctx, user, "r"+id, chat.Feedback{Rating: chat.Up}, rated); err != nil {
			return fmt.Errorf("feedback: %w", err)
		}
	}
	if n%7 == 6 {
		deleted := entry("d" + id)
		deleted.UserID = user
		if err := l.store.DeleteConversation(ctx, user, conversation, deleted); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		l.forget(user, func(message string) bool {
			var at int
			fmt.Sscanf(message[1:], fmt.Sprintf("%d-%%d", u), &at) // else it is 0
			return at/7 == n/7
		})
	}
	if n%20 == 19 && u%2 == 0 {
		if _, err := l.store.StopRuns(ctx, user, time.Now()); err != nil {
			return fmt.Errorf("stop runs: %w", err)
		}
		if known, err := l.store.DeclareErasure(ctx, erasure(user), appended); err != nil || !known {
			return fmt.Errorf("declare: %v, %w", known, err)
		}
		for more := true; more; {
			if more, err = l.store.EraseSome(ctx, erasure(user), 10); err != nil {
				return fmt.Errorf("erase: %w", err)
			}
		}
		l.forget(user, func(string) bool { return true })
	}
	return nil
}

func (l *turns) note(user, message, content string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[[2]string{user, message}] = content
}

func (l *turns) forget(user string, which func(message string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key := range l.held {
		if key[0] == user && which(key[1]) {
			delete(l.held, key)
			l.gone[key] = true
		}
	}
}

// wait waits until so many more turns have ended.
func (l *turns) wait(more int64) {
	for until := l.done.Load() + more; l.done.Load() < until; {
		time.Sleep(10 * time.Millisecond)
	}
}

func (l *turns) stop() {
	l.cancel()
	l.all.Wait()
}

// check compares the messages of the load with what was acknowledged.
func (l *turns) check(t *testing.T) {
	t.Helper()
	t.Logf("%d turns, the longest took %s; %d messages were deleted", l.done.Load(), time.Duration(l.longest.Load()).Round(time.Millisecond), len(l.gone))
	for _, err := range l.failed {
		t.Error(err)
	}
	found := map[[2]string]string{}
	for _, row := range query(t, l.store.DB(), "SELECT user_id, id, content FROM chat_messages WHERE user_id LIKE 'load%'") {
		found[[2]string{row[0], row[1]}] = row[2]
	}
	if diff := cmp.Diff(l.held, found); diff != "" {
		t.Errorf("messages (-acknowledged +stored):\n%s", diff)
	}
	if len(l.gone) == 0 {
		t.Error("nothing was deleted")
	}
}

// waitUntil waits for a condition, for as long as the test may take.
func waitUntil(t *testing.T, what string, met func() bool) {
	t.Helper()
	for until := time.Now().Add(2 * time.Minute); !met(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("it never came true: %s", what)
		}
	}
}

// A row that is being deleted while it is copied does not come back: the copy waits
// for the deletion.
func TestPartition_DeletedWhileCopied(t *testing.T) {
	t.Parallel()
	url := testdb.Postgres(t)
	store := open(t, sqlstore.Options{URL: url, MaxConns: 4})
	for _, user := range []string{"ann", "bob"} {
		storeTurn(t, store, user, "c-"+user, chat.Completed, "of "+user, time.Now(), time.Millisecond)
	}
	// The triggers are there, and the copy of the first table, audit_logs, has begun.
	first := testdb.Partition(t, url, "partitions=2", "batch=1", "pause=600")
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	progress := func(table string) (copied int, complete bool) {
		store.DB().QueryRow("SELECT copied, complete FROM public_move.progress WHERE name = $1", table).Scan(&copied, &complete) // 0 until the table is there
		return copied, complete
	}
	waitUntil(t, "the copy has begun", func() bool { n, _ := progress("audit_logs"); return n > 0 })
	first.Process.Kill() // Wait tells
	first.Wait()         // it was killed
	tx, err := store.DB().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec("SET LOCAL idle_in_transaction_session_timeout = 0; DELETE FROM chat_messages WHERE user_id = 'bob'"); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "its session has ended", func() bool { return movingSessions(t, store, "") == 0 })
	second := testdb.Partition(t, url, "partitions=2")
	var out bytes.Buffer
	second.Stdout, second.Stderr = &out, &out
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the copy waits for the deletion, or is done", func() bool {
		_, complete := progress("chat_messages")
		_, others := progress("audit_logs")
		return complete || others && movingSessions(t, store, "AND wait_event_type = 'Lock'") > 0
	})
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := second.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if n := count(t, store, "chat_messages"); n != 2 {
		t.Errorf("%d messages", n)
	}
}

// movingSessions counts the sessions of deploy/scale/partition.sql.
func movingSessions(t *testing.T, store *sqlstore.Store, which string) (n int) {
	t.Helper()
	err := store.DB().QueryRow("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'parley partition' AND datname = current_database() " + which).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The restricted role, with its policies, writes while tables are moved and afterwards,
// and backs divided tables up. It reaches no partition past the policies.
func TestPartition_RestrictedRole(t *testing.T) {
	t.Parallel()
	url := testdb.Postgres(t)
	owner := open(t, sqlstore.Options{URL: url})
	app, role := appRole(t, owner)
	store := open(t, sqlstore.Options{URL: app, RowSecurity: true})
	execAll(t, owner, "SELECT chat_enable_row_security()")
	turn := func(id string) {
		t.Helper()
		storeTurn(t, store, "ann", "c-"+id, chat.Completed, id, time.Now(), time.Millisecond)
	}
	turn("before")
	partition(t, url, "partitions=3", "stop=verified")
	turn("meanwhile")
	if err := store.DeleteConversation(t.Context(), "ann", "c-before", entry("deleted")); err != nil {
		t.Fatal(err)
	}
	partition(t, url, "partitions=3")
	turn("after")
	if open, _, err := store.UnprotectedTables(t.Context()); err != nil || len(open) > 0 {
		t.Errorf("without policies: %v, %v", open, err)
	}
	if missing, err := store.MissingRights(t.Context()); err != nil || len(missing) > 0 {
		t.Errorf("%v, %v", missing, err)
	}
	if n := count(t, owner, "chat_messages"); n != 4 {
		t.Errorf("%d messages", n)
	}
	backedUp(t, store, nil)
	for _, row := range query(t, owner.DB(), "SELECT relname::text FROM pg_class WHERE relnamespace = 'public_partitions'::regnamespace AND relkind = 'r'") {
		if _, err := store.DB().Exec("SELECT FROM public_partitions." + row[0]); err == nil {
			t.Errorf("%s reads %s", role, row[0])
		}
	}
}
