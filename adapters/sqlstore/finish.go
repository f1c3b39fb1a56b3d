package sqlstore

import (
	"context"

	"github.com/uptrace/bun/schema"

	"parley/adapters/sqlstore/pipeline"
	"parley/adapters/sqlstore/rows"
	"parley/domain/chat"
	"parley/ports"
)

// Finish ends a run, and reports whether another one waits in its conversation.
func (s *Store) Finish(ctx context.Context, o chat.Outcome, decide ports.FinishDecision) (waiting bool, err error) {
	var state chat.FinishState
	var plan chat.FinishPlan
	err = s.turn(ctx, &turn{
		name: "finish", user: o.UserID, end: true,
		// The default thread's leaf is the user's: taken before the run, as
		// admissions do, and read again when they are through.
		lock: o.ConversationID == "",
		load: func() []pipeline.Stmt {
			state = chat.FinishState{}
			return s.finishState(o.UserID, o.RunID, &state)
		},
		decide: func(bool) (_, save []pipeline.Stmt, err error) {
			if plan, err = decide(o, state); err != nil {
				return nil, nil, err
			}
			save, err = s.finishStatements(plan)
			return nil, save, err
		},
	})
	if err != nil {
		return false, err
	}
	if m := plan.Message; m != nil && plan.Thread != nil && plan.Thread.Leaf == m.ID {
		s.tails.add(*m, o.At)
	}
	s.sampleSearchDue(o.UserID, o.RunID)
	return plan.Waiting, nil
}

// finishState reads what the end of a run is decided by. The run is locked
// first: an admission locks the live runs of its conversation before it puts a
// message behind one of them, so that what is read next stays true.
func (s *Store) finishState(user, id string, state *chat.FinishState) []pipeline.Stmt {
	u, r := any(user), any(id) // one copy of each on the heap, for all arguments
	return []pipeline.Stmt{
		stmt(finishedRunText+s.dialect.lockRow, u, r).ScanRow(func(scan func(...any) error) error {
			run := &chat.Run{ID: id, UserID: user}
			state.Run = run
			return scan(rows.NullText{Dest: &run.ConversationID}, &run.ParentID, &run.AuditID, (*string)(&run.State), &run.StopRequested, &run.Attempt,
				rows.NullTime{Dest: &run.CreatedAt}, &run.Hold.Tokens, &run.Hold.Micros)
		}),
		stmt(finishAroundText, u, u, r, u, r, u, u, r, u, u, r, r).ScanRow(func(scan func(...any) error) error {
			return scan(rows.NullTime{Dest: &state.AskedAt}, &state.Followed, rows.NullTime{Dest: &state.LastMessageAt}, &state.Waiting)
		}),
	}
}

// The texts of finishState.
const (
	finishedRunText = `SELECT conversation_id, parent_id, audit_id, state, stop_requested, attempt, created_at, hold_tokens, hold_micros
			FROM chat_runs WHERE user_id = ? AND id = ?`
	finishAroundText = `SELECT (SELECT m.created_at FROM chat_messages AS m WHERE m.user_id = ? AND m.id = (SELECT r.parent_id FROM chat_runs AS r WHERE r.user_id = ? AND r.id = ?)),
				EXISTS (SELECT 1 FROM chat_messages AS m WHERE m.user_id = ? AND m.parent_id = ?),
				(SELECT c.last_message_at FROM chat_conversations AS c WHERE c.user_id = ? AND c.id = (SELECT r.conversation_id FROM chat_runs AS r WHERE r.user_id = ? AND r.id = ?)),
				EXISTS (SELECT 1 FROM chat_runs AS o WHERE o.user_id = ? AND o.conversation_id = (SELECT r.conversation_id FROM chat_runs AS r WHERE r.user_id = ? AND r.id = ?) AND o.ended_at IS NULL AND o.id <> ?)`
)

// finishStatements write what the end of a run changes.
func (s *Store) finishStatements(plan chat.FinishPlan) ([]pipeline.Stmt, error) {
	o := plan.Outcome
	run, err := rows.FromRun(chat.Run{
		Provider: o.Provider, Model: o.Model, FinishReason: o.FinishReason, Failure: o.Failure,
		Usage: o.Usage, CostMicros: o.CostMicros, Metadata: o.Metadata,
	})
	if err != nil {
		return nil, err
	}
	statements := s.endRun(o.UserID, plan.End, outcomeColumns.Values(&run)...)
	if plan.Message == nil && !o.Output.Empty() {
		statements = append(statements, s.insertRest(o.UserID, o.RunID, o.Output))
	}
	if plan.Message != nil {
		statements = append(statements, deleteOutput(o.UserID, o.RunID))
	}
	if plan.Thread != nil {
		statements = append(statements, changeThread(o.UserID, plan.Thread))
	}
	if plan.Message != nil { // behind the thread, as in an admission
		row, err := rows.FromMessage(*plan.Message)
		if err != nil {
			return nil, err
		}
		statements = append(statements, insertMessage(row))
	}
	return statements, nil
}

// outcomeColumns are what the maker of a run says of its end.
var outcomeColumns = rows.RunColumns.Only("provider", "model", "finish_reason", "failure",
	"usage_input", "usage_output", "usage_cache_read", "usage_cache_write", "usage_reasoning", "usage_estimated", "cost_micros", "metadata")

// endRun writes the end of a run and what goes with it. A run that has not
// started has no outcome, the values of outcomeColumns, and no output.
func (s *Store) endRun(user string, e chat.Ending, outcome ...any) []pipeline.Stmt {
	u, r, text := any(user), any(e.RunID), endQueuedText
	values := append(make([]any, 0, len(outcome)+4), string(e.State), rows.Time(e.At))
	if len(outcome) > 0 {
		text = endRunText
		values = append(values, outcome...)
	}
	statements := append(make([]pipeline.Stmt, 0, 8), stmt(text, append(values, u, r)...))
	if e.Reparent != "" {
		statements = append(statements, stmt("UPDATE chat_messages SET parent_id = ? WHERE user_id = ? AND parent_id = ?", e.Reparent, u, r))
	}
	return append(statements, s.settleRun(user, e)...)
}

// The texts of endRun, without an outcome and with one.
var (
	endQueuedText = "UPDATE chat_runs SET state = ?, ended_at = ?, owner = NULL, lease_until = NULL WHERE user_id = ? AND id = ?"
	endRunText    = "UPDATE chat_runs SET state = ?, ended_at = ?, owner = NULL, lease_until = NULL, " + setOutcomeText + " WHERE user_id = ? AND id = ?"
)

// settleRun completes the audit entry of a run and counts what it has used.
func (s *Store) settleRun(user string, e chat.Ending) []pipeline.Stmt {
	return append(s.insertRunEnded(e.Ended.Event, user),
		stmt("UPDATE audit_logs SET status = ?, error_message = ?, updated_at = ? WHERE user_id = ? AND id = ? AND status = 'pending'",
			string(e.Audit.Status), orNull(e.Audit.Error), rows.Time(e.Audit.At), user, e.Audit.ID),
		addUsage(user, e.Settle))
}

// requestStop marks a running run, for its owner to stop it.
func requestStop(user, id string) pipeline.Stmt {
	return stmt("UPDATE chat_runs SET stop_requested = TRUE WHERE user_id = ? AND id = ? AND state = 'running'", user, id)
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
