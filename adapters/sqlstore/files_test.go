package sqlstore_test

import (
	"testing"
	"time"

	"parley/adapters/sqlstore"
	"parley/adapters/sqlstore/rows"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
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
	t.Parallel()
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

// A message refers to files that are ready and its user's own, all of them or it
// is refused as a whole; a file that a message refers to does not expire.
func TestFiles_Admission(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, store *sqlstore.Store) {
		ctx, now := t.Context(), time.Now().UTC()
		unlimited := func(int64) error { return nil }
		for id, user := range map[string]string{"mine": "ann", "other": "ann", "going": "ann", "foreign": "bob"} {
			f := chat.File{ID: id, UserID: user, Name: id + ".png", MediaType: "image/png", Size: 7, Blob: id, CreatedAt: now}
			if err := store.BeginUpload(ctx, f, unlimited); err != nil {
				t.Fatal(err)
			}
			if id == "going" {
				continue
			}
			if err := store.EndUpload(ctx, f, unlimited, audit.Entry{ID: "audit-" + id, Action: "a", Resource: "r", CreatedAt: now, UpdatedAt: now}); err != nil {
				t.Fatal(err)
			}
		}
		count := func(query string) (n int) {
			t.Helper()
			if err := store.DB().QueryRow(query).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		send := func(files ...string) (chat.Admitted, error) {
			a := sending("ann", "look")
			a.Message.Parts = []chat.Part{{Kind: chat.TextPart, Text: "look"}}
			for _, id := range files {
				a.Message.Parts = append(a.Message.Parts, chat.Part{Kind: chat.FilePart, ID: id, Name: "claimed", MediaType: "text/html", Size: 1})
			}
			return store.Admit(ctx, a, chat.Admit)
		}
		for _, id := range []string{"going", "foreign", "unknown"} {
			if _, err := send("mine", id); !fault.Is(err, fault.NotFound) || fault.As(err).Message != chat.FileNotFound().Message {
				t.Errorf("%s: %v", id, err)
			}
		}
		if n := count("SELECT (SELECT count(*) FROM chat_messages) + (SELECT count(*) FROM chat_message_files) + (SELECT count(*) FROM chat_files WHERE referenced_at IS NOT NULL)"); n != 0 {
			t.Errorf("%d rows are left of refused messages", n)
		}
		out, err := send("mine", "other", "mine")
		if err != nil {
			t.Fatal(err)
		}
		if p := out.UserMessage.Parts[1]; p.Name != "mine.png" || p.MediaType != "image/png" || p.Size != 7 {
			t.Errorf("the message believes its client about the file: %+v", p)
		}
		if n := count("SELECT count(*) FROM chat_message_files WHERE user_id = 'ann'"); n != 2 {
			t.Errorf("%d references", n)
		}
		expired, err := store.ExpireFiles(ctx, now.Add(time.Hour), 10, func(f chat.File) audit.Entry {
			return audit.Entry{ID: "audit-expired-" + f.ID, Action: "a", Resource: "r", CreatedAt: now, UpdatedAt: now}
		})
		if err != nil || expired != 2 {
			t.Errorf("%d expired, %v; want the upload that is going on and bob's", expired, err)
		}
		if n := count("SELECT count(*) FROM chat_files WHERE user_id = 'ann' AND state = 'ready'"); n != 2 {
			t.Errorf("%d files are left", n)
		}
	})
}
