package identity

import (
	"context"
	"strings"

	"parley/domain/access"
	"parley/domain/fault"
	"parley/ports"
)

// Authenticator authenticates callers by every kind of credential that is
// configured. A request may use one of them: two at once are Invalid, since either
// could be meant, and the checks of one must not be avoided with the other.
type Authenticator struct {
	Tokens   *Verifier  // Parley's own tokens, and Auth.js sessions in encrypted cookies
	Sessions *Sessions  // Auth.js sessions in a database, instead of encrypted ones; nil: encrypted
	Keys     ports.Keys // API keys; nil: none
	OIDC     *OIDC      // tokens of an OpenID provider; nil: none
}

// Identify implements ports.Identity.
func (c *Authenticator) Identify(ctx context.Context, cred access.Credential) (access.Principal, error) {
	sessions := sessionCookies(cred.Cookies)
	switch {
	case len(sessions) > 0 && cred.Bearer != "":
		return access.Principal{}, fault.New(fault.Invalid, "Send either a session cookie or a bearer token, not both")
	case len(cred.Bearer) > maxToken:
		return access.Principal{}, unauthenticated()
	case strings.HasPrefix(cred.Bearer, keyPrefix) && c.Keys != nil:
		return c.key(ctx, cred.Bearer)
	case cred.Bearer != "" && c.OIDC != nil && c.OIDC.issued(cred.Bearer):
		return c.OIDC.identify(ctx, cred.Bearer)
	case len(sessions) > 0 && c.Sessions != nil:
		return c.Sessions.identify(ctx, cred.Cookies)
	}
	return c.Tokens.Identify(ctx, cred)
}
