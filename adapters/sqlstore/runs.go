package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/pipeline"
	"parley/adapters/sqlstore/rows"
	"parley/domain/audit"
	"parley/domain/chat"
)

// Resume reads what a claimed run needs. NotFound: its conversation is gone.
func (s *Store) Resume(ctx context.Context, run chat.Run, n int) (conv chat.Conversation, branch []chat.Message, err error) {
	err = s.read(ctx, "resume", forUser(run.UserID), func(ctx context.Context, db bun.IDB) error {
		conv, branch = chat.Conversation{}, nil
		if run.ConversationID != "" {
			row, err := s.selectConversation(ctx, db, run.UserID, run.ConversationID)
			if err != nil {
				return err
			}
			conv = row.Domain()
		}
		var err error
		branch, err = s.loadBranch(ctx, db, run.UserID, run.ConversationID, run.ParentID, max(n, 1))
		if err == nil && (len(branch) == 0 || branch[len(branch)-1].ID != run.ParentID) {
			return chat.MessageNotFound()
		}
		return err
	})
	return conv, branch, err
}

// Heartbeat reads the runs that owner holds, and renews the leases of those that
// it makes, where they need it.
func (s *Store) Heartbeat(ctx context.Context, owner string, made []string, lease time.Duration) (held []chat.Run, err error) {
	var due []string
	mine := make(map[string]bool, len(made))
	for _, id := range made {
		mine[id] = true
	}
	err = s.read(ctx, "heartbeat", allUsers, func(ctx context.Context, db bun.IDB) error {
		var list []struct {
			rows.Run
			Due bool `bun:"due"`
		}
		err := db.NewRaw(`SELECT user_id, id, attempt, stop_requested, lease_until < ? AS due
			FROM chat_runs WHERE owner = ? AND state = 'running' AND ended_at IS NULL`, s.dialect.clock(lease*2/3), owner).Scan(ctx, &list)
		held, due = make([]chat.Run, 0, len(list)), nil
		for _, r := range list {
			held = append(held, chat.Run{
				ID: r.ID, UserID: r.UserID, Owner: owner, State: chat.Running, Attempt: r.Attempt, StopRequested: r.StopRequested,
			})
			if r.Due && mine[r.ID] {
				due = append(due, r.ID)
			}
		}
		return err
	})
	if err != nil || len(due) == 0 {
		return held, err
	}
	err = s.writeSerialized(ctx, "heartbeat", allUsers, func(ctx context.Context, tx bun.IDB) error {
		_, err := tx.NewRaw("UPDATE chat_runs SET lease_until = ? WHERE owner = ? AND state = 'running' AND ended_at IS NULL AND id IN (?)",
			s.dialect.clock(lease), owner, bun.List(due)).Exec(ctx)
		return err
	})
	return held, err
}

// Claim takes queued and abandoned runs, oldest first. Two claimers never get
// the same one: each passes over the rows that the other has locked.
func (s *Store) Claim(ctx context.Context, owner string, lease time.Duration, n int) ([]chat.Run, error) {
	if n <= 0 {
		return nil, nil
	}
	var claimed []chat.Run
	err := s.write(ctx, "claim", allUsers, func(ctx context.Context, tx bun.IDB) error {
		var err error
		claimed, err = s.claim(ctx, tx, owner, lease, n)
		return err
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

func (s *Store) claim(ctx context.Context, tx bun.IDB, owner string, lease time.Duration, n int) ([]chat.Run, error) {
	var claimed []rows.Run
	err := tx.NewRaw(`WITH picked AS MATERIALIZED (
			SELECT r.user_id AS picked_user, r.id AS picked_run FROM chat_runs AS r
			WHERE r.ended_at IS NULL AND (r.state = 'running' AND r.lease_until <= ?0
			OR r.state = 'queued' AND (r.conversation_id IS NULL OR NOT EXISTS (
				SELECT 1 FROM chat_runs AS o
				WHERE o.user_id = r.user_id AND o.ended_at IS NULL AND o.conversation_id = r.conversation_id
				AND (o.state = 'running' OR (o.created_at, o.id) < (r.created_at, r.id)))))
			ORDER BY r.created_at, r.id LIMIT ?1 ?2)
		UPDATE chat_runs SET state = 'running', attempt = attempt + 1, owner = ?3, lease_until = ?4,
			started_at = COALESCE(started_at, ?0)
		WHERE (user_id, id) IN (SELECT picked_user, picked_run FROM picked)
		RETURNING `+rows.RunColumns.List(""),
		s.dialect.clock(0), n, bun.Safe(s.dialect.skipLocked), owner, s.dialect.clock(lease)).Scan(ctx, &claimed)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	slices.SortFunc(claimed, func(a, b rows.Run) int {
		if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	list, err := runs(claimed)
	if err != nil {
		return nil, err
	}
	return list, addRecorded(ctx, tx, list)
}

// Release lets other instances claim the runs at once. The next claim counts the
// attempt.
func (s *Store) Release(ctx context.Context, owner string, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	return s.writeSerialized(ctx, "release", allUsers, func(ctx context.Context, tx bun.IDB) error {
		_, err := tx.NewRaw("UPDATE chat_runs SET owner = NULL, lease_until = ? WHERE owner = ? AND state = 'running' AND ended_at IS NULL AND id IN (?)",
			s.dialect.clock(0), owner, bun.List(ids)).Exec(ctx)
		return err
	})
}

// forStop is the scope of a request that may end runs which wait. The user's row is
// locked, as admissions lock it: in the default thread, whose runs they do not lock,
// a message could else be put behind a run that has just ended.
func forStop(user string) rlsScope { return rlsScope{user: user, lock: true} }

// RequestStop marks a run to be stopped, or ends it if it waits. The audit
// entry is written when that changes something.
func (s *Store) RequestStop(ctx context.Context, user, id string, entry audit.Entry) (run chat.Run, err error) {
	err = s.write(ctx, "request_stop", forStop(user), func(ctx context.Context, tx bun.IDB) error {
		var live *chat.LiveRun
		err := s.pipe.Exec(ctx, tx, stmt("SELECT "+liveColumns+" FROM chat_runs AS r WHERE r.user_id = ? AND r.id = ?"+s.dialect.lockOf("r"), user, user, id).
			ScanRow(scanLive(func(r chat.LiveRun) { live = &r })))
		if err != nil {
			return err
		}
		if live == nil {
			return chat.MessageNotFound()
		}
		if plan := chat.Stop(*live, entry.CreatedAt); plan.Changes() {
			entry, err := rows.FromEntry(owned(entry, user))
			if err != nil {
				return err
			}
			statements := []pipeline.Stmt{insertEntry(entry)}
			if plan.Request {
				statements = append(statements, requestStop(user, id))
			} else {
				statements = append(statements, s.endRun(user, *plan.End)...)
			}
			if err := s.pipe.Exec(ctx, tx, statements...); err != nil {
				return err
			}
		}
		run, err = s.selectRun(ctx, tx, user, id)
		return err
	})
	return run, err
}

// StopConversation asks the running replies of a conversation to stop, and ends
// those that wait. It returns how many are running.
func (s *Store) StopConversation(ctx context.Context, user, id string, at time.Time) (running int, err error) {
	err = s.write(ctx, "stop_conversation", forStop(user), func(ctx context.Context, tx bun.IDB) error {
		running, err = s.stopRuns(ctx, tx, user, ofThread("r", id), at)
		return err
	})
	return running, err
}

// stopRuns stops the live runs of a user for which a condition holds.
func (s *Store) stopRuns(ctx context.Context, tx bun.IDB, user string, which pipeline.Stmt, at time.Time) (running int, err error) {
	var live []chat.LiveRun
	if err := s.pipe.Exec(ctx, tx, s.liveRuns(user, which, true, func(r chat.LiveRun) { live = append(live, r) })); err != nil {
		return 0, err
	}
	var statements []pipeline.Stmt
	for _, r := range live {
		switch plan := chat.Stop(r, at); {
		case plan.End != nil:
			statements = append(statements, s.endRun(user, *plan.End)...)
		default:
			running++
			if plan.Request {
				statements = append(statements, requestStop(user, r.ID))
			}
		}
	}
	return running, s.pipe.ExecAndCommit(ctx, tx, statements...)
}

// Run returns one run with its output.
func (s *Store) Run(ctx context.Context, user, id string) (run chat.Run, err error) {
	err = s.read(ctx, "run", forUser(user), func(ctx context.Context, db bun.IDB) error {
		run, err = s.selectRun(ctx, db, user, id)
		return err
	})
	return run, err
}

// Recent lists live runs and those that ended after since, newest first.
func (s *Store) Recent(ctx context.Context, user string, since time.Time) (list []chat.Run, err error) {
	err = s.read(ctx, "recent", forUser(user), func(ctx context.Context, db bun.IDB) error {
		var found []rows.Run
		err := db.NewSelect().Model(&found).ExcludeColumn("prefix").
			Where("r.user_id = ? AND (r.ended_at IS NULL OR r.ended_at > ?)", user, rows.Time(since)).
			OrderExpr("r.created_at DESC, r.id DESC").Limit(100).Scan(ctx)
		if err != nil {
			return err
		}
		list, err = runs(found)
		return err
	})
	return list, err
}

// selectRun reads one run.
func (s *Store) selectRun(ctx context.Context, db bun.IDB, user, id string) (found chat.Run, err error) {
	known := false
	err = s.pipe.Exec(ctx, db, runsWhere(stmt("r.user_id = ? AND r.id = ?", user, id), func(r chat.Run) { found, known = r, true }))
	if err == nil && !known {
		err = chat.MessageNotFound()
	}
	return found, err
}

// runsWhere reads the runs for which a condition holds, with their output: of one
// that has left a message, the message's parts.
func runsWhere(which pipeline.Stmt, found func(chat.Run)) pipeline.Stmt {
	return stmt("SELECT "+rows.RunColumns.List("r.")+", m.id, m.content, m.parts, "+recordedColumns+` FROM chat_runs AS r
		LEFT JOIN chat_messages AS m ON m.user_id = r.user_id AND m.id = r.id WHERE ?`, which,
	).ScanRow(func(scan func(...any) error) error {
		var row rows.Run
		var left rows.Message
		var recorded recordedOutput
		dests := append(rows.RunColumns.Dests(&row), rows.MessageColumns.Only("id", "content", "parts").Dests(&left)...)
		if err := scan(append(dests, recorded.dests()...)...); err != nil {
			return err
		}
		r, err := row.Domain()
		if err != nil {
			return err
		}
		if left.ID != "" {
			m, err := left.Domain()
			if err != nil {
				return err
			}
			r.Output = chat.OutputOf(m.AllParts()...)
		} else if r.Output, err = recorded.output(r); err != nil {
			return err
		}
		found(r)
		return nil
	})
}

func runs(found []rows.Run) ([]chat.Run, error) {
	list := make([]chat.Run, 0, len(found))
	for _, row := range found {
		run, err := row.Domain()
		if err != nil {
			return nil, err
		}
		list = append(list, run)
	}
	return list, nil
}
