package audit_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	appaudit "parley/app/audit"
	"parley/domain/audit"
	"parley/ports"
)

func TestSeal_EveryFactOnce(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		slow, quick := b.entry("ann", audit.Pending), b.entry("ann", audit.Pending)
		b.record(slow, quick, b.entry("bob", audit.Success), b.entry("", audit.Failure))
		b.complete(quick, audit.Success, time.Now().Add(time.Second))
		b.seal() // one is still open
		b.dense(4)
		b.clean()
		b.complete(slow, audit.Failure, time.Now())
		b.clean()
		b.seal()
		b.dense(5)
		b.seal()
		b.dense(5)
		if report := b.clean(); report.Links != 5 || report.Waiting != 0 {
			b.Errorf("got %+v", report)
		}
		kinds := b.texts("SELECT kind FROM audit_chain WHERE entry_id = $1 ORDER BY seq", slow.ID)
		if diff := cmp.Diff([]string{"opened", "closed"}, kinds); diff != "" {
			b.Error(diff)
		}
		if n := b.count("SELECT count(*) FROM audit_unsealed"); n != 0 {
			b.Errorf("%d facts still wait", n)
		}
	})
}

// Transactions that commit late are sealed late, and never missed.
func TestSeal_LateCommit(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		if !b.postgres {
			return // one writer: no transaction commits late
		}
		tx, err := b.db.Begin()
		if err != nil {
			b.Fatal(err)
		}
		defer tx.Rollback()
		late := `INSERT INTO audit_logs (user_id, id, action, resource, status, created_at, updated_at)
			VALUES ('late', 'late', 'a', 'r', 'success', now(), now())`
		if _, err := tx.Exec(late); err != nil {
			b.Fatal(err)
		}
		b.record(b.entry("ann", audit.Success), b.entry("ann", audit.Success))
		b.seal()
		b.dense(2)
		b.clean()
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
		b.clean()
		b.seal()
		b.dense(3)
		b.clean()
	})
}

// Writers, sealers and a verifier at the same time: the chain has no gap, nothing
// is missing or double, and there are no findings. Writers go on until heads were
// exported and the verifier has looked more than once, however slow the machine.
func TestSeal_UnderConcurrentWriters(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		const writers, entries = 6, 24
		ctx, stop := context.WithCancel(b.Context())
		var sealing, writing sync.WaitGroup
		var checks, written atomic.Int64
		for range 2 {
			service := b.newService(b.open(), appaudit.Options{Interval: time.Millisecond, Batch: 5, HeadEvery: 20 * time.Millisecond}, "secret")
			sealing.Go(func() { service.Serve(ctx) })
		}
		sealing.Go(func() {
			for ctx.Err() == nil {
				b.clean()
				checks.Add(1)
			}
		})
		for w := range writers {
			writing.Go(func() {
				user := string(rune('a' + w%4))
				for i := 0; i < entries || checks.Load() < 2 || len(b.heads()) < 2; i++ {
					written.Add(1)
					if i%2 == 0 {
						b.record(b.entry(user, audit.Success))
						continue
					}
					e := b.entry(user, audit.Pending)
					b.record(e)
					if i%4 == 1 {
						time.Sleep(3 * time.Millisecond)
					}
					b.complete(e, outcomes[i/2%2], time.Now())
				}
			})
		}
		writing.Wait()
		stop()
		sealing.Wait()
		closed := b.count("SELECT count(*) FROM audit_chain WHERE kind = 'closed'")
		if closed != int(written.Load()) {
			b.Errorf("%d closed links for %d entries", closed, written.Load())
		}
		b.dense(closed + b.count("SELECT count(*) FROM audit_chain WHERE kind = 'opened'"))
		if n := b.count("SELECT count(*) FROM audit_unsealed"); n != 0 {
			b.Errorf("%d facts were left over", n)
		}
		if report := b.clean(); report.Heads < 2 || checks.Load() < 2 {
			b.Errorf("%d heads, %d checks", report.Heads, checks.Load())
		}
		if failed := b.facts.failures(); len(failed) > 0 {
			b.Errorf("in the background: %v", failed)
		}
	})
}

// An instance that looks for the chain's key just before another one begins the
// chain takes that one's, and raises no alarm.
func TestSeal_TwoBeginAtOnce(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		b.record(b.entry("ann", audit.Success), b.entry("bob", audit.Success))
		late := b.newService(b.open(), appaudit.Options{}, "secret")
		late.Ledger = overtaken{late.Ledger, sync.OnceFunc(b.seal)}
		if err := late.Seal(b.Context()); err != nil {
			b.Error(err)
		}
		b.record(b.entry("ann", audit.Success))
		if err := late.Seal(b.Context()); err != nil {
			b.Error(err)
		}
		b.dense(3)
		b.clean()
	})
}

// overtaken lets something happen between a look for the root and its answer.
type overtaken struct {
	ports.Ledger
	meanwhile func()
}

func (o overtaken) AuditRoots(ctx context.Context) ([][]byte, error) {
	wrapped, err := o.Ledger.AuditRoots(ctx)
	o.meanwhile()
	return wrapped, err
}

// A sealer that dies in the middle leaves nothing half done.
func TestSeal_CrashBetween(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		for range 20 {
			b.record(b.entry("ann", audit.Success))
		}
		b.seal()
		b.record(b.entry("ann", audit.Success), b.entry("bob", audit.Success))

		other := b.open()
		if b.postgres { // its connection is killed while it makes the links
			_, _, err := other.Seal(b.Context(), 10, func(_ audit.Link, batch []audit.Unsealed) []audit.Link {
				b.exec(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()
					AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
				return make([]audit.Link, len(batch))
			})
			if err == nil {
				b.Error("a sealer without a connection says that it sealed")
			}
			held := `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
			for deadline := time.Now().Add(time.Minute); b.count(held) > 0; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(deadline) {
					b.Fatal("the lock of the killed session is still held")
				}
			}
		} else {
			func() {
				defer func() { _ = recover() }()
				_, _, _ = other.Seal(b.Context(), 10, func(audit.Link, []audit.Unsealed) []audit.Link { panic("dies") })
			}()
		}
		b.dense(20)
		b.clean()
		b.seal()
		b.dense(22)
		b.clean()
	})
}

// One instance at a time; the other one does not wait for it.
func TestSeal_OneAtATime(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		if !b.postgres {
			return // one writer
		}
		b.record(b.entry("ann", audit.Success))
		b.seal()
		b.record(b.entry("ann", audit.Success))
		other := b.newService(b.open(), appaudit.Options{}, "secret")
		keys, during := b.chainKeys(), -1
		b.record(b.entry("ann", audit.Success))
		_, _, err := b.store.Seal(b.Context(), 10, func(last audit.Link, batch []audit.Unsealed) (links []audit.Link) {
			if err := other.Seal(b.Context()); err != nil {
				b.Errorf("the second sealer: %v", err)
			}
			during = b.count("SELECT count(*) FROM audit_chain")
			for _, fact := range batch {
				last = keys.Append(last, audit.Link{Subject: fact.Subject.ID, EntryID: fact.EntryID, Kind: fact.Kind,
					Digest: keys.Digest(fact.Subject, fact.Kind, *fact.Line), SealedAt: time.Now()})
				links = append(links, last)
			}
			return links
		})
		if err != nil || during != 2 {
			b.Errorf("%d links while another was sealing, %v", during, err)
		}
		b.dense(3)
		b.clean()
	})
}

func TestServe_SealsWithinASecond(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		ctx, stop := context.WithCancel(b.Context())
		service := b.newService(b.store, appaudit.Options{}, "secret")
		done := make(chan struct{})
		go func() { defer close(done); service.Serve(ctx) }()
		b.record(b.entry("ann", audit.Success))
		for begun := time.Now(); b.count("SELECT count(*) FROM audit_chain") == 0; {
			if time.Since(begun) > 2*time.Minute {
				b.Fatal("not sealed")
			}
			time.Sleep(5 * time.Millisecond)
		}
		b.record(b.entry("ann", audit.Success)) // sealed, and its head exported, at the end
		stop()
		<-done
		heads := b.heads()
		if len(heads) == 0 || heads[len(heads)-1].Seq != 2 {
			b.Errorf("heads %+v", heads)
		}
		b.clean()
		b.facts.mu.Lock()
		defer b.facts.mu.Unlock()
		if !slices.ContainsFunc(b.facts.list, func(f any) bool { s, ok := f.(ports.AuditSealed); return ok && s.Links == 1 && s.Seq == 1 }) {
			b.Errorf("facts %+v", b.facts.list)
		}
	})
}

// The operator's secret may change; the chain stays the same.
func TestKeys_Rotation(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		b.record(b.entry("ann", audit.Success))
		b.seal()
		b.head()
		b.record(b.entry("ann", audit.Success))
		if err := b.newService(b.store, appaudit.Options{}, "new").Seal(b.Context()); !errors.Is(err, audit.ErrRootLocked) {
			b.Errorf("sealed with a secret that is none: %v", err)
		}
		if err := b.newService(b.store, appaudit.Options{}, "new", "secret").Seal(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.service = b.newService(b.store, appaudit.Options{}, "new")
		b.record(b.entry("ann", audit.Success))
		b.seal()
		b.dense(3)
		if report := b.clean(); report.Heads != 1 {
			b.Errorf("got %+v", report)
		}
		if _, err := b.newService(b.store, appaudit.Options{}, "secret").Verify(b.Context(), nil, nil); !errors.Is(err, audit.ErrRootLocked) {
			b.Errorf("the former secret still opens the chain: %v", err)
		}
	})
}

// A chain that was cut while the service runs is noticed by the next head.
func TestServe_NoticesCut(t *testing.T) {
	t.Parallel()
	each(t, func(b *bench) {
		ctx, stop := context.WithCancel(b.Context())
		defer stop()
		service := b.newService(b.store, appaudit.Options{Interval: time.Millisecond, HeadEvery: time.Millisecond}, "secret")
		go service.Serve(ctx)
		b.record(b.entry("ann", audit.Success), b.entry("ann", audit.Success))
		until(b, func() bool { return len(b.heads()) > 0 })
		b.disarm()
		b.exec("DELETE FROM audit_chain WHERE seq = 2")
		until(b, func() bool { return len(b.facts.failures()) > 0 })
		if got := b.facts.failures()[0]; got.Task != "audit_head" {
			b.Errorf("got %+v", got)
		}
	})
}

func until(b *bench, ok func() bool) {
	b.Helper()
	for begun := time.Now(); !ok(); {
		if time.Since(begun) > 2*time.Minute {
			b.Fatal("waited too long")
		}
		time.Sleep(2 * time.Millisecond)
	}
}
