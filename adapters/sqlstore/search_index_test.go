//go:build !race

package sqlstore_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/adapters/sqlstore"
	"parley/adapters/sqlstore/textsearch"
	"parley/domain/chat"
)

// One goroutine searches thousands of messages here: the race detector would find
// nothing, and take 15 times as long. make test runs this test without it.

// With the index a search finds what it finds without: nothing more, nothing less,
// in the same order, whatever has been stored late or deleted meanwhile.
func TestSearch_IndexChangesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("searches thousands of messages")
	}
	t.Parallel()
	each(t, func(t *testing.T, store *sqlstore.Store) {
		const size = textsearch.SegmentSize
		now := time.Now()
		for _, c := range []string{"a", "b", "old"} {
			if _, err := store.CreateConversation(t.Context(), chat.Conversation{ID: c, UserID: "ann", CreatedAt: now}, entry("create "+c)); err != nil {
				t.Fatal(err)
			}
		}
		queries := []string{"rechnung", "strasse 東京", "人工 green", "智 light", "🎉 мир", "naive apple seven", "no17x", "no2500x", "o1", "nothing", "مرحبا light"}
		all := func() map[string][]string {
			out := map[string][]string{}
			for _, q := range queries {
				out[q] = searchAll(t, store, "ann", q)
			}
			return out
		}
		same := func(what string, change func()) {
			t.Helper()
			before := all()
			change()
			after := all()
			if what == "late" { // late messages are ranked beside the others of their time
				for _, found := range []map[string][]string{before, after} {
					for _, ids := range found {
						slices.Sort(ids)
					}
				}
			}
			if d := cmp.Diff(before, after); d != "" {
				t.Errorf("%s: the index has changed what is found:\n%.2000s", what, d)
			}
		}
		segments := func() (n int) {
			t.Helper()
			if err := store.DB().QueryRow("SELECT count(*) FROM chat_search_segments WHERE NOT dirty").Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		fillSearch(t, store, "ann", "a", 0, 2*size+size/2, now.Add(-2*time.Hour))
		fillSearch(t, store, "ann", "b", 5000, size, now) // the newest hour stays out of the index
		same("built", func() { indexAll(t, store, "ann"); execAll(t, store, "ANALYZE") })
		if n := segments(); n != 2 {
			t.Errorf("%d segments", n)
		}

		// What is stored late is found at once, and taken into the index.
		fillSearch(t, store, "ann", "old", 9000, 10, now.Add(-2*time.Hour-time.Duration(size)*time.Second))
		if got := searchAll(t, store, "ann", "no9005x"); !slices.Equal(got, []string{"old-0009005"}) {
			t.Errorf("a late message: %v", got)
		}
		same("late", func() {
			if indexAll(t, store, "ann") == 0 {
				t.Error("the index has not been changed")
			}
		})
		var late int
		if err := store.DB().QueryRow("SELECT count(*) FROM chat_search_late AS sl JOIN chat_messages AS m ON m.user_id = sl.user_id AND m.id = sl.message_id JOIN chat_search_segments AS ss ON ss.user_id = m.user_id AND m.created_at BETWEEN ss.begin_at AND ss.end_at").Scan(&late); err != nil || late != 0 {
			t.Errorf("%d late messages are behind, %v", late, err)
		}

		// What is deleted is not found, and its words leave the index.
		gone := "no9005x"
		if err := store.DeleteConversation(t.Context(), "ann", "old", entry("delete")); err != nil {
			t.Fatal(err)
		}
		if got := searchAll(t, store, "ann", gone); got != nil {
			t.Errorf("a deleted message: %v", got)
		}
		if users, err := store.DirtySearch(t.Context(), 5); err != nil || !slices.Equal(users, []string{"ann"}) {
			t.Errorf("dirty: %v, %v", users, err)
		}
		same("rebuilt", func() { indexAll(t, store, "ann") })
		if users, err := store.DirtySearch(t.Context(), 5); err != nil || len(users) > 0 {
			t.Errorf("dirty after all: %v, %v", users, err)
		}
		var left int
		if err := store.DB().QueryRow("SELECT count(*) FROM chat_search_buckets WHERE bucket < 0 AND CAST(content AS text) LIKE '%old-%'").Scan(&left); err != nil || left > 0 {
			t.Errorf("%d rows have ids of deleted messages, %v", left, err)
		}
		// An erasure leaves nothing of it.
		e := erasure("ann")
		if _, err := store.DeclareErasure(t.Context(), e, appended); err != nil {
			t.Fatal(err)
		}
		for more := true; more; {
			var err error
			if more, err = store.EraseSome(t.Context(), e, 2000); err != nil {
				t.Fatal(err)
			}
		}
		for _, of := range []string{"chat_search_segments", "chat_search_buckets", "chat_search_late"} {
			var n int
			if err := store.DB().QueryRow("SELECT count(*) FROM " + of).Scan(&n); err != nil || n > 0 {
				t.Errorf("%d rows are left in %s, %v", n, of, err)
			}
		}
		if got := searchAll(t, store, "bob", "the"); got != nil {
			t.Errorf("another user finds %d", len(got))
		}
	})
}
