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
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
)

// Checkpoint records output in one statement, whatever the number of runs.
// A run's row is found by its key and refused by its attempt.
func (s *Store) Checkpoint(ctx context.Context, owner string, points []chat.Checkpoint) (fenced []string, err error) {
	if len(points) == 0 {
		return nil, nil
	}
	err = s.writeOwned(ctx, "checkpoint", allUsers, func(ctx context.Context, tx bun.IDB) error {
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

// Finish ends a run, and reports whether another one waits in its conversation.
func (s *Store) Finish(ctx context.Context, o chat.Outcome) (waiting bool, err error) {
	if !o.State.Terminal() {
		return false, fault.New(fault.Internal, "A run cannot end as %s", o.State)
	}
	if o.UserID == "" { // nobody's run is nobody's to end
		return false, fenced()
	}
	ended, err := rows.FromRun(chat.Run{Metadata: o.Metadata})
	if err != nil {
		return false, err
	}
	who := forUser(o.UserID)
	if o.ConversationID == "" {
		// The default thread's leaf is the user's: taken before the run, as
		// admissions do, and read again when they are through.
		who = forUserLocked(o.UserID)
	}
	at := rows.Time(o.At)
	var run *endedRun
	err = s.writeOnto(ctx, "finish", who, func() []statement {
		run = nil
		return []statement{
			say(`UPDATE chat_runs SET state = ?, ended_at = ?, owner = NULL, lease_until = NULL, text = '', reasoning = ?,
					provider = ?, model = ?, finish_reason = ?, failure = ?,
					usage_input = ?, usage_output = ?, usage_cache_read = ?, usage_cache_write = ?, usage_reasoning = ?, usage_estimated = ?,
					cost_micros = ?, metadata = ?
				WHERE user_id = ? AND id = ? AND attempt = ? AND state IN ('queued', 'running')
				RETURNING conversation_id, parent_id, audit_id, created_at, hold_tokens, hold_micros, (SELECT m.created_at FROM chat_messages AS m
					WHERE m.user_id = chat_runs.user_id AND m.id = chat_runs.parent_id)`,
				string(o.State), notBefore(at), o.Output.Reasoning, orNull(o.Provider), orNull(o.Model), orNull(o.FinishReason), orNull(o.Failure),
				o.Usage.Input, o.Usage.Output, o.Usage.CacheRead, o.Usage.CacheWrite, o.Usage.Reasoning, o.Usage.Estimated,
				o.CostMicros, orNull(ended.Metadata), o.UserID, o.RunID, o.Attempt,
			).into(func(scan func(...any) error) error {
				run = &endedRun{}
				return scan(nullText{&run.conversation}, &run.parent, &run.audit, nullTime{&run.created},
					&run.hold.Tokens, &run.hold.Micros, nullTime{&run.asked})
			}),
		}
	}, func(ctx context.Context, tx bun.IDB) error {
		if run == nil {
			return fenced()
		}
		statements, err := run.settle(o, at)
		if err != nil {
			return err
		}
		waiting = false
		if run.conversation != "" {
			// Whoever was admitted to wait for this run was so before it was ours to
			// end: admissions lock the live runs of their conversation.
			statements = append(statements, say(`SELECT 1 FROM chat_runs WHERE user_id = ? AND conversation_id = ? AND ended_at IS NULL LIMIT 1`,
				o.UserID, run.conversation,
			).into(func(func(...any) error) error { waiting = true; return nil }))
		}
		return s.sendLast(ctx, tx, statements...)
	})
	return waiting, err
}

// endedRun is what the end of a run needs to know of it.
type endedRun struct {
	conversation, parent, audit string
	created                     time.Time
	asked                       time.Time // when the message that it answers was sent
	hold                        access.Hold
}

// settle is what a run's end writes besides the run.
func (r *endedRun) settle(o chat.Outcome, at time.Time) ([]statement, error) {
	status, code := audit.Success, ""
	if o.State == chat.Failed || o.State == chat.Interrupted {
		status, code = audit.Failure, o.Failure
		if code == "" {
			code = string(o.State)
		}
	}
	statements := []statement{completeEntry(o.UserID, r.audit, status, code, at)}
	o.ConversationID, o.ParentID = r.conversation, r.parent
	if m, ok := o.Message(); ok {
		m.CreatedAt = after(at, rows.Time(r.asked))
		row, err := rows.FromMessage(m)
		if err != nil {
			return nil, err
		}
		statements = append(statements, insertMessage(row), endThread(row, at))
	} else {
		statements = append(statements, moveUp(o.UserID, o.RunID, r.parent))
	}
	cost := int64(0)
	if o.CostMicros != nil {
		cost = *o.CostMicros
	}
	return append(statements, account(o.UserID, r.hold, o.Usage.Input+o.Usage.Output, cost, r.created)...), nil
}

func fenced() *fault.Error {
	return fault.New(fault.Fenced, "This run has ended or belongs to another attempt")
}

// endThread makes a reply the end of its thread, unless a message was put
// behind it while it was being made.
func endThread(m rows.Message, at time.Time) statement {
	unfollowed := say("NOT EXISTS (SELECT 1 FROM chat_messages AS m WHERE m.user_id = ? AND m.parent_id = ?)", m.UserID, m.ID)
	if m.ConversationID == "" {
		return say("UPDATE chat_users SET leaf_id = ? WHERE user_id = ? AND ?", m.ID, m.UserID, unfollowed)
	}
	return say(`UPDATE chat_conversations SET leaf_id = CASE WHEN ? THEN ? ELSE leaf_id END,
		last_message_at = CASE WHEN last_message_at < ? THEN ? ELSE last_message_at END, updated_at = ?
		WHERE user_id = ? AND id = ?`,
		unfollowed, m.ID, m.CreatedAt, m.CreatedAt, at, m.UserID, m.ConversationID)
}

// moveUp puts what stands behind a run that left no text behind the message
// that the run should have answered, so that no branch has a hole.
func moveUp(user, run, parent string) statement {
	return say("UPDATE chat_messages SET parent_id = ? WHERE user_id = ? AND parent_id = ?", parent, user, run)
}

// notBefore is at, or when the row was made if that is later: instances read
// their clocks before they wait for their turn, and not all clocks agree.
// Nothing ends before it began.
func notBefore(at time.Time) statement {
	return say("CASE WHEN created_at > ? THEN created_at ELSE ? END", at, at)
}

// completeEntry gives a pending audit entry its final status, once.
func completeEntry(user, id string, status audit.Status, code string, at time.Time) statement {
	return say("UPDATE audit_logs SET status = ?, error_message = ?, updated_at = ? WHERE user_id = ? AND id = ? AND status = 'pending'",
		string(status), orNull(code), notBefore(at), user, id)
}

// endQueued stops a run that nobody has begun.
func (s *Store) endQueued(ctx context.Context, tx bun.IDB, user, id, parent, entryID string, at time.Time) error {
	var run *endedRun
	err := s.send(ctx, tx, say(`UPDATE chat_runs SET state = 'stopped', ended_at = ?, text = '' WHERE user_id = ? AND id = ? AND state = 'queued'
		RETURNING created_at, hold_tokens, hold_micros`, notBefore(at), user, id,
	).into(func(scan func(...any) error) error {
		run = &endedRun{}
		return scan(nullTime{&run.created}, &run.hold.Tokens, &run.hold.Micros)
	}))
	if err != nil || run == nil {
		return err
	}
	return s.send(ctx, tx, append([]statement{
		completeEntry(user, entryID, audit.Success, "", at),
		moveUp(user, id, parent),
	}, account(user, run.hold, 0, 0, run.created)...)...)
}

// whenOrNull is t, or NULL for no time.
func whenOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
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
