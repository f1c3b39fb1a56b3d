package sqlstore

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"

	"parley/adapters/sqlstore/pipeline"
	"parley/adapters/sqlstore/rows"
	"parley/domain/chat"
)

// Checkpoint appends to the output of live runs, in one statement, whatever the
// number of runs. The rare repeat, whose rows may exist, takes a second one: ON
// CONFLICT costs WAL even where there is no conflict, a tenth of all.
func (s *Store) Checkpoint(ctx context.Context, owner string, points []chat.Checkpoint) (fenced []string, err error) {
	if len(points) == 0 {
		return nil, nil
	}
	recorded, err := s.insertPieces(ctx, owner, points, "")
	if sqlState(err) == uniqueViolation {
		recorded, err = s.insertPieces(ctx, owner, points, repeated)
	}
	if err != nil {
		return nil, err
	}
	return fencedIDs(points, recorded), nil
}

// repeated records a checkpoint that may be recorded. Of two at one position the
// longer one counts: the shorter one is an earlier try, which its sender had
// given up.
const repeated = `ON CONFLICT (user_id, run_id, at) DO UPDATE SET log = excluded.log
	WHERE octet_length(excluded.log) >= octet_length(chat_run_output.log)`

// insertPieces inserts what runs have produced, and returns those of which it
// did. Each run's row is locked, so that what claims, ends or deletes the run at
// the same time either comes first, and the run is left out here, or finds the
// piece. No weaker lock excludes Finish, which takes the same one, and all locks
// cost the same WAL: one record of 54 bytes. An update of the row costs more.
func (s *Store) insertPieces(ctx context.Context, owner string, points []chat.Checkpoint, onConflict bun.Safe) (recorded []string, err error) {
	err = s.writeSerialized(ctx, "checkpoint", allUsers, func(ctx context.Context, tx bun.IDB) error {
		recorded = nil
		var list []pipeline.Stmt
		var source any
		if pipeline.Prepares(tx) {
			list, source = append(list, stmt("SELECT "+keyedPlans)), pieceArrays(points)
		} else {
			source = pieceValues(points)
		}
		return s.pipe.Exec(ctx, tx, append(list, stmt(insertPiecesText, source, owner, bun.Safe(s.dialect.lockOf("r")), onConflict).
			ScanRow(func(scan func(...any) error) error {
				var id string
				err := scan(&id)
				recorded = append(recorded, id)
				return err
			}))...)
	})
	return recorded, err
}

const insertPiecesText = `WITH point (point_user, point_run, point_attempt, point_at, point_log) AS (?),
	live AS (SELECT r.user_id AS live_user, r.id AS live_run, point_at, point_log
		FROM point JOIN chat_runs AS r ON r.user_id = point_user AND r.id = point_run
		WHERE r.attempt = point_attempt AND r.owner = ? AND r.state = 'running' ?)
	INSERT INTO chat_run_output (user_id, run_id, at, log) SELECT live_user, live_run, point_at, point_log FROM live WHERE TRUE
	? RETURNING run_id`

// pieceValues are the rows of checkpoints as text, for a statement that is not
// prepared.
func pieceValues(points []chat.Checkpoint) schema.QueryAppender {
	values := make(list, len(points))
	for i, p := range points {
		values[i] = bun.SafeQuery("(?, ?, ?, ?, ?)", p.UserID, p.RunID, p.Attempt, int64(p.At), string(p.New))
	}
	return bun.SafeQuery("VALUES ?", values)
}

// pieceArrays are the same rows as columns, so that the statement has one text,
// whatever the number of runs.
func pieceArrays(points []chat.Checkpoint) pipeline.Stmt {
	users, runs, attempts := make(pipeline.Array, 0, len(points)), make(pipeline.Array, 0, len(points)), make(pipeline.Array, 0, len(points))
	positions, logs := make(pipeline.Array, 0, len(points)), make(pipeline.Array, 0, len(points))
	for _, p := range points {
		users, runs, attempts = append(users, p.UserID), append(runs, p.RunID), append(attempts, p.Attempt)
		positions, logs = append(positions, int64(p.At)), append(logs, string(p.New))
	}
	return stmt(`SELECT p.user_id, p.run_id, p.attempt, p.at, p.log
		FROM unnest(?::text[], ?::text[], ?::int[], ?::bigint[], ?::text[]) AS p (user_id, run_id, attempt, at, log)`, users, runs, attempts, positions, logs)
}

// fencedIDs lists the runs whose output was not recorded.
func fencedIDs(points []chat.Checkpoint, recorded []string) (ids []string) {
	found := make(map[string]bool, len(recorded))
	for _, id := range recorded {
		found[id] = true
	}
	for _, p := range points {
		if !found[p.RunID] {
			ids = append(ids, p.RunID)
		}
	}
	return ids
}

// recordedOutput is the log of one run, as its rows hold it.
type recordedOutput struct {
	log        string
	first, end sql.NullInt64 // the position of the first byte, and behind the last one
}

// recordedColumns select the log of the run r, for recordedOutput.
const recordedColumns = `(SELECT string_agg(o.log, '' ORDER BY o.at) FROM chat_run_output AS o WHERE o.user_id = r.user_id AND o.run_id = r.id),
	(SELECT min(o.at) FROM chat_run_output AS o WHERE o.user_id = r.user_id AND o.run_id = r.id),
	(SELECT o.at + octet_length(o.log) FROM chat_run_output AS o WHERE o.user_id = r.user_id AND o.run_id = r.id ORDER BY o.at DESC LIMIT 1)`

func (o *recordedOutput) dests() []any { return []any{rows.NullText{Dest: &o.log}, &o.first, &o.end} }

// output is the run's whole output: what it starts from, and what is recorded
// behind that, or instead of it.
func (o *recordedOutput) output(run chat.Run) (chat.Output, error) {
	if !o.first.Valid {
		return run.Prefix, nil
	}
	whole := run.Prefix.Cut(chat.Cursor(o.first.Int64)) + chat.Output(o.log)
	if int64(whole.Len()) != o.end.Int64 {
		return "", fmt.Errorf("the recorded output of run %s has a gap: %d bytes up to position %d", run.ID, whole.Len(), o.end.Int64)
	}
	return whole, nil
}

// addRecorded adds to claimed runs what earlier attempts have recorded. It must
// be a statement of its own, behind the one that has taken the runs: only that
// sees all that was recorded before.
func addRecorded(ctx context.Context, tx bun.IDB, claimed []chat.Run) error {
	if len(claimed) == 0 {
		return nil
	}
	keys, index := make([][]string, len(claimed)), make(map[[2]string]int, len(claimed))
	for i, r := range claimed {
		keys[i] = []string{r.UserID, r.ID}
		index[[2]string{r.UserID, r.ID}] = i
	}
	found, err := tx.QueryContext(ctx, `SELECT o.user_id, o.run_id, string_agg(o.log, '' ORDER BY o.at), min(o.at), max(o.at + octet_length(o.log))
		FROM chat_run_output AS o WHERE (o.user_id, o.run_id) IN (?) GROUP BY o.user_id, o.run_id`, tuples(keys))
	if err != nil {
		return err
	}
	defer found.Close()
	for found.Next() {
		var user, id string
		var o recordedOutput
		if err := found.Scan(append([]any{&user, &id}, o.dests()...)...); err != nil {
			return err
		}
		run := &claimed[index[[2]string{user, id}]]
		if run.Output, err = o.output(*run); err != nil {
			return err
		}
	}
	return found.Err()
}

// deleteOutput deletes the log of a run: its message holds the same.
func deleteOutput(user, run string) pipeline.Stmt {
	return stmt("DELETE FROM chat_run_output WHERE user_id = ? AND run_id = ?", user, run)
}

// insertRest records what is not recorded yet of the whole output of a run that
// leaves no message.
func (s *Store) insertRest(user, run string, o chat.Output) pipeline.Stmt {
	return stmt("INSERT INTO chat_run_output (user_id, run_id, at, log) SELECT ?, ?, n, "+s.dialect.behind("whole", "n")+`
		FROM (SELECT CAST(? AS text) AS whole, COALESCE((SELECT o.at + octet_length(o.log) FROM chat_run_output AS o
			WHERE o.user_id = ? AND o.run_id = ? ORDER BY o.at DESC LIMIT 1), 0) AS n) AS recorded
		WHERE n < octet_length(whole)`, user, run, string(o), user, run)
}

// deleteLostOutput deletes a user's output whose runs are gone. It goes behind
// the statement that deletes the runs: a checkpoint that held a lock on one has
// ended by then.
func deleteLostOutput(user string) pipeline.Stmt {
	return stmt(`DELETE FROM chat_run_output AS o WHERE o.user_id = ?
		AND NOT EXISTS (SELECT 1 FROM chat_runs AS r WHERE r.user_id = o.user_id AND r.id = o.run_id)`, user)
}
