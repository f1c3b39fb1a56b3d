package sqlstore_test

import (
	"testing"
	"time"

	"parley/adapters/sqlstore"
	"parley/adapters/sqlstore/rows"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/ports/portstest"
)

func TestFiles_SQLite(t *testing.T) {
	t.Parallel()
	portstest.FileStore(t, func(t testing.TB) portstest.FileStoreBundle { return fileBundle(openSQLite(t)) })
}

func TestFiles_Postgres(t *testing.T) {
	t.Parallel()
	portstest.FileStore(t, func(t testing.TB) portstest.FileStoreBundle { return fileBundle(openPostgres(t)) })
}

func fileBundle(store *sqlstore.Store) portstest.FileStoreBundle {
	return portstest.FileStoreBundle{
		Store:   store,
		Entries: func(t testing.TB, user string) []audit.Entry { return entries(t, store, user) },
	}
}

// A file goes with the last message that refers to it, however that goes.
func TestFiles_ReleasedWithTheirMessages(t *testing.T) {
	each(t, func(t *testing.T, store *sqlstore.Store) {
		ctx, now := t.Context(), time.Now().UTC()
		unlimited := func(int64) error { return nil }
		state := func(id string) (state string) {
			t.Helper()
			if err := store.DB().QueryRow("SELECT state FROM chat_files WHERE id = $1", id).Scan(&state); err != nil {
				t.Fatal(err)
			}
			return state
		}
		for _, id := range []string{"only", "both", "free"} {
			f := chat.File{ID: id, UserID: "ann", Name: id, MediaType: "text/plain", Size: 1, Blob: id, CreatedAt: now}
			if err := store.BeginUpload(ctx, f, unlimited); err != nil {
				t.Fatal(err)
			}
			if err := store.EndUpload(ctx, f, unlimited, audit.Entry{ID: "audit-" + id, Action: "a", Resource: "r", CreatedAt: now, UpdatedAt: now}); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []string{"c1", "c2"} {
			conversation := chat.Conversation{ID: c, UserID: "ann", LastMessageAt: now, CreatedAt: now, UpdatedAt: now}
			if _, err := store.CreateConversation(ctx, conversation, audit.Entry{ID: "audit-" + c, Action: "a", Resource: "r", CreatedAt: now, UpdatedAt: now}); err != nil {
				t.Fatal(err)
			}
			message := rows.Message{UserID: "ann", ID: "m-" + c, ConversationID: c, Role: "user", Content: "x", CreatedAt: now}
			if _, err := raw(store).NewInsert().Model(&message).Exec(ctx); err != nil {
				t.Fatal(err)
			}
		}
		execAll(t, store, `INSERT INTO chat_message_files (user_id, message_id, file_id) VALUES ('ann', 'm-c1', 'only'), ('ann', 'm-c1', 'both'), ('ann', 'm-c2', 'both')`)
		if err := store.DeleteConversation(ctx, "ann", "c1", audit.Entry{ID: "audit-d1", Action: "a", Resource: "r", CreatedAt: now, UpdatedAt: now}); err != nil {
			t.Fatal(err)
		}
		if state("only") != "deleted" || state("both") != "ready" || state("free") != "ready" {
			t.Errorf("only %s, both %s, free %s", state("only"), state("both"), state("free"))
		}
		if err := store.DeleteConversation(ctx, "ann", "c2", audit.Entry{ID: "audit-d2", Action: "a", Resource: "r", CreatedAt: now, UpdatedAt: now}); err != nil {
			t.Fatal(err)
		}
		if state("both") != "deleted" || state("free") != "ready" {
			t.Errorf("both %s, free %s", state("both"), state("free"))
		}
	})
}
