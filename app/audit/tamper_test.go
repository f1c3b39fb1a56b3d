package audit_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appaudit "parley/app/audit"
	"parley/domain/audit"
)

// auditTables is what an attacker may change.
var auditTables = []string{"audit_logs", "audit_chain", "audit_keys", "audit_unsealed", "audit_erasures", "audit_root"}

// disarm takes the triggers away, as the owner of the tables can.
func (b *bench) disarm() {
	b.Helper()
	if b.postgres {
		for _, table := range auditTables {
			b.exec("ALTER TABLE " + table + " DISABLE TRIGGER USER")
		}
		return
	}
	for _, name := range b.texts("SELECT name FROM sqlite_master WHERE type = 'trigger'") {
		b.exec("DROP TRIGGER " + name)
	}
}

func (b *bench) texts(query string, args ...any) (list []string) {
	b.Helper()
	found, err := b.db.QueryContext(b.Context(), query, args...)
	if err != nil {
		b.Fatalf("%s: %v", query, err)
	}
	defer found.Close()
	for found.Next() {
		var text string
		if err := found.Scan(&text); err != nil {
			b.Fatal(err)
		}
		list = append(list, text)
	}
	if err := found.Err(); err != nil {
		b.Fatal(err)
	}
	return list
}

// backup and restore make every tampering begin with the same history.
func (b *bench) backup() {
	b.Helper()
	for _, table := range auditTables {
		b.exec("CREATE TABLE backup_" + table + " AS SELECT * FROM " + table)
	}
}

func (b *bench) restore() {
	b.Helper()
	overriding := ""
	if b.postgres {
		overriding = " OVERRIDING SYSTEM VALUE"
	}
	var all strings.Builder
	for _, table := range auditTables {
		fmt.Fprintf(&all, "DELETE FROM %[1]s; INSERT INTO %[1]s%[2]s SELECT * FROM backup_%[1]s;", table, overriding)
	}
	tx, err := b.db.Begin()
	if err != nil {
		b.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(all.String()); err != nil {
		b.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
}

// seeded prints what reproduces a failure.
func seeded(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("again with SEED=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 1))
}

// TestVerify_FindsEveryTampering changes each database in 240 random ways, ten of
// every kind, as an attacker who may write all of it but does not have the
// deployment's secret. With -short it is one of every kind.
func TestVerify_FindsEveryTampering(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		r := seeded(b)
		b.history(r)
		b.clean()
		b.backup()
		b.disarm()
		a := &attacker{bench: b, Rand: r}
		a.keys, _ = audit.NewChainKeys(audit.NewRoot())
		heads := b.heads()
		tries := 10 * len(moves)
		if testing.Short() {
			tries = len(moves)
		}
		found, seen := 0, map[string]bool{}
		for i := range tries {
			move := moves[i%len(moves)]
			a.heads = slices.Clone(heads)
			what := move(a)
			if what == "" { // nothing was changed
				b.Fatal("a move without effect")
			}
			seen[strings.Fields(what)[0]] = true
			_, findings, err := b.verify(a.heads)
			switch {
			case err != nil && !strings.HasPrefix(what, "root"):
				b.Errorf("%s: verify: %v", what, err)
			case err != nil || len(findings) > 0:
				found++
			default:
				b.Errorf("not found: %s", what)
			}
			b.restore()
			if b.postgres && i%25 == 24 {
				b.exec("VACUUM " + strings.Join(auditTables, ", "))
			}
		}
		b.clean()
		b.Logf("%d of %d found", found, tries)
		if found != tries || len(seen) != len(moves) {
			b.Errorf("%d of %d found, %d of %d kinds of moves", found, tries, len(seen), len(moves))
		}
	})
}

// history is honest: several users, one erased, open and closed entries, all sealed.
func (b *bench) history(r *rand.Rand) {
	b.Helper()
	users := []string{"ann", "bob", "cleo", "dora", ""}
	var open []audit.Entry
	for range 24 {
		e := b.entry(pick(r, users), pick(r, []audit.Status{audit.Pending, audit.Success, audit.Failure}))
		if b.record(e); e.Status == audit.Pending {
			open = append(open, e)
		}
		switch r.IntN(3) {
		case 0:
			b.seal()
			b.head()
		case 1:
			if len(open) > 0 {
				b.complete(open[0], pick(r, outcomes), time.Now())
				open = open[1:]
			}
		}
	}
	b.record(b.entry("gone", audit.Success), b.entry("gone", audit.Pending), b.entry("dora", audit.Pending))
	b.seal()
	if err := b.service.EraseUser(b.Context(), "gone"); err != nil {
		b.Fatal(err)
	}
	b.record(b.entry("ann", audit.Success), b.entry("bob", audit.Success))
	b.seal()
	b.head()
}

// TestVerify_HonestHistories verifies 60 times, at moments of every kind.
func TestVerify_HonestHistories(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		r := seeded(b)
		users := []string{"ann", "bob", "cleo", "dora", ""}
		var open []audit.Entry
		for range 60 {
			for range 1 + r.IntN(8) {
				switch r.IntN(6) {
				case 0, 1, 2:
					e := b.entry(pick(r, users), pick(r, []audit.Status{audit.Pending, audit.Success, audit.Failure}))
					if b.record(e); e.Status == audit.Pending {
						open = append(open, e)
					}
				case 3:
					for n := r.IntN(len(open) + 1); n > 0; n-- {
						b.complete(open[0], pick(r, outcomes), time.Now())
						open = open[1:]
					}
				case 4:
					b.seal()
				case 5:
					b.head()
				}
			}
			if r.IntN(8) == 0 {
				b.eraseHalfway(r, pick(r, users[:4]))
			}
			b.clean()
		}
		if report := b.clean(); report.Links < 30 || report.Heads < 3 {
			b.Errorf("too little happened: %+v", report)
		}
	})
}

// eraseHalfway erases a user, and sometimes only begins to, as an instance does
// that dies meanwhile.
func (b *bench) eraseHalfway(r *rand.Rand, user string) {
	b.Helper()
	service := b.newService(b.store, appaudit.Options{EraseRows: 2}, "secret")
	if r.IntN(2) == 0 {
		_ = service.EraseUser(b.Context(), user) // there may be nothing of the user
		return
	}
	keys := b.chainKeys()
	_, err := b.store.DeclareErasure(b.Context(), b.erasure(user), keys.Append)
	if err != nil {
		b.Fatal(err)
	}
	b.clean()
	for range r.IntN(3) {
		if _, err := b.store.EraseSome(b.Context(), b.erasure(user), 2); err != nil {
			b.Fatal(err)
		}
		b.record(b.entry(user, audit.Success)) // the user is still there
		b.seal()
		b.clean()
	}
}

// chainKeys opens the chain as the deployment does.
func (b *bench) chainKeys() *audit.ChainKeys {
	b.Helper()
	b.seal()
	wrapped, err := b.store.AuditRoots(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if len(wrapped) == 0 { // nothing was sealed yet
		b.record(b.entry("first", audit.Success))
		b.seal()
		if wrapped, err = b.store.AuditRoots(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	root, _, err := audit.UnwrapRoot([]string{"secret"}, wrapped...)
	if err != nil {
		b.Fatal(err)
	}
	keys, err := audit.NewChainKeys(root)
	if err != nil {
		b.Fatal(err)
	}
	return keys
}
