package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"

	"parley/adapters/sqlstore"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/platform/testing/testenv"
	"parley/ports"
	"parley/ports/portstest"
)

// cluster is a primary with a standby that streams from it.
type cluster struct {
	primary, standby *testenv.Server
	databases        atomic.Int64
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{primary: testenv.StartPostgres(t)}
	c.standby = testenv.StartStandby(t, c.primary)
	return c
}

// database makes an empty database.
func (c *cluster) database(t testing.TB) (primary, standby string) {
	t.Helper()
	name := fmt.Sprintf("replicated_%d", c.databases.Add(1))
	c.exec(t, c.primary.URL(), "CREATE DATABASE "+name)
	at := func(s *testenv.Server) string { return strings.Replace(s.URL(), "/postgres?", "/"+name+"?", 1) }
	return at(c.primary), at(c.standby)
}

// open opens a migrated store whose replica is the standby, and waits until it is used.
func (c *cluster) open(t testing.TB, set ...func(*sqlstore.Options)) *sqlstore.Store {
	t.Helper()
	primary, standby := c.database(t)
	opt := sqlstore.Options{URL: primary, Replicas: []sqlstore.Replica{{URL: standby}}}
	for _, s := range set {
		s(&opt)
	}
	store := migrated(t, opt)
	readsReplica(t, store)
	return store
}

func (c *cluster) exec(t testing.TB, url, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// pause stops the standby from replaying until the function that it returns is called.
func (c *cluster) pause(t testing.TB) (resume func()) {
	t.Helper()
	c.exec(t, c.standby.URL(), "SELECT pg_wal_replay_pause()")
	return func() { c.exec(t, c.standby.URL(), "SELECT pg_wal_replay_resume()") }
}

// readsReplica reads until a replica answers.
func readsReplica(t testing.TB, store *sqlstore.Store) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		before := store.ReplicatedReads()[""]
		if _, _, err := store.Conversations(t.Context(), "nobody", ports.Page{Limit: 1}); err != nil {
			t.Fatalf("a read failed: %v", err)
		}
		if store.ReplicatedReads()[""] > before {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no replica is used: %v, %+v", store.ReplicatedReads(), store.Replicas())
		}
	}
}

// create makes a conversation whose title is a number.
func create(t testing.TB, store *sqlstore.Store, user, id string, title int) {
	t.Helper()
	now := time.Now()
	c := chat.Conversation{ID: id, UserID: user, Title: strconv.Itoa(title), LastMessageAt: now, CreatedAt: now, UpdatedAt: now}
	if _, err := store.CreateConversation(t.Context(), c, audited(user, "create-"+user+id, audit.Success)); err != nil {
		t.Fatal(err)
	}
}

func retitle(ctx context.Context, store *sqlstore.Store, user, id string, title int) error {
	_, err := store.UpdateConversation(ctx, user, id, ports.ConversationChange{Title: new(strconv.Itoa(title)), Now: time.Now()},
		audited(user, fmt.Sprint("title-", user, id, title), audit.Success))
	return err
}

func title(ctx context.Context, store *sqlstore.Store, user, id string) (int, error) {
	c, err := store.Conversation(ctx, user, id)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(c.Title)
}

// TestReplicas runs against a real standby.
func TestReplicas(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *cluster)
	}{
		{"EachMethod", replicasEachMethod},
		{"SameAudit", replicasSameAudit},
		{"PausedIsNeverStale", replicasPaused},
		{"NeverOlderThanAcknowledged", replicasHammered},
		{"RecoveryConflict", replicasConflict},
		{"RowSecurity", replicasRowSecurity},
		{"PgBouncer", replicasPgBouncer},
		{"Spread", replicasSpread},
		{"NoStandbyOfThisPrimary", replicasRefused},
		{"Frozen", replicasFrozen},
		{"KilledUnderLoad", replicasKilled},
		{"Promoted", replicasPromoted}, // the last one: it ends the replication
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, c) })
	}
}

// TestReplicas_Contract holds a store with a replica to the contract.
func TestReplicas_Contract(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	var stores []*sqlstore.Store
	portstest.Store(t, func(t testing.TB) portstest.StoreBundle {
		store := c.open(t)
		stores = append(stores, store)
		return bundle(store)
	})
	if n := stores[0].ReplicatedReads()[""]; n < 100 {
		t.Errorf("%d reads of the suite were answered by the replica", n)
	}
}

func replicasEachMethod(t *testing.T, c *cluster) {
	var there sync.Map // calls whose statements the replica was sent
	store := c.open(t, func(opt *sqlstore.Options) { opt.Replicas[0].Hooks = []bun.QueryHook{namesOf{&there}} })
	ctx, now := t.Context(), time.Now()
	storeTurn(t, store, "ann", "c1", chat.Completed, "1", now, time.Millisecond)
	share := chat.Share{ID: "s1", UserID: "ann", ConversationID: "c1", LeafID: "msg-1", Digest: chat.ShareDigest("token"), CreatedAt: now}
	if err := store.CreateShare(ctx, share, func(int) error { return nil }, audited("ann", "share", audit.Success)); err != nil {
		t.Fatal(err)
	}
	page := ports.Page{Limit: 10}
	for _, m := range []struct {
		name  string
		reads int64 // that a replica answers
		call  func() error
	}{
		{"Conversation", 1, func() error { _, err := store.Conversation(ctx, "ann", "c1"); return err }},
		{"Conversations", 1, func() error { _, _, err := store.Conversations(ctx, "ann", page); return err }},
		{"Messages", 1, func() error { _, _, err := store.Messages(ctx, "ann", "c1", page); return err }},
		{"Branch", 1, func() error { _, _, err := store.Branch(ctx, "ann", "c1", "current", 10); return err }},
		{"Search", 1, func() error { _, _, err := store.Search(ctx, "ann", "x", nil, 10); return err }},
		{"Shares", 1, func() error { _, err := store.Shares(ctx, "ann", "c1", now); return err }},
		{"SharedBranch", 2, func() error { _, _, err := store.SharedBranch(ctx, share.Digest, now, 10); return err }},
		{"FilesOf", 1, func() error { _, _, err := store.FilesOf(ctx, "ann", page); return err }},
		{"Usage", 1, func() error { _, err := store.Usage(ctx, "ann", now); return err }},
		{"Inspect", 2, func() error { return store.Inspect(ctx, func(ports.InspectionItem) error { return nil }) }},

		{"Message", 0, func() error { _, err := store.Message(ctx, "ann", "msg-1"); return err }},
		{"Run", 0, func() error { _, err := store.Run(ctx, "ann", "run-1"); return err }},
		{"Recent", 0, func() error { _, err := store.Recent(ctx, "ann", now); return err }},
		{"Heartbeat", 0, func() error { _, err := store.Heartbeat(ctx, "here", nil, time.Minute); return err }},
		{"ShareSource", 0, func() error { _, _, err := store.ShareSource(ctx, "ann", "c1", "current", 10); return err }},
		{"SharedFile", 0, func() error { return notFound(store.SharedFile(ctx, share.Digest, now, "f1")) }},
		{"File", 0, func() error { return notFound(store.File(ctx, "ann", "f1")) }},
		{"FileBytes", 0, func() error { _, err := store.FileBytes(ctx, "ann"); return err }},
		{"Key", 0, func() error { return notFound(store.Key(ctx, "ann", "k1")) }},
		{"Keys", 0, func() error { _, err := store.Keys(ctx, "ann"); return err }},
		{"Revocations", 0, func() error { _, err := store.Revocations(ctx, now); return err }},
		{"Disabled", 0, func() error { _, err := store.Disabled(ctx); return err }},
		{"Expired", 0, func() error { _, err := store.Expired(ctx, now, now, 1); return err }},
		{"AuditRoots", 0, func() error { _, err := store.AuditRoots(ctx); return err }},
		{"LastLink", 0, func() error { _, err := store.LastLink(ctx); return err }},
		{"Unsealed", 0, func() error { _, _, err := store.Unsealed(ctx); return err }},
		{"Erasures", 0, func() error { _, err := store.Erasures(ctx, time.Hour); return err }},
		{"EventQueue", 0, func() error { _, err := store.EventQueue(ctx); return err }},
		{"Events", 0, func() error { _, err := store.Events(ctx, ports.EventFilter{}); return err }},
		{"DirtySearch", 0, func() error { _, err := store.DirtySearch(ctx, 1); return err }},
		{"DeletedFiles", 0, func() error { _, err := store.DeletedFiles(ctx, 1); return err }},
		{"FilesByBlob", 0, func() error { _, err := store.FilesByBlob(ctx, "", "z", 1); return err }},
	} {
		for range 50 { // a busy machine may have the replica lag
			before := store.ReplicatedReads()
			if err := m.call(); err != nil {
				t.Fatalf("%s: %v", m.name, err)
			}
			after := store.ReplicatedReads()
			var all int64
			for why := range after {
				all += after[why] - before[why]
			}
			if all != m.reads {
				t.Fatalf("%s: %d reads may be answered by a replica, want %d", m.name, all, m.reads)
			}
			if after[""]-before[""] == m.reads {
				break
			}
			readsReplica(t, store)
		}
	}
	for _, name := range []string{"conversation", "conversations", "messages", "branch", "search", "shares", "share_of", "shared_branch", "files", "usage", "inspect_audit"} {
		if _, ok := there.LoadAndDelete(name); !ok {
			t.Errorf("the replica was sent no statement of %s", name)
		}
	}
	there.Delete("check_replica")
	there.Range(func(name, _ any) bool {
		t.Errorf("the replica was sent a statement of %v", name)
		return true
	})
}

func notFound[T any](_ T, err error) error {
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return fmt.Errorf("found, or %w", err)
}

// namesOf notes the calls that statements belong to.
type namesOf struct{ names *sync.Map }

func (h namesOf) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context {
	h.names.Store(sqlstore.StatementName(ctx), true)
	return ctx
}

func (namesOf) AfterQuery(context.Context, *bun.QueryEvent) {}

// An inspection finds the same in pages on a replica as in one snapshot of the primary,
// and returns the visitor's own error.
func replicasSameAudit(t *testing.T, c *cluster) {
	store := c.open(t)
	for i := range 30 {
		if err := store.Record(t.Context(), audited("ann", fmt.Sprint("e", i), audit.Success)); err != nil {
			t.Fatal(err)
		}
	}
	chained(t, store, 20) // and the rest waits
	inspected := func(store *sqlstore.Store) (list []string) {
		err := store.Inspect(t.Context(), func(e ports.InspectionItem) error {
			if e.Link != nil {
				list = append(list, fmt.Sprint(e.Link.Seq, " ", e.Link.EntryID, " ", e.Line.ID))
			} else {
				list = append(list, fmt.Sprint(e.Line.ID, " ", e.Queued))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	primary := open(t, sqlstore.Options{URL: storeURL(t, store, c.primary)})
	if d := cmp.Diff(inspected(primary), inspected(store)); d != "" {
		t.Errorf("(-primary +replica):\n%s", d)
	}
	stop := errors.New("stop")
	if err := store.Inspect(t.Context(), func(ports.InspectionItem) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

// storeURL is where the database of a store is on a server.
func storeURL(t testing.TB, store *sqlstore.Store, server *testenv.Server) string {
	t.Helper()
	var name string
	if err := raw(store).QueryRow("SELECT current_database()").Scan(&name); err != nil {
		t.Fatal(err)
	}
	return strings.Replace(server.URL(), "/postgres?", "/"+name+"?", 1)
}

// A standby that does not replay answers those who have missed nothing, and nobody else.
func replicasPaused(t *testing.T, c *cluster) {
	store := c.open(t)
	create(t, store, "ann", "c1", 1)
	readsReplica(t, store)
	resume := sync.OnceFunc(c.pause(t))
	defer resume()
	for n := 2; n < 30; n++ {
		if err := retitle(t.Context(), store, "ann", "c1", n); err != nil {
			t.Fatal(err)
		}
		if got, err := title(t.Context(), store, "ann", "c1"); err != nil || got != n {
			t.Fatalf("read %d, %v; wrote %d", got, err, n)
		}
	}
	reads, state := store.ReplicatedReads(), store.Replicas()[0]
	if reads["lagging"] < 28 || state.Used || state.Reason != "lagging" || state.Lag == nil || state.Lag.Bytes == 0 {
		t.Errorf("reads %v, replica %+v", reads, state)
	}
	resume()
	readsReplica(t, store)
	if got, err := title(t.Context(), store, "ann", "c1"); err != nil || got != 29 {
		t.Errorf("read %d, %v", got, err)
	}
}

// Users write through one instance, and read through another one at once, while the
// standby pauses again and again. No read is older than what was acknowledged before it
// began, or than what was read before.
func replicasHammered(t *testing.T, c *cluster) {
	a := c.open(t)
	b := open(t, sqlstore.Options{URL: storeURL(t, a, c.primary), Replicas: []sqlstore.Replica{{URL: storeURL(t, a, c.standby)}}})
	const users, writes = 4, 150
	var (
		all, writers sync.WaitGroup
		acknowledged [users]atomic.Int64
		ctx, stop    = context.WithCancel(t.Context())
	)
	defer all.Wait()
	defer stop()
	for u := range users {
		user := fmt.Sprint("user", u)
		create(t, a, user, "c1", 0)
		writers.Go(func() {
			for n := 1; n <= writes; n++ {
				if err := retitle(ctx, []*sqlstore.Store{a, b}[u%2], user, "c1", n); err != nil {
					t.Errorf("write: %v", err)
					return
				}
				acknowledged[u].Store(int64(n))
			}
		})
		for _, store := range []*sqlstore.Store{a, b} {
			all.Go(func() {
				last := 0
				for ctx.Err() == nil {
					least := max(last, int(acknowledged[u].Load()))
					got, err := title(ctx, store, user, "c1")
					if ctx.Err() != nil {
						return
					}
					if err != nil || got < least {
						t.Errorf("%s read %d, %v; %d was known before", user, got, err, least)
						return
					}
					last = got
				}
			})
		}
	}
	all.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			resume := c.pause(t)
			time.Sleep(20 * time.Millisecond << (i % 4)) // the last one is longer than reads wait
			resume()
			time.Sleep(200 * time.Millisecond)
		}
	})
	writers.Wait()
	if t.Failed() {
		return
	}
	readsReplica(t, b)
	t.Logf("reads of a: %v; of b: %v", a.ReplicatedReads(), b.ReplicatedReads())
	if a.ReplicatedReads()[""] < 20 || b.ReplicatedReads()[""] < 20 {
		t.Errorf("the replica was hardly used: %v, %v", a.ReplicatedReads(), b.ReplicatedReads())
	}
}

// A read that the standby cancels in order to go on replaying is done again on the
// primary.
func replicasConflict(t *testing.T, c *cluster) {
	c.exec(t, c.standby.URL(), "ALTER SYSTEM SET max_standby_streaming_delay = 0")
	c.exec(t, c.standby.URL(), "SELECT pg_reload_conf()")
	store := c.open(t)
	create(t, store, "ann", "c1", 1)
	readsReplica(t, store)
	watcher, err := pgx.Connect(t.Context(), storeURL(t, store, c.standby))
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close(context.Background())
	cleanUp := func() { // once the read has its snapshot
		for begun := false; !begun; {
			err := watcher.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'PgSleep')").Scan(&begun)
			if err != nil {
				t.Errorf("look for the read: %v", err)
				return
			}
		}
		for _, sql := range []string{"UPDATE chat_conversations SET title = title || 'x'", "VACUUM chat_conversations"} {
			if _, err := store.DB().Exec(sql); err != nil {
				t.Errorf("%s: %v", sql, err)
			}
		}
	}
	var cleaning sync.WaitGroup
	defer cleaning.Wait()
	tries, got := 0, 0
	err = store.ReadReplicated(t.Context(), "ann", func(ctx context.Context, db bun.IDB) error {
		if tries++; tries > 1 {
			return db.QueryRowContext(ctx, "SELECT count(*) FROM chat_conversations").Scan(&got)
		}
		cleaning.Go(cleanUp)
		return db.QueryRowContext(ctx, "SELECT count(*) FROM chat_conversations, pg_sleep(15)").Scan(&got)
	})
	if err != nil || tries != 2 || got != 1 || store.ReplicatedReads()["conflict"] != 1 {
		t.Errorf("%v after %d tries: %d, reads %v", err, tries, got, store.ReplicatedReads())
	}
	if state := store.Replicas()[0]; !state.Used {
		t.Errorf("the replica is not used any more: %+v", state)
	}
}

// Row-level security holds on a replica, and one whose role it does not apply to is not
// read.
func replicasRowSecurity(t *testing.T, c *cluster) {
	super := c.open(t)
	c.exec(t, storeURL(t, super, c.primary), "CREATE ROLE reader LOGIN; GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO reader; GRANT EXECUTE ON FUNCTION chat_enable_row_security() TO reader")
	as := func(server *testenv.Server) string {
		return strings.Replace(storeURL(t, super, server), "parley@", "reader@", 1)
	}
	for _, user := range []string{"ann", "bob"} {
		create(t, super, user, "c-"+user, 1)
	}
	store := open(t, sqlstore.Options{URL: as(c.primary), RowSecurity: true, Replicas: []sqlstore.Replica{{URL: as(c.standby)}}})
	if err := store.CheckRowSecurity(t.Context()); err != nil {
		t.Fatal(err)
	}
	readsReplica(t, store)
	before, seen := store.ReplicatedReads()[""], 0
	for range 20 {
		err := store.ReadReplicated(t.Context(), "ann", func(ctx context.Context, db bun.IDB) error {
			return db.QueryRowContext(ctx, "SELECT count(*) FROM chat_conversations").Scan(&seen)
		})
		if err != nil || seen != 1 {
			t.Fatalf("a statement without a WHERE clause saw %d rows, %v", seen, err)
		}
	}
	if store.ReplicatedReads()[""] == before {
		t.Errorf("no read was answered by the replica: %v", store.ReplicatedReads())
	}
	open := open(t, sqlstore.Options{URL: as(c.primary), RowSecurity: true, Replicas: []sqlstore.Replica{{URL: storeURL(t, super, c.standby)}}})
	if got, err := title(t.Context(), open, "ann", "c-ann"); err != nil || got != 1 || open.ReplicatedReads()[""] > 0 {
		t.Errorf("read %d, %v; reads %v", got, err, open.ReplicatedReads())
	}
	if state := open.Replicas()[0]; state.Reason != "refused" || !strings.Contains(fmt.Sprint(state.Err), "row-level security") {
		t.Errorf("%+v", state)
	}
}

func replicasPgBouncer(t *testing.T, c *cluster) {
	primary, standby := bouncer(t, c.primary.URL()), bouncer(t, c.standby.URL())
	direct := c.open(t)
	store := open(t, sqlstore.Options{URL: primary(storeURL(t, direct, c.primary)), Replicas: []sqlstore.Replica{{URL: standby(storeURL(t, direct, c.standby))}}})
	create(t, store, "ann", "c1", 0)
	readsReplica(t, store)
	for n := 1; n < 50; n++ {
		if err := retitle(t.Context(), direct, "ann", "c1", n); err != nil {
			t.Fatal(err)
		}
		if got, err := title(t.Context(), store, "ann", "c1"); err != nil || got != n {
			t.Fatalf("read %d, %v; wrote %d", got, err, n)
		}
	}
	if reads := store.ReplicatedReads(); reads[""] < 5 {
		t.Errorf("reads: %v", reads)
	}
}

// Several replicas are read in turn, and one that is broken costs nothing.
func replicasSpread(t *testing.T, c *cluster) {
	var one, two sync.Map
	store := c.open(t, func(opt *sqlstore.Options) {
		at := opt.Replicas[0].URL
		opt.Replicas = []sqlstore.Replica{
			{URL: at, Hooks: []bun.QueryHook{namesOf{&one}}},
			{URL: "postgres://parley@127.0.0.1:1/none"},
			{URL: strings.Replace(at, "127.0.0.1", "localhost", 1), Hooks: []bun.QueryHook{namesOf{&two}}},
		}
	})
	for deadline := time.Now().Add(time.Minute); ; readsReplica(t, store) {
		_, first := one.Load("conversations")
		_, second := two.Load("conversations")
		if first && second {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the first is read: %v, the second: %v; %v", first, second, store.ReplicatedReads())
		}
	}
	if states := store.Replicas(); states[1].Used || states[1].Reason != "unreachable" || states[1].Name != "127.0.0.1:1" {
		t.Errorf("%+v", states[1])
	}
}

// Servers with other data are not read, even though they answer.
func replicasRefused(t *testing.T, c *cluster) {
	for name, url := range map[string]func(primary string) string{
		"ThePrimary":     func(primary string) string { return primary },
		"AnotherCluster": func(string) string { return testenv.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			primary, _ := c.database(t)
			store := migrated(t, sqlstore.Options{URL: primary, Replicas: []sqlstore.Replica{{URL: url(primary)}}})
			create(t, store, "ann", "c1", 7)
			if got, err := title(t.Context(), store, "ann", "c1"); err != nil || got != 7 {
				t.Errorf("read %d, %v", got, err)
			}
			if state := store.Replicas()[0]; state.Reason != "refused" || store.ReplicatedReads()[""] > 0 {
				t.Errorf("%+v, reads %v", state, store.ReplicatedReads())
			}
		})
	}
}

// While a standby is frozen, connections stay open and nothing answers. Only the first
// reads wait for it.
func replicasFrozen(t *testing.T, c *cluster) {
	var sent sentTo
	store := c.open(t, func(opt *sqlstore.Options) { opt.Replicas[0].Hooks = []bun.QueryHook{&sent} })
	create(t, store, "ann", "c1", 7)
	readsReplica(t, store)
	c.standby.Pause()
	defer c.standby.Resume()
	sent.reads.Store(0)
	for range 100 {
		if got, err := title(t.Context(), store, "ann", "c1"); err != nil || got != 7 {
			t.Fatalf("read %d, %v", got, err)
		}
	}
	if waited := sent.reads.Load(); waited > 3 {
		t.Errorf("%d reads of 100 waited for the frozen replica", waited)
	}
	if state := store.Replicas()[0]; state.Used || state.Reason != "unreachable" {
		t.Errorf("%+v", state)
	}
	c.standby.Resume()
	readsReplica(t, store)
}

// sentTo counts the statements of reads.
type sentTo struct{ reads atomic.Int64 }

func (h *sentTo) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context {
	if sqlstore.StatementName(ctx) != "check_replica" {
		h.reads.Add(1)
	}
	return ctx
}

func (*sentTo) AfterQuery(context.Context, *bun.QueryEvent) {}

// No read fails when a standby is killed, and it is used again when it is back.
func replicasKilled(t *testing.T, c *cluster) {
	store := c.open(t)
	create(t, store, "ann", "c1", 7)
	var all sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				if got, err := title(context.WithoutCancel(ctx), store, "ann", "c1"); err != nil || got != 7 {
					t.Errorf("read %d, %v", got, err)
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	readsReplica(t, store)
	c.standby.Kill9()
	for deadline := time.Now().Add(time.Minute); store.ReplicatedReads()["unreachable"] < 20 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	c.standby.Restart()
	readsReplica(t, store)
	stop()
	all.Wait()
	t.Logf("reads: %v", store.ReplicatedReads())
}

// A standby that was promoted is another primary, with data of its own.
func replicasPromoted(t *testing.T, c *cluster) {
	store := c.open(t)
	create(t, store, "ann", "c1", 7)
	readsReplica(t, store)
	c.exec(t, c.standby.URL(), "SELECT pg_promote()")
	c.exec(t, storeURL(t, store, c.standby), "DELETE FROM chat_conversations")
	for range 20 {
		if got, err := title(t.Context(), store, "ann", "c1"); err != nil || got != 7 {
			t.Fatalf("read %d, %v", got, err)
		}
	}
	if state := store.Replicas()[0]; state.Used || state.Reason != "refused" {
		t.Errorf("%+v", state)
	}
}
