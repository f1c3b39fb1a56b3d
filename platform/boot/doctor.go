package boot

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"parley/adapters/providers"
	"parley/adapters/redis"
	"parley/adapters/sqlstore"
	"parley/domain/chat"
	"parley/platform/config"
	"parley/ports"
)

type doctorCommand struct {
	URL string `placeholder:"URL" help:"Send requests to the API at this address, as a test user, and check the responses."`
	Ask bool   `help:"Ask every configured model one short question. This costs a little."`
}

// Run prints one line for each check. It returns an error if a check failed.
func (d doctorCommand) Run(ctx context.Context, p Process) error {
	c, err := p.config()
	if err != nil {
		return err
	}
	r := &report{out: p.Stdout}
	r.ok("configuration", "every variable is valid")
	for _, sentence := range c.Warnings() {
		r.warn("configuration", "%s", sentence)
	}
	r.callers(c)
	r.sessions(ctx, c)
	r.listeners(c)
	r.database(ctx, c)
	r.files(ctx, c)
	r.sharing(ctx, c)
	r.models(ctx, c, d.Ask)
	r.limits(c)
	r.watching(p, c)
	if d.URL != "" {
		r.live(ctx, d.URL, c)
	}
	if r.failed > 0 {
		return fmt.Errorf("checks failed: %d", r.failed)
	}
	return nil
}

// report prints findings as they are made.
type report struct {
	out    io.Writer
	failed int
}

func (r *report) line(mark, what, format string, args ...any) {
	fmt.Fprintf(r.out, "%-5s %-14s %s\n", mark, what, fmt.Sprintf(format, args...))
}

func (r *report) ok(what, format string, args ...any)   { r.line("ok", what, format, args...) }
func (r *report) warn(what, format string, args ...any) { r.line("warn", what, format, args...) }
func (r *report) fail(what, format string, args ...any) {
	r.failed++
	r.line("FAIL", what, format, args...)
}

func (r *report) callers(c config.Config) {
	if c.Development() {
		r.warn("sessions", "AUTH_SECRET is not set: development mode, for this machine only")
		if err := requireSecretForPublicBind(c); err != nil {
			r.fail("sessions", "%v", err)
		}
	} else {
		r.ok("sessions", "%d secret(s)", len(c.Auth.AuthSecret))
		for _, err := range weakSecrets(c) {
			r.fail("secrets", "%v", err)
		}
	}
	if origins := c.Origins(); len(origins) > 0 {
		r.ok("origins", "%s", strings.Join(origins, ", "))
	} else {
		r.warn("origins", "neither NEXTAUTH_URL nor ALLOWED_ORIGINS is set: browsers can only write from the API's own origin")
	}
}

// recommendedFiles is a limit of open files that serves some thousands of streams.
const recommendedFiles = 4096

// sessions looks a session up in the database of the app.
func (r *report) sessions(ctx context.Context, c config.Config) {
	if c.Auth.SessionStrategy != "database" {
		return
	}
	sessions, err := openSessions(c)
	if err == nil {
		defer sessions.Close()
		_, err = checkSessions(ctx, sessions)
	}
	if err != nil {
		r.fail("session table", "%v", err)
		return
	}
	r.ok("session table", "%s can be read", c.Auth.SessionTable)
}

func (r *report) listeners(c config.Config) {
	if limit := openFilesLimit(); limit < recommendedFiles {
		r.warn("open files", "the limit of %d serves %d connections at once; raise it (ulimit -n 65536, or LimitNOFILE=65536)",
			limit, maxConnections(c, limit))
	} else {
		r.ok("open files", "the limit of %d serves %d connections at once", limit, maxConnections(c, limit))
	}
	if loopback(c.Server.AdminAddr) {
		r.ok("admin", "%s, this machine only", c.Server.AdminAddr)
	} else {
		r.warn("admin", "%s shows metrics and profiles: it must be reachable from your own network only", c.Server.AdminAddr)
	}
}

func (r *report) database(ctx context.Context, c config.Config) {
	if !c.Store.DatabaseURL.Set() {
		if _, err := os.Stat(filepath.Join(c.Store.DataDir, "parley.db")); err != nil {
			r.ok("database", "SQLite; serve will create it in %s", c.Store.DataDir)
			return
		}
	}
	store, err := openStore(ctx, c)
	if err != nil {
		r.fail("database", "%v", err)
		return
	}
	defer store.Close()
	begun := time.Now()
	if err := store.Ping(ctx); err != nil {
		r.fail("database", "%v", explainDatabase("DATABASE_URL", err))
		return
	}
	r.ok("database", "%s answers in %s", store.Dialect(), time.Since(begun).Round(100*time.Microsecond))
	status, err := store.MigrationStatus(ctx)
	switch {
	case err != nil:
		r.fail("migrations", "%v", explainDatabase("DATABASE_URL", err))
		return
	case len(status.Pending) > 0:
		r.fail("migrations", "%d pending; run: parley migrate up", len(status.Pending))
		return
	case status.Ahead:
		r.warn("migrations", "the database has been migrated by a newer release")
	default:
		r.ok("migrations", "up to date at %s", status.Current)
	}
	switch err := store.CheckWritable(ctx); {
	case err == nil:
		r.ok("writable", "the database accepts writes")
	case errors.Is(err, sqlstore.ErrDiskFull):
		r.fail("writable", "disk full: make room where the database keeps its files")
	case errors.Is(err, sqlstore.ErrReadOnly):
		r.fail("writable", "read-only: the server is a standby, or default_transaction_read_only is set; let DATABASE_URL name the primary")
	default:
		r.fail("writable", "%v", explainDatabase("DATABASE_URL", err))
	}
	r.switches(ctx, store)
	r.audit(ctx, c, store)
	r.webhooks(ctx, c, store)
	if store.Dialect() == "postgres" {
		r.postgres(ctx, c, store)
	}
}

// switches checks that nothing is disabled.
func (r *report) switches(ctx context.Context, store *sqlstore.Store) {
	list, err := store.Disabled(ctx)
	if err != nil {
		r.fail("kill switch", "%v", explainDatabase("DATABASE_URL", err))
		return
	}
	for _, d := range list {
		r.warn("kill switch", "%s has been disabled since %s (%s); enable it with: %s", switchName(d.Provider),
			d.Since.UTC().Format(time.RFC3339), d.Reason, enableCommand(d.Provider))
	}
}

// webhooks checks that events are accepted in time.
func (r *report) webhooks(ctx context.Context, c config.Config, store *sqlstore.Store) {
	if !c.Webhooks.WebhookURL.Set() {
		return
	}
	q, err := store.EventQueue(ctx)
	switch {
	case err != nil:
		r.fail("webhooks", "%v", explainDatabase("DATABASE_URL", err))
	case q.Oldest > 15*time.Minute:
		r.fail("webhooks", "%d events wait, the oldest for %s; see: parley webhook list --state pending", q.Pending, q.Oldest.Round(time.Second))
	case q.Dead > 0:
		r.warn("webhooks", "%d events were given up; see: parley webhook list --state dead", q.Dead)
	default:
		r.ok("webhooks", "%d events wait, none was given up", q.Pending)
	}
}

// audit checks that entries are sealed and erasures finished in time.
func (r *report) audit(ctx context.Context, c config.Config, store *sqlstore.Store) {
	lag, _, err := store.Unsealed(ctx)
	if err == nil {
		r.verdict(lag < time.Minute, "audit chain", "sealed to the last minute")
	} else {
		r.fail("audit chain", "%v", err)
	}
	users, err := store.Erasures(ctx, time.Hour)
	if err == nil {
		r.verdict(len(users) == 0, "erasures", "finished within an hour")
	} else {
		r.fail("erasures", "%v", err)
	}
	if !c.Store.AuditHeads.Set() {
		r.warn("audit heads", "AUDIT_HEADS is not set: if the end of the audit log were cut off, that could not be detected")
	}
}

// watching checks that errors and traces are exported.
func (r *report) watching(p Process, c config.Config) {
	if c.Operations.SentryDSN.Set() {
		r.ok("error tracking", "SENTRY_DSN is set")
	} else {
		r.warn("error tracking", "SENTRY_DSN is not set: panics and failures are in the log and in metrics only")
	}
	if p.getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || p.getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "" {
		r.ok("tracing", "traces are exported")
	} else {
		r.warn("tracing", "OTEL_EXPORTER_OTLP_ENDPOINT is not set: there are no traces")
	}
}

// postgres checks version, schema, limits and durability of the server.
func (r *report) postgres(ctx context.Context, c config.Config, store *sqlstore.Store) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ask := func(query string) (n int64, ok bool) {
		if err := store.DB().QueryRowContext(ctx, query).Scan(&n); err != nil && !errors.Is(err, sql.ErrNoRows) {
			r.fail("database", "%v", err)
			return 0, false
		}
		return n, true
	}
	if others := store.OverriddenSettings(); len(others) > 0 {
		r.ok("settings", "database or role have other defaults for %s; Parley sets its own", strings.Join(others, ", "))
	}
	if n, ok := ask("SELECT current_setting('server_version_num')::bigint"); ok {
		r.verdict(n >= 120000, "version", "PostgreSQL %d", n/10000)
	}
	if n, ok := ask(`SELECT count(DISTINCT tablename) FROM pg_indexes WHERE tablename IN ('chat_conversations', 'chat_messages')
		AND indexdef NOT LIKE '%UNIQUE%'`); ok {
		r.verdict(n == 2, "indexes", "on chat_conversations and chat_messages")
	}
	if n, ok := ask(`SELECT count(DISTINCT table_name) FROM information_schema.table_constraints
		WHERE constraint_type = 'FOREIGN KEY' AND table_name IN ('chat_conversations', 'chat_messages')`); ok {
		r.verdict(n == 2, "foreign keys", "on chat_conversations and chat_messages")
	}
	if n, ok := ask("SELECT current_setting('max_connections')::bigint"); ok {
		if most := int64(c.Store.DBMaxConns * max(c.Limits.Instances, 1)); most < n {
			r.ok("connections", "%d for each instance, of %d that the server has", c.Store.DBMaxConns, n)
		} else {
			r.fail("connections", "DB_MAX_CONNS=%d on %d instance(s) is more than the server's %d", c.Store.DBMaxConns, max(c.Limits.Instances, 1), n)
		}
	}
	if n, ok := ask("SELECT (current_setting('synchronous_commit') = 'off' OR current_setting('fsync') = 'off')::int"); ok && n == 1 {
		r.warn("durability", "fsync or synchronous_commit is off: a crash of the server loses messages that were acknowledged")
	}
	if n, ok := ask("SELECT count(*) FROM pg_extension WHERE extname = 'pg_stat_statements'"); ok && n == 0 {
		r.warn("slow queries", "pg_stat_statements is not installed: slow queries cannot be listed")
	}
	if n, ok := ask("SELECT (has_table_privilege('audit_logs', 'DELETE') OR has_table_privilege('audit_logs', 'TRUNCATE'))::int"); ok && n == 1 {
		r.warn("role", "this role could delete entries of the audit log, were it not for triggers that it may drop; deploy/postgres/roles.sql makes one that cannot")
	}
	failed, _ := ask(`SELECT count(*) FROM audit_logs WHERE action LIKE 'chat.%' AND status = 'failure' AND created_at > now() - interval '24 hours'`)
	if n, ok := ask(`SELECT count(*) FROM audit_logs WHERE action LIKE 'chat.%' AND created_at > now() - interval '24 hours'`); ok {
		r.ok("audit", "%d actions in 24 hours, %d of them failed", n, failed)
	}
}

// files checks that the store of files can be used. A directory is created by serve.
func (r *report) files(ctx context.Context, c config.Config) {
	if !c.Store.BlobURL.Set() {
		r.ok("files", "in %s; back it up with the database", filepath.Join(c.Store.DataDir, "files"))
		return
	}
	bucket, err := openBlobs(ctx, c)
	if err == nil {
		defer bucket.Close()
		err = bucket.Check(ctx)
	}
	if err != nil {
		r.fail("files", "%v", err)
		return
	}
	r.ok("files", "the bucket can be reached")
}

func (r *report) verdict(good bool, what, format string, args ...any) {
	if good {
		r.ok(what, format, args...)
	} else {
		r.fail(what, "not "+format, args...)
	}
}

func (r *report) sharing(ctx context.Context, c config.Config) {
	if !c.Store.RedisURL.Set() {
		r.warn("redis", "REDIS_URL is not set: run one instance only, since each would limit by itself")
		return
	}
	client, err := redis.Open(c.Store.RedisURL.Reveal(), redis.Options{})
	if err != nil {
		r.fail("redis", "%v", err)
		return
	}
	defer client.Close()
	if err := client.Ping(ctx); err != nil {
		r.fail("redis", "%v", err)
		return
	}
	r.ok("redis", "answers")
	if c.Limits.Instances == 0 {
		r.warn("instances", "INSTANCES is not set: if Redis fails soon after a start, limits are shared among 8 assumed instances")
	}
}

func (r *report) models(ctx context.Context, c config.Config, ask bool) {
	given := modelConfig(c)
	given.CacheTTL = 0 // the providers must answer
	router, err := providers.New(given)
	if err != nil {
		r.fail("ai", "%v", err)
		return
	}
	defer router.Close()
	failed := router.Check(ctx)
	if _, budgets, err := tiers(c); err == nil {
		for _, name := range unpriced(router, budgets) {
			r.fail("ai", "%s has no price, so users with a budget in US dollars cannot use it; add it to PRICES_FILE", name)
		}
	}
	for _, m := range router.Models() {
		name := strings.TrimSuffix(m.Provider+"/"+m.Model, "/")
		switch {
		case m.Problem != "":
			r.fail("ai", "%s: %s", name, m.Detail)
		case failed[m.Provider] != nil && !ask:
			r.fail("ai", "%s cannot be asked for its models: %v", name, failed[m.Provider])
		case m.Demo && len(c.AI.AIProviders) == 0:
			r.warn("ai", "no provider is configured: the demo provider answers, which is not AI")
		case !ask || m.Demo:
			r.ok("ai", "%s", name)
		default:
			r.question(ctx, router, m)
		}
	}
}

func (r *report) question(ctx context.Context, router *providers.Router, m ports.ModelInfo) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	begun := time.Now()
	answer, err := router.Generate(ctx, ports.Prompt{
		UserID: "doctor", RunID: newID(),
		Params:   chat.Params{Provider: m.Provider, Model: m.Model, MaxTokens: 256},
		Messages: []ports.PromptMessage{ports.PromptText(chat.User, "Answer with the word yes.")},
	}, func(chat.Delta) {})
	if err != nil {
		detail := err.Error()
		for _, now := range router.Models() {
			if now.Provider == m.Provider && now.Model == m.Model && now.Problem != "" {
				detail = now.Detail
			}
		}
		r.fail("ai", "%s/%s: %s", m.Provider, m.Model, detail)
		return
	}
	price := "price unknown"
	if answer.CostMicros != nil {
		price = fmt.Sprintf("$%.6f", float64(*answer.CostMicros)/1e6)
	}
	r.ok("ai", "%s/%s answered in %s (%s)", m.Provider, m.Model, time.Since(begun).Round(time.Millisecond), price)
}

func (r *report) limits(c config.Config) {
	limits, _, err := tiers(c)
	if err != nil {
		r.fail("limits", "%v", err)
		return
	}
	r.ok("limits", "%d messages a minute for a signed-in user", limits.Of("authenticated"))
	if c.Limits.ChatDisabled {
		r.warn("kill switch", "CHAT_DISABLED is set: every chat route answers 503")
	}
}
