package sqlstore_test

import (
	"database/sql"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"parley/adapters/sqlstore"
	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/platform/testing/testdb"
)

// BenchmarkTurnCost measures what a turn costs Postgres, with all that a turn can
// ask for: an idempotency key, a budget, an audit entry and its seal, and a
// context of 40 messages of 600 bytes. pg-µs is the processor time of the
// sessions, WAL-B the bytes of the log.
func BenchmarkTurnCost(b *testing.B) { turnCost(b, testdb.Postgres(b)) }

// BenchmarkTurnCostPartitioned is BenchmarkTurnCost on tables that
// deploy/scale/partition.sql has divided.
func BenchmarkTurnCostPartitioned(b *testing.B) {
	for _, n := range []int{4, 16, 64} {
		for _, mode := range []string{"auto", "force_generic_plan", "force_custom_plan"} {
			b.Run(fmt.Sprintf("Partitions=%d/%s", n, mode), func(b *testing.B) {
				url := testdb.Postgres(b)
				partition(b, url, fmt.Sprintf("partitions=%d", n))
				testdb.Execute(b, url, "ALTER DATABASE "+databaseName(b, url)+" SET plan_cache_mode = "+mode)
				turnCost(b, url)
			})
		}
	}
}

// BenchmarkPartitionedStatements measures what single statements of a turn cost
// Postgres on tables with that many partitions, 0 for ordinary ones: the processor
// time of the session, the least of five runs.
func BenchmarkPartitionedStatements(b *testing.B) {
	for _, n := range []int{0, 4, 16, 64} {
		url := testdb.Postgres(b)
		partition(b, url, fmt.Sprintf("partitions=%d", n))
		store := migrated(b, sqlstore.Options{URL: url, MaxConns: 1})
		for i := range 400 {
			costedTurn(b, store, i, 20, 10)
		}
		execAll(b, store, "VACUUM ANALYZE", `CREATE FUNCTION loop(statement text, times int) RETURNS void LANGUAGE plpgsql AS $$
			DECLARE
				i int := 0;
			BEGIN
				WHILE i < times LOOP
					EXECUTE 'EXECUTE statement(' || i % 20 || ')';
					i := i + 1;
				END LOOP;
			END $$`)
		for _, statement := range []struct{ name, text string }{
			{"Recent", "SELECT content FROM chat_messages WHERE user_id = 'cm3x8k2p90000v8l4h7d1q' || lpad($1::text, 3, '0') AND conversation_id = 'x' ORDER BY created_at DESC, id DESC LIMIT 40"},
			{"Update", "UPDATE chat_runs SET stop_requested = false WHERE user_id = 'cm3x8k2p90000v8l4h7d1q' || lpad($1::text, 3, '0') AND id = 'x'"},
			{"Insert", "INSERT INTO audit_logs (user_id, id, action, resource, created_at, updated_at) VALUES ($1::text, gen_random_uuid()::text, 'x', 'x', now(), now())"},
		} {
			for _, mode := range []string{"force_generic_plan", "force_custom_plan", "auto"} {
				b.Run(fmt.Sprintf("Partitions=%d/%s/%s", n, statement.name, mode), func(b *testing.B) {
					execAll(b, store, "SET plan_cache_mode = "+mode, "PREPARE statement (int) AS "+statement.text)
					defer execAll(b, store, "DEALLOCATE statement")
					least := time.Duration(1 << 60)
					for range 5 {
						before := sessionsTime(b, store)
						execAll(b, store, fmt.Sprintf("SELECT loop('', %d)", b.N))
						least = min(least, sessionsTime(b, store)-before)
					}
					b.ReportMetric(float64(least.Nanoseconds())/1000/float64(b.N), "pg-µs")
				})
			}
		}
	}
}

func turnCost(b *testing.B, url string) {
	const users, context = 20, 40
	store := migrated(b, sqlstore.Options{URL: url, MaxConns: 2})
	n := 0
	turn := func() {
		costedTurn(b, store, n, users, context)
		n++
	}
	seal := func() {
		for more := true; more; {
			var err error
			_, more, err = store.Seal(b.Context(), 1000, func(last audit.Link, batch []audit.Unsealed) (links []audit.Link) {
				for _, fact := range batch {
					last = appended(last, audit.Link{Subject: fact.Subject.ID, EntryID: fact.EntryID, Kind: fact.Kind, SealedAt: time.Now()})
					links = append(links, last)
				}
				return links
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	for range users * context / 2 {
		turn()
	}
	seal()
	for _, statement := range []string{"VACUUM ANALYZE", "CHECKPOINT"} {
		if _, err := store.DB().Exec(statement); err != nil {
			b.Fatal(err)
		}
	}
	for range 2 * users {
		turn()
	}
	var turns, seals time.Duration
	var wal int64
	b.ResetTimer()
	for i := 0; i < b.N; i += 200 {
		cpu, at := sessionsTime(b, store), walPosition(b, store)
		for range min(200, b.N-i) {
			turn()
		}
		half := sessionsTime(b, store)
		seal()
		turns, seals, wal = turns+half-cpu, seals+sessionsTime(b, store)-half, wal+walPosition(b, store)-at
	}
	b.ReportMetric(float64(turns.Microseconds())/float64(b.N), "pg-µs")
	b.ReportMetric(float64(seals.Microseconds())/float64(b.N), "seal-µs")
	b.ReportMetric(float64(wal)/float64(b.N), "WAL-B")
}

// BenchmarkTurnsTogether measures what a turn of 64 callers costs Postgres and this
// process, with groups and without them. Each turn is of the kind that
// BenchmarkTurnCost measures, but for its seal.
func BenchmarkTurnsTogether(b *testing.B) {
	for _, grouped := range []bool{true, false} {
		b.Run(fmt.Sprintf("Grouped=%v", grouped), func(b *testing.B) {
			const users, callers, context = 1000, 64, 10
			store := migrated(b, sqlstore.Options{URL: testdb.Postgres(b), Ungrouped: !grouped, Timeout: time.Minute})
			together := turnsOf(b, store, users, callers, context)
			together(users * context / 2)
			for _, statement := range []string{"VACUUM ANALYZE", "CHECKPOINT"} {
				if _, err := store.DB().Exec(statement); err != nil {
					b.Fatal(err)
				}
			}
			together(2 * users)
			cpu, own, wal := sessionsTime(b, store), processTime(b), walPosition(b, store)
			b.ResetTimer()
			together(b.N)
			b.StopTimer()
			turns := float64(b.N)
			b.ReportMetric(turns/b.Elapsed().Seconds(), "turns/s")
			b.ReportMetric(float64((sessionsTime(b, store)-cpu).Microseconds())/turns, "pg-µs")
			b.ReportMetric(float64((processTime(b)-own).Microseconds())/turns, "own-µs")
			b.ReportMetric(float64(walPosition(b, store)-wal)/turns, "WAL-B")
		})
	}
}

// BenchmarkTurnsRowSecurity measures what row-level security costs a turn of 16
// callers: two stores, with and without it, take turns.
func BenchmarkTurnsRowSecurity(b *testing.B) {
	const users, callers, context, rounds = 300, 16, 10, 6
	scoped, _ := openRowSecurity(b)
	if err := scoped.CheckRowSecurity(b.Context()); err != nil {
		b.Fatal(err)
	}
	sides := []*struct {
		name     string
		store    *sqlstore.Store
		together func(n int)
		spent    time.Duration
	}{
		{name: "off", store: migrated(b, sqlstore.Options{URL: testdb.Postgres(b), Timeout: time.Minute})},
		{name: "on", store: scoped},
	}
	for _, s := range sides {
		s.together = turnsOf(b, s.store, users, callers, context)
		s.together(users * context / 2)
		if _, err := s.store.DB().Exec("VACUUM ANALYZE"); err != nil {
			b.Fatal(err)
		}
		s.together(users)
	}
	b.ResetTimer()
	for range rounds {
		for _, s := range sides {
			before := sessionsTime(b, s.store)
			s.together(b.N / rounds)
			s.spent += sessionsTime(b, s.store) - before
		}
	}
	for _, s := range sides {
		b.ReportMetric(float64(s.spent.Microseconds())/float64(b.N/rounds*rounds), s.name+"-pg-µs")
	}
}

// BenchmarkTurnsHeld measures how many pages of each table and its indexes
// Postgres visits for a turn while an open REPEATABLE READ transaction keeps every
// version of every row, and without it. 12,000 turns give each user 94.
func BenchmarkTurnsHeld(b *testing.B) {
	for _, held := range []bool{false, true} {
		b.Run(fmt.Sprintf("Held=%v", held), func(b *testing.B) {
			const users, callers, context = 128, 64, 10
			store := migrated(b, sqlstore.Options{URL: testdb.Postgres(b), Timeout: time.Minute, AcquireTimeout: time.Minute})
			together := turnsOf(b, store, users, callers, context)
			together(users * context / 2)
			for _, statement := range []string{"VACUUM ANALYZE", "CHECKPOINT"} {
				if _, err := store.DB().Exec(statement); err != nil {
					b.Fatal(err)
				}
			}
			if held {
				tx, err := store.DB().BeginTx(b.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
				if err != nil {
					b.Fatal(err)
				}
				defer tx.Rollback()
				if _, err := tx.Exec("SET LOCAL idle_in_transaction_session_timeout = 0; SELECT count(*) FROM chat_users"); err != nil { // it takes its snapshot here
					b.Fatal(err)
				}
			}
			before := pagesVisited(b, store)
			b.ResetTimer()
			together(b.N)
			b.StopTimer()
			all := int64(0)
			for table, n := range pagesVisited(b, store) {
				all += n - before[table]
				if each := float64(n-before[table]) / float64(b.N); each >= 5 {
					b.ReportMetric(each, table+"-pages")
				}
			}
			b.ReportMetric(float64(all)/float64(b.N), "pages")
		})
	}
}

// pagesVisited is how many pages of each table and its indexes the sessions of
// the database have looked at, as far as they have reported it.
func pagesVisited(b *testing.B, store *sqlstore.Store) map[string]int64 {
	b.Helper()
	time.Sleep(1500 * time.Millisecond) // a session that is idle reports within a second
	found, err := store.DB().Query(`SELECT relname, heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit, 0) + coalesce(idx_blks_read, 0)
		FROM pg_statio_user_tables`)
	if err != nil {
		b.Fatal(err)
	}
	defer found.Close()
	pages := map[string]int64{}
	for found.Next() {
		var table string
		var n int64
		if err := found.Scan(&table, &n); err != nil {
			b.Fatal(err)
		}
		pages[table] = n
	}
	if err := found.Err(); err != nil {
		b.Fatal(err)
	}
	return pages
}

// turnsOf returns what has callers make n turns of users, one user after another.
func turnsOf(b *testing.B, store *sqlstore.Store, users, callers, context int) (together func(n int)) {
	var next atomic.Int64
	return func(n int) {
		var group sync.WaitGroup
		last := next.Load() + int64(n)
		for range callers {
			group.Go(func() {
				for i := next.Add(1); i <= last; i = next.Add(1) {
					costedTurn(b, store, int(i), users, context)
				}
			})
		}
		group.Wait()
		next.Store(last)
	}
}

// costedTurn admits and ends one run.
func costedTurn(b *testing.B, store *sqlstore.Store, n, users, context int) {
	user := n % users
	id := fmt.Sprintf("0193f8a2-7c1e-7d3a-9b5f-%012d", n)
	a := sending(fmt.Sprintf("cm3x8k2p90000v8l4h7d1q%03d", user), fmt.Sprintf("%600s", id))
	a.Run.ID, a.Message.ID, a.Run.AuditID, a.Run.IdempotencyKey = "r"+id, "m"+id, "a"+id, "k"+id
	a.Run.ConversationID, a.CreateConversation, a.WhenBusy = fmt.Sprintf("0193f8a2-7c1e-7d3a-7b5f-%012d", user), true, chat.Queue
	a.Run.Hold, a.Budget = access.Hold{Tokens: 1000, Micros: 100}, access.Budget{DayTokens: 1 << 40, MonthMicros: 1 << 40, Replies: 5}
	a.Context, a.MaxQueue = context, 1000
	out, err := store.Admit(b.Context(), a, chat.Admit)
	if err != nil {
		b.Error(err)
		return
	}
	cost := int64(50)
	err = end(b.Context(), store, chat.Outcome{
		UserID: out.Run.UserID, RunID: out.Run.ID, Attempt: 1, ConversationID: out.Run.ConversationID,
		State: chat.Completed, Output: chat.TextOutput(a.Message.Content), Usage: chat.Usage{Input: 100, Output: 100}, CostMicros: &cost, At: time.Now(),
	})
	if err != nil {
		b.Error(err)
	}
}

// processTime is the processor time that this process has taken.
func processTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// walPosition is how many bytes of WAL were ever written.
func walPosition(b *testing.B, store *sqlstore.Store) (at int64) {
	b.Helper()
	if err := store.DB().QueryRow("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").Scan(&at); err != nil {
		b.Fatal(err)
	}
	return at
}

// sessionsTime is the processor time that the sessions of a database have taken.
func sessionsTime(b *testing.B, store *sqlstore.Store) (spent time.Duration) {
	b.Helper()
	found, err := store.DB().Query("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'")
	if err != nil {
		b.Fatal(err)
	}
	defer found.Close()
	for found.Next() {
		var pid int
		if err := found.Scan(&pid); err != nil {
			b.Fatal(err)
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
		if err != nil {
			b.Skip(err) // a server of another machine or another system
		}
		ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		spent += time.Duration(ns)
	}
	if err := found.Err(); err != nil {
		b.Fatal(err)
	}
	return spent
}
