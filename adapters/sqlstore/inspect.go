package sqlstore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"

	"parley/domain/audit"
	"parley/ports"
)

// inspectPage bounds how many links are read at a time: an inspection of
// millions must neither sort them nor hold them in memory.
const inspectPage = 2000

// Inspect reads the chain and the log in one snapshot. Only ctx bounds its time.
func (s *Store) Inspect(ctx context.Context, visit func(ports.InspectionItem) error) error {
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
	return s.inspect(ctx, tx, visit)
}

// inspect is Inspect in a transaction that has begun.
func (s *Store) inspect(ctx context.Context, tx bun.Tx, visit func(ports.InspectionItem) error) (err error) {
	visitor := func(e ports.InspectionItem) error {
		if err := visit(e); err != nil {
			return errVisit{err}
		}
		return nil
	}
	if err = s.inspectLinks(ctx, tx, visitor); err == nil {
		err = s.inspectLines(ctx, tx, visitor)
	}
	var stopped errVisit
	if errors.As(err, &stopped) {
		return stopped.error
	}
	return translate(ctx, err)
}

// errVisit marks an error of the visitor, which is not one of the database.
type errVisit struct{ error }

func (s *Store) inspectLinks(ctx context.Context, tx bun.Tx, visit func(ports.InspectionItem) error) error {
	query := "SELECT " + s.linkColumns("l") + `, k.subject, k.salt, EXISTS (
			SELECT 1 FROM audit_chain AS x WHERE x.kind = 'erased' AND x.subject = l.subject), ` + s.lineColumns("a") + `
		FROM audit_chain AS l
		LEFT JOIN audit_keys AS k ON k.subject = l.subject
		LEFT JOIN audit_logs AS a ON a.user_id = k.user_id AND a.id = l.entry_id
		WHERE l.seq > ? ORDER BY l.seq LIMIT ?`
	after := int64(-1 << 63)
	for {
		page, err := evidence(ctx, tx, query, after, inspectPage)
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

func evidence(ctx context.Context, tx bun.Tx, query string, args ...any) ([]ports.InspectionItem, error) {
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
func (s *Store) inspectLines(ctx context.Context, tx bun.Tx, visit func(ports.InspectionItem) error) error {
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
