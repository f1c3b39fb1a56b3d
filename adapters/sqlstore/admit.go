package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/rows"
	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
)

// Admit makes a message and its run durable, or finds the run that an earlier
// request with the same key made. Admissions of one user go one after another;
// those of different users do not meet.
func (s *Store) Admit(ctx context.Context, a chat.Admission) (chat.Admitted, error) {
	var (
		out chat.Admitted
		in  *admission
	)
	err := s.writeOnto(ctx, "admit", forUserLocked(a.Run.UserID), func() []statement {
		in = &admission{Admission: a, s: s, run: a.Run, now: rows.Time(a.Now)}
		return in.look()
	}, func(ctx context.Context, tx bun.IDB) error {
		in.tx = tx
		var err error
		out, err = in.do(ctx)
		return err
	})
	if err != nil {
		return chat.Admitted{}, err
	}
	return out, nil
}

// admission is one Admit on its way. The steps fill the fields below.
type admission struct {
	chat.Admission
	s   *Store
	tx  bun.IDB
	now time.Time

	// What stands in the tables: see look.
	first string // the run of an earlier request with the same key
	taken bool   // one of the ids is
	leaf  string // where the default thread ends
	usage access.Usage
	found thread

	run     chat.Run
	message *chat.Message
	conv    rows.Conversation // zero for the default thread
	newConv bool
	branch  []chat.Message
	pre     []statement // which make room for the run
	over    string      // the superseded run
	left    access.Remaining
}

func (in *admission) do(ctx context.Context) (chat.Admitted, error) {
	if in.run.UserID == "" {
		return chat.Admitted{}, fault.New(fault.Unauthenticated, "Authentication required")
	}
	if out, known, err := in.replay(ctx); err != nil || known {
		return out, err
	}
	if in.OnlyReplay != nil {
		return chat.Admitted{}, in.OnlyReplay
	}
	for _, step := range []func(context.Context) error{in.place, in.conversation, in.busy, in.room, in.afford, in.attach, in.record} {
		if err := step(ctx); err != nil {
			return chat.Admitted{}, err
		}
	}
	out := chat.Admitted{Run: in.run, UserMessage: in.branch[len(in.branch)-1], Context: in.branch, Left: in.left, Superseded: in.over}
	if in.run.ConversationID != "" {
		out.Conversation = in.conv.Domain()
	}
	return out, nil
}

// lockUser makes the caller the only one who admits, creates or deletes for
// this user until the transaction ends. It makes the user's row if need be.
func (s *Store) lockUser(ctx context.Context, tx bun.IDB, user string, now time.Time) error {
	for {
		var row rows.User
		err := tx.NewRaw("SELECT user_id, leaf_id FROM chat_users WHERE user_id = ?"+s.dialect.lockRow, user).Scan(ctx, &row)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		row = rows.User{UserID: user, CreatedAt: rows.Time(now)}
		if _, err := tx.NewInsert().Model(&row).On("CONFLICT DO NOTHING").Exec(ctx); err != nil {
			return err
		}
	}
}

// replay finds an earlier request with the same key, and refuses ids that are
// taken.
func (in *admission) replay(ctx context.Context) (out chat.Admitted, known bool, err error) {
	if !locked(in.tx) { // somebody new, or SQLite
		if err := in.s.lockUser(ctx, in.tx, in.run.UserID, in.now); err != nil {
			return out, false, err
		}
		if in.s.dialect.lockRow != "" { // what was seen was seen without a lock
			if err := in.s.send(ctx, in.tx, in.look()...); err != nil {
				return out, false, err
			}
		}
	}
	if in.first != "" {
		first, err := in.s.selectRun(ctx, in.tx, "r.user_id = ? AND r.id = ?", in.run.UserID, in.first)
		switch {
		case err != nil:
			return out, false, err
		case in.now.Sub(first.CreatedAt) >= chat.IdempotencyTTL:
			in.pre = append(in.pre, say("UPDATE chat_runs SET idempotency_key = NULL WHERE user_id = ? AND id = ?", in.run.UserID, first.ID))
		case first.Fingerprint != in.run.Fingerprint:
			return out, false, fault.New(fault.Mismatch, "This idempotency key was used for a different request")
		default:
			out, err := in.replayed(ctx, first)
			return out, true, err
		}
	}
	if in.taken {
		return out, false, fault.New(fault.Conflict, "This message ID is already in use")
	}
	return out, false, nil
}

// replayed returns what an earlier admission led to, as it stands now.
func (in *admission) replayed(ctx context.Context, run chat.Run) (chat.Admitted, error) {
	out := chat.Admitted{Replayed: true, Run: run}
	var err error
	if out.UserMessage, err = selectMessage(ctx, in.tx, run.UserID, run.ParentID); err != nil {
		return out, err
	}
	if run.ConversationID != "" {
		conv, err := in.s.selectConversation(ctx, in.tx, run.UserID, run.ConversationID)
		if err != nil {
			return out, err
		}
		out.Conversation = conv.Domain()
	}
	return out, nil
}

// busy applies WhenBusy: one live reply per conversation, any number in the
// default thread. It decides whether the run starts at once.
func (in *admission) busy(ctx context.Context) error {
	in.run.State = chat.Running
	if in.Owner == "" {
		in.run.State = chat.Queued
	}
	if in.run.ConversationID == "" || len(in.found.live) == 0 {
		return nil
	}
	switch in.WhenBusy {
	case chat.Queue:
		in.run.State = chat.Queued
	case chat.Supersede:
		return in.supersede(ctx)
	default:
		current := in.found.live[0]
		for _, r := range in.found.live {
			if r.State == string(chat.Running) {
				current = r
			}
		}
		return fault.New(fault.Busy, "A reply is already being made in this conversation").With("runId", current.ID)
	}
	return nil
}

// supersede asks the running reply to stop and ends those that wait.
func (in *admission) supersede(ctx context.Context) error {
	waiting := false
	for _, r := range in.found.live {
		if r.State == string(chat.Running) {
			waiting, in.over = true, r.ID
			in.usage.Live-- // this one takes its place
			in.pre = append(in.pre, say("UPDATE chat_runs SET stop_requested = TRUE WHERE user_id = ? AND id = ? AND state = 'running'",
				in.run.UserID, r.ID))
		}
	}
	kept := in.found.live[:0]
	for _, r := range in.found.live {
		if r.State != string(chat.Queued) {
			kept = append(kept, r)
			continue
		}
		if err := in.s.endQueued(ctx, in.tx, in.run.UserID, r.ID, r.ParentID, r.AuditID, in.now); err != nil {
			return err
		}
		in.usage.Live--
		if in.over == "" {
			in.over = r.ID
		}
	}
	in.found.live = kept
	if waiting {
		in.run.State = chat.Queued
	}
	return nil
}

// room refuses a run that would have to wait when enough do.
func (in *admission) room(ctx context.Context) error {
	if in.run.State != chat.Queued {
		return nil
	}
	var waiting int
	err := in.s.withAllUsersScope(ctx, in.tx, func() error {
		return in.tx.NewRaw("SELECT count(*) FROM (SELECT 1 FROM chat_runs WHERE state IN ('queued', 'running') AND state = 'queued' LIMIT ?) AS w", max(in.MaxQueue, 1)).
			Scan(ctx, &waiting)
	})
	if err != nil {
		return err
	}
	if waiting >= in.MaxQueue {
		return fault.New(fault.QueueFull, "Too many replies are waiting; please try again").After(5 * time.Second)
	}
	return nil
}
