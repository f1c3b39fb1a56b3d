package sqlstore

import (
	"strings"
	"time"
)

// dialect holds what differs between Postgres and SQLite.
type dialect struct {
	name string
	// lockRow ends a SELECT that locks its rows until the transaction ends. It
	// is weaker than FOR UPDATE, so that inserts that refer to the rows are not
	// blocked. Empty on SQLite, which has one writer.
	lockRow string
	// skipLocked is lockRow that leaves out rows locked by other transactions.
	skipLocked string
	// queues is how many queues of turns there are.
	queues int
	// maxGroup is how many turns one transaction may execute. More gain little, and
	// on SQLite, whose statements are executed one by one, they take long.
	maxGroup int
	// groupSettings is the statement that the transaction of several users begins
	// with: how long it waits for a lock, and how it is planned. Empty on SQLite, which
	// has no locks of rows.
	groupSettings string
	// elements selects the elements of a JSON array of strings.
	elements string
	// behind is what follows the first n bytes of a text.
	behind func(text, n string) string
	// clock is the time d from now, by the clock that leases are measured with.
	clock func(d time.Duration) any
}

// lockOf is lockRow for one of the tables of a SELECT.
func (d dialect) lockOf(alias string) string {
	if d.lockRow == "" {
		return ""
	}
	return d.lockRow + " OF " + alias
}

func isPostgres(url string) bool {
	return strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
}
