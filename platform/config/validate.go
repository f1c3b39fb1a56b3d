package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Validate returns one error that joins every invalid setting. Errors name the
// variable and the expected form, never the value.
func (c Config) Validate() error {
	var v problems
	v.address("ADDR", c.Server.Addr)
	v.address("ADMIN_ADDR", c.Server.AdminAddr)
	v.atLeast("TRUSTED_PROXIES", c.Server.TrustedProxies, 0)

	v.postgres("DATABASE_URL", c.Store.DatabaseURL)
	v.replicas(c.Store)
	v.url("BLOB_URL", c.Store.BlobURL.Reveal(), "file", "s3", "gs", "azblob")
	v.url("REDIS_URL", c.Store.RedisURL.Reveal(), "redis", "rediss")
	v.oneOf("DB_EXEC_MODE", c.Store.DBExecMode, "auto", "exec", "simple_protocol", "cache_describe", "describe_exec", "cache_statement")
	v.atLeast("DB_MAX_CONNS", c.Store.DBMaxConns, minPool)
	if c.Store.DBRLS && !c.Store.DatabaseURL.Set() {
		v.add("DB_RLS needs DATABASE_URL: the embedded database has no roles")
	}

	for name, list := range map[string][]Secret{"AUTH_SECRET": c.Auth.AuthSecret, "AUDIT_KEY": c.Store.AuditKey} {
		for _, s := range list {
			if strings.TrimSpace(s.Reveal()) == "" {
				v.add("%s holds an empty secret between its commas", name)
			}
		}
	}
	if heads := c.Store.AuditHeads.Reveal(); strings.Contains(heads, "://") {
		v.url("AUDIT_HEADS", heads, "http", "https")
	}
	v.url("NEXTAUTH_URL", c.Auth.NextAuthURL, "http", "https")
	v.url("AUTH_URL", c.Auth.AuthURL, "http", "https")
	for _, o := range c.Auth.AllowedOrigins {
		u, err := url.Parse(o)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || o != u.Scheme+"://"+u.Host {
			v.add("ALLOWED_ORIGINS must be origins such as https://app.example.com, separated by commas, without a path")
			break
		}
	}

	v.oneOf("AUTH_SESSION_STRATEGY", c.Auth.SessionStrategy, "jwt", "database")
	v.postgres("AUTH_DATABASE_URL", c.Auth.AuthDatabaseURL)
	v.postgres("ADMIN_DATABASE_URL", c.Store.AdminURL)
	if c.Auth.SessionStrategy == "database" && !c.Auth.AuthDatabaseURL.Set() {
		v.add("AUTH_DATABASE_URL must be set for AUTH_SESSION_STRATEGY=database")
	}
	v.url("OIDC_ISSUER", c.Auth.OIDCIssuer, "http", "https")
	if (c.Auth.OIDCIssuer == "") != (c.Auth.OIDCAudience == "") {
		v.add("OIDC_ISSUER and OIDC_AUDIENCE must be set together")
	}

	v.atLeast("RATE_LIMIT_ANONYMOUS", c.Limits.RateLimitAnonymous, 1)
	v.atLeast("RATE_LIMIT_AUTHENTICATED", c.Limits.RateLimitAuthenticated, 1)
	v.atLeast("RATE_LIMIT_API_KEY", c.Limits.RateLimitAPIKey, 1)
	v.atLeast("RATE_LIMIT_ADMIN", c.Limits.RateLimitAdmin, 1)
	v.atLeast("RATE_LIMIT_WEBHOOK", c.Limits.RateLimitWebhook, 1)

	v.oneOf("RATE_LIMIT_FAIL", c.Limits.RateLimitFail, "local", "open", "closed")
	v.atLeast("INSTANCES", c.Limits.Instances, 0)
	v.atLeast("BUDGET_TOKENS_DAY", int(c.Limits.BudgetTokensDay), 0)
	v.atLeast("BUDGET_TOKENS_MONTH", int(c.Limits.BudgetTokensMonth), 0)
	v.atLeast("BUDGET_USD_DAY", int(c.Limits.BudgetUSDDay), 0)
	v.atLeast("BUDGET_USD_MONTH", int(c.Limits.BudgetUSDMonth), 0)
	v.atLeast("MAX_CONCURRENT_REPLIES", c.Limits.MaxConcurrentReplies, 0)
	v.atLeast("MAX_STREAMS", c.Limits.MaxStreams, 0)
	v.atLeast("MAX_FILE_BYTES", int(c.Limits.MaxFileBytes), 1)
	v.atLeast("FILE_QUOTA_BYTES", int(c.Limits.FileQuotaBytes), 0)

	v.atLeast("CONTEXT_MESSAGES", c.Replies.ContextMessages, 1)
	v.atLeast("CONTEXT_TOKENS", c.Replies.ContextTokens, 1)
	v.atLeast("RUN_MAX_ATTEMPTS", c.Replies.RunMaxAttempts, 1)
	v.atLeast("RETENTION_DAYS", c.Replies.RetentionDays, 0)
	v.atLeast("MAX_QUEUE", c.Replies.MaxQueue, 0)
	for _, kind := range c.Replies.FileTypes {
		if parsed, params, err := mime.ParseMediaType(kind); err != nil || parsed != kind || len(params) > 0 || !strings.Contains(kind, "/") {
			v.add("FILE_TYPES must be media types such as image/png, separated by commas")
			break
		}
	}

	for _, name := range c.AI.AIProviders {
		v.oneOf("AI_PROVIDERS", name, "openai", "anthropic", "demo")
	}
	if slices.Contains(c.AI.AIProviders, "openai") && !c.AI.OpenAIKey.Set() && c.AI.OpenAIBaseURL == "" {
		v.add("AI_PROVIDERS names openai, which needs OPENAI_API_KEY or OPENAI_BASE_URL")
	}
	if slices.Contains(c.AI.AIProviders, "anthropic") && !c.AI.AnthropicKey.Set() && c.AI.AnthropicBaseURL == "" {
		v.add("AI_PROVIDERS names anthropic, which needs ANTHROPIC_API_KEY or ANTHROPIC_BASE_URL")
	}
	v.files("OPENAI_FILES", c.AI.OpenAIFiles)
	v.files("ANTHROPIC_FILES", c.AI.AnthropicFiles)
	v.url("OPENAI_BASE_URL", c.AI.OpenAIBaseURL, "http", "https")
	v.url("ANTHROPIC_BASE_URL", c.AI.AnthropicBaseURL, "http", "https")
	v.atLeast("AI_MAX_CONCURRENCY", c.AI.MaxConcurrency, 1)
	v.atLeast("AI_MAX_TOKENS", c.AI.MaxTokens, 1)
	v.atLeast("MAX_REPLY_CHARS", c.AI.MaxReplyChars, 1)
	v.positive("AI_CONNECT_TIMEOUT", c.AI.ConnectTimeout)
	v.positive("AI_FIRST_TOKEN_TIMEOUT", c.AI.FirstTokenTimeout)
	v.positive("AI_IDLE_TIMEOUT", c.AI.IdleTimeout)
	v.positive("AI_RETRY_WAIT", c.AI.RetryWait)
	v.positive("AI_REPLY_TIMEOUT", c.AI.ReplyTimeout)
	v.notNegative("RESPONSE_CACHE_TTL", c.AI.CacheTTL)
	v.oneOf("RESPONSE_CACHE_SCOPE", c.AI.CacheScope, "user", "shared")
	v.notNegative("DEMO_DELAY", c.AI.DemoDelay)

	v.webhooks(c.Webhooks)

	v.notNegative("SHUTDOWN_TIMEOUT", c.Operations.ShutdownTimeout)
	v.notNegative("DRAIN_DELAY", c.Operations.DrainDelay)
	v.oneOf("LOG_LEVEL", c.Operations.LogLevel, "debug", "info", "warn", "error")
	v.oneOf("LOG_FORMAT", c.Operations.LogFormat, "auto", "json", "text")
	return errors.Join(v...)
}

// Origins returns every origin that may send requests with a cookie, besides
// the API's own.
func (c Config) Origins() []string {
	out := slices.Clone(c.Auth.AllowedOrigins)
	for _, raw := range []string{c.Auth.NextAuthURL, c.Auth.AuthURL} {
		if u, err := url.Parse(raw); err == nil && u.Host != "" {
			out = append(out, u.Scheme+"://"+u.Host)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Database is DATABASE_URL translated; it is zero when that is unset.
func (c Config) Database() Postgres { return parsed(c.Store.DatabaseURL) }

// Replicas are the URLs of DATABASE_REPLICA_URLS translated.
func (c Config) Replicas() []Postgres {
	list, _ := splitReplicas(c.Store.ReplicaURLs) // validated
	return list
}

// AuthDatabase is AUTH_DATABASE_URL translated; it is zero when that is unset.
func (c Config) AuthDatabase() Postgres { return parsed(c.Auth.AuthDatabaseURL) }

// AdminDatabase is ADMIN_DATABASE_URL translated, or DATABASE_URL when that is unset.
func (c Config) AdminDatabase() Postgres {
	if c.Store.AdminURL.Set() {
		return parsed(c.Store.AdminURL)
	}
	return c.Database()
}

func parsed(url Secret) Postgres {
	p, _ := ParsePostgres(url.Reveal()) // validated
	return p
}

// splitReplicas translates URLs that are separated by commas. A URL of several hosts
// has commas, too.
func splitReplicas(urls Secret) (list []Postgres, err error) {
	var one []string
	parts := strings.Split(urls.Reveal(), ",")
	for i, part := range parts {
		one = append(one, part)
		if i+1 < len(parts) && !slices.ContainsFunc(urlPrefixes, func(prefix string) bool { return strings.HasPrefix(strings.TrimSpace(parts[i+1]), prefix) }) {
			continue
		}
		p, err := ParsePostgres(strings.TrimSpace(strings.Join(one, ",")))
		if err != nil {
			return nil, fmt.Errorf("%w (URL %d)", err, len(list)+1)
		}
		list, one = append(list, p), nil
	}
	return list, nil
}

// minPool is the smallest pool that the store is run with.
const minPool = 2

// applyURL takes settings that are not set from the parameters of DATABASE_URL.
func (c *Config) applyURL(set map[string]string) {
	p := c.Database()
	if _, ok := set["DB_MAX_CONNS"]; !ok && p.MaxConns > 0 {
		c.Store.DBMaxConns = max(p.MaxConns, minPool)
	}
	if p.Pooled && c.Store.DBExecMode == "auto" {
		c.Store.DBExecMode = "exec"
	}
}

// Warnings returns a sentence for each part of a setting that has no effect.
func (c Config) Warnings() []string {
	var out []string
	for _, db := range []struct {
		name string
		Postgres
	}{{"DATABASE_URL", c.Database()}, {"AUTH_DATABASE_URL", c.AuthDatabase()}, {"DATABASE_REPLICA_URLS", c.replicaParameters()}} {
		if db.name == "DATABASE_URL" && db.MaxConns > 0 && db.MaxConns < minPool && c.Store.DBMaxConns == minPool {
			out = append(out, fmt.Sprintf("%s: connection_limit is below %d, the smallest pool that works; %[2]d is used", db.name, minPool))
		}
		if len(db.Ignored) > 0 {
			out = append(out, db.name+": parameters without a meaning for Parley are ignored: "+strings.Join(db.Ignored, ", "))
		}
	}
	return out
}

// replicaParameters are the parameters of all replicas that have no meaning.
func (c Config) replicaParameters() (all Postgres) {
	for _, r := range c.Replicas() {
		all.Ignored = append(all.Ignored, r.Ignored...)
	}
	slices.Sort(all.Ignored)
	all.Ignored = slices.Compact(all.Ignored)
	return all
}

// Development reports whether no secret is set. Then Parley generates one, and
// listens on this machine only.
func (c Config) Development() bool { return len(c.Auth.AuthSecret) == 0 }

// ServePage reports whether the page is served at /.
func (c Config) ServePage() bool {
	if c.Server.WebUI != nil {
		return *c.Server.WebUI
	}
	return c.Development()
}

type problems []error

func (p *problems) add(format string, args ...any) { *p = append(*p, fmt.Errorf(format, args...)) }

func (p *problems) address(name, value string) {
	_, port, err := net.SplitHostPort(value)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		p.add("%s must be host:port, such as 127.0.0.1:8080 or :8080", name)
	}
}

func (p *problems) postgres(name string, value Secret) {
	if !value.Set() {
		return
	}
	if _, err := ParsePostgres(value.Reveal()); err != nil {
		p.add("%s %w", name, err)
	}
}

// replicas checks the standbys of a database.
func (p *problems) replicas(s Store) {
	p.positive("DATABASE_REPLICA_MAX_LAG", s.ReplicaMaxLag)
	if s.ReplicaMaxLag > time.Second {
		p.add("DATABASE_REPLICA_MAX_LAG must be at most 1s")
	}
	if !s.ReplicaURLs.Set() {
		return
	}
	if !s.DatabaseURL.Set() {
		p.add("DATABASE_REPLICA_URLS needs DATABASE_URL: the embedded database has no replicas")
		return
	}
	list, err := splitReplicas(s.ReplicaURLs)
	if err != nil {
		p.add("DATABASE_REPLICA_URLS %w", err)
		return
	}
	primary, err := ParsePostgres(s.DatabaseURL.Reveal())
	if err != nil { // is reported
		return
	}
	places := map[string]bool{}
	for i, r := range list {
		switch at := r.place(); {
		case at == primary.place():
			p.add("DATABASE_REPLICA_URLS names the database of DATABASE_URL itself (URL %d)", i+1)
		case places[at]:
			p.add("DATABASE_REPLICA_URLS names a database twice (URL %d)", i+1)
		default:
			places[at] = true
		}
	}
}

// url accepts an unset value. A URL without a host names a socket of this machine.
func (p *problems) url(name, value string, schemes ...string) {
	if value == "" {
		return
	}
	if u, err := url.Parse(value); err != nil || u.Opaque != "" || !slices.Contains(schemes, u.Scheme) {
		p.add("%s must be a URL that begins with %s://", name, strings.Join(schemes, ":// or "))
	}
}

func (p *problems) atLeast(name string, value, least int) {
	if value < least {
		p.add("%s must be at least %d", name, least)
	}
}

func (p *problems) notNegative(name string, d time.Duration) {
	if d < 0 {
		p.add("%s must not be negative", name)
	}
}

func (p *problems) positive(name string, d time.Duration) {
	if d <= 0 {
		p.add("%s must be longer than 0", name)
	}
}

// webhooks checks the receiver of events and its secrets.
func (p *problems) webhooks(w Webhooks) {
	p.url("WEBHOOK_URL", w.WebhookURL.Reveal(), "https", "http")
	if w.WebhookURL.Set() && len(w.WebhookSecret) == 0 {
		p.add("WEBHOOK_SECRET must be set with WEBHOOK_URL")
	}
	for _, s := range w.WebhookSecret {
		text, ok := strings.CutPrefix(strings.TrimSpace(s.Reveal()), "whsec_")
		if key, err := base64.StdEncoding.DecodeString(text); !ok || err != nil || len(key) < 24 || len(key) > 64 {
			p.add("WEBHOOK_SECRET must be whsec_ and 24 to 64 bytes in Base64, such as the output of: echo whsec_$(openssl rand -base64 32)")
			break
		}
	}
	p.positive("WEBHOOK_TIMEOUT", w.WebhookTimeout)
	if w.WebhookTimeout > 30*time.Second {
		p.add("WEBHOOK_TIMEOUT must be at most 30s")
	}
	p.positive("WEBHOOK_RETENTION", w.WebhookRetention)
}

// files checks a list of kinds of files.
func (p *problems) files(name string, kinds []string) {
	for _, kind := range kinds {
		p.oneOf(name, kind, "images", "pdf", "none")
	}
	if len(kinds) > 1 && slices.Contains(kinds, "none") {
		p.add("%s names none beside others", name)
	}
}

func (p *problems) oneOf(name, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		p.add("%s must be one of %s", name, strings.Join(allowed, ", "))
	}
}
