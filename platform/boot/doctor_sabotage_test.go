package boot_test

import (
	"compress/gzip"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"parley/adapters/providers/stub"
	"parley/adapters/sqlstore"
	appaudit "parley/app/audit"
	"parley/domain/audit"
	"parley/platform/boot"
	"parley/platform/doctor"
	"parley/platform/testing/testdb"
	"parley/platform/testing/testenv"
	"parley/ports"
)

// sabotage breaks one thing of a set-up that works.
type sabotage struct {
	name string
	env  []string // more settings
	sql  string   // statements of the owner, without triggers where it begins with --quiet
	do   func(t *testing.T, w *setUp) (env []string)

	url, prometheus, backups string

	turns  string // the check that turns
	state  doctor.State
	remedy string // is part of the remedy
}

func breaks(name, turns, remedy, sql string) sabotage {
	return sabotage{name: name, turns: turns, state: doctor.Fail, remedy: remedy, sql: sql}
}

func warns(name, turns, remedy, sql string) sabotage {
	return sabotage{name: name, turns: turns, state: doctor.Warn, remedy: remedy, sql: sql}
}

func setting(name, turns string, state doctor.State, remedy string, env ...string) sabotage {
	return sabotage{name: name, turns: turns, state: state, remedy: remedy, env: env}
}

// setUp is a set-up that works, of which every sabotage gets a copy.
type setUp struct {
	env   []string
	file  string // of SQLite
	owner string // URL of PostgreSQL's owner
}

const doctorSecret = "6Ya1yAHe0rUHR5nXtmzhmLgm0N7WZzwl9tkbDUvxDHhL"

// fill writes what a service has written after a while: entries that are sealed.
func fill(t *testing.T, url string) {
	t.Helper()
	store, err := sqlstore.Open(t.Context(), sqlstore.Options{URL: url, Timeout: time.Minute, AcquireTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"e1", "e2", "e3"} {
		err := store.Record(t.Context(), audit.Entry{ID: id, UserID: "ann", Action: audit.ActionMessageSent, Resource: audit.ResourceMessage,
			Status: audit.Success, CreatedAt: time.Now(), UpdatedAt: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
	}
	auditor := appaudit.New(appaudit.Deps{Ledger: store, Eraser: store, Secrets: []string{doctorSecret}, Observer: ports.NopObserver{}, Now: time.Now}, appaudit.Options{})
	if err := auditor.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// states returns the worst state of each check, and its remedy.
func states(r *doctor.Report) (worst map[string]doctor.State, remedies map[string]string) {
	rank := map[doctor.State]int{doctor.OK: 1, doctor.Warn: 2, doctor.Fail: 3}
	worst, remedies = map[string]doctor.State{}, map[string]string{}
	for _, l := range r.Lines {
		if rank[l.State] > rank[worst[l.ID]] {
			worst[l.ID], remedies[l.ID] = l.State, l.Remedy
		}
	}
	return worst, remedies
}

// judge runs doctor on a sabotaged set-up and compares with the baseline: the check
// turns, with its remedy, and no other one gets worse.
func (s sabotage) judge(t *testing.T, w *setUp, baseline map[string]doctor.State) {
	t.Helper()
	env := override(w.env, s.env)
	if s.do != nil {
		env = override(env, s.do(t, w))
	}
	report, _ := boot.Examine(t.Context(), env, s.url, s.prometheus, s.backups)
	now, remedies := states(report)
	rank := map[doctor.State]int{doctor.OK: 1, doctor.Warn: 2, doctor.Fail: 3}
	turned := map[string]doctor.State{}
	for id, state := range now {
		if rank[state] > max(rank[baseline[id]], rank[doctor.OK]) {
			turned[id] = state
		}
	}
	if d := cmp.Diff(map[string]doctor.State{s.turns: s.state}, turned); d != "" {
		t.Errorf("the checks that turned (-want +got):\n%s\n%s", d, describe(report))
	}
	if !strings.Contains(remedies[s.turns], s.remedy) || remedies[s.turns] == "" {
		t.Errorf("the remedy of %s is %q, want %q in it", s.turns, remedies[s.turns], s.remedy)
	}
}

// override replaces variables of an environment; one without a value is removed.
func override(env, by []string) (out []string) {
	set := map[string]bool{}
	for _, e := range by {
		name, _, _ := strings.Cut(e, "=")
		set[name] = true
	}
	for _, e := range env {
		if name, _, _ := strings.Cut(e, "="); !set[name] {
			out = append(out, e)
		}
	}
	return append(out, by...)
}

func describe(r *doctor.Report) string {
	var b strings.Builder
	for _, l := range r.Lines {
		if l.State != doctor.OK {
			fmt.Fprintf(&b, "%s %s %s [%s]\n", l.State, l.ID, l.Fact, l.Remedy)
		}
	}
	return b.String()
}

// baseline examines the set-up that works: nothing fails.
func baseline(t *testing.T, w *setUp) map[string]doctor.State {
	t.Helper()
	report, err := boot.Examine(t.Context(), w.env, "", "", "")
	if err != nil || report.Failed() > 0 {
		t.Fatalf("the set-up that works: %v\n%s", err, describe(report))
	}
	worst, _ := states(report)
	return worst
}

// TestDoctor_SabotagedSQLite breaks settings, files and schema of a set-up on SQLite.
func TestDoctor_SabotagedSQLite(t *testing.T) {
	t.Parallel()
	template := testdb.SQLite(t)
	fill(t, template)
	content, err := os.ReadFile(template)
	if err != nil {
		t.Fatal(err)
	}
	set := func(t *testing.T) *setUp {
		dir := t.TempDir()
		w := &setUp{file: filepath.Join(dir, "parley.db")}
		if err := os.WriteFile(w.file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		w.env = []string{"DATA_DIR=" + dir, "AUTH_SECRET=" + doctorSecret, "NEXTAUTH_URL=https://app.example", "AI_PROVIDERS=demo"}
		return w
	}
	base := baseline(t, set(t))
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	old := write("old.backup", "x")
	if err := os.Chtimes(old, time.Now(), time.Now().Add(-50*time.Hour)); err != nil {
		t.Fatal(err)
	}
	answer := func(status int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			io.WriteString(w, body)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	list := []sabotage{
		// Settings.
		setting("AddressWithoutPort", "config.variables", doctor.Fail, "docs/configuration.md", "ADDR=localhost"),
		setting("NotANumber", "config.variables", doctor.Fail, "docs/configuration.md", "DB_MAX_CONNS=many"),
		setting("UnknownProvider", "config.variables", doctor.Fail, "docs/configuration.md", "AI_PROVIDERS=openia"),
		setting("MisspeltDatabase", "config.variables", doctor.Warn, "rename", "DATABSE_URL=postgres://x"),
		setting("MisspeltKey", "config.variables", doctor.Warn, "rename", "OPENAI_API_KYE=k"),
		setting("MisspeltLimit", "config.variables", doctor.Warn, "rename", "RATE_LIMIT_AUTHENTICTED=5"),
		setting("LowerCase", "config.variables", doctor.Warn, "rename", "redis_url=redis://x"),
		setting("Placeholder", "auth.secrets", doctor.Fail, "openssl rand", "AUTH_SECRET=please-change-me-please-change-me", "AUDIT_KEY="+doctorSecret),
		setting("ShortSecret", "auth.secrets", doctor.Fail, "openssl rand", "AUTH_SECRET=kT9x", "AUDIT_KEY="+doctorSecret),
		setting("RepeatedSecret", "auth.secrets", doctor.Fail, "openssl rand", "AUTH_SECRET="+strings.Repeat("aB3$xYz9", 5), "AUDIT_KEY="+doctorSecret),
		setting("WeakAuditKey", "auth.secrets", doctor.Fail, "openssl rand", "AUDIT_KEY=secret,"+doctorSecret),
		setting("PublicDevelopment", "auth.secrets", doctor.Fail, "AUTH_SECRET", "AUTH_SECRET=", "ADDR=0.0.0.0:8080", "AUDIT_KEY="+doctorSecret),
		setting("NoOrigins", "auth.origins", doctor.Warn, "NEXTAUTH_URL", "NEXTAUTH_URL="),
		setting("SessionsUnreachable", "auth.sessions", doctor.Fail, "", "AUTH_SESSION_STRATEGY=database", "AUTH_DATABASE_URL=postgres://u@127.0.0.1:1/app"),
		setting("OIDCUnreachable", "auth.oidc", doctor.Fail, "OIDC_ISSUER", "OIDC_ISSUER=http://127.0.0.1:1", "OIDC_AUDIENCE=a"),
		setting("OIDCOtherIssuer", "auth.oidc", doctor.Fail, "OIDC_ISSUER", "OIDC_ISSUER="+answer(200, `{"issuer":"https://other.example"}`), "OIDC_AUDIENCE=a"),
		setting("OIDCNoDocument", "auth.oidc", doctor.Fail, "OIDC_ISSUER", "OIDC_ISSUER="+answer(404, `no`), "OIDC_AUDIENCE=a"),
		setting("TiersMissing", "limits.tiers", doctor.Fail, "TIERS_FILE", "TIERS_FILE=/no/such/file"),
		setting("TiersBroken", "limits.tiers", doctor.Fail, "TIERS_FILE", "TIERS_FILE="+write("a.json", `{"authenticated": {`)),
		setting("TiersUnknown", "limits.tiers", doctor.Fail, "TIERS_FILE", "TIERS_FILE="+write("b.json", `{"gold": {"requestsPerMinute": 5}}`)),
		setting("ReplicaOfSQLite", "config.variables", doctor.Fail, "docs/configuration.md", "DATABASE_REPLICA_URLS=postgres://u@h/d"),
		setting("InstancesOnSQLite", "limits.instances", doctor.Fail, "DATABASE_URL", "INSTANCES=2"),
		setting("PublicAdmin", "host.admin", doctor.Warn, "ADMIN_ADDR", "ADMIN_ADDR=0.0.0.0:9464"),
		setting("HeadsUnwritable", "audit.heads", doctor.Fail, "AUDIT_HEADS", "AUDIT_HEADS=/etc/hostname/heads.jsonl"),
		setting("OtherSecret", "audit.key", doctor.Fail, "AUDIT_KEY", "AUTH_SECRET=xZ7Qm1Lr8sVt2Wk5Yp9Nc3Bd6Fg4Hj0KqUeRi"),
		setting("BucketMissing", "files.store", doctor.Fail, "BLOB_URL", "BLOB_URL=file:///etc/hostname/files"),
		setting("BucketOfNoKind", "config.variables", doctor.Fail, "docs/configuration.md", "BLOB_URL=ftp://bucket"),
		setting("RedisDown", "redis.connect", doctor.Fail, "REDIS_URL", "REDIS_URL=redis://127.0.0.1:1", "INSTANCES=1"),
		setting("ProviderDown", "ai.providers", doctor.Fail, "base URL", "AI_PROVIDERS=openai", "OPENAI_BASE_URL=http://127.0.0.1:1/v1", "OPENAI_MODEL=m"),
		{name: "ModelMissing", turns: "ai.providers", state: doctor.Fail, remedy: "OPENAI_MODEL", do: func(t *testing.T, _ *setUp) []string {
			s := provider(t, stub.Echo)
			s.Offer("one", "two")
			return []string{"AI_PROVIDERS=openai", "OPENAI_API_KEY=k", "OPENAI_MODEL=three", "OPENAI_BASE_URL=" + s.OpenAIURL()}
		}},
		{name: "PriceUnknown", turns: "ai.prices", state: doctor.Fail, remedy: "PRICES_FILE", do: func(t *testing.T, _ *setUp) []string {
			s := provider(t, stub.Echo)
			s.Offer("house-model")
			return []string{"AI_PROVIDERS=openai", "OPENAI_API_KEY=k", "OPENAI_MODEL=house-model", "OPENAI_BASE_URL=" + s.OpenAIURL(), "BUDGET_USD_DAY=1"}
		}},
		setting("SentryBroken", "operations.errors", doctor.Fail, "DSN", "SENTRY_DSN=https://no-key.example"),
		setting("CollectorDown", "operations.traces", doctor.Fail, "collector", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"),
		setting("CollectorWithoutScheme", "operations.traces", doctor.Fail, "http://collector:4318", "OTEL_EXPORTER_OTLP_ENDPOINT=collector:4318"),
		setting("WebhookWithoutSecret", "config.variables", doctor.Fail, "docs/configuration.md", "WEBHOOK_URL=https://app.example/hook"),
		{name: "BackupOld", turns: "operations.backup", state: doctor.Fail, remedy: "parley backup", backups: filepath.Dir(old)},
		{name: "BackupNone", turns: "operations.backup", state: doctor.Fail, remedy: "parley backup", backups: t.TempDir()},
		{name: "BackupNowhere", turns: "operations.backup", state: doctor.Fail, remedy: "--backups", backups: "/no/such/dir"},
		// Prometheus.
		{name: "PrometheusWithoutScheme", turns: "prometheus.rules", state: doctor.Fail, remedy: "http://prometheus:9090", prometheus: "prometheus:9090"},
		{name: "PrometheusDown", turns: "prometheus.rules", state: doctor.Fail, remedy: "start Prometheus", prometheus: "http://127.0.0.1:1"},
		{name: "RulesMissing", turns: "prometheus.rules", state: doctor.Fail, remedy: "rule_files", prometheus: prometheus(t, 3, "ok", "1")},
		{name: "RulesFailing", turns: "prometheus.rules", state: doctor.Fail, remedy: "Rule health", prometheus: prometheus(t, 0, "err", "1")},
		{name: "TargetsNone", turns: "prometheus.targets", state: doctor.Fail, remedy: "scrape_configs", prometheus: prometheus(t, 0, "ok", "")},
		{name: "TargetDown", turns: "prometheus.targets", state: doctor.Fail, remedy: "scrape_configs", prometheus: prometheus(t, 0, "ok", "0")},
		// Addresses.
		{name: "URLWithoutScheme", turns: "api.address", state: doctor.Fail, remedy: "scheme", url: "chat.example.com"},
		{name: "URLDown", turns: "api.address", state: doctor.Fail, remedy: "start", url: "http://127.0.0.1:1"},
		{name: "URLOfAnother", turns: "api.address", state: doctor.Fail, remedy: "/api/", url: answer(200, "<html>welcome</html>")},
		// The file and its schema.
		{name: "NotADatabase", turns: "database.connect", state: doctor.Fail, do: func(t *testing.T, w *setUp) []string {
			if err := os.WriteFile(w.file, []byte(strings.Repeat("this is no database", 1000)), 0o600); err != nil {
				t.Error(err)
			}
			return nil
		}},
		breaks("DroppedIndex", "schema.indexes", "CREATE INDEX chat_messages_thread_idx", "DROP INDEX chat_messages_thread_idx"),
		breaks("ExtraUniqueIndex", "schema.indexes", "DROP INDEX one_reply", "CREATE UNIQUE INDEX one_reply ON chat_messages (user_id, parent_id)"),
		warns("ExtraIndex", "schema.indexes", "DROP", "CREATE INDEX mine ON chat_messages (created_at)"),
		breaks("DroppedTrigger", "schema.triggers", "CREATE TRIGGER audit_logs_delete", "DROP TRIGGER audit_logs_delete"),
		breaks("ExtraTrigger", "schema.triggers", "DROP TRIGGER mine", "CREATE TRIGGER mine AFTER INSERT ON chat_messages BEGIN SELECT 1; END"),
		warns("ExtraColumn", "schema.columns", "DROP", "ALTER TABLE chat_messages ADD COLUMN note text"),
		breaks("DroppedColumn", "schema.columns", "parley restore", "ALTER TABLE chat_conversations DROP COLUMN title"),
		breaks("DroppedTable", "database.migrations", "restore", "DROP TABLE chat_feedback"),
		breaks("EditedRevision", "database.revisions", "atlas migrate status", "UPDATE atlas_schema_revisions SET hash = 'x' WHERE version = '20261127000200'"),
		breaks("Orphans", "database.integrity", "parley restore", "PRAGMA foreign_keys = off; INSERT INTO chat_usage (user_id, day) VALUES ('nobody', '2026-11-27')"),
		warns("ChatDisabled", "switches.disabled", "parley chat enable", "INSERT INTO chat_switches VALUES ('', 'r', '2026-11-27 10:00:00+00:00')"),
		breaks("LateSealing", "audit.sealing", "parley serve", "INSERT INTO audit_unsealed (user_id, entry_id, kind, queued_at) VALUES ('ann', 'e1', 'closed', '2026-11-01 10:00:00.000000')"),
	}
	for _, s := range list {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			w := set(t)
			if s.sql != "" {
				db, err := sql.Open("sqlite", w.file)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := db.Exec(s.sql); err != nil {
					t.Fatal(err)
				}
				db.Close()
			}
			s.judge(t, w, base)
		})
	}
	t.Logf("%d sabotages", len(list))
}

// prometheus serves the API of a Prometheus that lacks some alerts. up is the value
// of its only target; "": it has none.
func prometheus(t *testing.T, lacks int, health, up string) string {
	type rule map[string]string
	var rules []rule
	for _, name := range doctor.Alerts()[lacks:] {
		rules = append(rules, rule{"name": name, "type": "alerting", "health": health})
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var data any = map[string]any{"groups": []any{map[string]any{"rules": rules}}}
		if strings.HasSuffix(r.URL.Path, "/query") {
			result := []any{}
			if up != "" {
				result = append(result, map[string]any{"metric": map[string]string{"instance": "a:9464"}, "value": []any{1, up}})
			}
			data = map[string]any{"result": result}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": data})
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestDoctor_SabotagedPostgres breaks schema, rights and settings of a set-up on
// PostgreSQL, whose role is the one of deploy/postgres/roles.sql.
func TestDoctor_SabotagedPostgres(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs a server, which go test -short does not start")
	}
	server := testenv.StartPostgres(t)
	admin, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { admin.Close(context.Background()) })
	exec := func(t *testing.T, conn *pgx.Conn, statement string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	at := func(name string) string { return strings.Replace(server.URL(), "/postgres?", "/"+name+"?", 1) }
	exec(t, admin, "CREATE DATABASE template")
	fill(t, at("template"))
	script, err := os.ReadFile("../../deploy/postgres/roles.sql")
	if err != nil {
		t.Fatal(err)
	}
	owner, err := pgx.Connect(t.Context(), at("template"))
	if err != nil {
		t.Fatal(err)
	}
	exec(t, owner, string(script)+"; CREATE ROLE another")
	owner.Close(t.Context())

	var n atomic.Int64
	set := func(t *testing.T) *setUp {
		t.Helper()
		name := fmt.Sprintf("sabotaged_%d", n.Add(1))
		conn, err := pgx.Connect(t.Context(), server.URL())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		exec(t, conn, "CREATE DATABASE "+name+" TEMPLATE template")
		return &setUp{owner: at(name), env: []string{
			"DATA_DIR=" + t.TempDir(), "AUTH_SECRET=" + doctorSecret, "NEXTAUTH_URL=https://app.example", "AI_PROVIDERS=demo", "INSTANCES=1",
			"DATABASE_URL=" + strings.Replace(at(name), "parley@", "parley_app@", 1),
		}}
	}
	base := baseline(t, set(t))
	hold := func(statement string) func(*testing.T, *setUp) []string {
		return func(t *testing.T, w *setUp) []string {
			conn, err := pgx.Connect(t.Context(), w.owner)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close(context.Background()) })
			exec(t, conn, "BEGIN")
			exec(t, conn, statement)
			return nil
		}
	}
	list := []sabotage{
		breaks("ColumnType", "schema.columns", "chat_messages.content to: text NOT NULL", "ALTER TABLE chat_messages ALTER content TYPE varchar(100)"),
		breaks("ColumnNullable", "schema.columns", "NOT NULL", "ALTER TABLE chat_messages ALTER content DROP NOT NULL"),
		breaks("ColumnNotNull", "schema.columns", "alter chat_runs.provider", "ALTER TABLE chat_runs ALTER provider SET NOT NULL"),
		breaks("ColumnDefault", "schema.columns", "DEFAULT", "ALTER TABLE chat_runs ALTER attempt DROP DEFAULT"),
		breaks("ColumnWithoutZone", "schema.columns", "timestamp with time zone", "ALTER TABLE chat_feedback ALTER created_at TYPE timestamp"),
		breaks("ColumnDropped", "schema.columns", "parley restore", "ALTER TABLE chat_conversations DROP COLUMN title"),
		breaks("ColumnRequired", "schema.columns", "DROP COLUMN must", "ALTER TABLE chat_conversations ADD must text NOT NULL"),
		warns("ColumnExtra", "schema.columns", "DROP", "ALTER TABLE chat_conversations ADD note text"),
		breaks("IndexDropped", "schema.indexes", "CREATE INDEX CONCURRENTLY chat_messages_thread_idx", "DROP INDEX chat_messages_thread_idx"),
		breaks("IndexUniqueDropped", "schema.indexes", "CREATE UNIQUE INDEX CONCURRENTLY chat_runs_idempotency_key", "DROP INDEX chat_runs_idempotency_key"),
		breaks("IndexInvalid", "schema.indexes", "REINDEX INDEX chat_messages_user_idx", "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'chat_messages_user_idx'::regclass"),
		breaks("IndexNotUnique", "schema.indexes", "CREATE UNIQUE INDEX chat_shares_token_key", "DROP INDEX chat_shares_token_key; CREATE INDEX chat_shares_token_key ON chat_shares (token_hash)"),
		breaks("IndexOtherColumns", "schema.indexes", "CREATE INDEX chat_messages_parent_idx", "DROP INDEX chat_messages_parent_idx; CREATE INDEX chat_messages_parent_idx ON chat_messages (parent_id)"),
		warns("IndexExtra", "schema.indexes", "DROP", "CREATE INDEX mine ON chat_messages (created_at)"),
		breaks("IndexExtraUnique", "schema.indexes", "DROP INDEX mine", "CREATE UNIQUE INDEX mine ON chat_messages (user_id, parent_id)"),
		breaks("ForeignKeyDropped", "schema.constraints", "ADD CONSTRAINT chat_messages_user_fkey", "ALTER TABLE chat_messages DROP CONSTRAINT chat_messages_user_fkey"),
		breaks("ForeignKeyNotValid", "schema.constraints", "VALIDATE CONSTRAINT chat_messages_user_fkey", "ALTER TABLE chat_messages DROP CONSTRAINT chat_messages_user_fkey, ADD CONSTRAINT chat_messages_user_fkey FOREIGN KEY (user_id) REFERENCES chat_users (user_id) ON DELETE CASCADE NOT VALID"),
		breaks("ForeignKeyWithoutCascade", "schema.constraints", "ON DELETE CASCADE", "ALTER TABLE chat_usage DROP CONSTRAINT chat_usage_user_fkey, ADD CONSTRAINT chat_usage_user_fkey FOREIGN KEY (user_id) REFERENCES chat_users (user_id)"),
		breaks("ForeignKeyDisabled", "schema.constraints", "ENABLE TRIGGER ALL", "ALTER TABLE chat_conversations DISABLE TRIGGER ALL"),
		breaks("CheckDropped", "schema.constraints", "ADD CONSTRAINT chat_runs_state_check", "ALTER TABLE chat_runs DROP CONSTRAINT chat_runs_state_check"),
		breaks("CheckExtra", "schema.constraints", "DROP CONSTRAINT mine", "ALTER TABLE chat_messages ADD CONSTRAINT mine CHECK (length(content) > 5)"),
		breaks("PrimaryKeyDropped", "schema.constraints", "PRIMARY KEY (user_id, day)", "ALTER TABLE chat_usage DROP CONSTRAINT chat_usage_pkey"),
		breaks("TriggerDropped", "schema.triggers", "CREATE TRIGGER audit_logs_enqueue", "DROP TRIGGER audit_logs_enqueue ON audit_logs"),
		breaks("TriggerDisabled", "schema.triggers", "ENABLE TRIGGER audit_logs_delete", "ALTER TABLE audit_logs DISABLE TRIGGER audit_logs_delete"),
		breaks("TriggerReplica", "schema.triggers", "audit_chain_change", "ALTER TABLE audit_chain ENABLE REPLICA TRIGGER audit_chain_change"),
		breaks("TriggerExtra", "schema.triggers", "DROP TRIGGER mine ON chat_messages", "CREATE TRIGGER mine BEFORE INSERT ON chat_messages FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"),
		breaks("Rule", "schema.triggers", "DROP RULE mine ON chat_feedback", "CREATE RULE mine AS ON DELETE TO chat_feedback DO INSTEAD NOTHING"),
		breaks("FunctionChanged", "schema.functions", "audit_refuse()", "CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS 'BEGIN RETURN OLD; END'"),
		breaks("FunctionInvoker", "schema.functions", "audit_dequeue()", "ALTER FUNCTION audit_dequeue() SECURITY INVOKER"),
		breaks("FunctionSearchPath", "schema.functions", "chat_release_file()", "ALTER FUNCTION chat_release_file() RESET search_path"),
		breaks("FunctionDropped", "schema.functions", "chat_enable_row_security()", "DROP FUNCTION chat_enable_row_security()"),
		breaks("PolicyDropped", "schema.policies", "DROP POLICY IF EXISTS parley_scope ON chat_messages", "DROP POLICY parley_scope ON chat_messages"),
		breaks("PolicyOpen", "schema.policies", "parley_scope ON chat_files", "ALTER POLICY parley_scope ON chat_files USING (true)"),
		breaks("PolicyExtra", "schema.policies", "DROP POLICY mine ON chat_runs", "CREATE POLICY mine ON chat_runs USING (true)"),
		breaks("Owner", "schema.owners", "OWNER TO", "ALTER TABLE chat_shares OWNER TO another"),
		breaks("PublicTable", "schema.grants", "REVOKE ALL ON chat_messages FROM PUBLIC", "GRANT SELECT ON chat_messages TO PUBLIC"),
		breaks("PublicFunction", "schema.grants", "FROM PUBLIC", "GRANT EXECUTE ON FUNCTION audit_erase(text, bigint) TO PUBLIC"),
		breaks("NotLogged", "schema.tables", "SET LOGGED", "ALTER TABLE chat_feedback SET UNLOGGED"),
		breaks("TableDropped", "database.migrations", "restore", "DROP TABLE chat_feedback"),
		breaks("RevisionForgotten", "database.migrations", "restore", "DELETE FROM atlas_schema_revisions.atlas_schema_revisions"),
		breaks("RevisionsUnreadable", "database.migrations", "roles.sql", "REVOKE ALL ON SCHEMA atlas_schema_revisions FROM parley_app"),
		breaks("RevisionEdited", "database.revisions", "atlas migrate status", "UPDATE atlas_schema_revisions.atlas_schema_revisions SET hash = 'x' WHERE version = '20261127000200'"),
		breaks("RevisionOfAnother", "database.revisions", "atlas migrate status", "INSERT INTO atlas_schema_revisions.atlas_schema_revisions SELECT '20261127000150', description, type, applied, total, executed_at, execution_time, error, error_stmt, hash, partial_hashes, operator_version FROM atlas_schema_revisions.atlas_schema_revisions LIMIT 1"),
		breaks("NoInsert", "database.rights", "roles.sql", "REVOKE INSERT ON chat_messages FROM parley_app"),
		breaks("NoDelete", "database.rights", "roles.sql", "REVOKE DELETE ON chat_runs FROM parley_app"),
		breaks("NoSelect", "database.rights", "roles.sql", "REVOKE SELECT ON audit_chain FROM parley_app"),
		breaks("NoOutcome", "database.rights", "roles.sql", "REVOKE UPDATE (status) ON audit_logs FROM parley_app"),
		breaks("NoErasure", "database.rights", "roles.sql", "REVOKE EXECUTE ON FUNCTION audit_erase(text, bigint) FROM parley_app"),
		breaks("NewTableWithoutRights", "database.rights", "roles.sql", "REVOKE ALL ON chat_switches FROM parley_app"),
		warns("MayDeleteAudit", "audit.role", "roles.sql", "GRANT DELETE ON audit_logs TO parley_app"),
		breaks("AutovacuumOfATable", "database.autovacuum", "RESET (autovacuum_enabled)", "ALTER TABLE chat_runs SET (autovacuum_enabled = false)"),
		breaks("LateSealing", "audit.sealing", "parley serve", "INSERT INTO audit_unsealed (user_id, entry_id, kind, queued_at) VALUES ('ann', 'e1', 'closed', now() - interval '1 hour')"),
		breaks("LateErasure", "audit.erasures", "parley serve", "INSERT INTO audit_erasures VALUES ('bob', 's', now() - interval '5 hours')"),
		breaks("EntryEdited", "audit.chain", "parley audit verify", "SET session_replication_role = replica; UPDATE audit_logs SET action = 'other' WHERE id = 'e1'"),
		breaks("EntryDeleted", "audit.chain", "parley audit verify", "SET session_replication_role = replica; DELETE FROM audit_logs WHERE id = 'e2'"),
		breaks("LinkDeleted", "audit.chain", "parley audit verify", "SET session_replication_role = replica; DELETE FROM audit_chain WHERE seq = 1"),
		warns("ProviderDisabled", "switches.disabled", "parley chat enable --provider openai", "INSERT INTO chat_switches VALUES ('openai', 'r', now())"),
		{name: "TableLocked", turns: "database.turn", state: doctor.Fail, remedy: "locks", do: hold("LOCK TABLE chat_messages IN ACCESS EXCLUSIVE MODE")},
		{name: "Blocked", turns: "database.sessions", state: doctor.Fail, remedy: "pg_terminate_backend", do: func(t *testing.T, w *setUp) []string {
			hold("LOCK TABLE chat_shares IN SHARE UPDATE EXCLUSIVE MODE")(t, w)
			waiter, err := pgx.Connect(t.Context(), w.owner)
			if err != nil {
				t.Fatal(err)
			}
			var pid int
			if err := waiter.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&pid); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = waiter.Exec(ctx, "BEGIN; LOCK TABLE chat_shares IN SHARE UPDATE EXCLUSIVE MODE")
			}()
			t.Cleanup(func() { cancel(); <-done })
			watcher, err := pgx.Connect(t.Context(), w.owner)
			if err != nil {
				t.Fatal(err)
			}
			defer watcher.Close(context.Background())
			eventually(t, "a session that waits", func() bool {
				var waits bool
				return watcher.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND NOT granted)", pid).Scan(&waits) == nil && waits
			})
			return nil
		}},
		breaks("ReadOnly", "database.writable", "primary", "ALTER DATABASE ${name} SET default_transaction_read_only = on"),
		warns("LosesCommits", "database.durability", "synchronous_commit = on", "ALTER DATABASE ${name} SET synchronous_commit = off"),
		breaks("CountsNothing", "database.autovacuum", "track_counts", "ALTER DATABASE ${name} SET track_counts = off"),
		setting("PoliciesOff", "database.row_security", doctor.Fail, "chat_enable_row_security()", "DB_RLS=true"),
		setting("PoolTooLarge", "database.connections", doctor.Fail, "DB_MAX_CONNS", "DB_MAX_CONNS=10000"),
		setting("InstancesWithoutRedis", "limits.instances", doctor.Fail, "REDIS_URL", "INSTANCES=2"),
		setting("InstancesUnknown", "limits.instances", doctor.Warn, "INSTANCES", "INSTANCES=0"),
		setting("DataDirIsAFile", "host.data_dir", doctor.Fail, "DATA_DIR", "DATA_DIR=/etc/hostname"),
		{name: "NoDatabase", turns: "database.connect", state: doctor.Fail, remedy: "DATABASE_URL", env: []string{"DATABASE_URL=" + at("nowhere")}},
		{name: "NoRole", turns: "database.connect", state: doctor.Fail, remedy: "DATABASE_URL", env: []string{"DATABASE_URL=" + strings.Replace(server.URL(), "parley@", "nobody@", 1)}},
		{name: "NoServer", turns: "database.connect", state: doctor.Fail, remedy: "DATABASE_URL", env: []string{"DATABASE_URL=postgres://u@127.0.0.1:1/x"}},
		{name: "DatabaseLimit", turns: "database.connections", state: doctor.Fail, remedy: "CONNECTION LIMIT", sql: "ALTER DATABASE ${name} CONNECTION LIMIT 5"},
	}
	t.Run("Database", func(t *testing.T) {
		for _, s := range list {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				w := set(t)
				if s.sql != "" {
					conn, err := pgx.Connect(t.Context(), w.owner)
					if err != nil {
						t.Fatal(err)
					}
					exec(t, conn, strings.ReplaceAll(s.sql, "${name}", conn.Config().Database))
					conn.Close(t.Context())
				}
				s.judge(t, w, base)
			})
		}
	})
	// These change the whole server, and are undone.
	for _, s := range []struct {
		name, set, reset, turns, remedy string
		state                           doctor.State
	}{
		{"Fsync", "ALTER SYSTEM SET fsync = off", "ALTER SYSTEM RESET fsync", "database.durability", "fsync", doctor.Warn},
		{"FullPageWrites", "ALTER SYSTEM SET full_page_writes = off", "ALTER SYSTEM RESET full_page_writes", "database.durability", "full_page_writes", doctor.Warn},
		{"Autovacuum", "ALTER SYSTEM SET autovacuum = off", "ALTER SYSTEM RESET autovacuum", "database.autovacuum", "autovacuum = on", doctor.Fail},
		{"RoleLimit", "ALTER ROLE parley_app CONNECTION LIMIT 5", "ALTER ROLE parley_app CONNECTION LIMIT -1", "database.connections", "ALTER ROLE", doctor.Fail},
		{"NoLogin", "ALTER ROLE parley_app NOLOGIN", "ALTER ROLE parley_app LOGIN", "database.connect", "LOGIN", doctor.Fail},
	} {
		t.Run(s.name, func(t *testing.T) {
			w := set(t)
			reload := func(statement string) {
				exec(t, admin, statement)
				exec(t, admin, "SELECT pg_reload_conf()")
			}
			reload(s.set)
			defer reload(s.reset)
			if strings.HasPrefix(s.set, "ALTER SYSTEM") {
				name := strings.Fields(s.set)[3]
				eventually(t, name+" is off", func() bool {
					conn, err := pgx.Connect(t.Context(), w.owner)
					if err != nil {
						return false
					}
					defer conn.Close(t.Context())
					var value string
					return conn.QueryRow(t.Context(), "SHOW "+name).Scan(&value) == nil && value == "off"
				})
			}
			sabotage{turns: s.turns, state: s.state, remedy: s.remedy}.judge(t, w, base)
		})
	}
}

// TestDoctor_SabotagedReplica breaks the read replica of a set-up with row-level
// security.
func TestDoctor_SabotagedReplica(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs a server, which go test -short does not start")
	}
	primary := testenv.StartPostgres(t)
	standby := testenv.StartStandby(t, primary)
	exec := func(t *testing.T, url, statement string) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	as := func(role string, server *testenv.Server) string {
		return strings.Replace(strings.Replace(server.URL(), "/postgres?", "/chat?", 1), "parley@", role+"@", 1)
	}
	exec(t, primary.URL(), "CREATE DATABASE chat")
	fill(t, as("parley", primary))
	script, err := os.ReadFile("../../deploy/postgres/roles.sql")
	if err != nil {
		t.Fatal(err)
	}
	exec(t, as("parley", primary), string(script)+"; CREATE ROLE stranger LOGIN; SELECT chat_enable_row_security()")
	w := &setUp{env: []string{"DATA_DIR=" + t.TempDir(), "AUTH_SECRET=" + doctorSecret, "NEXTAUTH_URL=https://app.example", "AI_PROVIDERS=demo",
		"INSTANCES=1", "DB_RLS=true", "DATABASE_REPLICA_MAX_LAG=1s", "DATABASE_URL=" + as("parley_app", primary), "DATABASE_REPLICA_URLS=" + as("parley_app", standby)}}
	var base map[string]doctor.State
	eventually(t, "a standby that has replayed", func() bool {
		report, err := boot.Examine(t.Context(), w.env, "", "", "")
		base, _ = states(report)
		return err == nil && report.Failed() == 0 && base["replicas.rights"] == doctor.OK
	})
	at := func(url string) string { return "DATABASE_REPLICA_URLS=" + url }
	for _, s := range []sabotage{
		setting("Down", "replicas.connect", doctor.Fail, "start the replica", at("postgres://u@127.0.0.1:1/chat")),
		setting("NoRole", "replicas.connect", doctor.Fail, "DATABASE_REPLICA_URLS", at(as("nobody", standby))),
		setting("NoDatabase", "replicas.connect", doctor.Fail, "DATABASE_REPLICA_URLS", at(strings.Replace(as("parley_app", standby), "/chat?", "/none?", 1))),
		setting("PrimaryItself", "replicas.standby", doctor.Fail, "take it out", at(strings.Replace(as("parley_app", primary), "127.0.0.1", "localhost", 1))),
		setting("Twice", "config.variables", doctor.Fail, "docs/configuration.md", at(as("parley_app", standby)+","+as("parley", standby))),
		setting("AnotherCluster", "replicas.standby", doctor.Fail, "ChatReplicaUnused", at(testenv.Postgres(t))),
		setting("EvadesPolicies", "replicas.standby", doctor.Fail, "with its role", at(as("parley", standby))),
		setting("AnotherDatabase", "replicas.schema", doctor.Fail, "the database of DATABASE_URL", "DB_RLS=false", at(standby.URL())),
		setting("MayNotRead", "replicas.rights", doctor.Fail, "role of DATABASE_URL", at(as("stranger", standby))),
		{name: "Paused", turns: "replicas.lag", state: doctor.Fail, remedy: "pg_wal_replay_resume", do: func(t *testing.T, _ *setUp) []string {
			exec(t, standby.URL(), "SELECT pg_wal_replay_pause()")
			t.Cleanup(func() {
				conn, err := pgx.Connect(context.Background(), standby.URL())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close(context.Background())
				if _, err := conn.Exec(context.Background(), "SELECT pg_wal_replay_resume()"); err != nil {
					t.Error(err)
				}
			})
			exec(t, as("parley", primary), "CREATE TABLE elsewhere (n int); DROP TABLE elsewhere")
			return nil
		}},
		{name: "Promoted", turns: "replicas.standby", state: doctor.Fail, remedy: "standbys", do: func(t *testing.T, _ *setUp) []string {
			exec(t, standby.URL(), "SELECT pg_promote()")
			return nil
		}},
	} {
		t.Run(s.name, func(t *testing.T) { s.judge(t, w, base) })
	}
}

// TestDoctor_SabotagedPartitions breaks single partitions of a set-up whose tables
// deploy/scale/partition.sql has divided.
func TestDoctor_SabotagedPartitions(t *testing.T) {
	t.Parallel()
	set := func(t *testing.T) *setUp {
		t.Helper()
		url := testdb.Partitioned(t)
		fill(t, url)
		return &setUp{owner: url, env: []string{
			"DATA_DIR=" + t.TempDir(), "AUTH_SECRET=" + doctorSecret, "NEXTAUTH_URL=https://app.example", "AI_PROVIDERS=demo", "INSTANCES=1", "DATABASE_URL=" + url,
		}}
	}
	base := baseline(t, set(t))
	for _, s := range []sabotage{
		breaks("PartitionDetached", "schema.tables", "ATTACH PARTITION", "ALTER TABLE audit_logs DETACH PARTITION public_partitions.audit_logs_4_3"),
		breaks("PartitionNotLogged", "schema.tables", "ALTER TABLE public_partitions.chat_runs_4_0 SET LOGGED", "ALTER TABLE public_partitions.chat_runs_4_0 SET UNLOGGED"),
		breaks("PartitionTriggerDisabled", "schema.triggers", "ALTER TABLE public_partitions.audit_logs_4_2 ENABLE TRIGGER audit_logs_delete", "ALTER TABLE public_partitions.audit_logs_4_2 DISABLE TRIGGER audit_logs_delete"),
		breaks("PartitionTriggerDropped", "schema.triggers", "CREATE TRIGGER audit_logs_truncate BEFORE TRUNCATE ON public_partitions.audit_logs_4_2", "DROP TRIGGER audit_logs_truncate ON public_partitions.audit_logs_4_2"),
		breaks("PartitionWithoutIndex", "schema.indexes", "ALTER INDEX chat_messages_user_idx ATTACH PARTITION", "DROP INDEX chat_messages_user_idx; CREATE INDEX chat_messages_user_idx ON ONLY chat_messages (user_id, created_at)"),
		breaks("PartitionDefault", "schema.columns", "alter public_partitions.chat_runs_4_1.attempt", "ALTER TABLE public_partitions.chat_runs_4_1 ALTER attempt DROP DEFAULT"),
		breaks("PartitionCheckExtra", "schema.constraints", "ALTER TABLE public_partitions.chat_messages_4_0 DROP CONSTRAINT mine", "ALTER TABLE public_partitions.chat_messages_4_0 ADD CONSTRAINT mine CHECK (length(content) > 5)"),
		warns("PartitionIndexExtra", "schema.indexes", "DROP", "CREATE INDEX mine ON public_partitions.chat_messages_4_0 (created_at)"),
	} {
		t.Run(s.name, func(t *testing.T) {
			w := set(t)
			testdb.Execute(t, w.owner, s.sql)
			s.judge(t, w, base)
		})
	}
	t.Run("MoveBegun", func(t *testing.T) {
		w := set(t)
		if out, err := testdb.Partition(t, w.owner, "partitions=2", "stop=verified").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		report, _ := boot.Examine(t.Context(), w.env, "", "", "")
		now, remedies := states(report)
		for _, id := range []string{"schema.triggers", "schema.constraints"} {
			if now[id] != doctor.Warn || !strings.Contains(remedies[id], "abandon") {
				t.Errorf("%s: %v, %s", id, now[id], remedies[id])
			}
		}
		if report.HasFailed("schema.") {
			t.Errorf("%s", describe(report))
		}
	})
}

// TestDoctor_SabotagedRedis breaks the Redis of a set-up.
func TestDoctor_SabotagedRedis(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs a server, which go test -short does not start")
	}
	server := testenv.StartRedis(t)
	options, err := redis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { client.Close() })
	do := func(t *testing.T, command string) {
		t.Helper()
		if command == "" {
			return
		}
		var args []any
		for _, word := range strings.Fields(command) {
			args = append(args, word)
		}
		if err := client.Do(t.Context(), args...).Err(); err != nil {
			t.Fatalf("%s: %v", command, err)
		}
	}
	w := &setUp{env: []string{"DATA_DIR=" + t.TempDir(), "AUTH_SECRET=" + doctorSecret, "NEXTAUTH_URL=https://app.example", "AI_PROVIDERS=demo",
		"INSTANCES=1", "REDIS_URL=" + server.URL()}}
	base := baseline(t, w)
	for _, s := range []struct {
		name, set, reset string
		turns, remedy    string
		url              string
	}{
		{name: "Down", url: "redis://127.0.0.1:1", turns: "redis.connect", remedy: "start Redis"},
		{name: "NoPassword", set: "CONFIG SET requirepass secret", reset: "CONFIG SET requirepass ", turns: "redis.connect", remedy: "password"},
		{name: "Replica", set: "REPLICAOF 127.0.0.1 1", reset: "REPLICAOF NO ONE", turns: "redis.role", remedy: "primary"},
		{name: "MayNotWrite", set: "ACL SETUSER reader on >pw ~* &* +@read +ping +info +time +hello +client", url: strings.Replace(server.URL(), "redis://", "redis://reader:pw@", 1), turns: "redis.role", remedy: "permit all commands"},
		{name: "Evicts", set: "CONFIG SET maxmemory 100mb maxmemory-policy allkeys-lru", reset: "CONFIG SET maxmemory 0 maxmemory-policy noeviction", turns: "redis.eviction", remedy: "volatile-ttl"},
		{name: "Full", set: "CONFIG SET maxmemory 1kb", reset: "CONFIG SET maxmemory 0", turns: "redis.memory", remedy: "maxmemory"},
	} {
		t.Run(s.name, func(t *testing.T) {
			do(t, s.set)
			if s.reset != "" {
				defer func() {
					if s.name == "NoPassword" {
						_ = client.Do(context.Background(), "AUTH", "secret").Err()
						_ = client.Do(context.Background(), "CONFIG", "SET", "requirepass", "").Err()
						return
					}
					do(t, s.reset)
				}()
			}
			var env []string
			if s.url != "" {
				env = []string{"REDIS_URL=" + s.url}
			}
			sabotage{env: env, turns: s.turns, state: doctor.Fail, remedy: s.remedy}.judge(t, w, base)
		})
	}
}

// TestDoctor_SabotagedProxy puts proxies before an instance that buffer, compress or
// cut its streams.
func TestDoctor_SabotagedProxy(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a process of the program")
	}
	env := []string{"DATA_DIR=" + dataDir(t), "AUTH_SECRET=" + doctorSecret, "NEXTAUTH_URL=https://app.example", "AI_PROVIDERS=demo"}
	i := start(t, env...)
	w := &setUp{env: append(env, "ADMIN_ADDR="+strings.TrimPrefix(i.admin, "http://"))}
	target, err := url.Parse(i.url)
	if err != nil {
		t.Fatal(err)
	}
	report, err := boot.Examine(t.Context(), w.env, i.url, "", "")
	base, _ := states(report)
	if err != nil || report.Failed() > 0 {
		t.Fatalf("%v\n%s", err, describe(report))
	}
	for name, c := range map[string]struct {
		remedy string
		pass   func(w http.ResponseWriter, resp *http.Response)
	}{
		"Buffers": {"proxy_buffering off", func(w http.ResponseWriter, resp *http.Response) {
			all, _ := io.ReadAll(resp.Body)
			_, _ = w.Write(all)
		}},
		"Compresses": {"compression off", func(w http.ResponseWriter, resp *http.Response) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.Copy(z, resp.Body)
			z.Close()
		}},
		"Cuts": {"timeouts", func(w http.ResponseWriter, resp *http.Response) {
			_, _ = io.CopyN(w, resp.Body, 300)
		}},
		"Aborts": {"timeouts", func(w http.ResponseWriter, resp *http.Response) {
			_, _ = io.CopyN(w, resp.Body, 300)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direct := httputil.NewSingleHostReverseProxy(target)
			direct.FlushInterval = -1
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/api/chat/stream" {
					direct.ServeHTTP(w, r)
					return
				}
				out := r.Clone(r.Context())
				out.URL.Scheme, out.URL.Host, out.RequestURI = target.Scheme, target.Host, ""
				resp, err := http.DefaultTransport.RoundTrip(out)
				if err != nil {
					w.WriteHeader(http.StatusBadGateway)
					return
				}
				defer resp.Body.Close()
				w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
				c.pass(w, resp)
			}))
			t.Cleanup(proxy.Close)
			sabotage{url: proxy.URL, turns: "api.transport", state: doctor.Fail, remedy: c.remedy}.judge(t, w, base)
		})
	}
}
