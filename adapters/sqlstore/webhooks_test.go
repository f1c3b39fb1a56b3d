package sqlstore_test

import (
	"testing"
	"time"

	"parley/adapters/sqlstore"
	"parley/domain/chat"
	"parley/domain/webhook"
	"parley/platform/testing/testdb"
	"parley/platform/testing/testenv"
	"parley/ports"
	"parley/ports/portstest"
)

func TestOutbox_SQLite(t *testing.T) {
	t.Parallel()
	portstest.Outbox(t, func(t testing.TB) portstest.OutboxBundle {
		return outboxBundle(migrated(t, sqlstore.Options{URL: testdb.SQLite(t), Webhooks: true}))
	})
}

func TestOutbox_Postgres(t *testing.T) {
	t.Parallel()
	portstest.Outbox(t, func(t testing.TB) portstest.OutboxBundle {
		return outboxBundle(migrated(t, sqlstore.Options{URL: testdb.Postgres(t), Webhooks: true}))
	})
}

func TestOutbox_PgBouncer(t *testing.T) {
	t.Parallel()
	through := bouncer(t, testenv.Postgres(t))
	portstest.Outbox(t, func(t testing.TB) portstest.OutboxBundle {
		return outboxBundle(migrated(t, sqlstore.Options{URL: through(testdb.Postgres(t)), Webhooks: true}))
	})
}

func outboxBundle(store *sqlstore.Store) portstest.OutboxBundle {
	return portstest.OutboxBundle{StoreBundle: bundle(store), Outbox: store, Log: store}
}

// Without a receiver, the end of a run writes nothing to the outbox.
func TestOutbox_OffWithoutAReceiver(t *testing.T) {
	store := openSQLite(t)
	finishOne(t, store, "ann")
	if got, err := store.Events(t.Context(), ports.EventFilter{}); err != nil || len(got) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// An erasure deletes a user's events, also of a user who never sent anything, and
// no others.
func TestErase_Webhooks(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, store *sqlstore.Store) {
		now := time.Now()
		finishOne(t, store, "ann")
		for _, user := range []string{"ann", "bob"} {
			for _, key := range []string{"a", "b"} {
				if err := store.AddEvents(t.Context(), webhook.New(webhook.BudgetReached, user, key, now, nil)); err != nil {
					t.Fatal(err)
				}
			}
		}
		e := erasure("ann")
		if _, err := store.DeclareErasure(t.Context(), e, appended); err != nil {
			t.Fatal(err)
		}
		for {
			more, err := store.EraseSome(t.Context(), e, 1)
			if err != nil {
				t.Fatal(err)
			}
			if !more {
				break
			}
		}
		left, err := store.Events(t.Context(), ports.EventFilter{})
		if err != nil || len(left) != 2 || left[0].UserID != "bob" || left[1].UserID != "bob" {
			t.Errorf("%+v, %v", left, err)
		}
	})
}

// finishOne makes and ends one run of a user.
func finishOne(t *testing.T, store *sqlstore.Store, user string) {
	t.Helper()
	out, err := store.Admit(t.Context(), sending(user, "hi"), chat.Admit)
	if err != nil {
		t.Fatal(err)
	}
	if err := end(t.Context(), store, chat.Outcome{UserID: user, RunID: out.Run.ID, Attempt: 1, State: chat.Completed,
		Output: chat.TextOutput("yes"), At: time.Now()}); err != nil {
		t.Fatal(err)
	}
}
