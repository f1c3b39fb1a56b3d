package sqlstore_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/uptrace/bun"

	"parley/adapters/sqlstore"
	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/webhook"
	"parley/platform/testing/testdb"
	"parley/ports"
	"parley/ports/portstest"
)

// TestRowSecurity holds the store to the contract with row-level security on, as a
// role that owns the tables and is held to it all the same.
func TestRowSecurity(t *testing.T) {
	t.Parallel()
	portstest.Store(t, func(t testing.TB) portstest.StoreBundle {
		store, _ := openRowSecurity(t)
		return bundle(store)
	})
}

// openRowSecurity opens a store with row-level security on. Its role owns the
// tables and is no superuser, as the other store's is.
func openRowSecurity(t testing.TB, hooks ...bun.QueryHook) (store, super *sqlstore.Store) {
	t.Helper()
	super = open(t, sqlstore.Options{URL: testdb.PostgresOwned(t)})
	return migrated(t, sqlstore.Options{URL: as(t, super, testdb.Owner, "secret"), RowSecurity: true, Hooks: hooks}), super
}

// TestRowSecurity_WithoutWhere runs statements without a WHERE clause, in
// the scope of one of two users, on every table.
func TestRowSecurity_WithoutWhere(t *testing.T) {
	store, _ := openRowSecurity(t)
	if err := store.CheckRowSecurity(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"ann", "bob"} {
		a := sending(user, "hi")
		a.Run.ConversationID, a.CreateConversation = "conv-"+user, true
		out, err := store.Admit(t.Context(), a, chat.Admit)
		if err != nil {
			t.Fatal(err)
		}
		points := []chat.Checkpoint{{UserID: user, RunID: out.Run.ID, Attempt: 1, New: chat.TextOutput("ho")}}
		if fenced, err := store.Checkpoint(t.Context(), "here", points); err != nil || len(fenced) > 0 {
			t.Fatalf("checkpoint: fenced %v, %v", fenced, err)
		}
		if err := store.AddUsage(t.Context(), user, 1, 1, time.Now()); err != nil {
			t.Fatal(err)
		}
		key := access.Key{ID: "key-" + user, UserID: user, Name: "k", Hash: "h", CreatedAt: time.Now()}
		if err := store.CreateKey(t.Context(), key, audited(user, "audit-key-"+user, audit.Success)); err != nil {
			t.Fatal(err)
		}
		if err := store.AddEvents(t.Context(), webhook.New(webhook.BudgetReached, user, "key", time.Now(), nil)); err != nil {
			t.Fatal(err)
		}
		file := chat.File{ID: "file-" + user, UserID: user, Name: "f", MediaType: "text/plain", Size: 1, Blob: "b", CreatedAt: time.Now()}
		if err := store.BeginUpload(t.Context(), file, func(int64) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if _, err := store.DB().Exec("INSERT INTO chat_feedback SELECT user_id, id, 'up', '', created_at FROM chat_messages WHERE user_id = $1", user); err != nil {
			t.Fatal(err)
		}
		share := chat.Share{ID: "share-" + user, UserID: user, ConversationID: "conv-" + user, LeafID: out.UserMessage.ID, Digest: chat.ShareDigest(user), CreatedAt: time.Now()}
		if err := store.CreateShare(t.Context(), share, func(int) error { return nil }, audited(user, "audit-share-"+user, audit.Success)); err != nil {
			t.Fatal(err)
		}
		for _, insert := range []string{
			"INSERT INTO chat_search_segments SELECT user_id, 0, 0, false, created_at, created_at, id FROM chat_messages WHERE user_id = $1",
			"INSERT INTO chat_search_buckets SELECT user_id, segment, 1, '\\x00' FROM chat_search_segments WHERE user_id = $1",
			"INSERT INTO chat_search_late SELECT user_id, id FROM chat_messages WHERE user_id = $1",
		} {
			if _, err := store.DB().Exec(insert, user); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := store.DB().Exec("INSERT INTO chat_message_files SELECT user_id, id, $1 FROM chat_messages WHERE user_id = $2", file.ID, user); err != nil {
			t.Fatal(err)
		}
	}
	before := census(t, store)
	// What a statement changes, put back by an error at the end.
	within := func(t *testing.T, user, statement string) (n int64, err error) {
		t.Helper()
		undo := errors.New("undo")
		err = store.Within(t.Context(), user, func(ctx context.Context, tx bun.IDB) error {
			done, err := tx.ExecContext(ctx, statement)
			if err != nil {
				return err
			}
			if n, err = done.RowsAffected(); err != nil {
				return err
			}
			return undo
		})
		if errors.Is(err, undo) {
			err = nil
		}
		return n, err
	}
	for _, table := range sqlstore.RLSTables {
		t.Run(table, func(t *testing.T) {
			mine := before[table+" ann"]
			if mine == 0 || before[table+" bob"] == 0 {
				t.Fatalf("nothing to see: %v", before)
			}
			for _, verb := range []string{"SELECT user_id FROM " + table, "UPDATE " + table + " SET user_id = user_id", "DELETE FROM " + table} {
				if table == "audit_logs" && !strings.HasPrefix(verb, "SELECT") {
					continue // its triggers refuse both for every role; see below
				}
				if n, err := within(t, "ann", verb); err != nil || n != mine {
					t.Errorf("%s: %d rows, %v; ann has %d", verb, n, err, mine)
				}
				if n, err := within(t, "nobody", verb); err != nil || n != 0 {
					t.Errorf("%s as a stranger: %d rows, %v", verb, n, err)
				}
				if n, err := within(t, "", verb); err != nil || n != 0 {
					t.Errorf("%s as nobody: %d rows, %v", verb, n, err)
				}
			}
			for _, verb := range []string{"UPDATE " + table + " SET user_id = 'bob'", "INSERT INTO " + table + " SELECT (jsonb_populate_record(t, '{\"user_id\": \"bob\"}')).* FROM " + table + " AS t"} {
				if _, err := within(t, "ann", verb); err == nil || !strings.Contains(err.Error(), "42501") {
					t.Errorf("%s: %v, not a refusal", verb, err)
				}
			}
		})
	}
	t.Run("audit_logs/Update", func(t *testing.T) { // as it is allowed: pending ones are completed
		n, err := within(t, "ann", "UPDATE audit_logs SET status = 'success' WHERE status = 'pending'")
		if err != nil || n != 1 {
			t.Errorf("%d rows, %v; ann has one pending entry", n, err)
		}
	})
	if diff := cmp.Diff(before, census(t, store)); diff != "" {
		t.Errorf("rows changed (-before +after):\n%s", diff)
	}
	t.Run("LeavesNothingBehind", func(t *testing.T) { // the scope ends with its transaction
		db := raw(store)
		db.SetMaxOpenConns(1)
		var users int
		if err := db.QueryRow("SELECT count(*) FROM chat_users").Scan(&users); err != nil || users != 2 {
			t.Errorf("%d users, %v", users, err)
		}
	})
}

// TestRowSecurity_Role sets the scope for a role, so that a session that declares
// nothing sees nothing.
func TestRowSecurity_Role(t *testing.T) {
	store, super := openRowSecurity(t)
	if _, err := store.Admit(t.Context(), sending("ann", "hi"), chat.Admit); err != nil {
		t.Fatal(err)
	}
	db := raw(store)
	var database string
	if err := db.QueryRow("SELECT current_database()").Scan(&database); err != nil {
		t.Fatal(err)
	}
	execAll(t, super, "ALTER ROLE "+testdb.Owner+" IN DATABASE "+database+" SET parley.scope = 'user'")
	db.SetMaxIdleConns(0) // settings of a role are for new sessions
	var users int
	if err := db.QueryRow("SELECT count(*) FROM chat_users").Scan(&users); err != nil || users != 0 {
		t.Errorf("%d users, %v", users, err)
	}
	if list, _, err := store.Messages(t.Context(), "ann", "", ports.Page{Limit: 10}); err != nil || len(list) != 1 {
		t.Errorf("%d messages, %v", len(list), err)
	}
	if held, err := store.Heartbeat(t.Context(), "here", nil, time.Minute); err != nil || len(held) != 1 {
		t.Errorf("%d runs held, %v", len(held), err)
	}
}

// TestRowSecurity_Superuser refuses a role that row-level security does not apply to.
func TestRowSecurity_Superuser(t *testing.T) {
	url := testdb.Postgres(t)
	store := migrated(t, sqlstore.Options{URL: url, RowSecurity: true})
	if err := store.CheckRowSecurity(t.Context()); err == nil || !strings.Contains(err.Error(), "BYPASSRLS") {
		t.Errorf("got %v", err)
	}
	if err := open(t, sqlstore.Options{URL: url}).CheckRowSecurity(t.Context()); err != nil {
		t.Errorf("without the option: %v", err)
	}
}

// census counts the rows of each user, without a scope.
func census(t *testing.T, store *sqlstore.Store) map[string]int64 {
	t.Helper()
	counts := map[string]int64{}
	for _, table := range sqlstore.RLSTables {
		found, err := store.DB().Query("SELECT user_id, count(*) FROM " + table + " GROUP BY user_id")
		if err != nil {
			t.Fatal(err)
		}
		defer found.Close()
		for found.Next() {
			var user string
			var n int64
			if err := found.Scan(&user, &n); err != nil {
				t.Fatal(err)
			}
			counts[table+" "+user] = n
		}
		if err := found.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return counts
}

// Every table has the policy, in the same words: one that knew no groups of users
// would refuse what a group writes.
func TestRowSecurity_OnePolicy(t *testing.T) {
	store := openPostgres(t)
	var policies int
	var tables []string
	err := store.DB().QueryRow("SELECT count(DISTINCT qual || coalesce(with_check, '')) FROM pg_policies WHERE schemaname = current_schema()").Scan(&policies)
	if err == nil {
		err = raw(store).NewRaw("SELECT tablename FROM pg_policies WHERE schemaname = current_schema() ORDER BY 1").Scan(t.Context(), &tables)
	}
	want := slices.Sorted(slices.Values(sqlstore.RLSTables))
	if err != nil || policies != 1 || !slices.Equal(tables, want) {
		t.Errorf("%d policies on %v, %v; want one on %v", policies, tables, err, want)
	}
}
