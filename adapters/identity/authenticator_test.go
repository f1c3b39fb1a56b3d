package identity_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	_ "github.com/jackc/pgx/v5/stdlib"

	"parley/adapters/identity"
	"parley/adapters/sqlstore"
	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/fault"
	"parley/platform/testing/testdb"
	"parley/platform/testing/testenv"
)

func callers(t *testing.T) *identity.Authenticator {
	t.Helper()
	v, err := identity.New([]string{"a secret of thirty-two characters"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return &identity.Authenticator{Tokens: v}
}

func bearer(token string) access.Credential { return access.Credential{Bearer: token} }

func refused(t *testing.T, c *identity.Authenticator, what string, cred access.Credential, kind fault.Kind) {
	t.Helper()
	if p, err := c.Identify(t.Context(), cred); !fault.Is(err, kind) || p.Known() {
		t.Errorf("%s: %+v, %v; want %s", what, p, err, kind)
	}
}

func TestCallers_APIKey(t *testing.T) {
	store, err := sqlstore.Open(t.Context(), sqlstore.Options{URL: testdb.SQLite(t), Timeout: time.Minute, AcquireTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := callers(t)
	c.Keys = store
	now := time.Now()
	entry := func(id string) audit.Entry {
		return audit.Entry{ID: id, UserID: "ann", Action: audit.ActionKeyCreated, Resource: audit.ResourceKey, CreatedAt: now, UpdatedAt: now}
	}
	k, secret := identity.NewKey("ann", "k1")
	k.Name, k.Scopes, k.CreatedAt = "ci", []access.Scope{access.ChatRead}, now
	if err := store.CreateKey(t.Context(), k, entry("e1")); err != nil {
		t.Fatal(err)
	}
	p, err := c.Identify(t.Context(), bearer(secret))
	if err != nil || p.UserID != "ann" || p.Tier != access.APIKey || p.Via != access.ViaKey || !p.May(access.ChatRead) || p.May(access.ChatWrite) {
		t.Fatalf("got %+v, %v", p, err)
	}
	kept, err := store.Keys(t.Context(), "ann")
	if err != nil || len(kept) != 1 || strings.Contains(secret, kept[0].Hash) || kept[0].Hash == "" {
		t.Fatalf("kept %+v, %v", kept, err)
	}
	_, other := identity.NewKey("ann", "k1") // names the same key, with another secret
	_, foreign := identity.NewKey("bob", "k1")
	for what, token := range map[string]string{
		"another secret": other, "another user": foreign, "cut short": secret[:len(secret)-1],
		"without its secret": secret[:strings.IndexByte(secret, '.')], "prefix only": "parley_", "quoted": "parley_'; DROP TABLE chat_users; --.x",
	} {
		refused(t, c, what, bearer(token), fault.Unauthenticated)
	}
	refused(t, c, "beside a cookie", access.Credential{Bearer: secret, Cookies: []access.Cookie{{Name: "authjs.session-token", Value: "x"}}}, fault.Invalid)
	if err := store.RevokeKey(t.Context(), "bob", "k1", now, entry("e2")); !fault.Is(err, fault.NotFound) {
		t.Errorf("another user revokes it: %v", err)
	}
	if err := store.RevokeKey(t.Context(), "ann", "k1", now, entry("e3")); err != nil {
		t.Fatal(err)
	}
	refused(t, c, "revoked", bearer(secret), fault.Unauthenticated)
}

func TestCallers_DatabaseSessions(t *testing.T) {
	url := testenv.Postgres(t)
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range []string{
		`CREATE TABLE "Session" (id text PRIMARY KEY, "sessionToken" text UNIQUE NOT NULL, "userId" text NOT NULL, expires timestamp(3) NOT NULL)`,
		`INSERT INTO "Session" VALUES ('1', 'good', 'ann', now() AT TIME ZONE 'UTC' + interval '1 hour'), ('2', 'old', 'ann', now() AT TIME ZONE 'UTC' - interval '1 second')`,
		`CREATE SCHEMA auth; CREATE TABLE auth.sessions (token text, user_id text, expires_at timestamptz); INSERT INTO auth.sessions VALUES ('t', 'bob', now() + interval '1 hour')`,
	} {
		if _, err := db.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	sessions := func(url string, tables identity.Tables) *identity.Authenticator {
		c := callers(t)
		if c.Sessions, err = identity.NewSessions(url, tables, time.Now); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Sessions.Close() })
		return c
	}
	cookie := func(name, value string) access.Credential {
		return access.Credential{Cookies: []access.Cookie{{Name: "theme", Value: "dark"}, {Name: name, Value: value}}}
	}
	c := sessions(url, identity.Tables{})
	for _, name := range []string{"authjs.session-token", "__Secure-authjs.session-token", "next-auth.session-token", "__Secure-next-auth.session-token"} {
		if p, err := c.Identify(t.Context(), cookie(name, "good")); err != nil || p.UserID != "ann" || p.Via != access.ViaCookie {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	refused(t, c, "expired", cookie("authjs.session-token", "old"), fault.Unauthenticated)
	refused(t, c, "unknown", cookie("authjs.session-token", "' OR '1'='1"), fault.Unauthenticated)
	refused(t, c, "in pieces", cookie("authjs.session-token.0", "good"), fault.Unauthenticated)
	encrypted, err := identity.MintCookie("a secret of thirty-two characters", identity.CookieV5, identity.Grant{UserID: "ann", Tier: access.Authenticated, TTL: time.Hour, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	refused(t, c, "an encrypted session", cookie(identity.CookieV5, encrypted), fault.Unauthenticated)
	if _, err := db.ExecContext(t.Context(), `DELETE FROM "Session" WHERE id = '1'`); err != nil {
		t.Fatal(err)
	}
	refused(t, c, "signed out", cookie("authjs.session-token", "good"), fault.Unauthenticated)

	// What a revocation ends is each session that there is, however new.
	ends := func(token string, r access.Revocation) bool {
		t.Helper()
		p, err := c.Identify(t.Context(), cookie("authjs.session-token", token))
		if err != nil || p.Session == "" || strings.Contains(p.Session, token) {
			t.Fatalf("%s: %+v, %v", token, p, err)
		}
		return r.Ends(p)
	}
	insert := func(token string) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), `INSERT INTO "Session" VALUES ($1, $1, 'ann', now() AT TIME ZONE 'UTC' + interval '1 hour')`, token); err != nil {
			t.Fatal(err)
		}
	}
	insert("one")
	insert("two")
	digests, err := c.Sessions.Digests(t.Context(), "ann")
	if err != nil || len(digests) != 3 { // the expired one too
		t.Fatalf("digests %v, %v", digests, err)
	}
	insert("three")
	for _, r := range []access.Revocation{
		{UserID: "ann", At: time.Now().Add(time.Hour), Sessions: digests}, {UserHash: "hash", At: time.Now().Add(time.Hour), Sessions: digests},
	} {
		if !ends("one", r) || !ends("two", r) || ends("three", r) {
			t.Errorf("%+v: one %v, two %v, three %v", r, ends("one", r), ends("two", r), ends("three", r))
		}
	}
	if digests, err := c.Sessions.Digests(t.Context(), "nobody"); err != nil || len(digests) > 0 {
		t.Errorf("sessions of an unknown user: %v, %v", digests, err)
	}

	named := sessions(url, identity.Tables{Session: "auth.sessions", Token: "token", User: "user_id", Expires: "expires_at"})
	if p, err := named.Identify(t.Context(), cookie("authjs.session-token", "t")); err != nil || p.UserID != "bob" {
		t.Errorf("other names: %+v, %v", p, err)
	}
	// More callers at once than the app's database takes are overload, not an outage.
	if _, err := db.ExecContext(t.Context(), `CREATE VIEW slow AS SELECT token, user_id, expires_at FROM auth.sessions WHERE pg_sleep(0.1) IS NOT NULL`); err != nil {
		t.Fatal(err)
	}
	busy := sessions(url, identity.Tables{Session: "slow", Token: "token", User: "user_id", Expires: "expires_at"})
	errs := make([]error, 200)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { _, errs[i] = busy.Identify(t.Context(), cookie("authjs.session-token", "t")) })
	}
	wg.Wait()
	overloaded := 0
	for _, err := range errs {
		switch {
		case fault.Is(err, fault.Overloaded):
			overloaded++
		case err != nil:
			t.Errorf("busy: %v", err)
		}
	}
	if overloaded == 0 || overloaded == len(errs) {
		t.Errorf("busy: %d of %d were refused", overloaded, len(errs))
	}

	away := sessions("postgres://nobody@127.0.0.1:1/none", identity.Tables{})
	refused(t, away, "database down", cookie("authjs.session-token", "good"), fault.Unavailable)
	if _, err := away.Sessions.Digests(t.Context(), "ann"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("sessions of a database that is down: %v", err)
	}
}

// provider is an OpenID provider of the test's own.
type provider struct {
	*httptest.Server
	key     atomic.Pointer[jose.JSONWebKey]
	fetched atomic.Int64
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{}
	p.rotate(t, "first")
	mux := http.NewServeMux()
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": p.URL, "jwks_uri": p.URL + "/keys", "authorization_endpoint": p.URL, "token_endpoint": p.URL})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		p.fetched.Add(1)
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{p.key.Load().Public()}})
	})
	return p
}

func (p *provider) rotate(t *testing.T, kid string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.key.Store(&jose.JSONWebKey{Key: private, KeyID: kid, Algorithm: "ES256", Use: "sig"})
}

func (p *provider) token(t *testing.T, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"iss": p.URL, "aud": "parley", "sub": "ann", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range claims {
		all[k] = v
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: *p.key.Load()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	payload, _ := json.Marshal(all)
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestCallers_OIDC(t *testing.T) {
	p := newProvider(t)
	c := callers(t)
	c.OIDC = identity.NewOIDC(p.URL, "parley", time.Now)
	good := func(what, token string) {
		t.Helper()
		if got, err := c.Identify(context.Background(), bearer(token)); err != nil || got.UserID != "ann" || got.Via != access.ViaBearer || got.Tier != access.Authenticated {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	good("a token", p.token(t, nil))
	good("another one", p.token(t, nil))
	if n := p.fetched.Load(); n != 1 {
		t.Errorf("keys were fetched %d times", n)
	}
	old := p.token(t, nil)
	p.rotate(t, "second")
	// The set of keys answers those who wait for it before it has put the keys
	// away: for a moment it still knows the ones before.
	identifies := func(token string) bool {
		_, err := c.Identify(context.Background(), bearer(token))
		return err == nil
	}
	for deadline := time.Now().Add(time.Minute); (!identifies(p.token(t, nil)) || identifies(old)) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	good("after a rotation", p.token(t, nil))
	for what, token := range map[string]string{
		"of a key that is gone": old,
		"for another audience":  p.token(t, map[string]any{"aud": "other"}),
		"expired":               p.token(t, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}),
		"of another issuer":     p.token(t, map[string]any{"iss": "https://evil.example"}),
		"without a subject":     p.token(t, map[string]any{"sub": ""}),
		"of an administrator":   p.token(t, map[string]any{"exp": 0, "tier": "admin"}),
	} {
		refused(t, c, what, bearer(token), fault.Unauthenticated)
	}
	if got, _ := c.Identify(t.Context(), bearer(p.token(t, map[string]any{"tier": "admin"}))); got.Tier != access.Authenticated {
		t.Errorf("a claim makes tier %s", got.Tier)
	}
	t.Run("ProviderAway", func(t *testing.T) {
		c := callers(t)
		c.OIDC = identity.NewOIDC(p.URL, "parley", time.Now)
		token := p.token(t, nil)
		p.Close()
		refused(t, c, "no configuration", bearer(token), fault.Unavailable)
	})
}
