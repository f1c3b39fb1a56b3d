package boot

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/uptrace/bun"

	"parley/adapters/httpapi"
	"parley/adapters/httpapi/aisdk"
	"parley/adapters/httpapi/rest"
	"parley/adapters/httpapi/web"
	"parley/adapters/observe"
	"parley/adapters/sqlstore"
	"parley/app/conversations"
	"parley/app/gate"
	"parley/app/replies"
	"parley/domain/access"
	"parley/domain/fault"
	"parley/domain/webhook"
	"parley/platform/config"
	"parley/platform/telemetry"
	"parley/ports"
)

type serveCommand struct{}

// Run serves until ctx is done, then drains. It returns nil when everything has
// stopped in order.
func (serveCommand) Run(ctx context.Context, p Process) error {
	// A write to a pipe whose reader has gone fails, and is counted, instead of
	// ending the process.
	signal.Ignore(syscall.SIGPIPE)

	// Settings.
	c, err := p.config()
	if err != nil {
		return err
	}
	if err := requireSecretForPublicBind(c); err != nil {
		return err
	}
	if weak := weakSecrets(c); len(weak) > 0 {
		return usageError{errors.Join(weak...)}
	}
	authSecrets, _, err := secrets(c)
	if err != nil {
		return err
	}
	instance := instanceName(c)

	// Logs, metrics, traces, error reports.
	tel, err := telemetry.Setup(ctx, telemetry.Options{
		Service: "parley", Version: Version, Instance: instance,
		LogOutput: p.Stderr, LogFormat: c.Operations.LogFormat, LogLevel: logLevel(c),
		LogAttrs: observe.RequestAttrs, Getenv: p.getenv,
	})
	if err != nil {
		return err
	}
	defer withTimeout(3*time.Second, tel.Shutdown)
	reports, err := observe.NewSentryReporter(c.Operations.SentryDSN.Reveal(), Version, instance)
	if err != nil {
		return usageError{err}
	}
	defer reports.Close()
	observer, err := observe.New(observe.Options{
		Sentry: reports,
		Log:    tel.Log, Registry: tel.Registry, Meters: tel.Meters, Tracers: tel.Tracers, Propagator: tel.Propagator,
	})
	if err != nil {
		return err
	}

	// Listeners, before anything is changed, since their addresses may be taken.
	apiListener, err := listen(ctx, "ADDR", c.Server.Addr, maxConnections(c, openFilesLimit()))
	if err != nil {
		return err
	}
	defer apiListener.Close()
	adminListener, err := listen(ctx, "ADMIN_ADDR", c.Server.AdminAddr, maxAdminConnections)
	if err != nil {
		return err
	}
	defer adminListener.Close()

	// Database.
	unlock, err := lockDataDir(c)
	if err != nil {
		return err
	}
	defer unlock()
	for _, sentence := range c.Warnings() {
		tel.Log.Warn(sentence)
	}
	store, err := openStore(ctx, c, observed(c, observer))
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := migrated(ctx, c, store, tel.Log); err != nil {
		return err
	}

	if err := checkReplicaURLs(ctx, store, tel.Log); err != nil {
		return err
	}

	bucket, err := openBlobs(ctx, c)
	if err != nil {
		return err
	}
	defer bucket.Close()

	// Redis, or its equivalents in process.
	backends, err := openBackends(c, instance, observer)
	if err != nil {
		return err
	}
	defer backends.close()
	rates, budgets, err := tiers(c)
	if err != nil {
		return err
	}

	// What operators have disabled.
	switches := gate.NewSwitches(store, observer, c.Limits.ChatDisabled)
	if err := switches.Refresh(ctx); err != nil {
		return fmt.Errorf("read switches: %w", err)
	}

	// AI providers.
	models, closeModels, err := openModels(ctx, c, observer, backends.cache, switches.ProviderDisabled, tel.Log)
	if err != nil {
		return err
	}
	defer closeModels()
	for _, name := range unpriced(models, budgets) {
		tel.Log.Warn("a model has no price, so users with a budget in US dollars cannot use it", "model", name)
	}

	// Use cases.
	callers, closeCallers, err := newCallers(c, authSecrets, store)
	if err != nil {
		return err
	}
	defer closeCallers()
	if callers.Sessions != nil {
		if fatal, err := checkSessions(ctx, callers.Sessions); fatal {
			return err
		} else if err != nil {
			tel.Log.Warn("the database of sessions does not answer yet", "error", err)
		}
	}
	auditor, err := newAuditor(c, store, &backends, observer)
	if err != nil {
		return err
	}
	userHash, err := auditor.UserHash(ctx)
	if err != nil && fault.KindOf(err) != fault.Internal { // a key that does not open is the sealer's to report
		return fmt.Errorf("read the audit chain's key: %w", err)
	}
	store.SetUserHash(userHash)
	admission := gate.New(gate.Deps{
		Identity: callers, Limiter: observer.Limiter(limiterSystem(c), backends.limiter), Audit: store, Accounts: store, Revocations: store,
		Switches: switches, UserHash: userHash, Observer: observer, Now: time.Now,
	}, rates)
	admission.SetBudgets(budgets)
	if err := admission.Refresh(ctx); err != nil {
		return fmt.Errorf("read revocations: %w", err)
	}
	auditor.Revoked = admission.Refresh
	if callers.Sessions != nil {
		auditor.Sessions = callers.Sessions.Digests
	}
	var titles ports.Titles
	if c.AI.Titles {
		titles = models.Title
	}
	fileService, fileSweeper := newFiles(c, store, bucket, admission, observer)
	auditor.UserCaches = append(auditor.UserCaches, fileService)
	hooks, err := newWebhooks(c, store, observer)
	if err != nil {
		return err
	}
	var addEvents func(context.Context, ...webhook.Event) error
	if hooks != nil {
		addEvents = store.AddEvents
	}
	replyService := replies.New(replies.Deps{
		Store: wrapStore(store), Model: models, Tokens: models.Tokens(), Accepts: models.Accepts, AcceptsFile: models.AcceptsFile, ReadFile: readFile(fileService), Feed: backends.feed,
		Quote: models.Quote, Budget: admission.Budget, Titles: titles, AddEvents: addEvents, Trace: observer.Trace, Observer: observer, Now: time.Now, NewID: newID,
	}, replies.Options{
		Owner: instance, ReplyTimeout: c.AI.ReplyTimeout, ShutdownTimeout: c.Operations.ShutdownTimeout, MaxAttempts: c.Replies.RunMaxAttempts,
		MaxQueue: c.Replies.MaxQueue, MaxReplyTokens: c.AI.MaxTokens, ContextMessages: c.Replies.ContextMessages, ContextTokens: c.Replies.ContextTokens,
	})
	conversationService := &conversations.Service{
		History: store, Feedback: store, ShareStore: store, Index: store, Audit: store, Accepts: models.Accepts, Feed: backends.feed, Observer: observer, Now: time.Now, NewID: newID,
	}

	retention := &conversations.RetentionWorker{
		Service: conversationService, Expiry: store, Observer: observer, Retention: time.Duration(c.Replies.RetentionDays) * 24 * time.Hour,
	}

	// Health and the API.
	status := &health{log: tel.Log, checks: []check{{name: "database", note: store.Dialect(), required: true, ping: store.CheckWritable}}}
	if len(store.Replicas()) > 0 {
		status.checks = append(status.checks, check{name: "replicas", note: "reads go to the primary meanwhile", ping: checkReplicas(store)})
	}
	status.checks = append(status.checks, check{name: "files", ping: bucket.Check})
	if callers.Sessions != nil {
		status.checks = append(status.checks, check{name: "sessions", note: "postgres", ping: callers.Sessions.Check})
	}
	if backends.check != nil {
		status.checks = append(status.checks, *backends.check)
	}
	var pageRoutes []httpapi.Endpoint
	if c.ServePage() {
		if pageRoutes, err = web.Routes(web.Options{SignInURL: cmp.Or(c.Auth.NextAuthURL, c.Auth.AuthURL)}); err != nil {
			return err
		}
	}
	api, err := httpapi.New(httpapi.Config{
		Gate: admission, Observer: observer, Now: time.Now, Health: status.public(models, switches), Version: Version, Reference: c.ServePage(),
		AllowedOrigins: c.Origins(), StreamPadding: c.AI.StreamPadding,
		Proxies: httpapi.Proxies{Hops: c.Server.TrustedProxies, From: c.Server.TrustedRanges},
	}, rest.Routes(rest.Services{
		Replies: replyService, Conversations: conversationService, Files: fileService, Gate: admission, Catalogue: models, Erase: auditor.EraseUser, Now: time.Now,
	}), aisdk.Routes(replyService, conversationService, fileService), pageRoutes)
	if err != nil {
		return usageError{err}
	}
	var handler http.Handler = api
	if c.ServePage() && c.Development() && callers.Sessions == nil {
		handler = developmentSignIn{api, callers, authSecrets[0]}
	}
	tel.Registry.MustRegister(
		collectors.NewDBStatsCollector(store.DB(), "parley"),
		observer.Dependencies(status.up),
		observer.Breakers(models),
		observer.Keys(models),
		observer.Switches(switches.ChatDisabled, models),
		observer.Runs(),
		observer.Schema(schemaState(store)),
		observer.Queue(queueState(store)),
		observer.Locks(lockState(store)),
		observer.Maintenance(maintenanceState(store)),
		observer.Replicas(replicaStates(store)),
		observer.Host(diskOf(c.Store.DataDir)),
	)
	for _, r := range store.Replicas() {
		tel.Registry.MustRegister(collectors.NewDBStatsCollector(r.DB, "replica "+r.Name))
	}

	// Serve.
	tel.Log.Info("serving", "version", Version, "instance", instance, "addr", apiListener.Addr().String(),
		"admin", adminListener.Addr().String(), "database", store.Dialect(), "development", c.Development(),
		"chat_disabled", switches.ChatDisabled(), "tracing", tel.Exporting)
	if c.Development() {
		if err := printDevBanner(p, c, apiListener.Addr().String(), adminListener.Addr().String(), authSecrets[0]); err != nil {
			tel.Log.Warn("cannot print the first steps", "error", err.Error()) // standard output has gone
		}
	}
	return server{
		log: tel.Log, replies: replyService, health: status,
		api: newServer(observer.HTTP(handler, api.Sends), apiListener, tel.Log), streams: api.Wait,
		admin: newServer(admin(tel, observer, status, models, store), adminListener, tel.Log),
		audit: forever("audit", auditor.Serve),
		loops: append(hookLoops(hooks), []service{
			forever("revocations", func(ctx context.Context) {
				revoked, stop := backends.feed.Listen(ports.TopicRevoked)
				defer stop()
				admission.FollowRevocations(ctx, revocationInterval, revoked)
			}),
			forever("switches", func(ctx context.Context) {
				changed, stop := backends.feed.Listen(ports.TopicSwitch)
				defer stop()
				switches.Follow(ctx, switchInterval, changed)
			}),
			forever("tiers", func(ctx context.Context) { followTiers(ctx, c, admission, tel.Log) }),
			forever("pages", releasePages),
			forever("retention", retention.Serve),
			forever("search", (&conversations.SearchIndexer{Index: store, Observer: observer}).Serve),
			forever("files", fileSweeper.Serve),
		}...),
		delay: c.Operations.DrainDelay, shutdown: c.Operations.ShutdownTimeout,
	}.run(ctx, apiListener, adminListener)
}

// limits translates the configured numbers into tiers.
func limits(c config.Config) access.Limits {
	return access.Limits{
		access.Anonymous:     c.Limits.RateLimitAnonymous,
		access.Authenticated: c.Limits.RateLimitAuthenticated,
		access.APIKey:        c.Limits.RateLimitAPIKey,
		access.Admin:         c.Limits.RateLimitAdmin,
		access.Webhook:       c.Limits.RateLimitWebhook,
	}
}

func (p Process) getenv(name string) string {
	for i := len(p.Env) - 1; i >= 0; i-- {
		if k, v, _ := strings.Cut(p.Env[i], "="); k == name {
			return v
		}
	}
	return ""
}

// instanceName returns the name under which this process holds leases. It is new
// for every process: one with its predecessor's name would keep the leases of
// runs that have no owner any more.
func instanceName(c config.Config) string {
	name := c.Operations.Instance
	if name == "" {
		if host, err := os.Hostname(); err == nil {
			name = host
		} else {
			name = "parley"
		}
	}
	return name + "-" + strings.ToLower(rand.Text()[:6])
}

func logLevel(c config.Config) slog.Level {
	var l slog.Level
	_ = l.UnmarshalText([]byte(c.Operations.LogLevel)) // validated
	return l
}

// newID returns UUIDv7 text, which sorts by time within this process.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// observed has an observer see the statements of a store, and the calls that got no
// connection.
func observed(c config.Config, observer *observe.Observer) func(*sqlstore.Options) {
	d := observedDatabase(c)
	return func(opt *sqlstore.Options) {
		opt.Hooks, opt.NotConnected = []bun.QueryHook{observer.SQL(d)}, observer.NotConnected(d)
		for i, r := range c.Replicas() {
			opt.Replicas[i].Hooks = []bun.QueryHook{observer.SQL(at(d, r))}
		}
	}
}

// at is a database at another place.
func at(d observe.Database, place config.Postgres) observe.Database {
	d.Host, d.Port = "", 5432
	if u, err := url.Parse(place.URL.Reveal()); err == nil {
		d.Host = u.Hostname()
		if port, err := strconv.Atoi(u.Port()); err == nil {
			d.Port = port
		}
	}
	return d
}

// observedDatabase describes the database for metrics and traces.
func observedDatabase(c config.Config) observe.Database {
	d := observe.Database{System: "sqlite", Name: sqlstore.StatementName, Batch: sqlstore.StatementTexts}
	if c.Store.DatabaseURL.Set() {
		d.System = "postgresql"
		d = at(d, c.Database())
	}
	return d
}

// limiterSystem names the database of the limiter for traces; "" is memory.
func limiterSystem(c config.Config) string {
	if c.Store.RedisURL.Set() {
		return "redis"
	}
	return ""
}

func withTimeout(d time.Duration, f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	_ = f(ctx)
}
