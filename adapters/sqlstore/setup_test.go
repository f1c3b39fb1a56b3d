package sqlstore_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/uptrace/bun"

	"parley/adapters/sqlstore"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/platform/testing/testdb"
	"parley/platform/testing/testenv"
	"parley/ports"
	"parley/ports/portstest"
)

// changed returns a URL with other parts.
func changed(t testing.TB, raw string, edit func(u *url.URL)) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	edit(u)
	return u.String()
}

func execAll(t testing.TB, store *sqlstore.Store, statements ...string) {
	t.Helper()
	for _, q := range statements {
		if _, err := store.DB().ExecContext(context.Background(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

func databaseName(t testing.TB, raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(u.Path, "/")
}

// What no waiting heals is told from an outage, and named.
func TestSetupError(t *testing.T) {
	t.Parallel()
	plain := testdb.Postgres(t)
	super := open(t, sqlstore.Options{URL: plain})
	name := databaseName(t, plain)
	execAll(t, super, "CREATE ROLE "+name+"_none NOLOGIN", "CREATE ROLE "+name+"_app LOGIN", "REVOKE CONNECT ON DATABASE "+name+" FROM PUBLIC")
	t.Cleanup(func() { execAll(t, super, "DROP ROLE "+name+"_none", "DROP ROLE "+name+"_app") })
	addr := testenv.FreeAddr()
	through := bouncer(t, plain)
	for name, c := range map[string]struct{ url, want string }{
		"Database":  {changed(t, plain, func(u *url.URL) { u.Path = "/nothing" }), "Database does not exist; create it, or change the database in DATABASE_URL"},
		"Role":      {changed(t, plain, func(u *url.URL) { u.User = url.User("nobody") }), "Database role does not exist; create it, or change the user in DATABASE_URL"},
		"NoLogin":   {changed(t, plain, func(u *url.URL) { u.User = url.User(name + "_none") }), "Database role may not log in"},
		"NoConnect": {changed(t, plain, func(u *url.URL) { u.User = url.User(name + "_app") }), "Database role may not connect to the database"},
		"TLS":       {changed(t, plain, func(u *url.URL) { u.RawQuery = "sslmode=require" }), "refuses encrypted connections"},
		"Host":      {changed(t, plain, func(u *url.URL) { u.Host = "no-such-host.invalid:5432" }), "Database host does not exist; check the host in DATABASE_URL"},
		"Option":    {changed(t, plain, func(u *url.URL) { u.RawQuery = "sslmode=disable&no_such=1" }), "refuses a parameter"},
		"Pooler":    {changed(t, through(plain), func(u *url.URL) { u.RawQuery = "sslmode=disable&options=-cwork_mem%3D8MB" }), "The pooler before the database refuses a parameter"},
		"Refused":   {changed(t, plain, func(u *url.URL) { u.Host = addr }), ""},
		"Silent":    {changed(t, plain, func(u *url.URL) { u.Host = silent(t) }), ""},
	} {
		t.Run(name, func(t *testing.T) {
			opt := sqlstore.Options{URL: c.url}
			if c.want == "" {
				opt.AcquireTimeout = time.Second // nothing answers
			}
			store := open(t, opt)
			for what, err := range map[string]error{
				"status":  second(store.MigrationStatus(t.Context())),
				"migrate": second(store.Migrate(t.Context())),
				"use":     second(store.Recent(t.Context(), "ann", time.Time{})),
			} {
				setup := sqlstore.Explain(err)
				switch {
				case c.want == "" && (setup != nil || !fault.Is(err, fault.Unavailable)):
					t.Errorf("%s: %v, which may heal", what, err)
				case c.want != "" && (setup == nil || !strings.Contains(setup.Sentence("DATABASE_URL"), c.want)):
					t.Errorf("%s: %v, which should say %q", what, err, c.want)
				}
			}
		})
	}
}

func TestSetupError_Password(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t)
	super := open(t, sqlstore.Options{URL: server.URL()})
	execAll(t, super, "CREATE ROLE app LOGIN PASSWORD 'right'", "COPY (SELECT 'host all app all scram-sha-256') TO PROGRAM 'cat > pg_hba.new; echo host all all all trust >> pg_hba.new; mv pg_hba.new pg_hba.conf'", "SELECT pg_reload_conf()")
	as := func(user *url.Userinfo) *sqlstore.Store {
		return open(t, sqlstore.Options{URL: changed(t, server.URL(), func(u *url.URL) { u.User = user })})
	}
	for _, store := range []*sqlstore.Store{as(url.UserPassword("app", "wrong")), as(url.User("app"))} {
		err := second(store.MigrationStatus(t.Context()))
		setup := sqlstore.Explain(err)
		if setup == nil || !strings.Contains(setup.Error(), "password") {
			t.Errorf("%v", err)
		}
	}
	if err := second(as(url.UserPassword("app", "right")).MigrationStatus(t.Context())); err != nil {
		t.Errorf("with the right password: %v", err)
	}
}

// A role without rights on the tables is told so at start, with the remedy.
func TestSetupError_MissingGrants(t *testing.T) {
	plain := testdb.Postgres(t)
	super := open(t, sqlstore.Options{URL: plain})
	role := databaseName(t, plain) + "_app"
	execAll(t, super, "CREATE ROLE "+role+" LOGIN")
	t.Cleanup(func() { execAll(t, super, "DROP OWNED BY "+role, "DROP ROLE "+role) })
	store := open(t, sqlstore.Options{URL: changed(t, plain, func(u *url.URL) { u.User = url.User(role) })})
	setup := sqlstore.Explain(second(store.MigrationStatus(t.Context())))
	if setup == nil || !strings.Contains(setup.Error(), "permission denied for schema atlas_schema_revisions") || !strings.Contains(setup.Error(), "roles.sql") {
		t.Errorf("status: %v", setup)
	}
	execAll(t, super, "GRANT USAGE ON SCHEMA atlas_schema_revisions TO "+role, "GRANT SELECT ON atlas_schema_revisions.atlas_schema_revisions TO "+role)
	setup = sqlstore.Explain(store.CheckWritable(t.Context()))
	if setup == nil || !strings.Contains(setup.Error(), "permission denied for table chat_users") {
		t.Errorf("write: %v", setup)
	}
}

// silent returns the address of a listener that never answers.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func second[T any](_ T, err error) error { return err }

// Sessions that only read are thrown away, and readiness says so. Nothing has
// to be restarted.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	for _, behind := range []string{"Postgres", "PgBouncer"} {
		t.Run(behind, func(t *testing.T) {
			plain := testdb.Postgres(t)
			admin := open(t, sqlstore.Options{URL: plain})
			name := databaseName(t, plain)
			opt := sqlstore.Options{URL: plain, MaxConns: 4}
			if behind == "PgBouncer" {
				opt.URL = bouncer(t, plain)(plain)
			}
			store := migrated(t, opt)
			if err := store.CheckWritable(t.Context()); err != nil {
				t.Fatal(err)
			}
			breakSessions := func(setting string) {
				execAll(t, admin, "ALTER DATABASE "+name+" "+setting,
					"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
			}
			breakSessions("SET default_transaction_read_only = on")
			admin.DB().SetMaxIdleConns(0)
			until(t, "not writable", func() bool { return errors.Is(store.CheckWritable(t.Context()), sqlstore.ErrReadOnly) })
			wantUnavailable(t, store.Record(t.Context(), entry("a")))
			if _, err := store.Recent(t.Context(), "ann", time.Time{}); err != nil {
				t.Errorf("read: %v", err)
			}
			execAll(t, admin, "BEGIN READ WRITE; ALTER DATABASE "+name+" RESET default_transaction_read_only; COMMIT")
			if behind == "PgBouncer" { // its sessions are not ours to throw away; server_lifetime does
				execAll(t, admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
			}
			until(t, "a write", func() bool { return store.Record(t.Context(), entry("b")) == nil })
			for i := range 8 {
				if err := store.Record(t.Context(), entry("c"+string(rune('a'+i)))); err != nil {
					t.Errorf("a session that only reads was kept: %v", err)
				}
			}
			if err := store.CheckWritable(t.Context()); err != nil {
				t.Errorf("writable: %v", err)
			}
		})
	}
}

// One connection that leads to a standby does not fail a call: it is replaced.
func TestReadOnly_RetriedOnAnotherConnection(t *testing.T) {
	store := migrated(t, sqlstore.Options{URL: testdb.Postgres(t), MaxConns: 1})
	execAll(t, store, "SET default_transaction_read_only = on")
	if err := store.Record(t.Context(), entry("a")); err != nil {
		t.Errorf("%v", err)
	}
}

// until waits for what is about to come true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s for: %s", what)
		}
	}
}

// hostileSettings are defaults of a database under which statements mean
// something else, or fail.
var hostileSettings = []string{
	"default_transaction_isolation = 'serializable'", "datestyle = 'German, DMY'", "timezone = 'Asia/Kolkata'", "client_encoding = 'LATIN1'",
	"statement_timeout = '500ms'", "lock_timeout = '1ms'", "bytea_output = 'escape'", "standard_conforming_strings = off",
	"intervalstyle = 'sql_standard'", "search_path = 'nowhere'", "idle_in_transaction_session_timeout = '500ms'", "idle_session_timeout = '1s'",
}

// TestHostileSettings holds the store to the contract on a database with such
// defaults; TestPgBouncer does behind a pooler.
func TestHostileSettings(t *testing.T) {
	t.Parallel()
	portstest.Store(t, func(t testing.TB) portstest.StoreBundle {
		return bundle(migrated(t, sqlstore.Options{URL: hostile(t), SearchPath: []string{"public"}}))
	})
}

// hostile returns the URL of a migrated database with all hostile settings but some.
func hostile(t testing.TB, without ...string) string {
	t.Helper()
	plain := testdb.Postgres(t)
	var statements strings.Builder
	for _, setting := range hostileSettings {
		if name, _, _ := strings.Cut(setting, " "); !slices.Contains(without, name) {
			statements.WriteString("ALTER DATABASE " + databaseName(t, plain) + " SET " + setting + ";")
		}
	}
	testdb.Execute(t, plain, statements.String())
	return plain
}

// An empty database with such defaults is migrated. A transaction there meets no
// serialization failure, and times and text stay what they are.
func TestHostileSettings_Values(t *testing.T) {
	t.Parallel()
	for _, behind := range []string{"Postgres", "PgBouncer"} {
		t.Run(behind, func(t *testing.T) {
			plain := testenv.Postgres(t)
			admin := open(t, sqlstore.Options{URL: plain})
			for _, setting := range hostileSettings {
				execAll(t, admin, "ALTER DATABASE "+databaseName(t, plain)+" SET "+setting)
			}
			opt := sqlstore.Options{URL: plain, SearchPath: []string{"public"}}
			if behind == "PgBouncer" {
				opt.URL = bouncer(t, plain)(plain)
			}
			store := migrated(t, opt)
			const text = "żółw 🐢 \\ ' ü"
			at := time.Date(2026, 7, 9, 1, 2, 3, 456789000, time.UTC)
			a := sending("ann", text)
			a.Message.CreatedAt, a.Now = at, at
			out, err := store.Admit(t.Context(), a, chat.Admit)
			if err != nil {
				t.Fatal(err)
			}
			if err := end(t.Context(), store, chat.Outcome{UserID: "ann", RunID: out.Run.ID, Attempt: 1, State: chat.Completed, Output: chat.TextOutput(text), At: at.Add(time.Second)}); err != nil {
				t.Fatal(err)
			}
			list, _, err := store.Messages(t.Context(), "ann", "", ports.Page{Limit: 10})
			if err != nil || len(list) != 2 {
				t.Fatalf("%d messages, %v", len(list), err)
			}
			got := []any{list[0].Content, list[0].CreatedAt.UTC(), list[1].Content}
			if diff := cmp.Diff([]any{text, at, text}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			var isolation, timeout string
			err = store.Within(t.Context(), "ann", func(ctx context.Context, tx bun.IDB) error {
				return tx.QueryRowContext(ctx, "SELECT current_setting('transaction_isolation'), current_setting('statement_timeout')").Scan(&isolation, &timeout)
			})
			if err != nil || isolation != "read committed" || timeout != "0" {
				t.Errorf("isolation %q, timeout %q, %v", isolation, timeout, err)
			}
		})
	}
}

// An encoding that cannot hold every text is refused before anything is stored.
func TestEncoding(t *testing.T) {
	plain := testenv.Postgres(t)
	admin := open(t, sqlstore.Options{URL: plain})
	for _, encoding := range []string{"SQL_ASCII", "LATIN1"} {
		name := databaseName(t, plain) + "_" + strings.ToLower(encoding)
		execAll(t, admin, "CREATE DATABASE "+name+" ENCODING '"+encoding+"' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
		t.Run(encoding, func(t *testing.T) {
			store := open(t, sqlstore.Options{URL: changed(t, plain, func(u *url.URL) { u.Path = "/" + name })})
			for what, err := range map[string]error{"migrate": second(store.Migrate(t.Context())), "status": second(store.MigrationStatus(t.Context()))} {
				if setup := sqlstore.Explain(err); setup == nil || !strings.Contains(setup.Error(), "encoding "+encoding+", which cannot hold Unicode") {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
		t.Cleanup(func() {
			execAll(t, admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+name+"'", "DROP DATABASE "+name)
		})
	}
}

// A full disk is a state of its own, and ends by itself.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789abcdef", 8000)
	for name, c := range map[string]struct {
		open        func(t testing.TB) *sqlstore.Store
		full, empty []string
	}{
		"SQLite": {openSQLite, []string{"PRAGMA max_page_count = 1"}, []string{"PRAGMA max_page_count = 1000000"}},
		"Postgres": {openPostgres, []string{
			"CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$",
			"CREATE TRIGGER full_disk BEFORE INSERT ON chat_messages FOR EACH ROW EXECUTE FUNCTION full_disk()",
			"CREATE TRIGGER full_disk BEFORE INSERT ON chat_users FOR EACH ROW EXECUTE FUNCTION full_disk()",
		}, []string{"DROP TRIGGER full_disk ON chat_messages", "DROP TRIGGER full_disk ON chat_users"}},
	} {
		t.Run(name, func(t *testing.T) {
			store := c.open(t)
			send := func(id string) error {
				a := sending("ann", long)
				a.Run.ID, a.Message.ID, a.Run.AuditID, a.Run.ConversationID, a.CreateConversation = id, "m"+id, "a"+id, "c"+id, true
				_, err := store.Admit(t.Context(), a, chat.Admit)
				return err
			}
			if err := send("1"); err != nil {
				t.Fatal(err)
			}
			execAll(t, store, c.full...)
			err := send("2")
			if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.As(err).Message, "disk is full") {
				t.Errorf("send: %v", err)
			}
			for range 2 {
				if err := store.CheckWritable(t.Context()); !errors.Is(err, sqlstore.ErrDiskFull) {
					t.Errorf("writable: %v", err)
				}
			}
			if err := store.Ping(t.Context()); err != nil {
				t.Errorf("it answers: %v", err)
			}
			execAll(t, store, c.empty...)
			if err := store.CheckWritable(t.Context()); err != nil {
				t.Errorf("with room again: %v", err)
			}
			if err := send("3"); err != nil {
				t.Errorf("with room again: %v", err)
			}
			var users int
			if err := raw(store).QueryRow("SELECT count(*) FROM chat_users").Scan(&users); err != nil || users != 1 {
				t.Errorf("%d users, %v: the check left rows behind", users, err)
			}
		})
	}
}
