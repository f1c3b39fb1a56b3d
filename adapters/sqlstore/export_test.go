package sqlstore

import (
	"context"
	"io/fs"
	"strings"

	"github.com/uptrace/bun"

	"parley/adapters/sqlstore/pipeline"
)

// MigrateFrom migrates from other files than the embedded ones.
func (s *Store) MigrateFrom(ctx context.Context, files fs.FS) ([]string, error) {
	return s.migrate(ctx, files)
}

// Within runs raw statements in the scope of one user, as the store's own do.
func (s *Store) Within(ctx context.Context, user string, fn func(ctx context.Context, tx bun.IDB) error) error {
	return s.write(ctx, "test", forUser(user), fn)
}

// Statements lists what a round trip consists of, arguments as text.
func Statements(e *bun.QueryEvent) []string {
	if list, ok := pipeline.Statements(e); ok {
		return list
	}
	return strings.Split(e.Query, ";\n")
}

// RLSTables are the tables that row-level security stands on.
var RLSTables = rlsTables

// Queued counts the queues that execute a turn, and the turns that wait for them.
func Queued(s *Store) (busy, waiting int) {
	for i := range s.turns {
		q := &s.turns[i]
		q.mu.Lock()
		if q.busy {
			busy++
		}
		waiting += q.ends.Len() + q.admissions.Len()
		q.mu.Unlock()
	}
	return busy, waiting
}

// TurnQueues is how many queues of turns a store has.
func TurnQueues(s *Store) int { return len(s.turns) }

// ReadReplicated runs raw statements in the scope of one user where the store's own
// reads that a replica may answer run.
func (s *Store) ReadReplicated(ctx context.Context, user string, fn func(ctx context.Context, db bun.IDB) error) error {
	return s.readReplicated(ctx, "test", forUser(user), fn)
}

// KeyedPlans is what plans of rows that are arguments are made with.
const KeyedPlans = keyedPlans
