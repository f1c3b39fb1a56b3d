package sqlstore_test

import (
	"testing"
	"time"

	"parley/adapters/sqlstore"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/platform/testing/testdb"
)

// An instance that freezes in the middle of a transaction holds locks on its
// runs. They end before its leases do, so that another instance can take over,
// and it learns that the database is not there for it rather than of a defect.
func TestPostgres_FrozenInTransaction(t *testing.T) {
	t.Parallel()
	url := testdb.Postgres(t)
	frozen, other := migrated(t, sqlstore.Options{URL: url}), open(t, sqlstore.Options{URL: url})
	ctx := t.Context()
	now := time.Now()
	message := chat.Message{ID: "m", UserID: "u", Role: chat.User, Content: "hello", CreatedAt: now}
	_, err := frozen.Admit(ctx, chat.AdmitRequest{
		Run:     chat.Run{ID: "r", UserID: "u", Kind: chat.Reply, AuditID: "a", CreatedAt: now},
		Message: &message, Owner: "frozen", Lease: time.Millisecond, MaxQueue: 1, Context: 1, Now: now,
		Audit: audit.Entry{ID: "a", UserID: "u", Action: audit.ActionMessageSent, Resource: audit.ResourceMessage, CreatedAt: now, UpdatedAt: now},
	}, chat.Admit)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := frozen.DB().BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback() // its session is gone by then
	if _, err := tx.Exec("UPDATE chat_runs SET provider = 'half' WHERE id = 'r'"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Millisecond) // beyond the lease
	held, err := other.Claim(ctx, "other", time.Minute, 1)
	if err != nil || len(held) != 0 {
		t.Fatalf("claimed %d runs whose rows are locked (%v)", len(held), err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		held, err = other.Claim(ctx, "other", time.Minute, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(held) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a frozen transaction kept a run for a minute")
		}
	}
	if held[0].Attempt != 2 || held[0].Output.Text() != "" {
		t.Errorf("claimed attempt %d with text %q", held[0].Attempt, held[0].Output.Text())
	}
	if _, err := tx.Exec("UPDATE chat_runs SET provider = 'late' WHERE id = 'r'"); err == nil {
		t.Error("a late write was taken")
	}
	_, err = frozen.Checkpoint(ctx, "frozen", []chat.Checkpoint{{UserID: "u", RunID: "r", Attempt: 1, New: chat.TextOutput("late")}})
	if err != nil && !fault.Is(err, fault.Unavailable) {
		t.Errorf("the session that was ended shows as %v", err)
	}
}
