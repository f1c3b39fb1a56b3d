package sqlstore_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/adapters/sqlstore"
	"parley/adapters/sqlstore/rows"
	"parley/domain/chat"
	"parley/platform/testing/testdb"
	"parley/ports"
)

// searchWords are common and rare, in several scripts.
var searchWords = strings.Fields("the of and house water Straße Rechnung 東京 人工智能 привет мир مرحبا 🎉 naïve light green apple number seven")

// fillSearch stores n messages of a user, a second apart, the last one at end. The
// text of each names its number.
func fillSearch(t testing.TB, store *sqlstore.Store, user, conversation string, from, n int, end time.Time) {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(from), 7))
	for at := 0; at < n; {
		var list []rows.Message
		for ; len(list) < 500 && at < n; at++ {
			text := fmt.Sprintf("no%dx", from+at)
			for range 8 {
				text += " " + searchWords[r.IntN(len(searchWords))]
			}
			list = append(list, rows.Message{UserID: user, ID: fmt.Sprintf("%s-%07d", conversation, from+at), ConversationID: conversation, Role: "user", Content: text,
				CreatedAt: rows.Time(end.Add(time.Duration(at-n) * time.Second))})
		}
		if _, err := raw(store).NewInsert().Model(&list).Exec(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

func indexAll(t testing.TB, store *sqlstore.Store, user string) (steps int) {
	t.Helper()
	for {
		more, err := store.IndexSome(context.Background(), user)
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return steps
		}
		steps++
	}
}

// searchAll reads all pages of a search.
func searchAll(t testing.TB, store *sqlstore.Store, user, text string) (ids []string) {
	t.Helper()
	var after *ports.SearchCursor
	for {
		hits, next, err := store.Search(context.Background(), user, text, after, 50)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hits {
			ids = append(ids, h.MessageID)
		}
		if after = next; next == nil {
			return ids
		}
	}
}

// BenchmarkSearch measures searches of one user with 1,000,000 messages (-messages
// sets another number): words that most, many, few and no messages have, and each
// of them together with another. p50 and p99 are of single searches of one page.
func BenchmarkSearch(b *testing.B) {
	for name, url := range map[string]func() string{
		"SQLite": func() string { return testdb.SQLite(b) }, "Postgres": func() string { return testdb.Postgres(b) },
	} {
		b.Run(name, func(b *testing.B) {
			store := migrated(b, sqlstore.Options{URL: url()})
			for c := range 100 {
				if _, err := store.CreateConversation(b.Context(), chat.Conversation{ID: fmt.Sprint("c", c), UserID: "ann", CreatedAt: time.Now()}, entry(fmt.Sprint("create ", c))); err != nil {
					b.Fatal(err)
				}
			}
			begun := time.Now()
			for c := range 100 {
				fillBench(b, store, "ann", fmt.Sprint("c", c), *searchMessages/100, time.Now().Add(-2*time.Hour-time.Duration(c)*24*time.Hour))
			}
			execAll(b, store, "ANALYZE")
			b.Logf("stored in %v", time.Since(begun))
			begun = time.Now()
			steps := indexAll(b, store, "ann")
			b.Logf("%d segments in %v", steps, time.Since(begun))
			execAll(b, store, "ANALYZE")
			var size int64
			if err := store.DB().QueryRow("SELECT sum(octet_length(content)) FROM chat_search_buckets").Scan(&size); err != nil {
				b.Fatal(err)
			}
			b.Logf("%d bytes of index a message", size/int64(*searchMessages))
			queries := []string{"common1", "common2 common3", "middle17", "middle3 middle71", "rare12345", "rare77 common1", "rare4711 rare815", "nowhere", "common1 nowhere", "ommon", "re12345"}
			var took []time.Duration
			b.ResetTimer()
			for n := range b.N {
				begun := time.Now()
				if _, _, err := store.Search(b.Context(), "ann", queries[n%len(queries)], nil, 20); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(begun))
			}
			b.StopTimer()
			if b.N >= len(queries) {
				for i, q := range queries {
					var of []time.Duration
					for n := i; n < b.N; n += len(queries) {
						of = append(of, took[n])
					}
					slices.Sort(of)
					fmt.Printf("%-20s p50 %6.1f ms, most %6.1f ms\n", q, of[len(of)/2].Seconds()*1e3, of[len(of)-1].Seconds()*1e3)
				}
			}
			slices.Sort(took)
			b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
			b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
		})
	}
}

var searchMessages = flag.Int("messages", 1_000_000, "messages of BenchmarkSearch")

// fillBench stores n messages of some 600 bytes: each has words that half of all
// messages have, some that one in a hundred has, and rare ones.
func fillBench(b *testing.B, store *sqlstore.Store, user, conversation string, n int, end time.Time) {
	b.Helper()
	r := rand.New(rand.NewPCG(uint64(len(conversation)), uint64(end.Unix())))
	for at := 0; at < n; {
		list := make([]rows.Message, 0, 1000)
		for ; len(list) < cap(list) && at < n; at++ {
			var text strings.Builder
			for text.Len() < 600 {
				switch k := r.IntN(10); {
				case k < 6:
					fmt.Fprintf(&text, "common%d ", r.IntN(30))
				case k < 9:
					fmt.Fprintf(&text, "middle%d ", r.IntN(3000))
				default:
					fmt.Fprintf(&text, "rare%d ", r.IntN(1_000_000))
				}
			}
			list = append(list, rows.Message{UserID: user, ID: fmt.Sprintf("%s-%07d", conversation, at), ConversationID: conversation, Role: "user", Content: text.String(),
				CreatedAt: rows.Time(end.Add(time.Duration(at-n) * time.Second))})
		}
		if _, err := raw(store).NewInsert().Model(&list).Exec(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSearchWrites measures what an index for the search would cost each
// message of 600 bytes on Postgres, in WAL and in the time of the insert, without
// its commit: ours, a GIN index over words and one over groups of three letters,
// each with its list of pending entries and with what becomes of it (vacuum).
func BenchmarkSearchWrites(b *testing.B) {
	for _, c := range []struct{ name, setup string }{
		{"None", "SELECT 1"},
		{"Ours", `CREATE TRIGGER late AFTER INSERT ON m FOR EACH ROW WHEN (NEW.created_at < clock_timestamp() - interval '10 minutes') EXECUTE FUNCTION chat_search_note_late()`},
		{"GINWords", "CREATE INDEX ON m USING gin (to_tsvector('simple', content))"},
		{"GINTrigrams", "CREATE EXTENSION pg_trgm; CREATE INDEX ON m USING gin (content gin_trgm_ops)"},
	} {
		b.Run(c.name, func(b *testing.B) {
			store := migrated(b, sqlstore.Options{URL: testdb.Postgres(b), MaxConns: 1, Timeout: time.Minute})
			execAll(b, store, `CREATE TABLE m (user_id text, id text, content text, created_at timestamptz, PRIMARY KEY (user_id, id))`, c.setup,
				`CREATE TABLE source AS SELECT n, (SELECT string_agg('word' || floor(power(random(), 3) * 20000 + g - g + n - n)::int, ' ') FROM generate_series(1, 65) AS g) AS content FROM generate_series(1, 2000) AS n`, "ALTER TABLE source ADD PRIMARY KEY (n)",
				"CHECKPOINT")
			count := func() (wal float64) {
				if err := store.DB().QueryRow("SELECT pg_current_wal_insert_lsn() - '0/0'").Scan(&wal); err != nil {
					b.Fatal(err)
				}
				return wal
			}
			b.ResetTimer()
			before := count()
			begun := time.Now()
			execAll(b, store, fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%d LOOP
				INSERT INTO m SELECT 'user' || i %% 100, 'id' || i, content, clock_timestamp() FROM source WHERE n = 1 + i %% 2000; END LOOP; END $$`, b.N))
			inserted, wal := time.Since(begun), count()-before
			execAll(b, store, "VACUUM m")
			b.StopTimer()
			b.ReportMetric(inserted.Seconds()*1e6/float64(b.N), "insert-us")
			b.ReportMetric(wal/float64(b.N), "insert-WAL-B")
			b.ReportMetric((count()-before)/float64(b.N), "all-WAL-B")
		})
	}
}
