package sqlstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"ariga.io/atlas/sql/migrate"
	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/migrations"
	"parley/adapters/sqlstore/rows"
	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
)

// CheckTurn writes what a message and its reply write, from the user to the audit
// entry, as the configured role and under the policies, and rolls it back.
func (s *Store) CheckTurn(ctx context.Context) error {
	now, user := s.opt.Now(), "parley-doctor-"+rand.Text()
	message := chat.Message{UserID: user, ID: "m1", ConversationID: "c1", Role: chat.User, Content: "x", CreatedAt: now}
	reply := chat.Message{UserID: user, ID: "r1", ConversationID: "c1", ParentID: "m1", Role: chat.Assistant, Content: "x", CreatedAt: now}
	run, err := rows.FromRun(chat.Run{UserID: user, ID: "r1", ConversationID: "c1", ParentID: "m1", Kind: chat.Reply, State: chat.Running,
		Attempt: 1, Owner: user, LeaseUntil: now.Add(time.Second), AuditID: "e1", CreatedAt: now, StartedAt: now})
	if err != nil {
		return err
	}
	entry := audit.Entry{ID: "e1", UserID: user, Action: audit.ActionMessageSent, Resource: audit.ResourceMessage, ResourceID: "m1",
		Status: audit.Pending, CreatedAt: now, UpdatedAt: now}
	err = s.write(ctx, "check_turn", forUser(user), func(ctx context.Context, tx bun.IDB) error {
		admitted, ended := []any{
			&rows.User{UserID: user, CreatedAt: rows.Time(now)},
			&rows.Conversation{UserID: user, ID: "c1", LastMessageAt: rows.Time(now), CreatedAt: rows.Time(now), UpdatedAt: rows.Time(now)},
		}, []any{&rows.Usage{UserID: user, Day: access.Day(now), Tokens: 1, Replies: 1}}
		for to, m := range map[*[]any]chat.Message{&admitted: message, &ended: reply} {
			row, err := rows.FromMessage(m)
			if err != nil {
				return err
			}
			*to = append(*to, &row)
		}
		admitted = append(admitted, &run, &rows.RunOutput{UserID: user, RunID: "r1", Log: "x"})
		for _, row := range admitted {
			if _, err := tx.NewInsert().Model(row).Exec(ctx); err != nil {
				return err
			}
		}
		if err := insertEntries(ctx, tx, entry); err != nil {
			return err
		}
		for _, statement := range []string{
			"UPDATE chat_runs SET state = 'completed', ended_at = ?1 WHERE user_id = ?0 AND id = 'r1'",
			"UPDATE chat_conversations SET leaf_id = 'r1', last_message_at = ?1 WHERE user_id = ?0 AND id = 'c1'",
			"DELETE FROM chat_run_output WHERE user_id = ?0 AND run_id = 'r1'",
			"UPDATE audit_logs SET status = 'success', updated_at = ?1 WHERE user_id = ?0 AND id = 'e1'",
		} {
			done, err := tx.NewRaw(statement, user, rows.Time(now.Add(time.Second))).Exec(ctx)
			if err != nil {
				return err
			}
			if n, err := done.RowsAffected(); err != nil || n != 1 {
				return errors.Join(err, fmt.Errorf("a statement changed %d rows instead of 1: %s", n, statement))
			}
		}
		for _, row := range ended {
			if _, err := tx.NewInsert().Model(row).Exec(ctx); err != nil {
				return err
			}
		}
		if s.dialect.name == "postgres" {
			if _, err := tx.ExecContext(ctx, "SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
				return err
			}
		}
		return errUndo
	})
	if errors.Is(err, errUndo) {
		return nil
	}
	return err
}

// MissingRights lists what the database role lacks of the rights that requests need.
func (s *Store) MissingRights(ctx context.Context) (list []string, err error) {
	if s.dialect.name != "postgres" {
		return nil, nil
	}
	err = s.read(ctx, "rights", allUsers, func(ctx context.Context, db bun.IDB) error {
		list = nil
		return db.NewRaw(`WITH needed (pattern, rights) AS (VALUES
				('^chat_', 'SELECT,INSERT,UPDATE,DELETE'), ('^audit_logs$', 'SELECT,INSERT'), ('^audit_unsealed$', 'SELECT,DELETE'),
				('^audit_(chain|keys|root)$', 'SELECT,INSERT'), ('^audit_erasures$', 'SELECT')), tables AS (
				SELECT oid, relname FROM pg_class WHERE relnamespace = (
					SELECT relnamespace FROM pg_class WHERE relname = 'chat_users' AND pg_table_is_visible(oid)) AND relkind IN ('r', 'p')),
			functions AS (
				SELECT oid, proname FROM pg_proc WHERE proname IN ('audit_declare_erasure', 'audit_erase', 'audit_end_erasure', 'chat_enable_row_security')
				AND pg_function_is_visible(oid))
			SELECT r || ' on ' || relname FROM tables JOIN needed ON relname ~ pattern, unnest(string_to_array(rights, ',')) AS r WHERE NOT has_table_privilege(oid, r)
			UNION ALL
			SELECT 'UPDATE (' || c || ') on audit_logs' FROM tables, unnest(ARRAY['status', 'error_message', 'updated_at']) AS c
			WHERE relname = 'audit_logs' AND c IN (SELECT attname FROM pg_attribute WHERE attrelid = oid) AND NOT has_column_privilege(oid, c, 'UPDATE')
			UNION ALL
			SELECT 'EXECUTE on ' || proname FROM functions WHERE NOT has_function_privilege(oid, 'EXECUTE')
			ORDER BY 1`).Scan(ctx, &list)
	})
	return list, err
}

// UnprotectedTables lists the tables of users on which row-level security does not
// apply to this role. bypass: it never does, because of the role.
func (s *Store) UnprotectedTables(ctx context.Context) (open []string, bypass bool, err error) {
	if open, err = s.unprotectedTables(ctx); err != nil {
		return nil, false, err
	}
	err = s.read(ctx, "check_row_security", allUsers, func(ctx context.Context, db bun.IDB) error {
		return db.QueryRowContext(ctx, "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user").Scan(&bypass)
	})
	return open, bypass, err
}

// RevisionProblems compares the record of applied migrations with the files of this
// release, and describes what does not fit.
func (s *Store) RevisionProblems(ctx context.Context) (list []string, err error) {
	dir, err := s.migrationDir(migrations.FS)
	if err != nil {
		return nil, err
	}
	files, err := dir.Files()
	if err != nil {
		return nil, err
	}
	sum, err := dir.Checksum()
	if err != nil {
		return nil, err
	}
	done, err := s.appliedRevisions(ctx, s.db)
	if err != nil {
		return nil, err
	}
	known := map[string]*migrate.Revision{}
	for _, r := range done {
		known[r.Version] = r
	}
	newest := files[len(files)-1].Version()
	for i, f := range files {
		r := known[f.Version()]
		delete(known, f.Version())
		hash, err := sum.SumByName(f.Name())
		switch {
		case err != nil:
			return nil, err
		case r == nil && i < len(files)-1 && known[files[i+1].Version()] != nil:
			list = append(list, f.Name()+" was left out")
		case r == nil:
		case r.Applied != r.Total:
			list = append(list, fmt.Sprintf("%s was applied in part: %d of %d statements", f.Name(), r.Applied, r.Total))
		case r.Hash != hash:
			list = append(list, f.Name()+" is not the file that was applied")
		}
	}
	for version := range known {
		if version <= newest {
			list = append(list, "version "+version+" is of no file of this release")
		}
	}
	slices.Sort(list)
	return list, nil
}

// appliedRevisions reads the record of migrations; none when there is no record.
func (s *Store) appliedRevisions(ctx context.Context, db *bun.DB) ([]*migrate.Revision, error) {
	conn, err := s.acquire(ctx, db)
	if err != nil {
		return nil, translate(ctx, err)
	}
	defer conn.Close()
	tx, err := conn.Conn.BeginTx(ctx, nil)
	if err != nil {
		return nil, translate(ctx, err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was changed
	if prelude := s.preludeOf(conn.Conn); prelude != "" {
		if _, err := tx.ExecContext(ctx, prelude); err != nil {
			return nil, translate(ctx, err)
		}
	}
	table, exists, err := s.revisionTable(ctx, tx)
	if err != nil || !exists {
		return nil, translate(ctx, err)
	}
	done, err := revisions{db: tx, table: table}.ReadRevisions(ctx)
	return done, translate(ctx, err)
}

// ReplicaReport is what ExamineReplicas finds out about a replica.
type ReplicaReport struct {
	Name       string      // host:port
	Err        error       // it cannot be asked; the rest is unknown
	NotStandby error       // it is no standby of the primary, or its role evades row-level security
	ThePrimary bool        // it is the server of Options.URL
	Lag        *ReplicaLag // nil if NotStandby
	Late       error       // it has not replayed within examineMaxLag what the primary had committed
	Revision   string      // of the newest migration there
	Missing    []string    // rights that its role lacks
}

// examineMaxLag is how long ExamineReplicas waits for a replica.
const examineMaxLag = time.Second

// ExamineReplicas connects to each replica and compares it with the primary.
func (s *Store) ExamineReplicas(ctx context.Context) (list []ReplicaReport, err error) {
	if s.replicas == nil {
		return nil, nil
	}
	ctx, cancel := s.begin(ctx, "examine_replicas")
	defer cancel()
	at, err := s.replicas.positions.get(ctx)
	if err != nil {
		return nil, translate(ctx, err)
	}
	list = make([]ReplicaReport, len(s.replicas.list))
	var all sync.WaitGroup
	for i, r := range s.replicas.list {
		all.Go(func() { list[i] = r.examine(ctx, at) })
	}
	all.Wait()
	return list, nil
}

func (r *replica) examine(ctx context.Context, at position) ReplicaReport {
	report := ReplicaReport{Name: r.name}
	var (
		why readReason
		err error
	)
	for until := time.Now().Add(examineMaxLag); ; {
		why, err = r.run(ctx, r.db, at, allUsers, func(context.Context, bun.IDB) error { return nil })
		if why != lagging || time.Now().After(until) {
			break
		}
	}
	switch why {
	case onReplica:
	case refused:
		report.NotStandby = err
	case lagging:
		report.Late = err
	default:
		report.Err = err
		return report
	}
	if report.NotStandby != nil {
		report.ThePrimary = r.isPrimary(ctx)
		return report
	}
	report.Lag = r.seen.Load()
	if done, err := r.store.appliedRevisions(ctx, r.db); err == nil && len(done) > 0 {
		report.Revision = done[len(done)-1].Version
	}
	err = r.db.NewRaw(`SELECT 'SELECT on ' || relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition AND relname ~ '^(chat_|audit_(logs|chain|keys|unsealed|erasures)$)'
		AND pg_table_is_visible(oid) AND NOT has_table_privilege(oid, 'SELECT') ORDER BY 1`).Scan(ctx, &report.Missing)
	if err != nil {
		report.Err = redact(err)
	}
	return report
}

// isPrimary reports whether the replica is the server of the primary under another
// name. Two servers do not start at the same microsecond.
func (r *replica) isPrimary(ctx context.Context) bool {
	var started [2]time.Time
	for i, db := range []*bun.DB{r.store.replicas.primary, r.db} {
		if err := db.QueryRowContext(ctx, "SELECT pg_postmaster_start_time()").Scan(&started[i]); err != nil {
			return false
		}
	}
	return started[0].Equal(started[1])
}

// Pooled reports whether the newest connection leads to a pooler, not to the server.
func (s *Store) Pooled() bool { return s.pooler.Load() }
