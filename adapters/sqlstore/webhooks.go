package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/pipeline"
	"parley/adapters/sqlstore/rows"
	"parley/domain/fault"
	"parley/domain/webhook"
	"parley/ports"
)

var insertEventText = insertText("chat_webhook_events", rows.WebhookEventColumns) + " ON CONFLICT (user_id, id) DO NOTHING"

// insertEvent adds an event to the outbox, due at once.
func (s *Store) insertEvent(e webhook.Event) pipeline.Stmt {
	row := rows.FromEvent(e)
	values := rows.WebhookEventColumns.Values(&row)
	rows.WebhookEventColumns.Set(values, "due_at", s.dialect.clock(0))
	return stmt(insertEventText, values...)
}

// insertRunEnded adds the event of the end of a run, if there is a receiver.
func (s *Store) insertRunEnded(event func(user string) webhook.Event, user string) []pipeline.Stmt {
	if !s.opt.Webhooks {
		return nil
	}
	return []pipeline.Stmt{s.insertEvent(event(user))}
}

// AddEvents adds events that belong to no other transaction.
func (s *Store) AddEvents(ctx context.Context, events ...webhook.Event) error {
	if len(events) == 0 {
		return nil
	}
	return s.write(ctx, "add_events", allUsers, func(ctx context.Context, tx bun.IDB) error {
		statements := make([]pipeline.Stmt, len(events))
		for i, e := range events {
			statements[i] = s.insertEvent(e)
		}
		return s.pipe.ExecAndCommit(ctx, tx, statements...)
	})
}

// ClaimEvents takes events that are due. While the receiver is asked, the claim is
// all that says so: an event that nobody settles is due again after the lease.
func (s *Store) ClaimEvents(ctx context.Context, lease time.Duration, n int) (claimed []webhook.Delivery, err error) {
	err = s.write(ctx, "claim_events", allUsers, func(ctx context.Context, tx bun.IDB) error {
		claimed = nil
		var found []rows.WebhookEvent
		err := tx.NewRaw(`WITH picked AS MATERIALIZED (
				SELECT w.user_id AS picked_user, w.id AS picked_event FROM chat_webhook_events AS w
				WHERE w.state = 'pending' AND w.due_at <= (SELECT ?0) ORDER BY w.due_at LIMIT ?1 ?2)
			UPDATE chat_webhook_events SET attempt = attempt + 1, tries = tries + 1, due_at = ?3
			WHERE (user_id, id) IN (SELECT picked_user, picked_event FROM picked)
			RETURNING `+rows.WebhookEventColumns.List(""),
			s.dialect.clock(0), n, bun.Safe(s.dialect.skipLocked), s.dialect.clock(lease)).Scan(ctx, &found)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		for _, row := range found {
			claimed = append(claimed, row.Domain())
		}
		return nil
	})
	slices.SortFunc(claimed, func(a, b webhook.Delivery) int { return a.At.Compare(b.At) })
	return claimed, err
}

// SettleEvent records the result of an attempt.
func (s *Store) SettleEvent(ctx context.Context, d webhook.Delivery, in time.Duration) error {
	return s.write(ctx, "settle_event", forUser(d.UserID), func(ctx context.Context, tx bun.IDB) error {
		done, err := tx.NewRaw(`UPDATE chat_webhook_events SET state = ?, due_at = ?, last_status = ?, last_failure = ?
			WHERE user_id = ? AND id = ? AND attempt = ? AND state = 'pending'`,
			string(d.State), s.dialect.clock(in), d.Last.Status, orNull(d.Last.Failure), d.UserID, d.ID, d.Attempt).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return fault.New(fault.Fenced, "This event has been settled by another attempt")
	})
}

// ExpireEvents deletes events that have ended and are due to be deleted.
func (s *Store) ExpireEvents(ctx context.Context, n int) (gone int, err error) {
	err = s.write(ctx, "expire_events", allUsers, func(ctx context.Context, tx bun.IDB) error {
		done, err := tx.NewRaw(`DELETE FROM chat_webhook_events WHERE (user_id, id) IN (
			SELECT w.user_id, w.id FROM chat_webhook_events AS w
			WHERE w.state IN ('delivered', 'dead') AND w.due_at <= (SELECT ?) LIMIT ?)`, s.dialect.clock(0), n).Exec(ctx)
		if err != nil {
			return err
		}
		count, err := done.RowsAffected()
		gone = int(count)
		return err
	})
	return gone, err
}

// EventQueue counts the events that are pending or given up.
func (s *Store) EventQueue(ctx context.Context) (q ports.EventQueue, err error) {
	err = s.read(ctx, "event_queue", allUsers, func(ctx context.Context, db bun.IDB) error {
		var oldest time.Time
		err := db.QueryRowContext(ctx, `SELECT
			(SELECT count(*) FROM chat_webhook_events AS w WHERE w.state = 'pending'),
			(SELECT count(*) FROM chat_webhook_events AS w WHERE w.state = 'dead'),
			(SELECT min(w.created_at) FROM chat_webhook_events AS w WHERE w.state = 'pending')`,
		).Scan(&q.Pending, &q.Dead, rows.NullTime{Dest: &oldest})
		if err == nil && !oldest.IsZero() {
			q.Oldest = max(s.opt.Now().Sub(oldest), 0)
		}
		return err
	})
	return q, err
}

// Events lists events, newest first, without their bodies.
func (s *Store) Events(ctx context.Context, f ports.EventFilter) (list []webhook.Delivery, err error) {
	err = s.read(ctx, "events", allUsers, func(ctx context.Context, db bun.IDB) error {
		list = nil
		var found []rows.WebhookEvent
		q := db.NewSelect().Model(&found).ExcludeColumn("body").Where("?", eventsWhere(f, states(f))).OrderExpr("w.created_at DESC, w.id")
		if f.Limit > 0 {
			q = q.Limit(int64(f.Limit))
		}
		if err := q.Scan(ctx); err != nil {
			return err
		}
		for _, row := range found {
			list = append(list, row.Domain())
		}
		return nil
	})
	return list, err
}

// ReplayEvents makes events that have ended pending again. Attempt goes on
// counting, so that an attempt from before cannot settle them.
func (s *Store) ReplayEvents(ctx context.Context, f ports.EventFilter) (n int, err error) {
	ended := slices.DeleteFunc(states(f), func(state string) bool { return state == string(webhook.Pending) })
	if len(ended) == 0 {
		return 0, nil
	}
	err = s.write(ctx, "replay_events", allUsers, func(ctx context.Context, tx bun.IDB) error {
		done, err := tx.NewRaw("UPDATE chat_webhook_events AS w SET state = 'pending', tries = 0, due_at = ? WHERE ?",
			s.dialect.clock(0), eventsWhere(f, ended)).Exec(ctx)
		if err != nil {
			return err
		}
		count, err := done.RowsAffected()
		n = int(count)
		return err
	})
	return n, err
}

// states are those that a filter selects.
func states(f ports.EventFilter) (list []string) {
	for _, state := range webhook.States {
		if f.State == "" || f.State == state {
			list = append(list, string(state))
		}
	}
	return list
}

// eventsWhere is the condition of a filter.
func eventsWhere(f ports.EventFilter, states []string) pipeline.Stmt {
	where := stmt("w.state IN (?)", bun.List(states))
	if f.ID != "" {
		where = stmt("? AND w.id = ?", where, f.ID)
	}
	if !f.Since.IsZero() {
		where = stmt("? AND w.created_at >= ?", where, rows.Time(f.Since))
	}
	return where
}
