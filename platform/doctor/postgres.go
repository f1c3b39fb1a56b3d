package doctor

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"
)

// PostgresOptions say what is expected of a PostgreSQL.
type PostgresOptions struct {
	MaxConns   int  // of one instance
	Replicated bool // it has read replicas
	Instances  int  // 0: unknown
	Pooled     bool // a pooler is before it
	ExecMode   string
}

// Postgres checks version, limits, durability, maintenance and sessions of a server,
// each with one query.
func (r *Report) Postgres(ctx context.Context, db *sql.DB, opt PostgresOptions) {
	for _, check := range []func(context.Context, *sql.DB, PostgresOptions) error{
		r.version, r.connections, r.pooler, r.durability, r.autovacuum, r.sessions, r.statements, r.clock, r.auditRole, r.activity,
	} {
		if err := check(ctx, db, opt); err != nil {
			if r.HasFailed("schema.", "database.rights") { // they name the cause
				continue
			}
			r.Fail("database.connect", "check DATABASE_URL and the log of the server", "a query failed: %v", err)
			return
		}
	}
}

func (r *Report) version(ctx context.Context, db *sql.DB, _ PostgresOptions) error {
	var n int
	if err := db.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int").Scan(&n); err != nil {
		return err
	}
	if n < 120000 {
		r.Fail("database.version", "upgrade to PostgreSQL 12 or newer", "PostgreSQL %d", n/10000)
	} else {
		r.OK("database.version", "PostgreSQL %d", n/10000)
	}
	return nil
}

// connections compares the pools with every limit that can refuse a connection.
func (r *Report) connections(ctx context.Context, db *sql.DB, opt PostgresOptions) error {
	var most, reserved, role, database int
	err := db.QueryRowContext(ctx, `SELECT current_setting('max_connections')::int,
		current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true)::int, 0),
		(SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
		(SELECT datconnlimit FROM pg_database WHERE datname = current_database())`).Scan(&most, &reserved, &role, &database)
	if err != nil {
		return err
	}
	instances := max(opt.Instances, 1)
	each := opt.MaxConns + 1 // metrics use one more
	if opt.Replicated {
		each++ // and reads of replicas another one
	}
	need := each * instances
	fact := fmt.Sprintf("%d instance(s) with DB_MAX_CONNS=%d open up to %d connections", instances, opt.MaxConns, need)
	switch available := most - reserved; {
	case opt.Pooled:
		r.OK("database.connections", "%s to the pooler, which opens those to the server", fact)
	case database >= 0 && need > database:
		r.Fail("database.connections", "lower DB_MAX_CONNS, or run: ALTER DATABASE ... CONNECTION LIMIT -1", "%s, and the database admits %d", fact, database)
	case role >= 0 && need > role:
		r.Fail("database.connections", "lower DB_MAX_CONNS, or run: ALTER ROLE ... CONNECTION LIMIT -1", "%s, and the role may have %d", fact, role)
	case need > available:
		r.Fail("database.connections", fmt.Sprintf("set DB_MAX_CONNS to %d or less, raise max_connections, or put PgBouncer before the server", max(available/instances-1, 1)),
			"%s, and the server has %d (max_connections=%d, of which %d are reserved)", fact, available, most, reserved)
	case need*10 > available*9:
		r.Warn("database.connections", "lower DB_MAX_CONNS or raise max_connections: backups, migrations and operators connect, too", "%s of the server's %d", fact, available)
	default:
		r.OK("database.connections", "%s of the server's %d", fact, available)
	}
	return nil
}

func (r *Report) pooler(_ context.Context, _ *sql.DB, opt PostgresOptions) error {
	switch {
	case opt.Pooled && opt.ExecMode != "auto" && opt.ExecMode != "exec" && opt.ExecMode != "simple_protocol":
		r.Fail("database.pooler", "set DB_EXEC_MODE=auto", "DB_EXEC_MODE=%s keeps prepared statements in sessions, which a pooler hands to others", opt.ExecMode)
	case opt.Pooled:
		r.OK("database.pooler", "a pooler, and nothing is left in its sessions")
	default:
		r.OK("database.pooler", "none: connections lead to the server")
	}
	return nil
}

func (r *Report) durability(ctx context.Context, db *sql.DB, _ PostgresOptions) error {
	var fsync, pages, commit string
	err := db.QueryRowContext(ctx, "SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit')").Scan(&fsync, &pages, &commit)
	if err != nil {
		return err
	}
	switch {
	case fsync == "off":
		r.Warn("database.durability", "set fsync = on in postgresql.conf and run: SELECT pg_reload_conf()", "fsync is off: a crash of the server can destroy the database")
	case pages == "off":
		r.Warn("database.durability", "set full_page_writes = on in postgresql.conf and run: SELECT pg_reload_conf()", "full_page_writes is off: a crash of the server can destroy pages")
	case commit == "off":
		r.Warn("database.durability", "set synchronous_commit = on for the server, the database and the role", "synchronous_commit is off: a crash of the server loses messages that were acknowledged")
	default:
		r.OK("database.durability", "fsync and full_page_writes are on, synchronous_commit is %s", commit)
	}
	return nil
}

func (r *Report) autovacuum(ctx context.Context, db *sql.DB, _ PostgresOptions) error {
	var on, counts string
	var tables sql.NullString
	var oldest int64
	err := db.QueryRowContext(ctx, `SELECT current_setting('autovacuum'), current_setting('track_counts'),
		(SELECT string_agg(relname, ', ' ORDER BY relname) FROM pg_class WHERE relkind = 'r' AND pg_table_is_visible(oid) AND relname ~ '^(chat|audit)_'
			AND reloptions && ARRAY['autovacuum_enabled=false', 'autovacuum_enabled=off', 'autovacuum_enabled=0']),
		(SELECT max(age(relfrozenxid)) FROM pg_class WHERE relkind = 'r' AND pg_table_is_visible(oid) AND relname ~ '^(chat|audit)_')`).Scan(&on, &counts, &tables, &oldest)
	if err != nil {
		return err
	}
	switch {
	case on != "on":
		r.Fail("database.autovacuum", "set autovacuum = on in postgresql.conf and run: SELECT pg_reload_conf()", "autovacuum is off: tables grow without end")
	case counts != "on":
		r.Fail("database.autovacuum", "set track_counts = on in postgresql.conf and run: SELECT pg_reload_conf()", "track_counts is off: autovacuum does not run")
	case tables.Valid:
		r.Fail("database.autovacuum", "run: ALTER TABLE ... RESET (autovacuum_enabled)", "autovacuum is off for %s", tables.String)
	case oldest > 1_000_000_000:
		r.Fail("database.autovacuum", "run: VACUUM (FREEZE) as the owner", "a table has not been frozen for %d transactions; at 2,100,000,000 the server refuses writes", oldest)
	default:
		r.OK("database.autovacuum", "on for every table")
	}
	return nil
}

// idleLimit is how long a session may be idle in a transaction.
const idleLimit = 5 * time.Minute

// blockTime is how long a session must block another one to be reported.
const blockTime = time.Second

// sessions reports who blocks whom. pg_locks shows that to every role; what other
// roles' sessions do is shown to those with pg_monitor only.
func (r *Report) sessions(ctx context.Context, db *sql.DB, _ PostgresOptions) error {
	blockers, err := blockingSessions(ctx, db)
	if err != nil {
		return err
	}
	if len(blockers) > 0 { // still, after a moment?
		select {
		case <-time.After(blockTime):
		case <-ctx.Done():
			return ctx.Err()
		}
		again, err := blockingSessions(ctx, db)
		if err != nil {
			return err
		}
		blockers = slices.DeleteFunc(blockers, func(pid string) bool { return !slices.Contains(again, pid) })
	}
	var idle sql.NullString
	var all bool
	err = db.QueryRowContext(ctx, `SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
		(SELECT string_agg(pid::text, ', ') FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'
			AND state_change < clock_timestamp() - make_interval(secs => $1))`, idleLimit.Seconds()).Scan(&all, &idle)
	if err != nil {
		return err
	}
	const end = "run: SELECT pg_terminate_backend(PID); runbook: ChatDatabaseLocked"
	switch {
	case len(blockers) > 0:
		r.Fail("database.sessions", end, "statements wait for locks of the sessions %s", strings.Join(blockers, ", "))
	case idle.Valid:
		r.Warn("database.sessions", end, "idle in a transaction for more than %s: %s; they keep VACUUM from removing rows", idleLimit, idle.String)
	case !all:
		r.OK("database.sessions", "none blocks another one; what other roles' sessions do is shown to roles with pg_monitor")
	default:
		r.OK("database.sessions", "none blocks another one or is idle in a transaction")
	}
	return nil
}

// blockingSessions returns the sessions whose locks others of this database wait for.
func blockingSessions(ctx context.Context, db *sql.DB) (pids []string, err error) {
	var list sql.NullString
	err = db.QueryRowContext(ctx, `SELECT string_agg(DISTINCT b.pid::text, ',') FROM pg_locks AS l, unnest(pg_blocking_pids(l.pid)) AS b (pid)
		WHERE NOT l.granted AND l.pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())`).Scan(&list)
	if err != nil || !list.Valid {
		return nil, err
	}
	return strings.Split(list.String, ","), nil
}

func (r *Report) statements(ctx context.Context, db *sql.DB, _ PostgresOptions) error {
	var n int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM pg_extension WHERE extname = 'pg_stat_statements'").Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		r.Warn("database.statements", "add pg_stat_statements to shared_preload_libraries, restart the server, and run: CREATE EXTENSION pg_stat_statements", "pg_stat_statements is not installed: slow statements cannot be listed")
	} else {
		r.OK("database.statements", "pg_stat_statements is installed")
	}
	return nil
}

// maxClockSkew is how far clocks may differ. Leases and tokens are good for longer.
const maxClockSkew = 2 * time.Second

func (r *Report) clock(ctx context.Context, db *sql.DB, _ PostgresOptions) error {
	var there time.Time
	before := time.Now()
	if err := db.QueryRowContext(ctx, "SELECT clock_timestamp()").Scan(&there); err != nil {
		return err
	}
	r.compareClocks("database.clock", there, before, time.Now())
	return nil
}

func (r *Report) compareClocks(id string, there, before, after time.Time) {
	skew := max(before.Sub(there), there.Sub(after), 0)
	if skew > maxClockSkew {
		r.Fail(id, "synchronise both clocks (chrony or systemd-timesyncd)", "it differs by %s from this machine's", skew.Round(time.Millisecond))
	} else {
		r.OK(id, "it differs by less than %s from this machine's", maxClockSkew)
	}
}

func (r *Report) auditRole(ctx context.Context, db *sql.DB, _ PostgresOptions) error {
	var can sql.NullBool
	err := db.QueryRowContext(ctx, `SELECT bool_or(has_table_privilege(oid, 'DELETE') OR has_table_privilege(oid, 'TRUNCATE') OR has_table_privilege(oid, 'TRIGGER'))
		FROM pg_class WHERE relname IN ('audit_logs', 'audit_chain') AND pg_table_is_visible(oid)`).Scan(&can)
	if err != nil {
		return err
	}
	if can.Bool {
		r.Warn("audit.role", "run deploy/postgres/roles.sql as the owner, and let DATABASE_URL name parley_app", "this role could delete entries of the audit log, were it not for triggers that it may drop")
	} else {
		r.OK("audit.role", "this role cannot delete entries")
	}
	return nil
}

func (r *Report) activity(ctx context.Context, db *sql.DB, _ PostgresOptions) error {
	var n, failed int
	err := db.QueryRowContext(ctx, `SELECT count(*), count(*) FILTER (WHERE status = 'failure') FROM audit_logs
		WHERE action LIKE 'chat.%' AND created_at > now() - interval '24 hours'`).Scan(&n, &failed)
	if err != nil {
		return err
	}
	r.OK("audit.activity", "%d actions in 24 hours, %d of them failed", n, failed)
	return nil
}
