package sqlstore_test

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/uptrace/bun"

	"parley/adapters/sqlstore"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/platform/testing/testdb"
	"parley/ports"
)

// chained seals what waits. The links are made without keys.
func chained(t *testing.T, store *sqlstore.Store, n int) []audit.Link {
	t.Helper()
	links, _, err := store.Seal(t.Context(), n, linked)
	if err != nil {
		t.Fatal(err)
	}
	return links
}

func linked(last audit.Link, batch []audit.Unsealed) (links []audit.Link) {
	for _, fact := range batch {
		last = appended(last, audit.Link{Subject: fact.Subject.ID, EntryID: fact.EntryID, Kind: fact.Kind, SealedAt: time.Now()})
		links = append(links, last)
	}
	return links
}

func appended(last, l audit.Link) audit.Link {
	l.Seq, l.Prev = last.Seq+1, last.Hash
	l.Hash[0] = byte(l.Seq)
	return l
}

func audited(user, id string, status audit.Status) audit.Entry {
	return audit.Entry{ID: id, UserID: user, Action: "a", Resource: "r", Status: status, CreatedAt: time.Now()}
}

func erasure(user string) ports.Erasure {
	return ports.Erasure{UserID: user, UserHash: "hash of " + user, At: time.Now()}
}

// TestAudit_AppendOnly tries what the triggers must refuse and what they must allow.
func TestAudit_AppendOnly(t *testing.T) {
	each(t, func(t *testing.T, store *sqlstore.Store) {
		db := raw(store)
		now := "2026-01-01 00:00:00+00:00"
		if err := store.Record(t.Context(), audited("ann", "done", audit.Success), audited("ann", "open", audit.Pending)); err != nil {
			t.Fatal(err)
		}
		chained(t, store, 10)
		for _, refused := range []string{
			"DELETE FROM audit_logs",
			"DELETE FROM audit_logs WHERE id = 'open'",
			"UPDATE audit_logs SET action = 'b' WHERE id = 'done'",
			"UPDATE audit_logs SET error_message = 'b' WHERE id = 'done'",
			"UPDATE audit_logs SET status = 'pending' WHERE id = 'done'",
			"UPDATE audit_logs SET status = 'failure' WHERE id = 'done'",
			"UPDATE audit_logs SET status = status WHERE id = 'done'",
			"UPDATE audit_logs SET updated_at = '" + now + "' WHERE id = 'open'",
			"UPDATE audit_logs SET status = 'success', user_id = 'bob' WHERE id = 'open'",
			"UPDATE audit_logs SET status = 'success', id = 'other' WHERE id = 'open'",
			"UPDATE audit_logs SET status = 'success', action = 'b' WHERE id = 'open'",
			"UPDATE audit_logs SET status = 'success', resource = 'b' WHERE id = 'open'",
			"UPDATE audit_logs SET status = 'success', resource_id = 'b' WHERE id = 'open'",
			`UPDATE audit_logs SET status = 'success', metadata = '{"a": 1}' WHERE id = 'open'`,
			"UPDATE audit_logs SET status = 'success', ip_address = '' WHERE id = 'open'",
			"UPDATE audit_logs SET status = 'success', user_agent = 'b' WHERE id = 'open'",
			"UPDATE audit_logs SET status = 'success', created_at = '" + now + "' WHERE id = 'open'",
			"DELETE FROM audit_chain WHERE seq = 2",
			"UPDATE audit_chain SET entry_id = 'b' WHERE seq = 1",
			"UPDATE audit_chain SET seq = 9 WHERE seq = 2",
			"DELETE FROM audit_keys",
			"UPDATE audit_keys SET user_id = 'bob'",
		} {
			refuse(t, db, refused)
		}
		if store.Dialect() == "postgres" {
			for _, table := range []string{"audit_logs", "audit_chain", "audit_keys"} {
				refuse(t, db, "TRUNCATE "+table)
			}
		} else {
			refuse(t, db, `INSERT OR REPLACE INTO audit_logs (user_id, id, action, resource, created_at, updated_at)
				VALUES ('ann', 'done', 'b', 'b', '`+now+"', '"+now+"')")
			refuse(t, db, "UPDATE OR REPLACE audit_logs SET status = 'success', id = 'done' WHERE id = 'open'")
		}
		if _, err := db.Exec("UPDATE audit_logs SET status = 'failure', error_message = 'timeout', updated_at = '" + now + "' WHERE id = 'open'"); err != nil {
			t.Errorf("an entry cannot be completed: %v", err)
		}
		refuse(t, db, "UPDATE audit_logs SET status = 'success' WHERE id = 'open'")

		// A declared erasure allows deletions of that user only.
		if err := store.Record(t.Context(), audited("bob", "done", audit.Success)); err != nil {
			t.Fatal(err)
		}
		if known, err := store.DeclareErasure(t.Context(), erasure("ann"), appended); err != nil || !known {
			t.Fatalf("declare: %v, %v", known, err)
		}
		refuse(t, db, "DELETE FROM audit_logs WHERE user_id = 'bob'")
		refuse(t, db, "UPDATE audit_logs SET action = 'b' WHERE user_id = 'ann'")
		if _, err := db.Exec("DELETE FROM audit_logs WHERE user_id = 'ann'"); err != nil {
			t.Errorf("after the declaration: %v", err)
		}
	})
}

func refuse(t *testing.T, db *bun.DB, statement string) {
	t.Helper()
	if _, err := db.Exec(statement); err == nil || !strings.Contains(err.Error(), "is append-only") {
		t.Errorf("%s: %v", statement, err)
	}
}

// Facts are queued in the order in which they became known, by the same
// transaction, and a rolled back one leaves none.
func TestSeal_QueueIsTransactional(t *testing.T) {
	each(t, func(t *testing.T, store *sqlstore.Store) {
		db := raw(store)
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(`INSERT INTO audit_logs (user_id, id, action, resource, created_at, updated_at)
			VALUES ('ann', 'undone', 'a', 'r', '2026-01-01 00:00:00+00:00', '2026-01-01 00:00:00+00:00')`); err != nil {
			t.Fatal(err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if _, waiting, err := store.Unsealed(t.Context()); waiting || err != nil {
			t.Errorf("waiting %v, %v", waiting, err)
		}
		if links := chained(t, store, 10); len(links) != 0 {
			t.Errorf("links %+v", links)
		}
		for _, id := range []string{"1", "2", "3"} {
			if err := store.Record(t.Context(), audited("ann", id, audit.Success)); err != nil {
				t.Fatal(err)
			}
		}
		if err := store.Record(t.Context(), audited("ann", "2", audit.Success)); err != nil { // known: no new fact
			t.Fatal(err)
		}
		age, waiting, err := store.Unsealed(t.Context())
		if err != nil || !waiting || age < -time.Second || age > time.Minute {
			t.Errorf("waiting %v for %v, %v", waiting, age, err)
		}
		var got []string
		for _, n := range []int{2, 2} {
			for _, l := range chained(t, store, n) {
				got = append(got, l.EntryID)
			}
		}
		if diff := cmp.Diff([]string{"1", "2", "3"}, got); diff != "" {
			t.Error(diff)
		}
		last, err := store.LastLink(t.Context())
		if err != nil || last.Seq != 3 || last.Hash[0] != 3 || last.Prev[0] != 2 || time.Since(last.SealedAt) > time.Minute {
			t.Errorf("last %+v, %v", last, err)
		}
	})
}

// TestSeal_StaysCheap asks the database how it would run the sealer's
// statements: none may read the log or the chain, however long they are.
func TestSeal_StaysCheap(t *testing.T) {
	whole := map[string]*regexp.Regexp{
		"SQLite":   regexp.MustCompile(`SCAN (a|l|audit_logs|audit_chain)\b`),
		"Postgres": regexp.MustCompile(`Seq Scan on audit_(logs|chain)`),
	}
	for name, url := range map[string]string{"SQLite": testdb.SQLite(t), "Postgres": testdb.Postgres(t)} {
		t.Run(name, func(t *testing.T) {
			w := &watcher{seen: map[string]string{}}
			store := migrated(t, sqlstore.Options{URL: url, Hooks: []bun.QueryHook{w}})
			if err := store.Record(t.Context(), audited("ann", "1", audit.Success)); err != nil {
				t.Fatal(err)
			}
			if _, _, err := store.Unsealed(t.Context()); err != nil {
				t.Fatal(err)
			}
			chained(t, store, 256)
			if _, err := store.DeclareErasure(t.Context(), erasure("ann"), appended); err != nil {
				t.Fatal(err)
			}
			conn, err := store.DB().Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			explain := "EXPLAIN QUERY PLAN "
			if name == "Postgres" { // the tables are tiny: what would it do if it must not?
				explain = "EXPLAIN "
				if _, err := conn.ExecContext(t.Context(), "SET enable_seqscan = off"); err != nil {
					t.Fatal(err)
				}
			}
			seen := 0
			for statement, by := range w.seen {
				if verb, _, _ := strings.Cut(statement, " "); verb != "SELECT" && verb != "DELETE" ||
					by != "seal" && by != "unsealed" && by != "declare_erasure" || strings.Contains(statement, "pg_advisory") {
					continue
				}
				seen++
				found, err := conn.QueryContext(t.Context(), explain+statement)
				if err != nil {
					t.Fatalf("explain %s: %v\n%s", by, err, statement)
				}
				plan := ""
				for _, row := range table(t, found, nil) {
					plan += row[len(row)-1] + "\n"
				}
				// The end of the chain is the first row of a scan along its key.
				if strings.Contains(statement, "ORDER BY l.seq DESC LIMIT 1") && name == "SQLite" {
					continue
				}
				if whole[name].MatchString(plan) {
					t.Errorf("%s reads a whole table:\n%s\n%s", by, statement, plan)
				}
			}
			if seen < 6 {
				t.Errorf("only %d statements were seen", seen)
			}
		})
	}
}

// TestAudit_ApplicationRole runs the store as the role that deploy/postgres/roles.sql
// makes: it can do all of its work.
func TestAudit_ApplicationRole(t *testing.T) {
	owner := openPostgres(t)
	url, _ := appRole(t, owner)
	store := open(t, sqlstore.Options{URL: url, RowSecurity: true})
	if err := store.CheckRowSecurity(t.Context()); err != nil {
		t.Error(err)
	}
	if status, err := store.MigrationStatus(t.Context()); err != nil || len(status.Pending) > 0 {
		t.Errorf("migration status: %+v, %v", status, err)
	}

	out, err := store.Admit(t.Context(), sending("ann", "hi"), chat.Admit)
	if err != nil {
		t.Fatal(err)
	}
	for first, wrapped := range map[bool]string{true: "wrapped", false: "again"} {
		if ok, err := store.AddAuditRoot(t.Context(), []byte(wrapped), first); err != nil || !ok {
			t.Fatalf("add a root: %v, %v", ok, err)
		}
	}
	if roots, err := store.AuditRoots(t.Context()); err != nil || len(roots) != 2 {
		t.Errorf("roots %q, %v", roots, err)
	}
	chained(t, store, 10)
	if _, err := store.Finish(t.Context(), chat.Outcome{UserID: "ann", RunID: out.Run.ID, Attempt: 1, State: chat.Completed,
		Output: chat.TextOutput("yes"), At: time.Now()}, chat.Finish); err != nil {
		t.Fatal(err)
	}
	if links := chained(t, store, 10); len(links) != 1 {
		t.Errorf("links %+v", links)
	}
	if err := store.Inspect(t.Context(), func(ports.InspectionItem) error { return nil }); err != nil {
		t.Error(err)
	}

	if _, err := store.StopRuns(t.Context(), "ann", time.Now()); err != nil {
		t.Error(err)
	}
	if _, err := store.DeclareErasure(t.Context(), erasure("ann"), appended); err != nil {
		t.Error(err)
	}
	for more := true; more && err == nil; {
		more, err = store.EraseSome(t.Context(), erasure("ann"), 100)
	}
	if err != nil {
		t.Error(err)
	}
	var left int
	if err := raw(store).QueryRow("SELECT count(*) FROM audit_logs").Scan(&left); err != nil || left > 0 {
		t.Errorf("%d entries left, %v", left, err)
	}
}

// as is the URL of a store's database for another role.
func as(t testing.TB, store *sqlstore.Store, role, password string) string {
	t.Helper()
	var host, port, database string
	err := store.DB().QueryRow(`SELECT COALESCE(host(inet_server_addr()), current_setting('unix_socket_directories')),
		current_setting('port'), current_database()`).Scan(&host, &port, &database)
	if err != nil {
		t.Fatal(err)
	}
	return (&url.URL{
		Scheme: "postgres", User: url.UserPassword(role, password), Path: "/" + database,
		RawQuery: url.Values{"host": {host}, "port": {port}, "sslmode": {"disable"}}.Encode(),
	}).String()
}
