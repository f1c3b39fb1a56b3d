package boot

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"parley/adapters/observe"
	"parley/adapters/providers"
	"parley/adapters/redis"
	"parley/adapters/sqlstore"
	appaudit "parley/app/audit"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/platform/config"
	"parley/platform/doctor"
	"parley/ports"
)

type doctorCommand struct {
	URL        string `placeholder:"URL" help:"Send requests to the API at this address, as a test user, and check the responses and how streams arrive."`
	Ask        bool   `help:"Ask every configured model one short question. This costs a little."`
	Prometheus string `placeholder:"URL" help:"Check that this Prometheus has loaded the alerts and scrapes the instances."`
	Backups    string `placeholder:"DIR" help:"Check the age of the newest file in this directory of backups."`
	JSON       bool   `name:"json" help:"Print one JSON document instead of lines."`
}

// Run prints one line for each check. The exit code is 0 if none failed, 1 if one
// did, 2 if the configuration cannot be read.
func (d doctorCommand) Run(ctx context.Context, p Process) error {
	text := p.Stdout
	if d.JSON {
		text = nil
	}
	report, err := d.examine(ctx, p, text)
	if d.JSON {
		if failed := report.JSON(p.Stdout); failed != nil {
			return failed
		}
	}
	if n := report.Failed(); n > 0 && err == nil {
		err = fmt.Errorf("checks failed: %d", n)
	}
	return err
}

// examine runs all checks. The error is one of the configuration.
func (d doctorCommand) examine(ctx context.Context, p Process, text io.Writer) (*doctor.Report, error) {
	r := &examination{Report: doctor.NewReport(text)}
	c, err := p.config()
	if err != nil {
		r.Fail("config.variables", "correct them; docs/configuration.md has every setting", "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
		return r.Report, err
	}
	r.config(p, c)
	r.callers(c)
	r.authSessions(ctx, c)
	r.oidc(ctx, c)
	r.limits(c)
	r.instances(c)
	r.host(c)
	r.database(ctx, c)
	r.webhookSetup(c)
	r.files(ctx, c)
	if c.Store.RedisURL.Set() {
		r.redis(ctx, c)
	}
	r.models(ctx, c, d.Ask)
	r.operations(ctx, p, c)
	if d.Backups != "" {
		r.backups(d.Backups)
	}
	if d.Prometheus != "" {
		r.Prometheus(ctx, d.Prometheus, doctor.Alerts())
	}
	if d.URL != "" {
		r.live(ctx, d.URL, c)
	}
	return r.Report, nil
}

// examination adds the checks that need what serve is wired from.
type examination struct{ *doctor.Report }

// reportError reports an error of a set-up. Many name their remedy behind a
// semicolon.
func (r *examination) reportError(id, remedy string, err error) {
	fact := strings.ReplaceAll(err.Error(), "\n", "; ")
	if what, fix, ok := strings.Cut(fact, "; "); ok && remedy == "" {
		fact, remedy = what, fix
	}
	r.Fail(id, remedy, "%s", fact)
}

func (r *examination) config(p Process, c config.Config) {
	var settings []string
	for _, v := range config.Variables() {
		settings = append(settings, v.Name)
	}
	misspelt := doctor.Misspelt(p.Env, settings)
	if len(misspelt) == 0 {
		r.OK("config.variables", "every variable is valid")
	} else {
		var names []string
		for _, name := range slices.Sorted(maps.Keys(misspelt)) {
			names = append(names, name+" (did you mean "+misspelt[name]+"?)")
		}
		r.Warn("config.variables", "rename or remove it", "no setting is called %s", strings.Join(names, ", "))
	}
	if warnings := c.Warnings(); len(warnings) > 0 {
		r.Warn("config.advice", "change the parameters of the URL", "%s", strings.Join(warnings, "; "))
	}
}

func (r *examination) callers(c config.Config) {
	weak := weakSecrets(c)
	_, statErr := os.Stat(secretFile(c.Store.DataDir))
	switch exposed := requireSecretForPublicBind(c); {
	case exposed != nil:
		r.Fail("auth.secrets", "set AUTH_SECRET to: "+makeSecretCommand, "%v", exposed)
	case c.Development() && statErr == nil && readable(c) != nil:
		r.reportError("auth.secrets", "", readable(c))
	case c.Development():
		r.Warn("auth.secrets", "set AUTH_SECRET to: "+makeSecretCommand, "AUTH_SECRET is not set: development mode, for this machine only")
	case len(weak) > 0:
		r.reportError("auth.secrets", "", errors.Join(weak...))
	default:
		r.OK("auth.secrets", "%d secret(s)", len(c.Auth.AuthSecret))
	}
	if origins := c.Origins(); len(origins) > 0 {
		r.OK("auth.origins", "%s", strings.Join(origins, ", "))
	} else {
		r.Warn("auth.origins", "set NEXTAUTH_URL or ALLOWED_ORIGINS to your app's origin", "neither is set: browsers can only write from the API's own origin")
	}
}

// readable returns why the development secret cannot be read.
func readable(c config.Config) error {
	_, err := readSecret(secretFile(c.Store.DataDir))
	return err
}

// authSessions looks a session up in the database of the app.
func (r *examination) authSessions(ctx context.Context, c config.Config) {
	if c.Auth.SessionStrategy != "database" {
		return
	}
	sessions, err := openSessions(c)
	if err == nil {
		defer sessions.Close()
		_, err = checkSessions(ctx, sessions)
	}
	if err != nil {
		r.reportError("auth.sessions", "", errors.Join(err))
		return
	}
	r.OK("auth.sessions", "%s can be read", c.Auth.SessionTable)
}

// oidc asks the OpenID provider who it is.
func (r *examination) oidc(ctx context.Context, c config.Config) {
	if c.Auth.OIDCIssuer == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	const remedy = "set OIDC_ISSUER to the issuer that the provider's discovery document names"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.Auth.OIDCIssuer, "/")+"/.well-known/openid-configuration", nil)
	if err != nil {
		r.Fail("auth.oidc", remedy, "OIDC_ISSUER is not a URL")
		return
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fail("auth.oidc", "start the OpenID provider, or correct OIDC_ISSUER", "%s does not answer", req.URL.Host)
		return
	}
	defer resp.Body.Close()
	var document struct{ Issuer string }
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&document)
	switch {
	case resp.StatusCode != http.StatusOK || err != nil:
		r.Fail("auth.oidc", remedy, "no discovery document (status %d)", resp.StatusCode)
	case document.Issuer != c.Auth.OIDCIssuer:
		r.Fail("auth.oidc", remedy, "the provider calls itself %s", document.Issuer)
	default:
		r.OK("auth.oidc", "%s answers", req.URL.Host)
	}
}

func (r *examination) limits(c config.Config) {
	limits, _, err := tiers(c)
	if err != nil {
		r.Fail("limits.tiers", "correct the file that TIERS_FILE names (docs/limits.md)", "%v", err)
		return
	}
	if c.Limits.ChatDisabled {
		r.Warn("switches.disabled", "unset CHAT_DISABLED, and restart", "CHAT_DISABLED is set: every chat route answers 503")
	}
	r.OK("limits.tiers", "%d messages a minute for a signed-in user", limits.Of("authenticated"))
}

func (r *examination) instances(c config.Config) {
	shared := c.Store.RedisURL.Set()
	switch n := c.Limits.Instances; {
	case n > 1 && !c.Store.DatabaseURL.Set():
		r.Fail("limits.instances", "set DATABASE_URL to a PostgreSQL", "INSTANCES=%d, but the embedded database serves one instance", n)
	case n > 1 && !shared:
		r.Fail("limits.instances", "set REDIS_URL", "INSTANCES=%d without Redis: each instance would limit by itself", n)
	case shared && n == 0:
		r.Warn("limits.instances", "set INSTANCES to their number", "INSTANCES is not set: if Redis fails soon after a start, limits are shared among 8 assumed instances")
	case shared:
		r.OK("limits.instances", "%d, which share limits in Redis", n)
	case n == 1 || !c.Store.DatabaseURL.Set():
		r.OK("limits.instances", "one, which needs no Redis")
	default:
		r.Warn("limits.instances", "set REDIS_URL, or INSTANCES=1 if there is one", "REDIS_URL is not set: run one instance only, since each would limit by itself")
	}
}

// recommendedFiles is a limit of open files that serves some thousands of streams.
const recommendedFiles = 4096

// Below these the disk of DATA_DIR is full soon.
const (
	minFreeBytes = 512 << 20
	minFreeShare = 20 // a twentieth
)

func (r *examination) host(c config.Config) {
	if limit := openFilesLimit(); limit < recommendedFiles {
		r.Warn("host.open_files", "run: ulimit -n 65536 (LimitNOFILE=65536 in systemd)", "the limit of %d serves %d connections at once", limit, maxConnections(c, limit))
	} else {
		r.OK("host.open_files", "the limit of %d serves %d connections at once", limit, maxConnections(c, limit))
	}
	if loopback(c.Server.AdminAddr) {
		r.OK("host.admin", "%s, this machine only", c.Server.AdminAddr)
	} else {
		r.Warn("host.admin", "set ADMIN_ADDR to 127.0.0.1:9464, or let a firewall keep others from it", "%s shows metrics and profiles: it must be reachable from your own network only", c.Server.AdminAddr)
	}
	switch info, err := os.Stat(c.Store.DataDir); {
	case errors.Is(err, os.ErrNotExist):
		r.OK("host.data_dir", "serve will create %s", c.Store.DataDir)
	case err != nil || !info.IsDir():
		r.Fail("host.data_dir", "set DATA_DIR to a directory", "%s is not a directory", c.Store.DataDir)
	default:
		f, err := os.CreateTemp(c.Store.DataDir, ".parley-doctor-*")
		if err != nil {
			r.Fail("host.data_dir", "run: chown -R to the user of Parley, or set DATA_DIR", "%s cannot be written", c.Store.DataDir)
			break
		}
		f.Close()
		os.Remove(f.Name())
		r.OK("host.data_dir", "%s can be written", c.Store.DataDir)
	}
	free, size, err := diskOf(c.Store.DataDir)()
	switch {
	case err != nil || size == 0:
		r.Warn("host.disk", "check DATA_DIR", "the file system of %s cannot be measured", c.Store.DataDir)
	case free < minFreeBytes && free < size/minFreeShare:
		r.Fail("host.disk", "make room on the disk of DATA_DIR", "%d of %d MiB are free", free>>20, size>>20)
	default:
		r.OK("host.disk", "%d of %d MiB are free", free>>20, size>>20)
	}
}

// webhookSetup checks the settings that serve would refuse.
func (r *examination) webhookSetup(c config.Config) {
	if _, err := newWebhooks(c, nil, ports.NopObserver{}); err != nil {
		r.reportError("webhooks.queue", "correct WEBHOOK_URL and WEBHOOK_SECRET (docs/webhooks.md)", err)
	}
}

// files checks that the store of files can be used. A directory is created by serve.
func (r *examination) files(ctx context.Context, c config.Config) {
	if !c.Store.BlobURL.Set() {
		r.OK("files.store", "in %s; back it up with the database", filepath.Join(c.Store.DataDir, "files"))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	bucket, err := openBlobs(ctx, c)
	if err == nil {
		defer bucket.Close()
		err = bucket.Check(ctx)
	}
	if err != nil {
		r.Fail("files.store", "correct BLOB_URL, or the rights of its credentials (docs/files.md)", "%s", strings.ReplaceAll(err.Error(), "\n", ": "))
		return
	}
	r.OK("files.store", "the bucket can be reached")
}

func (r *examination) redis(ctx context.Context, c config.Config) {
	client, err := redis.Open(c.Store.RedisURL.Reveal(), redis.Options{}) // as serve does
	if err != nil {
		r.Fail("redis.connect", "set REDIS_URL to a URL such as redis://host:6379/0", "%v", err)
		return
	}
	_ = client.Close()
	r.Redis(ctx, c.Store.RedisURL.Reveal())
}

func (r *examination) models(ctx context.Context, c config.Config, ask bool) {
	given := modelConfig(c)
	given.CacheTTL = 0 // the providers must answer
	router, err := providers.New(given)
	if err != nil {
		r.Fail("ai.providers", "correct AI_PROVIDERS and the settings of the provider (docs/providers.md)", "%v", err)
		return
	}
	defer router.Close()
	failed := router.Check(ctx)
	if _, budgets, err := tiers(c); err == nil {
		if names := unpriced(router, budgets); len(names) > 0 {
			r.Fail("ai.prices", "add them to the file that PRICES_FILE names", "no price, so users with a budget in US dollars cannot use them: %s", strings.Join(names, ", "))
		} else {
			r.OK("ai.prices", "known where they are needed")
		}
	}
	for _, m := range router.Models() {
		name := strings.TrimSuffix(m.Provider+"/"+m.Model, "/")
		switch {
		case m.Problem != "":
			r.Fail("ai.providers", modelRemedies[m.Problem], "%s: %s", name, m.Detail)
		case failed[m.Provider] != nil && !ask:
			r.Fail("ai.providers", "check key, base URL and the network to the provider", "%s cannot be asked for its models: %v", name, failed[m.Provider])
		case m.Demo && len(c.AI.AIProviders) == 0:
			r.Warn("ai.providers", "set OPENAI_API_KEY, ANTHROPIC_API_KEY or a base URL", "no provider is configured: the demo provider answers, which is not AI")
		case !ask || m.Demo:
			r.OK("ai.providers", "%s", name)
		default:
			r.question(ctx, router, m)
		}
	}
}

// modelRemedies say what to change for a problem of a model.
var modelRemedies = map[string]string{
	ports.ProblemKeyRefused:   "set OPENAI_API_KEY or ANTHROPIC_API_KEY to a key that the provider accepts",
	ports.ProblemModelMissing: "set OPENAI_MODEL or ANTHROPIC_MODEL to a model that the provider has",
	ports.ProblemModelUnknown: "set OPENAI_MODEL or ANTHROPIC_MODEL",
}

func (r *examination) question(ctx context.Context, router *providers.Router, m ports.ModelInfo) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	begun := time.Now()
	answer, err := router.Generate(ctx, ports.Prompt{
		UserID: "doctor", RunID: newID(),
		Params:   chat.Params{Provider: m.Provider, Model: m.Model, MaxTokens: 256},
		Messages: []ports.PromptMessage{ports.PromptText(chat.User, "Answer with the word yes.")},
	}, func(chat.Delta) {})
	if err != nil {
		detail, remedy := err.Error(), "check key, model and the network to the provider"
		for _, now := range router.Models() {
			if now.Provider == m.Provider && now.Model == m.Model && now.Problem != "" {
				detail, remedy = now.Detail, modelRemedies[now.Problem]
			}
		}
		r.Fail("ai.providers", remedy, "%s/%s: %s", m.Provider, m.Model, detail)
		return
	}
	price := "price unknown"
	if answer.CostMicros != nil {
		price = fmt.Sprintf("$%.6f", float64(*answer.CostMicros)/1e6)
	}
	r.OK("ai.providers", "%s/%s answered in %s (%s)", m.Provider, m.Model, time.Since(begun).Round(time.Millisecond), price)
}

// operations checks that errors and traces are exported.
func (r *examination) operations(ctx context.Context, p Process, c config.Config) {
	reporter, err := observe.NewSentryReporter(c.Operations.SentryDSN.Reveal(), Version, "doctor")
	switch {
	case err != nil:
		r.Fail("operations.errors", "copy the DSN from the settings of the Sentry project into SENTRY_DSN", "SENTRY_DSN cannot be read")
	case c.Operations.SentryDSN.Set():
		r.OK("operations.errors", "SENTRY_DSN is set")
	default:
		r.Warn("operations.errors", "set SENTRY_DSN", "SENTRY_DSN is not set: panics and failures are in the log and in metrics only")
	}
	if err == nil {
		reporter.Close()
	}
	endpoint := p.getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	if endpoint == "" {
		endpoint = p.getenv("OTEL_EXPORTER_OTLP_ENDPOINT")
	}
	u, err := url.Parse(endpoint)
	switch {
	case endpoint == "":
		r.Warn("operations.traces", "set OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT is not set: there are no traces")
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		r.Fail("operations.traces", "set it to a URL such as http://collector:4318", "OTEL_EXPORTER_OTLP_ENDPOINT is not a URL with a scheme")
	default:
		host := u.Host
		if u.Port() == "" {
			host = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
		}
		dialer := net.Dialer{Timeout: 3 * time.Second}
		conn, err := dialer.DialContext(ctx, "tcp", host)
		if err != nil {
			r.Fail("operations.traces", "start the collector, or correct OTEL_EXPORTER_OTLP_ENDPOINT", "the collector at %s does not accept connections", host)
			return
		}
		conn.Close()
		r.OK("operations.traces", "the collector at %s accepts connections", host)
	}
}

// maxBackupAge allows a daily backup two hours.
const maxBackupAge = 26 * time.Hour

func (r *examination) backups(dir string) {
	const remedy = "run: parley backup, and see why the daily one was not made"
	files, err := os.ReadDir(dir)
	if err != nil {
		r.Fail("operations.backup", "give --backups the directory of the backups", "%s cannot be read", dir)
		return
	}
	var newest time.Time
	for _, f := range files {
		if info, err := f.Info(); err == nil && info.Mode().IsRegular() && info.Size() > 0 && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	switch age := time.Since(newest).Round(time.Minute); {
	case newest.IsZero():
		r.Fail("operations.backup", remedy, "there is no backup in %s", dir)
	case age > maxBackupAge:
		r.Fail("operations.backup", remedy, "the newest backup is %s old", age)
	default:
		r.OK("operations.backup", "the newest backup is %s old", age)
	}
}

// certificate checks how long the certificate of an address is valid.
func (r *examination) certificate(ctx context.Context, u *url.URL) {
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "443")
	}
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}}
	conn, err := dialer.DialContext(ctx, "tcp", host)
	if err != nil {
		var invalid *tls.CertificateVerificationError
		if errors.As(err, &invalid) {
			r.Fail("api.certificate", "renew the certificate of the proxy, with all intermediate ones", "the certificate is not valid: %v", invalid.Err)
		}
		return // api.address says that it does not answer
	}
	defer conn.Close()
	left := time.Until(conn.(*tls.Conn).ConnectionState().PeerCertificates[0].NotAfter)
	if left < 14*24*time.Hour {
		r.Warn("api.certificate", "renew the certificate of the proxy", "it expires in %d hours", int(left.Hours()))
	} else {
		r.OK("api.certificate", "it is valid for %d days", int(left.Hours()/24))
	}
}

// verifyTime bounds the verification of the audit log.
const verifyTime = 5 * time.Second

// auditChain verifies as much of the audit log as verifyTime permits.
func (r *examination) auditChain(ctx context.Context, c config.Config, store *sqlstore.Store) {
	auditor, err := newAuditor(c, store, nil, ports.NopObserver{})
	if err != nil {
		r.reportError("audit.key", "", err)
		return
	}
	const rotated = "add the former AUDIT_KEY, or the former AUTH_SECRET, to AUDIT_KEY"
	if roots, err := store.AuditRoots(ctx); err == nil && len(roots) > 0 {
		if _, _, err := audit.UnwrapRoot(auditor.Secrets, roots...); err != nil {
			r.Fail("audit.key", rotated, "no configured secret opens the key of the audit chain")
			return
		}
	}
	r.OK("audit.key", "it can be opened")
	ctx, cancel := context.WithTimeout(ctx, verifyTime)
	defer cancel()
	first, n := appaudit.Finding{}, 0
	report, err := auditor.Verify(ctx, nil, func(f appaudit.Finding) {
		if n++; n == 1 {
			first = f
		}
	})
	switch {
	case err != nil && n == 0 && r.schemaFailed():
	case n > 0:
		r.Fail("audit.chain", "run: parley audit verify, and keep a copy of the database", "%d findings, the first one: %s", n, first.Kind)
	case ctx.Err() != nil:
		r.OK("audit.chain", "no findings in the first %s; parley audit verify checks all", verifyTime)
	case err != nil:
		r.Fail("audit.chain", "run: parley audit verify", "it cannot be verified: %v", err)
	default:
		r.OK("audit.chain", "%d links, no findings", report.Links)
	}
}
