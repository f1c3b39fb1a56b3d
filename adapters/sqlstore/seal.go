package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"

	"parley/adapters/sqlstore/rows"
	"parley/domain/audit"
	"parley/ports"
)

var (
	_ ports.Ledger = (*Store)(nil)
	_ ports.Eraser = (*Store)(nil)
)

// chainLock is the advisory lock that a writer of the chain holds ("parley" in
// ASCII).
const chainLock = 0x7061726c6579

// sealerTimeout ends the transaction of a sealer that froze with the lock, so that
// another one can continue.
const sealerTimeout = 10 * time.Second

// AuditRoots returns the chain's root as each secret has wrapped it.
func (s *Store) AuditRoots(ctx context.Context) (wrapped [][]byte, err error) {
	err = s.read(ctx, "audit_roots", allUsers, func(ctx context.Context, db bun.IDB) error {
		wrapped = nil
		return db.NewRaw("SELECT wrapped FROM audit_root ORDER BY id").Scan(ctx, &wrapped)
	})
	return wrapped, err
}

// firstRoot is the id of the row that begins a chain: instances that begin one
// at the same time agree on one of them.
const firstRoot = 1

// AddAuditRoot adds a row. It never changes one: the application's role of
// deploy/postgres/roles.sql may not. A role that may delete rows removes those
// that former secrets have wrapped.
func (s *Store) AddAuditRoot(ctx context.Context, wrapped []byte, first bool) (ok bool, err error) {
	row := rows.AuditRoot{ID: firstRoot, Wrapped: wrapped}
	if !first {
		row.ID = firstRoot + 1 + rand.IntN(math.MaxInt32-firstRoot-1)
	}
	err = s.write(ctx, "add_audit_root", allUsers, func(ctx context.Context, tx bun.IDB) error {
		done, err := tx.NewInsert().Model(&row).On("CONFLICT DO NOTHING").Exec(ctx)
		if err != nil {
			return err
		}
		n, err := done.RowsAffected()
		if ok = n == 1; err != nil || !ok || first {
			return err
		}
		deletes := true
		if s.dialect.name == "postgres" {
			if err := tx.QueryRowContext(ctx, "SELECT has_table_privilege('audit_root', 'DELETE')").Scan(&deletes); err != nil {
				return err
			}
		}
		if deletes {
			_, err = tx.NewRaw("DELETE FROM audit_root WHERE id <> ?", row.ID).Exec(ctx)
		}
		return err
	})
	return ok, err
}

// unsealed are the waiting facts, except those of users who are being erased:
// their entries are about to be deleted.
const unsealed = `audit_unsealed AS u WHERE NOT EXISTS (SELECT 1 FROM audit_erasures AS x WHERE x.user_id = u.user_id)`

// Unsealed returns the age of the oldest waiting fact.
func (s *Store) Unsealed(ctx context.Context) (age time.Duration, waiting bool, err error) {
	err = s.read(ctx, "unsealed", allUsers, func(ctx context.Context, db bun.IDB) error {
		var seconds sql.NullFloat64
		err := db.QueryRowContext(ctx, "SELECT "+s.since("u.queued_at")+" FROM "+unsealed+" ORDER BY u.n LIMIT 1").Scan(&seconds)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		waiting, age = err == nil, duration(seconds)
		return err
	})
	return age, waiting, err
}

// LastLink returns the last link of the chain.
func (s *Store) LastLink(ctx context.Context) (last audit.Link, err error) {
	err = s.read(ctx, "last_link", allUsers, func(ctx context.Context, db bun.IDB) error {
		last, err = s.lastLink(ctx, db)
		return err
	})
	return last, err
}

func (s *Store) lastLink(ctx context.Context, db bun.IDB) (audit.Link, error) {
	var row linkRow
	err := db.QueryRowContext(ctx, "SELECT "+s.linkColumns("l")+" FROM audit_chain AS l ORDER BY l.seq DESC LIMIT 1").Scan(row.dest()...)
	if errors.Is(err, sql.ErrNoRows) {
		return audit.Link{}, nil
	}
	return row.link(), err
}

// Seal moves waiting facts from the queue to the chain, in one transaction. A
// transaction that commits late finds its facts still in the queue.
func (s *Store) Seal(ctx context.Context, n int, link func(last audit.Link, batch []audit.Unsealed) []audit.Link) (sealed []audit.Link, more bool, err error) {
	err = s.write(ctx, "seal", allUsers, func(ctx context.Context, tx bun.IDB) error {
		sealed, more = nil, false
		locked, err := s.lockChain(ctx, tx, false)
		if err != nil || !locked {
			return err
		}
		last, err := s.lastLink(ctx, tx)
		if err != nil {
			return err
		}
		taken, err := s.selectUnsealed(ctx, tx, n)
		if err != nil || len(taken) == 0 {
			return err
		}
		done := make([]int64, 0, len(taken))
		for _, t := range taken {
			done = append(done, t.n)
		}
		statements := []schema.QueryAppender{tx.NewRaw("DELETE FROM audit_unsealed WHERE n IN (?)", bun.List(done))}
		more = len(taken) == n
		facts, keys := factsOf(taken)
		if len(facts) > 0 {
			sealed = link(last, facts)
			statements = append(statements, insertLinks(tx, sealed))
		}
		if len(keys) > 0 {
			statements = append(statements, tx.NewInsert().Model(&keys))
		}
		return s.pipe.ExecTextAndCommit(ctx, tx, statements...)
	})
	if err != nil {
		return nil, false, err
	}
	return sealed, more, nil
}

// lockChain gives the caller the right to append to the chain until the
// transaction ends. Without wait, ok is false when another transaction has it.
// SQLite has one writer anyway.
func (s *Store) lockChain(ctx context.Context, tx bun.IDB, wait bool) (ok bool, err error) {
	if s.dialect.name == "sqlite" {
		return true, nil
	}
	limit := "set_config('idle_in_transaction_session_timeout', '" + strconv.FormatInt(sealerTimeout.Milliseconds(), 10) + "', true)"
	id := strconv.Itoa(chainLock)
	if wait {
		_, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock("+id+"), "+limit)
		return err == nil, err
	}
	var ignored string
	err = tx.QueryRowContext(ctx, "SELECT pg_try_advisory_xact_lock("+id+"), "+limit).Scan(&ok, &ignored)
	return ok, err
}

// waitingFact is a row of the queue with the entry and the subject that it is about.
type waitingFact struct {
	n       int64
	kind    string
	user    string
	entry   string
	subject sql.NullString
	salt    []byte
	line    lineRow
}

func (s *Store) selectUnsealed(ctx context.Context, tx bun.IDB, n int) ([]waitingFact, error) {
	found, err := tx.QueryContext(ctx, `SELECT q.n, q.kind, q.user_id, q.entry_id, k.subject, k.salt, `+s.lineColumns("a")+`
		FROM (SELECT u.n, u.kind, u.user_id, u.entry_id FROM `+unsealed+` ORDER BY u.n LIMIT ?) AS q
		LEFT JOIN audit_logs AS a ON a.user_id = q.user_id AND a.id = q.entry_id
		LEFT JOIN audit_keys AS k ON k.user_id = q.user_id
		ORDER BY q.n`, n)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	var list []waitingFact
	for found.Next() {
		var w waitingFact
		if err := found.Scan(append([]any{&w.n, &w.kind, &w.user, &w.entry, &w.subject, &w.salt}, w.line.dest()...)...); err != nil {
			return nil, err
		}
		list = append(list, w)
	}
	return list, found.Err()
}

// factsOf turns rows of the queue into facts, and makes subjects for users who
// have none. The opening of an entry that is closed by now gets no link: the queue
// holds the closing too.
func factsOf(taken []waitingFact) (facts []audit.Unsealed, keys []rows.AuditKey) {
	fresh := map[string]audit.Subject{}
	for _, w := range taken {
		line := w.line.line()
		if w.kind == string(audit.Opened) && line != nil && line.Status != string(audit.Pending) {
			continue
		}
		subject := audit.Subject{ID: w.subject.String, Salt: w.salt}
		if !w.subject.Valid {
			var ok bool
			if subject, ok = fresh[w.user]; !ok {
				subject = audit.NewSubject()
				fresh[w.user] = subject
				keys = append(keys, rows.AuditKey{UserID: w.user, Subject: subject.ID, Salt: subject.Salt})
			}
		}
		facts = append(facts, audit.Unsealed{Kind: audit.LinkKind(w.kind), EntryID: w.entry, Subject: subject, Line: line})
	}
	return facts, keys
}

func insertLinks(tx bun.IDB, links []audit.Link) *bun.InsertQuery {
	list := make([]rows.Link, 0, len(links))
	for _, l := range links {
		list = append(list, rows.FromLink(l))
	}
	return tx.NewInsert().Model(&list)
}
