// Package config reads Parley's settings from the environment into one struct.
// A setting is a field here and nowhere else; its tags give the variable's
// name, its default and the sentence that docs/configuration.md shows.
package config

import (
	"net/netip"
	"time"
)

// Config holds every setting. Field names are unique over all sections, because
// errors are mapped from fields to variables.
type Config struct {
	Server     Server     `title:"Listening"`
	Store      Store      `title:"Storage"`
	Auth       Auth       `title:"Authentication"`
	Limits     Limits     `title:"Limits"`
	Replies    Replies    `title:"Replies"`
	AI         AI         `title:"AI providers"`
	Webhooks   Webhooks   `title:"Webhooks"`
	Operations Operations `title:"Operations"`
}

// Server holds the addresses that Parley listens on and the proxies it trusts.
type Server struct {
	Addr           string         `env:"ADDR" envDefault:"127.0.0.1:8080" desc:"Address of the API."`
	AdminAddr      string         `env:"ADMIN_ADDR" envDefault:"127.0.0.1:9464" desc:"Address of metrics, probes and profiles. Keep it private."`
	WebUI          *bool          `env:"WEB_UI" desc:"Serve the page at / (docs/page.md) and a description of the API at /docs. Unset: true in development mode, otherwise false."`
	TrustedProxies int            `env:"TRUSTED_PROXIES" envDefault:"0" desc:"How many of your proxies a request passes. The client's address is taken from that position from the right of X-Forwarded-For; 0 ignores the header."`
	TrustedRanges  []netip.Prefix `env:"TRUSTED_PROXY_RANGES" desc:"Addresses of those proxies, as 10.0.0.0/8, separated by commas. X-Forwarded-For is ignored from other addresses. Unset: it is accepted from every address, so that only the proxies may reach ADDR."`
}

// Store holds where data is stored.
type Store struct {
	DataDir        string        `env:"DATA_DIR" envDefault:"./data" desc:"Directory of the embedded database and of the development secret. One parley serve uses it at a time."`
	DatabaseURL    Secret        `env:"DATABASE_URL" desc:"PostgreSQL 12 or newer, as postgres://user:password@host/name. The URL of an app that uses Prisma, node-postgres or another client works unchanged: schema, connection_limit, pgbouncer, sslmode=no-verify and similar parameters are translated (docs/database.md). Unset: an embedded SQLite file in DATA_DIR."`
	ReplicaURLs    Secret        `env:"DATABASE_REPLICA_URLS" desc:"Standbys of that PostgreSQL, separated by commas, as DATABASE_URL. They answer what no decision depends on: history, lists, search, exports, the verification of the audit log. No read is older than what was stored before it began (docs/database.md). Unset: the primary answers everything."`
	ReplicaMaxLag  time.Duration `env:"DATABASE_REPLICA_MAX_LAG" envDefault:"100ms" desc:"How long a read waits for a standby to have what was stored before the read began, at most 1s. A standby that takes longer is not used until it follows again."`
	DBExecMode     string        `env:"DB_EXEC_MODE" envDefault:"auto" desc:"How statements are sent to PostgreSQL: auto, exec, simple_protocol, cache_describe, describe_exec or cache_statement. The first three work behind any PgBouncer; auto uses prepared statements when it is connected to PostgreSQL directly."`
	DBMaxConns     int           `env:"DB_MAX_CONNS" envDefault:"12" desc:"Maximum connections to PostgreSQL; metrics use one more. Unset: connection_limit of DATABASE_URL, if it has one."`
	DBGroup        bool          `env:"DB_GROUP" envDefault:"true" desc:"Store admissions and ends of runs that come while the database is busy in one transaction (docs/adr/0050). false: each has its own."`
	DBRLS          bool          `env:"DB_RLS" envDefault:"false" desc:"Have PostgreSQL restrict every transaction to the rows of its user with row-level security (docs/adr/0013). Serve refuses to start as a role that it does not apply to: a superuser, or one with BYPASSRLS."`
	MigrateOnStart bool          `env:"MIGRATE_ON_START" envDefault:"false" desc:"Apply pending migrations to PostgreSQL at start. Otherwise serve refuses to start until parley migrate up has run. The embedded database always migrates at start."`
	AdminURL       Secret        `env:"ADMIN_DATABASE_URL" desc:"The same database, as a role of operators with pg_monitor. parley admin sql uses it, and nothing else does. Unset: DATABASE_URL."`
	RedisURL       Secret        `env:"REDIS_URL" desc:"Redis for more than one instance, as redis://host:6379/0. Unset: limits and live replies are kept in process."`
	BlobURL        Secret        `env:"BLOB_URL" desc:"Where files are kept: file:///directory, s3://bucket?region=..., gs://bucket or azblob://container (docs/files.md). Every instance must use the same one, and no other deployment. Unset: the directory files in DATA_DIR."`
	AuditKey       []Secret      `env:"AUDIT_KEY" desc:"Secret of 32 bytes or more that the audit chain's key is wrapped with; several, separated by commas, during a rotation: the first one wraps. Unset: AUTH_SECRET."`
	AuditHeads     Secret        `env:"AUDIT_HEADS" desc:"Where signed heads of the audit chain are exported to: a file, or an http(s) URL below which each is PUT as an object. It must not be writable with the rights to the database. Unset: heads are not exported, and a chain whose end was cut off cannot be detected."`
}

// Auth holds how callers are authenticated.
type Auth struct {
	AuthSecret           []Secret `env:"AUTH_SECRET" desc:"The secret of your Auth.js app, random and of 32 bytes or more (openssl rand -base64 33); several, separated by commas, during a rotation: the first one signs. Unset: development mode, with a secret kept in DATA_DIR."`
	NextAuthURL          string   `env:"NEXTAUTH_URL" desc:"URL of your app. Its origin may send requests with a cookie."`
	AuthURL              string   `env:"AUTH_URL" desc:"The same under its Auth.js v5 name."`
	SessionStrategy      string   `env:"AUTH_SESSION_STRATEGY" envDefault:"jwt" desc:"Where your Auth.js app keeps sessions: jwt (in encrypted cookies) or database."`
	AuthDatabaseURL      Secret   `env:"AUTH_DATABASE_URL" desc:"PostgreSQL of the app, for AUTH_SESSION_STRATEGY=database, with the same parameters as DATABASE_URL."`
	SessionTable         string   `env:"AUTH_SESSION_TABLE" envDefault:"Session" desc:"Table of sessions in that database; the Prisma adapter's by default."`
	SessionTokenColumn   string   `env:"AUTH_SESSION_TOKEN_COLUMN" envDefault:"sessionToken" desc:"The column with the session's token."`
	SessionUserColumn    string   `env:"AUTH_SESSION_USER_COLUMN" envDefault:"userId" desc:"The column with the user's id."`
	SessionExpiresColumn string   `env:"AUTH_SESSION_EXPIRES_COLUMN" envDefault:"expires" desc:"The column with the time when the session ends."`
	OIDCIssuer           string   `env:"OIDC_ISSUER" desc:"URL of an OpenID provider whose bearer tokens are accepted beside Parley's own."`
	OIDCAudience         string   `env:"OIDC_AUDIENCE" desc:"The audience that such a token must be for."`
	AllowedOrigins       []string `env:"ALLOWED_ORIGINS" desc:"Further origins, separated by commas, that may send requests with a cookie."`
}

// Limits holds rate limits, budgets and bounds per user.
type Limits struct {
	RateLimitAnonymous     int     `env:"RATE_LIMIT_ANONYMOUS" envDefault:"20" desc:"Messages per minute of the tier anonymous."`
	RateLimitAuthenticated int     `env:"RATE_LIMIT_AUTHENTICATED" envDefault:"100" desc:"Messages per minute of a signed-in user. All requests together are limited to ten times as many, in every tier."`
	RateLimitAPIKey        int     `env:"RATE_LIMIT_API_KEY" envDefault:"60" desc:"Messages per minute of the tier api_key."`
	RateLimitAdmin         int     `env:"RATE_LIMIT_ADMIN" envDefault:"500" desc:"Messages per minute of the tier admin."`
	RateLimitWebhook       int     `env:"RATE_LIMIT_WEBHOOK" envDefault:"1000" desc:"Messages per minute of the tier webhook."`
	RateLimitFail          string  `env:"RATE_LIMIT_FAIL" envDefault:"local" desc:"What a limiter does while Redis does not answer: local (each instance admits its share), open or closed."`
	Instances              int     `env:"INSTANCES" envDefault:"0" desc:"How many instances are expected: while Redis does not answer, each admits its share of a limit. More are counted as they register. 0: unknown, and until they have been counted 8 are assumed."`
	BudgetTokensDay        int64   `env:"BUDGET_TOKENS_DAY" envDefault:"0" desc:"Maximum tokens that a user may use in a day (UTC); 0: no limit."`
	BudgetTokensMonth      int64   `env:"BUDGET_TOKENS_MONTH" envDefault:"0" desc:"The same in a calendar month."`
	BudgetUSDDay           float64 `env:"BUDGET_USD_DAY" envDefault:"0" desc:"Maximum cost of a user's replies in a day (UTC), in US dollars; 0: no limit."`
	BudgetUSDMonth         float64 `env:"BUDGET_USD_MONTH" envDefault:"0" desc:"The same in a calendar month."`
	MaxConcurrentReplies   int     `env:"MAX_CONCURRENT_REPLIES" envDefault:"8" desc:"Maximum unfinished replies of one user, those that wait included; further messages are refused with 429. 0: no limit."`
	MaxStreams             int     `env:"MAX_STREAMS" envDefault:"32" desc:"Maximum open streams of one user on one instance; further ones are refused with 429. 0: no limit."`
	MaxFileBytes           int64   `env:"MAX_FILE_BYTES" envDefault:"20971520" desc:"Maximum size of a file, in bytes."`
	FileQuotaBytes         int64   `env:"FILE_QUOTA_BYTES" envDefault:"1073741824" desc:"Maximum bytes of all files of one user; further uploads are refused with 429. 0: no limit."`
	TiersFile              string  `env:"TIERS_FILE" desc:"JSON file with limits and budgets by tier, which override the ones above; see docs/limits.md. Read again at SIGHUP."`
	ChatDisabled           bool    `env:"CHAT_DISABLED" envDefault:"false" desc:"Disables chat as long as the instance runs: every chat route answers 503, health and metrics stay up. parley chat disable does it on all instances without a restart."`
}

// Replies holds how replies are generated and kept.
type Replies struct {
	ContextMessages int      `env:"CONTEXT_MESSAGES" envDefault:"50" desc:"Maximum messages of a branch that are sent to a provider."`
	ContextTokens   int      `env:"CONTEXT_TOKENS" envDefault:"4000" desc:"Maximum tokens that are sent to a provider. The oldest messages are left out first, the new one never."`
	RunMaxAttempts  int      `env:"RUN_MAX_ATTEMPTS" envDefault:"3" desc:"Maximum attempts of a reply that has produced no output. Further attempts follow a crash of the instance."`
	RetentionDays   int      `env:"RETENTION_DAYS" envDefault:"0" desc:"Delete conversations without a new message for so many days; 0: keep them."`
	FileTypes       []string `env:"FILE_TYPES" envDefault:"image/png,image/jpeg,image/gif,image/webp,application/pdf,text/plain,text/csv,text/markdown,application/json" desc:"Media types of files that are accepted, separated by commas. What a file is, is found out from its content."`
	MaxQueue        int      `env:"MAX_QUEUE" envDefault:"1000" desc:"Maximum background replies that may wait."`
}

// AI holds the providers and their timeouts.
type AI struct {
	AIProviders       []string      `env:"AI_PROVIDERS" desc:"Providers in order of preference, separated by commas: openai, anthropic, demo. Unset: openai and anthropic if they have a key or a base URL, or else demo."`
	OpenAIKey         Secret        `env:"OPENAI_API_KEY" desc:"Key for OpenAI, or for the server at OPENAI_BASE_URL."`
	OpenAIBaseURL     string        `env:"OPENAI_BASE_URL" desc:"A server with OpenAI's chat completions API, with its version, such as http://localhost:11434/v1."`
	OpenAIModels      []string      `env:"OPENAI_MODEL" desc:"Models that may be used, separated by commas; the first one is the default. Unset: one of middling price, or, with OPENAI_BASE_URL, the only model that the server lists."`
	OpenAIFiles       []string      `env:"OPENAI_FILES" desc:"Files beside text that these models can read, separated by commas: images, pdf; or none. Unset: what OpenAI's models can read, and none with OPENAI_BASE_URL."`
	AnthropicKey      Secret        `env:"ANTHROPIC_API_KEY" desc:"Key for Anthropic."`
	AnthropicBaseURL  string        `env:"ANTHROPIC_BASE_URL" desc:"A server with Anthropic's messages API."`
	AnthropicModels   []string      `env:"ANTHROPIC_MODEL" desc:"Models that may be used, as with OPENAI_MODEL."`
	AnthropicFiles    []string      `env:"ANTHROPIC_FILES" desc:"As OPENAI_FILES, for Anthropic's models, and none with ANTHROPIC_BASE_URL."`
	MaxConcurrency    int           `env:"AI_MAX_CONCURRENCY" envDefault:"64" desc:"Maximum replies that one provider generates at the same time for this instance; further ones are refused with 503 rather than queued."`
	MaxTokens         int           `env:"AI_MAX_TOKENS" envDefault:"8192" desc:"Maximum output tokens that a caller may ask for, and that a reply of a user with a budget may have."`
	Titles            bool          `env:"AI_TITLES" envDefault:"false" desc:"Let the model name a conversation after its first reply. What that uses counts towards the user's usage."`
	MaxReplyChars     int           `env:"MAX_REPLY_CHARS" envDefault:"400000" desc:"Maximum length of a reply, in code points, its reasoning included."`
	ConnectTimeout    time.Duration `env:"AI_CONNECT_TIMEOUT" envDefault:"5s" desc:"Provider connect timeout."`
	FirstTokenTimeout time.Duration `env:"AI_FIRST_TOKEN_TIMEOUT" envDefault:"60s" desc:"Timeout until the first chunk of a reply."`
	IdleTimeout       time.Duration `env:"AI_IDLE_TIMEOUT" envDefault:"30s" desc:"Timeout between two chunks of a reply."`
	RetryWait         time.Duration `env:"AI_RETRY_WAIT" envDefault:"5s" desc:"Longest time that a provider may ask to wait (Retry-After) and that is waited. Beyond it, or when another provider can answer, Parley does not wait: the request fails over, or is answered 503 with that Retry-After."`
	ReplyTimeout      time.Duration `env:"AI_REPLY_TIMEOUT" envDefault:"10m" desc:"Timeout of a whole reply, from the moment its message is accepted."`
	PricesFile        string        `env:"PRICES_FILE" desc:"A file of prices that override the bundled ones. The cost of a reply whose price is unknown is null, not 0."`
	CacheTTL          time.Duration `env:"RESPONSE_CACHE_TTL" envDefault:"0s" desc:"How long a reply is reused for an identical request; 0 disables the cache."`
	CacheScope        string        `env:"RESPONSE_CACHE_SCOPE" envDefault:"user" desc:"user: a cached reply is reused for the same user only; shared: for all users."`
	StreamPadding     bool          `env:"STREAM_PADDING" envDefault:"false" desc:"Pad the events of streams with random bytes, so that the sizes of encrypted packets do not reveal the lengths of words. Costs 64 to 192 bytes an event."`
	DemoDelay         time.Duration `env:"DEMO_DELAY" envDefault:"20ms" desc:"Pause between two words of the demo provider."`
}

// Webhooks holds the receiver of events.
type Webhooks struct {
	WebhookURL       Secret        `env:"WEBHOOK_URL" desc:"Where events are sent to: ends of replies and reached budgets (docs/webhooks.md), as https://app.example.com/hooks/parley. Unset: none are recorded or sent."`
	WebhookSecret    []Secret      `env:"WEBHOOK_SECRET" desc:"Secret that events are signed with, as whsec_ and 24 to 64 bytes in Base64; several, separated by commas, during a rotation: all of them sign. Required with WEBHOOK_URL."`
	WebhookTimeout   time.Duration `env:"WEBHOOK_TIMEOUT" envDefault:"10s" desc:"Timeout of one attempt to deliver an event, at most 30s."`
	WebhookRetention time.Duration `env:"WEBHOOK_RETENTION" envDefault:"168h" desc:"How long events are kept after they were delivered or given up, for parley webhook replay."`
	WebhookPrivate   bool          `env:"WEBHOOK_PRIVATE" envDefault:"false" desc:"Permit a name in WEBHOOK_URL to resolve to a private address. An address, or localhost, in the URL itself is permitted without."`
}

// Operations holds logging, error reports and shutdown.
type Operations struct {
	Instance        string        `env:"INSTANCE" desc:"Name of this instance in logs and traces, to which every process adds a random part. Unset: the host's name."`
	ShutdownTimeout time.Duration `env:"SHUTDOWN_TIMEOUT" envDefault:"25s" desc:"How long running replies may continue after SIGTERM before other instances take them over."`
	DrainDelay      time.Duration `env:"DRAIN_DELAY" envDefault:"0s" desc:"How long requests are still accepted after SIGTERM while readiness fails, so that a load balancer notices; 5s behind one."`
	LogLevel        string        `env:"LOG_LEVEL" envDefault:"info" desc:"debug, info, warn or error."`
	SentryDSN       Secret        `env:"SENTRY_DSN" desc:"Where panics and server errors are reported to, without message text or user ids. Unset: they are not reported."`
	LogFormat       string        `env:"LOG_FORMAT" envDefault:"auto" desc:"json, text, or auto: text on a terminal."`
}
