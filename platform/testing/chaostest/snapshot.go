package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/domain/chat"
)

//go:embed observe.sql
var observeSQL string

// snapshot is what is stored when everything has come to rest, and how it came
// to be.
type snapshot struct {
	Messages []messageRow
	Runs     []runRow
	Audits   []auditRow
	Steps    []step
	Threads  []threadRow // conversations
	Files    []fileRow
	Wrongs   []wrongRow           // what the database itself caught
	Calls    map[string]int       // what the provider counted, by nonce
	Left     map[string]time.Time // when the provider's caller hung up before the end, by nonce
	Deaf     []span               // when an owner might not learn of a stop
	Deaths   []death
	Outages  []span // when nothing could recover, however willing
	Lost     []span // when the shared limiter forgot
}

type messageRow struct {
	UserID, ID, ConversationID, ParentID, Role, Content string
	Parts                                               string // as stored; "": the content is all there is
}

// log is the message as the log of the run that made it.
func (m messageRow) log() string {
	if m.Parts == "" {
		return string(chat.TextOutput(m.Content))
	}
	var parts []chat.Part
	if json.Unmarshal([]byte(m.Parts), &parts) != nil {
		return "parts that cannot be read"
	}
	for i := range parts { // the content is not stored twice
		if parts[i].Kind == chat.TextPart && parts[i].Text == "" {
			parts[i].Text = m.Content
		}
	}
	return string(chat.OutputOf(parts...))
}

type runRow struct {
	UserID, ID, ConversationID, ParentID, Kind, State string
	Attempt                                           int
	StopRequested                                     bool
	Key, AuditID                                      string
	Prefix, Log                                       string // Log: the output, but for the prefix, of a run without a message
	CreatedAt                                         time.Time
	EndedAt                                           *time.Time
}

type wrongRow struct{ Rule, Evidence string }

type threadRow struct{ UserID, ID string }

type auditRow struct {
	UserID, ID, Action, ResourceID, RunID, Status string
	CreatedAt, UpdatedAt                          time.Time
}

// step is a change of a run's state, attempt or owner.
type step struct {
	At            time.Time
	UserID, RunID string
	Attempt       int
	State, Owner  string
	Recorded      string
}

// death is when an owner of leases stopped working: killed, or out of reach for
// longer than its lease.
type death struct {
	Owner string
	At    time.Time
}

// span is a stretch of time.
type span struct{ From, To time.Time }

func terminal(state string) bool { return state != "queued" && state != "running" }

// observe prepares the database to write its own history.
func observe(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, observeSQL); err != nil {
		return fmt.Errorf("install observers: %w", err)
	}
	return nil
}

// settled counts the runs that have not ended.
func settled(ctx context.Context, url string) (open int, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, "SELECT count(*) FROM chat_runs WHERE state IN ('queued', 'running')").Scan(&open)
	return open, err
}

// stored reads what is stored.
func stored(ctx context.Context, url string) (snapshot, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return snapshot{}, err
	}
	defer conn.Close(ctx)
	var s snapshot
	for _, err := range []error{
		all(ctx, conn, &s.Messages, `SELECT user_id, id, coalesce(conversation_id, ''), coalesce(parent_id, ''), role, content,
			coalesce(parts::text, '') FROM chat_messages`),
		all(ctx, conn, &s.Runs, `SELECT user_id, id, coalesce(conversation_id, ''), parent_id, kind, state,
			attempt, stop_requested, coalesce(idempotency_key, ''), audit_id, prefix,
			coalesce((SELECT string_agg(o.log, '' ORDER BY o.at) FROM chat_run_output AS o WHERE (o.user_id, o.run_id) = (r.user_id, r.id)), ''),
			created_at, ended_at FROM chat_runs AS r`),
		all(ctx, conn, &s.Audits, `SELECT user_id, id, action, coalesce(resource_id, ''), coalesce(metadata->>'runId', ''), status,
			created_at, updated_at FROM audit_logs`),
		all(ctx, conn, &s.Files, `SELECT user_id, id, state, digest, blob FROM chat_files`),
		all(ctx, conn, &s.Threads, `SELECT user_id, id FROM chat_conversations`),
		// A process adds a random part to the name that it was given.
		all(ctx, conn, &s.Steps, `SELECT at, user_id, run_id, attempt, state, regexp_replace(owner, '-[^-]*$', ''), recorded FROM crash.steps ORDER BY seq`),
		all(ctx, conn, &s.Wrongs, `SELECT rule, evidence FROM crash.wrongs ORDER BY at`),
	} {
		if err != nil {
			return snapshot{}, err
		}
	}
	return s, nil
}

func all[T any](ctx context.Context, conn *pgx.Conn, into *[]T, query string) error {
	rows, err := conn.Query(ctx, query)
	if err != nil {
		return err
	}
	*into, err = pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	return err
}
