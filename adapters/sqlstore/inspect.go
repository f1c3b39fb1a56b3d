package sqlstore

import (
	"context"
	"database/sql"

	"github.com/uptrace/bun"

	"parley/domain/audit"
	"parley/domain/fault"
	"parley/ports"
)

// inspectPage bounds how many links are read at a time: an inspection of
// millions must neither sort them nor hold them in memory.
const inspectPage = 2000

// maxHeldLines bounds the entries without a link that are held in memory.
const maxHeldLines = 20_000

// Inspect reads the chain and the log. Only ctx bounds its time. Without replicas it is
// one snapshot. A replica may cancel a long read, so that it is read in pages there,
// each of which the primary can repeat: see inspectReplicated.
func (s *Store) Inspect(ctx context.Context, visit func(ports.InspectionItem) error) error {
	if s.replicas != nil {
		return s.inspectReplicated(ctx, visit)
	}
	return s.snapshot(ctx, func(ctx context.Context, tx bun.Tx) error { return s.inspect(ctx, tx, visit) })
}

// inspectReplicated reads each page of the chain, and then the log, in a snapshot of its
// own. That is as good: links are only ever appended, and each item is of one snapshot.
func (s *Store) inspectReplicated(ctx context.Context, visit func(ports.InspectionItem) error) error {
	read := func(fn func(ctx context.Context, db bun.IDB) error) error {
		return s.readReplicatedWithin(ctx, "inspect_audit", 0, allUsers, fn)
	}
	if err := s.inspectLinks(read, visit); err != nil {
		return err
	}
	var held []ports.InspectionItem
	err := read(func(ctx context.Context, db bun.IDB) error {
		held = held[:0]
		return s.inspectLines(ctx, db, func(e ports.InspectionItem) error {
			if held = append(held, e); len(held) > maxHeldLines {
				return fault.New(fault.TooLarge, "Too many entries lack their links")
			}
			return nil
		})
	})
	if fault.Is(err, fault.TooLarge) {
		return s.snapshot(ctx, func(ctx context.Context, tx bun.Tx) error { return s.inspectRest(ctx, tx, visit) })
	}
	for _, e := range held {
		if err == nil {
			err = visit(e)
		}
	}
	return err
}

// snapshot calls fn with a transaction of the primary that sees one snapshot.
func (s *Store) snapshot(ctx context.Context, fn func(ctx context.Context, tx bun.Tx) error) error {
	ctx = context.WithValue(ctx, statementKey{}, "inspect_audit")
	conn, err := s.acquire(ctx, s.readers)
	if err != nil {
		return translate(ctx, err)
	}
	defer conn.Close()
	var opt *sql.TxOptions // SQLite's transactions are snapshots anyway
	if s.dialect.name == "postgres" {
		opt = &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	}
	tx, err := conn.BeginTx(ctx, opt)
	if err != nil {
		return translate(ctx, err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	if s.rls {
		if _, err := tx.ExecContext(ctx, setAllUsers); err != nil {
			return translate(ctx, err)
		}
	}
	return fn(ctx, tx)
}

// inspect is Inspect in a transaction that has begun.
func (s *Store) inspect(ctx context.Context, tx bun.Tx, visit func(ports.InspectionItem) error) error {
	read := func(fn func(ctx context.Context, db bun.IDB) error) error { return translate(ctx, fn(ctx, tx)) }
	if err := s.inspectLinks(read, visit); err != nil {
		return err
	}
	return s.inspectRest(ctx, tx, visit)
}

// inspectRest is inspectLines whose errors are faults, but for those of visit.
func (s *Store) inspectRest(ctx context.Context, tx bun.Tx, visit func(ports.InspectionItem) error) error {
	var stopped error
	err := s.inspectLines(ctx, tx, func(e ports.InspectionItem) error {
		stopped = visit(e)
		return stopped
	})
	if stopped != nil {
		return stopped
	}
	return translate(ctx, err)
}

func (s *Store) inspectLinks(read func(func(ctx context.Context, db bun.IDB) error) error, visit func(ports.InspectionItem) error) error {
	query := "SELECT " + s.linkColumns("l") + `, k.subject, k.salt, EXISTS (
			SELECT 1 FROM audit_chain AS x WHERE x.kind = 'erased' AND x.subject = l.subject), ` + s.lineColumns("a") + `
		FROM audit_chain AS l
		LEFT JOIN audit_keys AS k ON k.subject = l.subject
		LEFT JOIN audit_logs AS a ON a.user_id = k.user_id AND a.id = l.entry_id
		WHERE l.seq > ? ORDER BY l.seq LIMIT ?`
	after := int64(-1 << 63)
	for {
		var page []ports.InspectionItem
		err := read(func(ctx context.Context, db bun.IDB) (err error) {
			page, err = evidence(ctx, db, query, after, inspectPage)
			return err
		})
		if err != nil {
			return err
		}
		for _, e := range page {
			if err := visit(e); err != nil {
				return err
			}
			after = e.Link.Seq
		}
		if len(page) < inspectPage {
			return nil
		}
	}
}

func evidence(ctx context.Context, tx bun.IDB, query string, args ...any) ([]ports.InspectionItem, error) {
	found, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	var page []ports.InspectionItem
	for found.Next() {
		var (
			e       ports.InspectionItem
			link    linkRow
			subject sql.NullString
			salt    []byte
			line    lineRow
		)
		dest := append(link.dest(), &subject, &salt, &e.Erased)
		if err := found.Scan(append(dest, line.dest()...)...); err != nil {
			return nil, err
		}
		l := link.link()
		e.Link, e.Line = &l, line.line()
		if subject.Valid {
			e.Subject = &audit.Subject{ID: subject.String, Salt: salt}
		}
		page = append(page, e)
	}
	return page, found.Err()
}

// inspectLines finds the entries that lack the link that their status asks
// for. The database compares the whole log with the whole chain, so that
// nothing has to be held here.
func (s *Store) inspectLines(ctx context.Context, tx bun.IDB, visit func(ports.InspectionItem) error) error {
	found, err := tx.QueryContext(ctx, `SELECT q.queued_at IS NOT NULL, `+s.since("q.queued_at")+`,
			x.user_id IS NOT NULL, `+s.since("x.declared_at")+`, `+s.lineColumns("a")+`
		FROM audit_logs AS a
		LEFT JOIN audit_keys AS k ON k.user_id = a.user_id
		LEFT JOIN audit_chain AS l ON l.subject = k.subject AND l.entry_id = a.id
			AND l.kind = CASE a.status WHEN 'pending' THEN 'opened' ELSE 'closed' END
		LEFT JOIN (SELECT user_id, entry_id, min(queued_at) AS queued_at FROM audit_unsealed GROUP BY user_id, entry_id) AS q
			ON q.user_id = a.user_id AND q.entry_id = a.id
		LEFT JOIN (SELECT e.user_id, e.declared_at FROM audit_erasures AS e WHERE EXISTS (
				SELECT 1 FROM audit_chain AS y WHERE y.kind = 'erased' AND y.subject = e.subject)) AS x
			ON x.user_id = a.user_id
		WHERE l.seq IS NULL`)
	if err != nil {
		return err
	}
	defer found.Close()
	for found.Next() {
		var (
			e                ports.InspectionItem
			queued, declared sql.NullFloat64
			line             lineRow
		)
		if err := found.Scan(append([]any{&e.Queued, &queued, &e.Erasing, &declared}, line.dest()...)...); err != nil {
			return err
		}
		e.Line = line.line()
		switch {
		case e.Erasing:
			e.Waited = duration(declared)
		case e.Queued:
			e.Waited = duration(queued)
		}
		if err := visit(e); err != nil {
			return err
		}
	}
	return found.Err()
}
