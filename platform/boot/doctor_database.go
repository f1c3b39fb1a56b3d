package boot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"parley/adapters/sqlstore"
	"parley/domain/fault"
	"parley/platform/config"
	"parley/platform/doctor"
)

// database checks the database that the configuration names, from the connection to
// what is in it. It changes nothing.
func (r *examination) database(ctx context.Context, c config.Config) {
	if !c.Store.DatabaseURL.Set() {
		if _, err := os.Stat(filepath.Join(c.Store.DataDir, "parley.db")); err != nil {
			r.OK("database.connect", "SQLite; serve will create it in %s", c.Store.DataDir)
			return
		}
	}
	store, err := openStore(ctx, c)
	if err != nil {
		r.databaseError("database.connect", err)
		return
	}
	defer store.Close()
	begun := time.Now()
	if err := store.Ping(ctx); err != nil {
		r.databaseError("database.connect", err)
		return
	}
	r.OK("database.connect", "%s answers in %s", store.Dialect(), time.Since(begun).Round(100*time.Microsecond))
	ahead, ok := r.migrations(ctx, store)
	if !ok {
		return
	}
	writable := r.writable(ctx, store)
	var unread error
	if !ahead {
		unread = r.schema(ctx, store)
	}
	r.rights(ctx, c, store, writable)
	if unread != nil && !r.HasFailed("database.turn") { // a lock on a table stops both
		r.databaseError("schema.tables", unread)
	}
	if others := store.OverriddenSettings(); len(others) > 0 {
		r.OK("database.settings", "Parley sets its own values of %s", strings.Join(others, ", "))
	}
	if store.Dialect() == "postgres" {
		r.Postgres(ctx, store.DB(), doctor.PostgresOptions{
			MaxConns: c.Store.DBMaxConns, Replicated: c.Store.ReplicaURLs.Set(), Instances: c.Limits.Instances, Pooled: store.Pooled(), ExecMode: c.Store.DBExecMode,
		})
	} else {
		r.integrity(ctx, store)
	}
	r.replicas(ctx, store)
	r.switches(ctx, store)
	r.auditChain(ctx, c, store)
	r.audit(ctx, c, store)
	r.webhooks(ctx, c, store)
}

// databaseError reports a failure with the remedy that is known for it.
func (r *examination) databaseError(id string, err error) {
	if setup := sqlstore.Explain(err); setup != nil {
		r.Fail(id, strings.ReplaceAll(setup.Fix, "%s", "DATABASE_URL"), "%s", setup.What)
		return
	}
	if errors.As(err, &usageError{}) {
		r.reportError(id, "", err)
		return
	}
	r.Fail(id, "start the database, or correct host and port in DATABASE_URL (or DATA_DIR)", "it does not answer: %v", err)
}

func (r *examination) migrations(ctx context.Context, store *sqlstore.Store) (ahead, ok bool) {
	status, err := store.MigrationStatus(ctx)
	switch {
	case err != nil:
		r.databaseError("database.migrations", err)
		return false, false
	case len(status.Pending) > 0:
		r.Fail("database.migrations", "run: parley migrate up", "%d pending", len(status.Pending))
		return false, false
	case status.Ahead:
		r.Warn("database.migrations", "start the release that migrated the database, or see docs/runbooks/rollback.md", "the database has been migrated by a newer release, to %s", status.Current)
	default:
		r.OK("database.migrations", "up to date at %s", status.Current)
	}
	problems, err := store.RevisionProblems(ctx)
	switch {
	case err != nil:
		r.databaseError("database.revisions", err)
	case len(problems) > 0:
		r.Fail("database.revisions", "find out who changed it: compare with the release's migrations, and run: atlas migrate status", "%s", strings.Join(problems, "; "))
	default:
		r.OK("database.revisions", "they are those of this release")
	}
	return status.Ahead, true
}

func (r *examination) writable(ctx context.Context, store *sqlstore.Store) bool {
	switch err := store.CheckWritable(ctx); {
	case err == nil:
		r.OK("database.writable", "the database accepts writes")
		return true
	case errors.Is(err, sqlstore.ErrDiskFull):
		r.Fail("database.writable", "make room where the database keeps its files", "its disk is full")
	case errors.Is(err, sqlstore.ErrReadOnly):
		r.Fail("database.writable", "let DATABASE_URL name the primary, or unset default_transaction_read_only", "it is read-only: a standby, or default_transaction_read_only is set")
	default:
		r.databaseError("database.writable", err)
		return sqlstore.Explain(err) != nil // a right is missing, which others report in full
	}
	return false
}

// schema compares the schema with the migrations. The error says that it cannot be
// read.
func (r *examination) schema(ctx context.Context, store *sqlstore.Store) error {
	differences, err := store.SchemaDifferences(ctx)
	if err == nil {
		r.Schema(store.Dialect(), differences)
	}
	return err
}

// rights checks what the configured role may do: in theory, and by a turn that is
// rolled back.
func (r *examination) rights(ctx context.Context, c config.Config, store *sqlstore.Store, writable bool) {
	if store.Dialect() == "postgres" {
		switch missing, err := store.MissingRights(ctx); {
		case err != nil:
			r.databaseError("database.rights", err)
		case len(missing) > 0:
			r.Fail("database.rights", "run deploy/postgres/roles.sql again as the owner of the tables", "the role lacks %s", firstOf(missing))
		default:
			r.OK("database.rights", "complete")
		}
		if c.Store.DBRLS {
			switch open, bypass, err := store.UnprotectedTables(ctx); {
			case err != nil:
				r.databaseError("database.row_security", err)
			case bypass:
				r.Fail("database.row_security", "let DATABASE_URL name parley_app, which deploy/postgres/roles.sql makes", "the role is a superuser or has BYPASSRLS: the policies do not apply to it")
			case len(open) > 0:
				r.Fail("database.row_security", "run as the owner: SELECT chat_enable_row_security(); parley serve does it at its start", "off for %s", firstOf(open))
			default:
				r.OK("database.row_security", "the policies apply to this role")
			}
		}
	}
	if !writable {
		return
	}
	switch err := store.CheckTurn(ctx); {
	case r.schemaFailed() && err != nil: // it names the cause
	case err == nil:
		r.OK("database.turn", "a message and its reply can be written")
	case fault.Is(err, fault.Unavailable) && sqlstore.Explain(err) == nil:
		r.Fail("database.turn", "run: parley admin sql locks; runbook: ChatDatabaseLocked", "a message cannot be written in time: %v", err)
	default:
		r.Fail("database.turn", "see the log of the server for the statement", "a message cannot be written: %v", err)
	}
}

// schemaFailed reports whether the schema or the rights are known to be wrong, which
// explains errors of statements.
func (r *examination) schemaFailed() bool { return r.HasFailed("schema.", "database.rights") }

func firstOf(list []string) string {
	const most = 6
	if len(list) > most {
		return strings.Join(list[:most], ", ") + " and more"
	}
	return strings.Join(list, ", ")
}

// integrityTime bounds the check of SQLite's file.
const integrityTime = 10 * time.Second

func (r *examination) integrity(ctx context.Context, store *sqlstore.Store) {
	ctx, cancel := context.WithTimeout(ctx, integrityTime)
	defer cancel()
	const restore = "stop serve, keep a copy of the file, and run: parley restore FILE"
	var verdict string
	err := store.DB().QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict)
	if err == nil && verdict == "ok" {
		var broken int
		err = store.DB().QueryRowContext(ctx, "SELECT count(*) FROM (SELECT 1 FROM pragma_foreign_key_check LIMIT 100)").Scan(&broken)
		if err == nil && broken > 0 {
			verdict = "rows refer to rows that do not exist"
		}
	}
	switch {
	case ctx.Err() != nil:
		r.OK("database.integrity", "no problem found in %s; the file is large", integrityTime)
	case err != nil:
		r.Fail("database.integrity", restore, "the file cannot be read: %v", err)
	case verdict != "ok":
		r.Fail("database.integrity", restore, "%s", verdict)
	default:
		r.OK("database.integrity", "consistent")
	}
}

// replicas compares each read replica with the primary. What follows from a line above
// is not reported again.
func (r *examination) replicas(ctx context.Context, store *sqlstore.Store) {
	list, err := store.ExamineReplicas(ctx)
	if err != nil {
		r.databaseError("replicas.connect", err)
		return
	}
	newest := ""
	if status, err := store.MigrationStatus(ctx); err == nil {
		newest = status.Current
	}
	for _, f := range list {
		setup := sqlstore.Explain(f.Err)
		switch {
		case setup != nil && strings.Contains(setup.What, "lacks a right"):
			r.Fail("replicas.rights", "let DATABASE_REPLICA_URLS name the role of DATABASE_URL", "%s: %s", f.Name, setup.What)
			continue
		case setup != nil:
			r.Fail("replicas.connect", strings.ReplaceAll(setup.Fix, "%s", "DATABASE_REPLICA_URLS"), "%s: %s", f.Name, setup.What)
			continue
		case f.Err != nil:
			r.Fail("replicas.connect", "start the replica, or correct host and port in DATABASE_REPLICA_URLS", "%s does not answer: %v", f.Name, f.Err)
			continue
		}
		r.OK("replicas.connect", "%s answers", f.Name)
		switch {
		case f.ThePrimary:
			r.Fail("replicas.standby", "take it out of DATABASE_REPLICA_URLS", "%s is the server of DATABASE_URL", f.Name)
			continue
		case f.NotStandby != nil:
			r.Fail("replicas.standby", "let DATABASE_REPLICA_URLS name standbys of DATABASE_URL, with its role; runbook: ChatReplicaUnused", "%s: %v", f.Name, f.NotStandby)
			continue
		}
		r.OK("replicas.standby", "%s is a standby of this primary", f.Name)
		if f.Late != nil {
			r.Fail("replicas.lag", "on the replica, run: SELECT pg_wal_replay_resume(); runbook: ChatReplicaUnused", "%s: %v, %s old", f.Name, f.Late, f.Lag.Age.Round(time.Millisecond))
			continue
		}
		r.OK("replicas.lag", "%s has replayed what was committed", f.Name)
		if len(f.Missing) > 0 {
			r.Fail("replicas.rights", "let DATABASE_REPLICA_URLS name the role of DATABASE_URL, or run deploy/postgres/roles.sql on the primary", "%s: the role lacks %s", f.Name, firstOf(f.Missing))
			continue
		}
		r.OK("replicas.rights", "%s may be read", f.Name)
		if f.Revision != newest {
			r.Fail("replicas.schema", "let DATABASE_REPLICA_URLS name the database of DATABASE_URL on the replica", "%s is at %q, and the primary at %s", f.Name, f.Revision, newest)
		} else {
			r.OK("replicas.schema", "%s has the schema of the primary", f.Name)
		}
	}
}

// switches checks that nothing is disabled.
func (r *examination) switches(ctx context.Context, store *sqlstore.Store) {
	list, err := store.Disabled(ctx)
	if err != nil {
		if !r.schemaFailed() {
			r.databaseError("switches.disabled", err)
		}
		return
	}
	for _, d := range list {
		r.Warn("switches.disabled", "run: "+enableCommand(d.Provider), "%s has been disabled since %s: %s", switchName(d.Provider),
			d.Since.UTC().Format(time.RFC3339), d.Reason)
	}
	if len(list) == 0 {
		r.OK("switches.disabled", "nothing is disabled")
	}
}

// audit checks that entries are sealed and erasures finished in time, and that heads
// are exported.
func (r *examination) audit(ctx context.Context, c config.Config, store *sqlstore.Store) {
	const runbook = "start parley serve; runbook: ChatAuditUnsealed"
	switch lag, _, err := store.Unsealed(ctx); {
	case err != nil && r.schemaFailed():
	case err != nil:
		r.databaseError("audit.sealing", err)
	case lag >= time.Minute:
		r.Fail("audit.sealing", runbook, "an entry has waited for %s", lag.Round(time.Second))
	default:
		r.OK("audit.sealing", "sealed to the last minute")
	}
	switch users, err := store.Erasures(ctx, time.Hour); {
	case err != nil && r.schemaFailed():
	case err != nil:
		r.databaseError("audit.erasures", err)
	case len(users) > 0:
		r.Fail("audit.erasures", "start parley serve, which continues them", "%d take longer than an hour", len(users))
	default:
		r.OK("audit.erasures", "finished within an hour")
	}
	target := c.Store.AuditHeads.Reveal()
	switch {
	case target == "":
		r.Warn("audit.heads", "set AUDIT_HEADS (docs/audit.md)", "AUDIT_HEADS is not set: if the end of the audit log were cut off, that could not be detected")
	case remote(target):
		r.OK("audit.heads", "exported to an address")
	default:
		_, missing := os.Stat(target)
		f, err := os.OpenFile(target, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			r.Fail("audit.heads", "set AUDIT_HEADS to a file that the user of Parley can append to", "the file cannot be written")
			return
		}
		f.Close()
		if missing != nil {
			os.Remove(target)
		}
		r.OK("audit.heads", "the file can be written")
	}
}

// webhooks checks that events are accepted in time.
func (r *examination) webhooks(ctx context.Context, c config.Config, store *sqlstore.Store) {
	if !c.Webhooks.WebhookURL.Set() {
		return
	}
	q, err := store.EventQueue(ctx)
	switch {
	case err != nil && r.schemaFailed():
	case err != nil:
		r.databaseError("webhooks.queue", err)
	case q.Oldest > 15*time.Minute:
		r.Fail("webhooks.queue", "run: parley webhook list --state pending", "%d events wait, the oldest for %s", q.Pending, q.Oldest.Round(time.Second))
	case q.Dead > 0:
		r.Warn("webhooks.queue", "run: parley webhook list --state dead", "%d events were given up", q.Dead)
	default:
		r.OK("webhooks.queue", "%d events wait, none was given up", q.Pending)
	}
}
