package sqlstore

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"parley/adapters/sqlstore/pipeline"
)

var execModes = map[string]pgx.QueryExecMode{
	"auto":            pgx.QueryExecModeExec,
	"exec":            pgx.QueryExecModeExec,
	"simple_protocol": pgx.QueryExecModeSimpleProtocol,
	"cache_describe":  pgx.QueryExecModeCacheDescribe,
	"describe_exec":   pgx.QueryExecModeDescribeExec,
	"cache_statement": pgx.QueryExecModeCacheStatement,
}

func (s *Store) openPostgres() error {
	config, err := postgresConfig(s.opt.URL, s.opt.ExecMode)
	if err != nil {
		return fmt.Errorf("read database URL: %w", err)
	}
	config.ConnectTimeout = s.opt.AcquireTimeout
	s.settings = pinned(s.opt.SearchPath)
	open := func(conns int) *bun.DB {
		return openPool(config, conns, stdlib.OptionAfterConnect(s.openSession), stdlib.OptionResetSession(s.resetSession))
	}
	s.monitor, s.db = open(1), open(s.opt.MaxConns)
	s.db.SetConnMaxLifetime(time.Hour) // so that a new password or address takes effect
	s.dialect = dialect{
		name:          "postgres",
		queues:        2, // one group is decided here while the other is in the database
		maxGroup:      64,
		lockRow:       " FOR NO KEY UPDATE",
		skipLocked:    " FOR NO KEY UPDATE SKIP LOCKED",
		groupSettings: "SELECT set_config('lock_timeout', '" + groupLockTimeout + "', true), " + keyedPlans,
		elements:      "SELECT jsonb_array_elements_text(?)",
		behind: func(text, n string) string {
			return "convert_from(substring(convert_to(" + text + ", 'UTF8') FROM " + n + "::int + 1), 'UTF8')"
		},
		clock: func(d time.Duration) any {
			return bun.Safe("clock_timestamp() + interval '" + strconv.FormatInt(d.Microseconds(), 10) + " microseconds'")
		},
	}
	return nil
}

// keyedPlans are calls that have a transaction make plans for merged statements, or
// for those over arrays: they find single rows by their keys, whatever the lengths. A
// plan for the length at hand costs more than it can save. To read a small table whole
// looks cheaper, but checks the policy of row-level security for each of its rows.
const keyedPlans = "set_config('plan_cache_mode', 'force_generic_plan', true), " +
	"set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)"

// postgresConfig reads the URL of a server.
func postgresConfig(url, execMode string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(url) // its errors hide the password
	if err != nil {
		return nil, err
	}
	mode, ok := execModes[execMode]
	if !ok {
		return nil, fmt.Errorf("unknown exec mode %q", execMode)
	}
	config.DefaultQueryExecMode = mode
	// PgBouncer accepts these at connect, and keeps them for each client.
	for name, value := range map[string]string{
		"standard_conforming_strings": "on", "timezone": "UTC", "datestyle": "ISO, MDY", "client_encoding": "UTF8",
	} {
		config.RuntimeParams[name] = value
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "parley"
	}
	delete(config.RuntimeParams, "search_path") // in Store.settings
	return config, nil
}

// openPool makes a pool of connections, and opens none.
func openPool(config *pgx.ConnConfig, conns int, options ...stdlib.OptionOpenDB) *bun.DB {
	db := stdlib.OpenDB(*config, options...)
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return bun.NewDB(db, pgdialect.New())
}

// setting is a session parameter that changes what statements mean. The server,
// the database and the role may have another default for it.
type setting struct {
	name, value string
	reads       bool // matters for single statements too, not only for transactions
}

// idleInTransaction ends the session of an instance that froze in the middle
// of a transaction, and with it the locks that it held.
const idleInTransaction = 5 * time.Second

// pinned returns the settings of every session. Those that the server's version
// does not have are skipped.
func pinned(searchPath []string) []setting {
	list := []setting{
		{"default_transaction_isolation", "read committed", true},
		{"statement_timeout", "0", true}, // calls have deadlines of their own
		{"lock_timeout", "0", true},
		{"transaction_timeout", "0", false},
		{"idle_session_timeout", "0", false},
		{"idle_in_transaction_session_timeout", strconv.FormatInt(idleInTransaction.Milliseconds(), 10), false},
		{"bytea_output", "hex", true},
		{"IntervalStyle", "postgres", true},
	}
	if len(searchPath) > 0 {
		quoted := make([]string, len(searchPath))
		for i, schema := range searchPath {
			quoted[i] = pgx.Identifier{schema}.Sanitize()
		}
		list = append(list, setting{"search_path", strings.Join(quoted, ", "), true})
	}
	return list
}

// session is the state of one connection to Postgres.
type session struct {
	generation int64
	// direct: there is no pooler, so that settings and prepared statements of the
	// session stay.
	direct bool
	system int64 // what identifySession found; 0: unknown
	pipeline.Session
}

// sessionKey is the key of a connection's session in its custom data.
const sessionKey = "parley.session"

// openSession prepares a new connection to the primary.
func (s *Store) openSession(ctx context.Context, conn *pgx.Conn) error {
	c, differ, err := s.prepareSession(ctx, conn, s.opt.ExecMode)
	if err != nil {
		return err
	}
	s.overridden.Store(&differ)
	s.pooled.Store(!c.Prepares)
	s.pooler.Store(!c.direct)
	return nil
}

// prepareSession prepares a new connection in one round trip. It pins the settings
// whose defaults differ or, behind a pooler, finds out which ones differ: their names,
// between commas.
func (s *Store) prepareSession(ctx context.Context, conn *pgx.Conn, execMode string) (c *session, differ string, err error) {
	if encoding := conn.PgConn().ParameterStatus("server_encoding"); encoding != "" && encoding != "UTF8" {
		return nil, "", &SetupError{
			What: "The database has the encoding " + encoding + ", which cannot hold Unicode",
			Fix:  "create one with: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0, and name it in %s",
		}
	}
	// Poolers give clients a process id that is not the server's.
	pid := strconv.FormatUint(uint64(conn.PgConn().PID()), 10)
	var values strings.Builder
	for i, set := range s.settings {
		if i > 0 {
			values.WriteString(", ")
		}
		values.WriteString("('" + set.name + "', '" + strings.ReplaceAll(set.value, "'", "''") + "')")
	}
	var backend uint32
	err = conn.QueryRow(ctx, "SELECT pg_backend_pid(), coalesce(string_agg(name, ','), ''), count(done) FROM ("+
		"SELECT name, CASE WHEN pg_backend_pid() = "+pid+" THEN set_config(name, value, false) END AS done FROM (VALUES "+
		values.String()+") AS wanted (name, value) JOIN pg_settings USING (name) WHERE setting <> value) AS changed").Scan(&backend, &differ, nil)
	if err != nil {
		return nil, "", err
	}
	c = &session{generation: s.generation.Load(), direct: backend == conn.PgConn().PID()}
	c.Prepares = c.direct && execMode == "auto"
	if !c.direct {
		for _, set := range s.settings {
			if strings.Contains(","+differ+",", ","+set.name+",") {
				c.Settings = append(c.Settings, set.local())
				c.NeedsTx = c.NeedsTx || set.reads
			}
		}
	}
	conn.PgConn().CustomData()[sessionKey] = c
	return c, differ, nil
}

// OverriddenSettings lists the settings for which the server, the database or the
// role has another default than the one that Parley sets, as the newest connection
// found them.
func (s *Store) OverriddenSettings() []string {
	differ := s.overridden.Load()
	if differ == nil {
		return nil
	}
	return slices.DeleteFunc(strings.Split(*differ, ","), func(name string) bool {
		return name == "" || name == "search_path" || name == "idle_in_transaction_session_timeout"
	})
}

// local returns the statement that sets it for the rest of a transaction. It must
// come before the first query.
func (c setting) local() pipeline.Stmt {
	switch c.name {
	case "default_transaction_isolation":
		return stmt("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
	case "search_path": // a list, quoted already
		return stmt("SET LOCAL search_path = " + c.value)
	}
	return stmt("SET LOCAL " + c.name + " = '" + c.value + "'")
}

// resetSession discards connections that were opened before discardSessions was
// called.
func (s *Store) resetSession(_ context.Context, conn *pgx.Conn) error {
	if c := sessionOf(conn); c != nil && c.generation < s.generation.Load() {
		return driver.ErrBadConn
	}
	return nil
}

// discardSessions has every connection of the pool replaced before its next use.
// After a failover they may lead to a standby.
func (s *Store) discardSessions() { s.generation.Add(1) }

func sessionOf(conn *pgx.Conn) *session {
	c, _ := conn.PgConn().CustomData()[sessionKey].(*session)
	return c
}

// session returns the state of a connection.
func (s *Store) session(conn bun.Conn) session {
	var known session
	conn.Raw(func(driver any) error { //nolint:errcheck // the zero session prepares nothing
		if c := sessionOf(driver.(*stdlib.Conn).Conn()); c != nil {
			known = *c
		}
		return nil
	})
	return known
}

// readOnly reports whether a statement failed because its session is read-only.
func readOnly(err error) bool { return sqlState(err) == "25006" }
