package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"

	"parley/adapters/sqlstore/rows"
	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
)

// Checkpoint records output in one statement, whatever the number of runs.
// A run's row is found by its key and refused by its attempt.
func (s *Store) Checkpoint(ctx context.Context, owner string, points []chat.Checkpoint) (fenced []string, err error) {
	if len(points) == 0 {
		return nil, nil
	}
	err = s.writeOwned(ctx, "checkpoint", everyone, func(ctx context.Context, tx bun.IDB) error {
		values := make([]schema.QueryAppender, len(points))
		for i, p := range points {
			values[i] = bun.SafeQuery("(?, ?, ?, ?, ?)", p.UserID, p.RunID, p.Attempt, p.Output.Reasoning, p.Output.Text)
		}
		var kept []string
		err := tx.NewRaw(`WITH point (point_user, point_run, point_attempt, point_reasoning, point_text) AS (VALUES ?)
			UPDATE chat_runs SET reasoning = point_reasoning, text = point_text FROM point
			WHERE user_id = point_user AND id = point_run AND attempt = point_attempt AND owner = ? AND state = 'running'
			RETURNING id`, list(values), owner).Scan(ctx, &kept)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		fenced = missing(points, kept)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return fenced, nil
}

func missing(points []chat.Checkpoint, kept []string) (ids []string) {
	found := make(map[string]bool, len(kept))
	for _, id := range kept {
		found[id] = true
	}
	for _, p := range points {
		if !found[p.RunID] {
			ids = append(ids, p.RunID)
		}
	}
	return ids
}

// Finish ends a run. What it writes besides the run goes in one round trip.
func (s *Store) Finish(ctx context.Context, o chat.Outcome) error {
	if !o.State.Terminal() {
		return fault.New(fault.Internal, "A run cannot end as %s", o.State)
	}
	if o.UserID == "" { // nobody's run is nobody's to end
		return fenced()
	}
	return s.write(ctx, "finish", of(o.UserID), func(ctx context.Context, tx bun.IDB) error {
		return s.finish(ctx, tx, o)
	})
}

func (s *Store) finish(ctx context.Context, tx bun.IDB, o chat.Outcome) error {
	at := rows.Time(o.At)
	ended, err := rows.FromRun(chat.Run{Metadata: o.Metadata})
	if err != nil {
		return err
	}
	if o.ConversationID == "" {
		// The default thread's leaf is the user's: taken before the run, as
		// admissions do, and read again when they are through.
		if _, err := s.lockUser(ctx, tx, o.UserID, at); err != nil {
			return err
		}
	}
	var run struct {
		ConversationID string    `bun:"conversation_id"`
		ParentID       string    `bun:"parent_id"`
		AuditID        string    `bun:"audit_id"`
		AskedAt        time.Time `bun:"asked_at"`
		CreatedAt      time.Time `bun:"created_at"`
		HoldTokens     int64     `bun:"hold_tokens"`
		HoldMicros     int64     `bun:"hold_micros"`
	}
	err = tx.NewRaw(`UPDATE chat_runs SET state = ?, ended_at = ?, owner = NULL, lease_until = NULL, text = '', reasoning = ?,
			provider = ?, model = ?, finish_reason = ?, failure = ?,
			usage_input = ?, usage_output = ?, usage_cache_read = ?, usage_cache_write = ?, usage_reasoning = ?, usage_estimated = ?,
			cost_micros = ?, metadata = ?
		WHERE user_id = ? AND id = ? AND attempt = ? AND state IN ('queued', 'running')
		RETURNING conversation_id, parent_id, audit_id, created_at, hold_tokens, hold_micros, (SELECT m.created_at FROM chat_messages AS m
			WHERE m.user_id = chat_runs.user_id AND m.id = chat_runs.parent_id) AS asked_at`,
		string(o.State), notBefore(tx, at), o.Output.Reasoning, orNull(o.Provider), orNull(o.Model), orNull(o.FinishReason), orNull(o.Failure),
		o.Usage.Input, o.Usage.Output, o.Usage.CacheRead, o.Usage.CacheWrite, o.Usage.Reasoning, o.Usage.Estimated,
		o.CostMicros, orNull(ended.Metadata), o.UserID, o.RunID, o.Attempt).Scan(ctx, &run)
	if err != nil {
		return one(err, fenced())
	}

	status, code := access.Success, ""
	if o.State == chat.Failed || o.State == chat.Interrupted {
		status, code = access.Failure, o.Failure
		if code == "" {
			code = string(o.State)
		}
	}
	statements := []schema.QueryAppender{completeEntry(tx, o.UserID, run.AuditID, status, code, at)}
	o.ConversationID, o.ParentID = run.ConversationID, run.ParentID
	if m, ok := o.Message(); ok {
		m.CreatedAt = after(at, rows.Time(run.AskedAt))
		more, err := s.settle(tx, m, at)
		if err != nil {
			return err
		}
		statements = append(statements, more...)
	} else {
		statements = append(statements, moveUp(tx, o.UserID, o.RunID, run.ParentID))
	}
	cost := int64(0)
	if o.CostMicros != nil {
		cost = *o.CostMicros
	}
	statements = append(statements, account(tx, o.UserID, access.Hold{Tokens: run.HoldTokens, Micros: run.HoldMicros},
		o.Usage.Input+o.Usage.Output, cost, run.CreatedAt))
	return lastBatch(ctx, tx, s.db.QueryGen(), statements...)
}

func fenced() *fault.Error {
	return fault.New(fault.Fenced, "This run has ended or belongs to another attempt")
}

// settle inserts the reply and makes it the end of its thread, unless a
// message was put behind it while it was being made.
func (s *Store) settle(tx bun.IDB, m chat.Message, at time.Time) ([]schema.QueryAppender, error) {
	row, err := rows.FromMessage(m)
	if err != nil {
		return nil, err
	}
	const unfollowed = "NOT EXISTS (SELECT 1 FROM chat_messages AS m WHERE m.user_id = ? AND m.parent_id = ?)"
	leaf := tx.NewRaw("UPDATE chat_users SET leaf_id = ? WHERE user_id = ? AND "+unfollowed, m.ID, m.UserID, m.UserID, m.ID)
	if m.ConversationID != "" {
		leaf = tx.NewRaw("UPDATE chat_conversations SET leaf_id = CASE WHEN "+unfollowed+` THEN ? ELSE leaf_id END,
			last_message_at = CASE WHEN last_message_at < ? THEN ? ELSE last_message_at END, updated_at = ?
			WHERE user_id = ? AND id = ?`,
			m.UserID, m.ID, m.ID, row.CreatedAt, row.CreatedAt, at, m.UserID, m.ConversationID)
	}
	return []schema.QueryAppender{tx.NewInsert().Model(&row), leaf}, nil
}

// moveUp puts what stands behind a run that left no text behind the message
// that the run should have answered, so that no branch has a hole.
func moveUp(tx bun.IDB, user, run, parent string) schema.QueryAppender {
	return tx.NewRaw("UPDATE chat_messages SET parent_id = ? WHERE user_id = ? AND parent_id = ?", parent, user, run)
}

// notBefore is at, or when the row was made if that is later: instances read
// their clocks before they wait for their turn, and not all clocks agree.
// Nothing ends before it began.
func notBefore(tx bun.IDB, at time.Time) schema.QueryAppender {
	return tx.NewRaw("CASE WHEN created_at > ? THEN created_at ELSE ? END", at, at)
}

// completeEntry gives a pending audit entry its final status, once.
func completeEntry(tx bun.IDB, user, id string, status access.Status, code string, at time.Time) schema.QueryAppender {
	return tx.NewRaw("UPDATE audit_logs SET status = ?, error_message = ?, updated_at = ? WHERE user_id = ? AND id = ? AND status = 'pending'",
		string(status), orNull(code), notBefore(tx, at), user, id)
}

// endQueued stops a run that nobody has begun.
func (s *Store) endQueued(ctx context.Context, tx bun.IDB, user, id, parent, audit string, at time.Time) error {
	var run rows.Run
	err := tx.NewRaw(`UPDATE chat_runs SET state = 'stopped', ended_at = ?, text = '' WHERE user_id = ? AND id = ? AND state = 'queued'
		RETURNING created_at, hold_tokens, hold_micros`, notBefore(tx, at), user, id).Scan(ctx, &run)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return batch(ctx, tx, s.db.QueryGen(),
		completeEntry(tx, user, audit, access.Success, "", at),
		moveUp(tx, user, id, parent),
		account(tx, user, access.Hold{Tokens: run.HoldTokens, Micros: run.HoldMicros}, 0, 0, run.CreatedAt))
}

// orNull is s, or NULL for "".
func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// list writes its parts one after another, with commas.
type list []schema.QueryAppender

// AppendQuery implements schema.QueryAppender.
func (l list) AppendQuery(gen schema.QueryGen, b []byte) ([]byte, error) {
	var err error
	for i, q := range l {
		if i > 0 {
			b = append(b, ", "...)
		}
		if b, err = q.AppendQuery(gen, b); err != nil {
			return nil, err
		}
	}
	return b, nil
}
