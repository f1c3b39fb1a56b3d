package identity

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4/json"

	"parley/domain/access"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// OIDC verifies the bearer tokens of one OpenID provider. The provider's
// configuration is fetched when the first token comes, and again after a pause
// if that failed; its keys are cached, and fetched again when a token names an
// unknown one.
type OIDC struct {
	issuer, audience string
	now              ports.Clock
	client           *http.Client

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier
	retryAt  time.Time
}

// oidcAlgorithms are the accepted signatures. Symmetric ones are not among them: a
// public key could be used as their secret.
var oidcAlgorithms = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA}

// NewOIDC returns a verifier for tokens of issuer made for audience.
func NewOIDC(issuer, audience string, now ports.Clock) *OIDC {
	return &OIDC{issuer: issuer, audience: audience, now: now, client: &http.Client{Timeout: 5 * time.Second}}
}

// issued reports whether a token names this issuer. It does not verify the token.
func (o *OIDC) issued(token string) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return false
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	return json.Unmarshal(raw, &c) == nil && c.Issuer == o.issuer
}

func (o *OIDC) identify(ctx context.Context, token string) (access.Principal, error) {
	v, err := o.ready(ctx)
	if err != nil {
		return access.Principal{}, err
	}
	t, err := v.Verify(oidc.ClientContext(ctx, o.client), token)
	switch {
	case err == nil:
	case strings.Contains(err.Error(), "fetching keys"):
		return access.Principal{}, fault.Wrap(err, fault.Unavailable, "The sign-in service cannot be reached").After(5 * time.Second)
	default:
		return access.Principal{}, unauthenticated()
	}
	if !chat.ValidUserID(t.Subject) {
		return access.Principal{}, unauthenticated()
	}
	return access.Principal{UserID: t.Subject, Tier: access.Authenticated, Via: access.ViaBearer, IssuedAt: t.IssuedAt}, nil
}

// ready returns the verifier, and fetches the provider's configuration first if
// that has not succeeded yet.
func (o *OIDC) ready(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.verifier != nil {
		return o.verifier, nil
	}
	unavailable := fault.New(fault.Unavailable, "The sign-in service cannot be reached").After(5 * time.Second)
	if o.now().Before(o.retryAt) {
		return nil, unavailable
	}
	// The provider keeps this context for fetching keys: it must not end with the request.
	p, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), o.client), o.issuer)
	if err != nil {
		o.retryAt = o.now().Add(5 * time.Second)
		unavailable.Cause = err
		return nil, unavailable
	}
	o.verifier = p.Verifier(&oidc.Config{ClientID: o.audience, SupportedSigningAlgs: oidcAlgorithms, Now: o.now})
	return o.verifier, nil
}
