package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/pipeline"
	"parley/adapters/sqlstore/rows"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// Admit decides a request and makes the result durable. Admissions of one user
// go one after another; those of different users do not wait for each other. What
// the request alone says that its decision needs is read on the way in, under the
// user's lock; what is written goes with the COMMIT.
func (s *Store) Admit(ctx context.Context, request chat.AdmitRequest, decide ports.AdmitDecision) (out chat.Admitted, err error) {
	first, err := admitNeeds(decide(request, chat.AdmitState{}))
	if err != nil {
		return chat.Admitted{}, err
	}
	var load *admitLoad
	fresh := false // the context was made for this admission
	err = s.turn(ctx, &turn{
		name: "admit", user: request.Run.UserID, lock: true, since: request.Now,
		load: func() []pipeline.Stmt {
			load = &admitLoad{s: s, request: request}
			return load.statements(first)
		},
		decide: func(grouped bool) (more, save []pipeline.Stmt, err error) {
			plan, err := load.decide(decide)
			var needs *chat.Needs
			switch {
			case errors.As(err, &needs) && needs.Waiting && grouped: // it counts what the others of the group add
				return nil, nil, errAlone
			case errors.As(err, &needs):
				return load.statements(needs), nil, nil
			case err != nil:
				return nil, nil, err
			}
			if out, fresh = plan.Result, plan.Message != nil; out.Replayed {
				return nil, nil, nil
			}
			save, err = s.admitStatements(plan)
			return nil, save, err
		},
	})
	if err != nil {
		return chat.Admitted{}, err
	}
	if !out.Replayed {
		s.tails.put(out.Conversation, out.Context, fresh, request.Now)
	}
	return out, nil
}

// admitNeeds returns the state that a decision without any asks for.
func admitNeeds(plan chat.AdmitPlan, err error) (*chat.Needs, error) {
	var needs *chat.Needs
	switch {
	case errors.As(err, &needs):
		return needs, nil
	case err == nil:
		return nil, fault.New(fault.Internal, "A request was admitted without a look at the store")
	}
	return nil, err
}

// admitLoad reads the state of one admission.
type admitLoad struct {
	s       *Store
	request chat.AdmitRequest
	state   chat.AdmitState
	tail    *tail // of the thread, as far as it is kept; nil: none is
}

// decide decides by what is loaded.
func (l *admitLoad) decide(decide ports.AdmitDecision) (chat.AdmitPlan, error) {
	if thread := l.state.Thread; thread != nil && l.tail != nil && l.tail.endOf(thread.Conversation) {
		thread.Recent, thread.OneBranch = l.tail.messages, true
	}
	return decide(l.request, l.state)
}

// statements read what a decision needs, in one round trip.
func (l *admitLoad) statements(n *chat.Needs) (list []pipeline.Stmt) {
	user, state := l.request.Run.UserID, &l.state
	if n.Account {
		state.Account = &chat.Account{}
		u := any(user)
		list = append(list, stmt(`SELECT COALESCE((SELECT leaf_id FROM chat_users WHERE user_id = ?), ''),
			COALESCE((SELECT id FROM chat_runs WHERE user_id = ? AND idempotency_key = ?), '')`,
			u, u, orNull(l.request.Run.IdempotencyKey),
		).ScanRow(func(scan func(...any) error) error { return scan(&state.Account.Leaf, &state.Account.KeyRun) }))
		if l.request.Budget.Metered() || l.request.Budget.Replies > 0 {
			list = append(list, l.s.usageOf(user, l.request.Now, &state.Account.Usage))
		}
	}
	if n.Replay != "" {
		list = append(list, l.replay(n.Replay)...)
	}
	if len(n.Files) > 0 {
		list = append(list, l.files(n.Files))
	}
	if n.Thread {
		list = append(list, l.thread(n.ThreadID, n.Branches)...)
	}
	// Behind the locks of the thread's runs, and again if they were read before.
	nodes := n.Nodes
	if n.Thread {
		nodes = slices.AppendSeq(slices.Clone(nodes), maps.Keys(state.Nodes))
	}
	if len(nodes) > 0 {
		list = append(list, l.nodes(nodes))
	}
	if n.Branch != "" {
		branch := &chat.Branch{Leaf: n.Branch}
		state.Branch = branch
		list = append(list, l.s.branch(user, state.Thread.ID, n.Branch, max(l.request.Context, 1), func(m chat.Message) {
			m.Metadata = nil
			branch.Messages = append([]chat.Message{m}, branch.Messages...)
		}))
	}
	if n.Waiting {
		waiting := 0
		state.Waiting = &waiting
		list = append(list, l.s.withAllUsersScope(
			stmt("SELECT count(*) FROM (SELECT 1 FROM chat_runs WHERE ended_at IS NULL AND owner IS NULL AND state = 'queued' LIMIT ?) AS w", max(l.request.MaxQueue, 1)).
				ScanRow(func(scan func(...any) error) error { return scan(&waiting) }))...)
	}
	return list
}

// replay reads the run of an earlier request with the same key, the message
// that it answers, and its conversation.
func (l *admitLoad) replay(id string) []pipeline.Stmt {
	user := l.request.Run.UserID
	replay := &chat.Replay{}
	l.state.Replay = replay
	runColumn := func(column string) pipeline.Stmt {
		return stmt("(SELECT o."+column+" FROM chat_runs AS o WHERE o.user_id = ? AND o.id = ?)", user, id)
	}
	return []pipeline.Stmt{
		runsWhere(stmt("r.user_id = ? AND r.id = ?", user, id), func(r chat.Run) { replay.Run = r }),
		messagesWhere(user, stmt("m.id = ?", runColumn("parent_id")), func(m chat.Message) { replay.UserMessage = &m }),
		conversationsWhere(user, stmt("c.id = ?", runColumn("conversation_id")), func(c rows.Conversation) { replay.Conversation = c.Domain() }),
	}
}

// nodes reads which messages and runs have the ids.
func (l *admitLoad) nodes(ids []string) pipeline.Stmt {
	user := l.request.Run.UserID
	if l.state.Nodes == nil {
		l.state.Nodes = map[string]*chat.Node{}
	}
	nodes := l.state.Nodes
	args := append(make([]any, 0, 2*(1+len(ids))), user)
	for _, id := range ids {
		nodes[id] = nil
		args = append(args, id)
	}
	among := "id IN (?" + strings.Repeat(", ?", len(ids)-1) + ")"
	return stmt("SELECT "+nodeColumns.List("")+", '' FROM chat_messages WHERE user_id = ? AND "+among+`
		UNION ALL SELECT id, conversation_id, parent_id, '', '', NULL, state FROM chat_runs WHERE user_id = ? AND `+among,
		append(args, args...)...,
	).ScanRow(func(scan func(...any) error) error {
		var row rows.Message
		var state chat.State
		if err := scan(append(nodeColumns.Dests(&row), (*string)(&state))...); err != nil {
			return err
		}
		m, err := row.Domain()
		if err != nil {
			return err
		}
		n := nodes[m.ID]
		if n == nil {
			n = &chat.Node{}
			nodes[m.ID] = n
		}
		n.ConversationID, n.ParentID = m.ConversationID, m.ParentID
		if state != "" {
			n.State = state
		} else { // the message, beside the run that made it
			n.Role, n.Parts = m.Role, m.AllParts()
		}
		return nil
	})
}

// files reads which ready files have the ids, and locks them: a file cannot go
// while a message is about to refer to it.
func (l *admitLoad) files(ids []string) pipeline.Stmt {
	if l.state.Files == nil {
		l.state.Files = map[string]*chat.File{}
	}
	files := l.state.Files
	for _, id := range ids {
		files[id] = nil
	}
	return stmt("SELECT "+rows.FileColumns.List("f.")+" FROM chat_files AS f WHERE f.user_id = ? AND f.state = 'ready' AND f.id IN ("+
		l.s.dialect.elements+") ORDER BY f.id"+l.s.dialect.lockOf("f"), l.request.Run.UserID, jsonText(ids),
	).ScanRow(func(scan func(...any) error) error {
		var row rows.File
		err := scan(rows.FileColumns.Dests(&row)...)
		found := row.Domain()
		files[found.ID] = &found
		return err
	})
}

// referToFiles records that a message refers to its files.
func referToFiles(m chat.Message) (list []pipeline.Stmt) {
	for _, id := range m.Files() {
		list = append(list,
			stmt("INSERT INTO chat_message_files (user_id, message_id, file_id) VALUES (?, ?, ?)", m.UserID, m.ID, id),
			stmt("UPDATE chat_files SET referenced_at = ? WHERE user_id = ? AND id = ?", rows.Time(m.CreatedAt), m.UserID, id))
	}
	return list
}

// nodeColumns are what is read of a message to find out what it is.
var nodeColumns = rows.MessageColumns.Only("id", "conversation_id", "parent_id", "role", "content", "parts")

// thread reads a conversation or the default thread. The live runs of a
// conversation are locked, so that none of them ends, or is begun, before this
// admission is decided; what else is read is read behind that: a reply that has
// ended is the conversation's leaf by then. Messages are read only if their tail
// is not kept, or if those of other branches are asked for too.
func (l *admitLoad) thread(id string, branches bool) []pipeline.Stmt {
	user := l.request.Run.UserID
	thread := &chat.Thread{ID: id}
	l.state.Thread, l.state.Branch = thread, nil
	list := []pipeline.Stmt{l.s.liveRuns(user, ofThread("r", id), id != "", func(r chat.LiveRun) { thread.Live = append(thread.Live, r) })}
	most := stmt("?", max(l.request.Context, 1))
	l.tail = nil
	if id != "" {
		list = append(list, conversationsWhere(user, stmt("c.id = ?", id), func(c rows.Conversation) {
			found := c.Domain()
			thread.Conversation = &found
		}))
		if !branches {
			l.tail = l.s.tails.get(user, id)
		}
		if l.tail != nil {
			most = stmt("(SELECT CASE WHEN EXISTS (SELECT 1 FROM chat_conversations AS c WHERE c.user_id = ? AND c.id = ? AND c.leaf_id = ? AND c.created_at = ?) THEN 0 ELSE ? END)",
				user, id, l.tail.leaf(), rows.Time(l.tail.created), most)
		}
	}
	return append(list, stmt(selectRecentText, user, ofThread("m", id), most).ScanRow(scanMessage(recentColumns, func(m chat.Message) { thread.Recent = append(thread.Recent, m) })))
}

var recentColumns = rows.MessageColumns.Without("metadata")

// liveRuns reads the runs for which a condition holds and that have not ended,
// oldest first, and locks them if asked to.
func (s *Store) liveRuns(user string, which pipeline.Stmt, lock bool, found func(chat.LiveRun)) pipeline.Stmt {
	text := "SELECT " + liveColumns + " FROM chat_runs AS r WHERE r.user_id = ? AND r.ended_at IS NULL AND ? ORDER BY r.created_at, r.id"
	if lock {
		text += s.dialect.lockOf("r")
	}
	return stmt(text, user, user, which).ScanRow(scanLive(found))
}

// liveColumns are what scanLive scans. Their one argument is the user, by which the
// planner finds the partition of the messages.
const liveColumns = `r.id, r.conversation_id, r.state, r.stop_requested, r.parent_id, r.audit_id, r.created_at, r.hold_tokens, r.hold_micros,
	(SELECT COALESCE(sum(octet_length(o.log)), 0) FROM chat_run_output AS o WHERE o.user_id = r.user_id AND o.run_id = r.id),
	EXISTS (SELECT 1 FROM chat_messages AS m WHERE m.user_id = ? AND m.parent_id = r.id)`

func scanLive(found func(chat.LiveRun)) func(scan func(...any) error) error {
	return func(scan func(...any) error) error {
		var r chat.LiveRun
		err := scan(&r.ID, rows.NullText{Dest: &r.ConversationID}, (*string)(&r.State), &r.StopRequested, &r.ParentID, &r.AuditID, rows.NullTime{Dest: &r.CreatedAt},
			&r.Hold.Tokens, &r.Hold.Micros, &r.OutputBytes, &r.Followed)
		found(r)
		return err
	}
}

// ofThread restricts a statement to one thread: a conversation, or the default
// thread when id is "".
func ofThread(alias, id string) pipeline.Stmt {
	if id == "" {
		return stmt(alias + ".conversation_id IS NULL")
	}
	return stmt(alias+".conversation_id = ?", id)
}

// admitStatements write what an admission changes.
func (s *Store) admitStatements(plan chat.AdmitPlan) (list []pipeline.Stmt, err error) {
	user := plan.Run.UserID
	if plan.ExpiredKey != "" {
		list = append(list, stmt("UPDATE chat_runs SET idempotency_key = NULL WHERE user_id = ? AND id = ?", user, plan.ExpiredKey))
	}
	for _, id := range plan.Stop {
		list = append(list, requestStop(user, id))
	}
	for _, end := range plan.End {
		list = append(list, s.endRun(user, end)...)
	}
	if plan.Thread != nil {
		list = append(list, changeThread(user, plan.Thread))
	}
	if plan.Message != nil {
		row, err := rows.FromMessage(*plan.Message)
		if err != nil {
			return nil, err
		}
		list = append(list, insertMessage(row))
		list = append(list, referToFiles(*plan.Message)...)
	}
	run, err := rows.FromRun(plan.Run)
	if err != nil {
		return nil, err
	}
	entry, err := rows.FromEntry(plan.Audit)
	if err != nil {
		return nil, err
	}
	values := rows.RunColumns.Values(&run)
	if plan.Lease > 0 {
		rows.RunColumns.Set(values, "lease_until", s.dialect.clock(plan.Lease))
	}
	return append(list,
		stmt(insertRunText, values...),
		insertEntry(entry)), nil
}

// The texts of statements that each turn executes are made once.
var (
	insertConversationText = insertText("chat_conversations", rows.ConversationColumns)
	insertMessageText      = insertText("chat_messages", rows.MessageColumns)
	insertRunText          = insertText("chat_runs", rows.RunColumns)
	insertEntryText        = insertText("audit_logs", rows.EntryColumns)
	selectRecentText       = "SELECT " + recentColumns.List("m.") + ` FROM chat_messages AS m
		WHERE m.user_id = ? AND ? ORDER BY m.created_at DESC, m.id DESC LIMIT ?`
	selectConversationText = "SELECT " + rows.ConversationColumns.List("c.") + " FROM chat_conversations AS c WHERE c.user_id = ? AND ?"
	setOutcomeText         = "(" + outcomeColumns.List("") + ") = (" + outcomeColumns.Placeholders() + ")"
)

func insertText(table string, columns rows.Columns) string {
	return "INSERT INTO " + table + " (" + columns.List("") + ") VALUES (" + columns.Placeholders() + ")"
}

func insertMessage(m rows.Message) pipeline.Stmt {
	return stmt(insertMessageText, rows.MessageColumns.Values(&m)...)
}

func insertEntry(e rows.Entry) pipeline.Stmt {
	return stmt(insertEntryText, rows.EntryColumns.Values(&e)...)
}

// changeThread moves the current end of a thread.
func changeThread(user string, c *chat.ThreadChange) pipeline.Stmt {
	switch {
	case c.ConversationID == "":
		return stmt("UPDATE chat_users SET leaf_id = COALESCE(?, leaf_id) WHERE user_id = ?", orNull(c.Leaf), user)
	case c.Create != nil:
		row := rows.FromConversation(*c.Create)
		return stmt(insertConversationText, rows.ConversationColumns.Values(&row)...)
	}
	return stmt(`UPDATE chat_conversations SET leaf_id = COALESCE(?, leaf_id), title = COALESCE(title, ?), last_message_at = ?, updated_at = ?
		WHERE user_id = ? AND id = ?`,
		orNull(c.Leaf), orNull(c.Title), rows.Time(c.LastMessageAt), rows.Time(c.UpdatedAt), user, c.ConversationID)
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
